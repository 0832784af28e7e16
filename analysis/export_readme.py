"""README.md of an exported adapter: how to load it and its head. Its code runs in the folder itself."""

from __future__ import annotations

from pathlib import Path

from . import measure

# By the option pooling: in words, and as code of `output`, the base model's output, and `inputs`.
POOLED = {
    "cls": ("the last state of the first token ([CLS]), before the pooler", ["output.last_hidden_state[:, 0]"]),
    "pooler": ("the pooler's output, tanh(W h + b) of the first token", ["output.pooler_output"]),
    "last": ("the last state of the last token that is no padding", [
        "output.last_hidden_state[range(len(inputs[\"input_ids\"])), inputs[\"attention_mask\"].sum(1) - 1]"]),
    "mean": ("the mean of the last states over all tokens that are no padding", [
        "(output.last_hidden_state * inputs[\"attention_mask\"].unsqueeze(-1)).sum(1)",
        "pooled = pooled / inputs[\"attention_mask\"].sum(1, keepdim=True)"]),
}
CLASSES = {"features": "AutoModel", "classification": "AutoModelForSequenceClassification",
           "language-model": "AutoModelForCausalLM"}


def text(data, client: int | None, parts: dict, pairs: dict, head, dense: str, task: str, base: str) -> str:
    """The page; data as analysis.load gives it, parts (the levels' pairs) by site, pairs by module name.

    head: an export_peft.Head or None.
    dense: the function in torch of a head's dense layer.
    """
    options, ranks = data.attrs["options"], sorted({len(pair.down) for pair in pairs.values()})
    whose = "The common adapter" if client is None else f"Client {client}"
    lines = ["---", f"base_model: {base}", "library_name: peft", "---", "", f"# {whose} of a pf2lora run", "",
             f"A LoRA of rank {' or '.join(map(str, ranks))} on {len(pairs)} modules, learned by "
             f"`{options['algorithm']}` on {data.attrs.get('data_name') or Path(str(options['data'])).stem}. "
             f"{_scale(pairs)}", "", *_rank(parts, pairs)]
    labels = f", num_labels={len(head.bias)}" if task == "classification" else ""
    code = ["from peft import PeftModel", f"from transformers import {CLASSES[task]}", "",
            f"base = {CLASSES[task]}.from_pretrained({base!r}{labels})",
            "model = PeftModel.from_pretrained(base, \".\").eval()  # in this folder"]
    lines += [*_block(code), ""]
    if head is not None:
        learned = measure.of_results(data).task
        lines += _span_head(head, dense) if learned == "span" else _head(head, dense, task)
        if learned == "classification":
            lines += _classes(data, client)
        elif learned == "regression":
            lines += ["`logits[:, 0]` is the value that the model gives to each text.", ""]
    elif task == "language-model":
        lines += ["As in training, a prompt given to `generate` is its tokens without special ones, and then "
                  "`base.config.eos_token_id`; where the model's token of the beginning is another one, that comes first.",
                  ""]
    else:
        lines += ["There is no head that belongs to it: heads are the clients' own.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _scale(pairs: dict) -> str:
    """What PEFT multiplies by."""
    scale = next(iter(pairs.values())).scale
    if scale == 1:
        return "PEFT multiplies by lora_alpha / r = 1; any other scale is in B."
    return f"A and B are the run's own: PEFT multiplies by its scale, lora_alpha / r = {scale:g}."


def _rank(parts: dict, pairs: dict) -> list[str]:
    """Why ranks are other than the run's, where they are."""
    lines = []
    if any(len(levels) > 1 for levels in parts.values()):
        sums = sorted({" + ".join(str(len(pair.down)) for pair in levels) for levels in parts.values()})
        lines.append("The two levels, the common adapter and the client's own, stand beside each other, so their ranks "
                     f"add up at each matrix: {' or '.join(sums)}.")
    if len(pairs) < len(parts):
        lines.append("A module that is several adapted matrices in one has their ranks added up.")
    return [" ".join(lines), ""] if lines else []


def _head(head, dense: str, task: str) -> list[str]:
    words, pooled = POOLED[head.pooling]
    classes, hidden = head.weight.shape
    holds = f"`head.safetensors` holds its weight [{classes}, {hidden}] and bias [{classes}]."
    if task == "classification":
        return ["## Head", "", f"The head is the model's classifier. {holds}", "",
                *_block(["logits = model(**inputs).logits"]), ""]
    reason = "" if head.pooling == "pooler" else (
        " It is not put into transformers' model for sequence classification, which reads something else.")
    code = [*_load(head), f"pooled = {pooled[0]}", *pooled[1:], *_dense_layer("pooled", "pooled", head, dense),
            "logits = linear(pooled, head[\"weight\"], head[\"bias\"])"]
    return ["## Head", "", f"{holds} It reads {words}.{reason}", "", *_block(code), ""]


def _span_head(head, dense: str) -> list[str]:
    states = "output.last_hidden_state"
    layer = _dense_layer("states", states, head, dense)
    code = [*_load(head), *layer,
            f"scores = linear({'states' if layer else states}, head[\"weight\"], head[\"bias\"])"]
    return ["## Head", "",
            f"`head.safetensors` holds its weight [2, {head.weight.shape[1]}] and bias [2]. It is applied to every token "
            "(to its last state): `scores[..., 0]` says how well the token begins the answer, `scores[..., 1]` how well "
            "it ends it. The best span is the pair first <= last within the context whose sum "
            "`scores[..., first, 0] + scores[..., last, 1]` is highest; the same sum of the first token of all stands "
            "for no answer.", "", *_block(code), ""]


def _load(head) -> list[str]:
    return [*(["import torch"] if head.dense else []), "from safetensors.torch import load_file",
            "from torch.nn.functional import linear", "", "head = load_file(\"head.safetensors\")",
            "output = model(**inputs)"]


def _dense_layer(name: str, of: str, head, dense: str) -> list[str]:
    """The line that puts a head's dense layer on `of`, where it has one."""
    return [f"{name} = torch.{dense}(linear({of}, head[\"dense.weight\"], head[\"dense.bias\"]))"] if head.dense else []


def _classes(data, client: int | None) -> list[str]:
    """The data's class of each logit; a client may read the labels permuted."""
    names = list(data["class_name"].values)
    if client is not None and "label_map" in data:
        order = data["label_map"].values[client].argsort()
        names = [names[i] for i in order]
    return [f"Classes, in the order of the logits: {', '.join(map(str, names))}.", ""]


def _block(code: list[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in code]

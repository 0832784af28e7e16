"""README.md of an exported adapter: how to load it and its head. Its code runs in the folder itself."""

from __future__ import annotations

from pathlib import Path

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

LOAD = ["from safetensors.torch import load_file", "from torch.nn.functional import linear", "",
        "head = load_file(\"head.safetensors\")", "output = model(**inputs)"]


def text(data, client: int | None, pairs: dict, head, dense: str, task: str, base: str) -> str:
    """The page; data as analysis.load gives it, pairs by module name, head an export_peft.Head or None.

    dense: the function in torch of a head's dense layer.
    """
    options, ranks = data.attrs["options"], sorted({len(pair.down) for pair in pairs.values()})
    whose = "The common adapter" if client is None else f"Client {client}"
    lines = ["---", f"base_model: {base}", "library_name: peft", "---", "", f"# {whose} of a pf2lora run", "",
             f"A LoRA of rank {' or '.join(map(str, ranks))} on {len(pairs)} modules, learned by "
             f"`{options['algorithm']}` on {data.attrs.get('data_name') or Path(str(options['data'])).stem}. "
             "Its scale is in B: PEFT multiplies by lora_alpha / r = 1.", ""]
    labels = f", num_labels={len(head.bias)}" if task == "classification" else ""
    code = ["from peft import PeftModel", f"from transformers import {CLASSES[task]}", "",
            f"base = {CLASSES[task]}.from_pretrained({base!r}{labels})",
            "model = PeftModel.from_pretrained(base, \".\").eval()  # in this folder"]
    lines += [*_block(code), ""]
    if head is not None:
        learned = data.attrs.get("data_task", "classification")
        lines += _span_head(head) if learned == "span" else _head(head, dense, task)
        if learned == "classification":
            lines += _classes(data, client)
    elif task != "language-model":
        lines += ["There is no head that belongs to it: heads are the clients' own.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _head(head, dense: str, task: str) -> list[str]:
    words, pooled = POOLED[head.pooling]
    classes, hidden = head.weight.shape
    holds = f"`head.safetensors` holds its weight [{classes}, {hidden}] and bias [{classes}]."
    if task == "classification":
        return ["## Head", "", f"The head is the model's classifier. {holds}", "",
                *_block(["logits = model(**inputs).logits"]), ""]
    reason = "" if head.pooling == "pooler" else (
        " It is not put into transformers' model for sequence classification, which reads something else.")
    code = [*(["import torch"] if head.dense else []), *LOAD, f"pooled = {pooled[0]}", *pooled[1:],
            *([f"pooled = torch.{dense}(linear(pooled, head[\"dense.weight\"], head[\"dense.bias\"]))"] if head.dense
              else []),
            "logits = linear(pooled, head[\"weight\"], head[\"bias\"])"]
    return ["## Head", "", f"{holds} It reads {words}.{reason}", "", *_block(code), ""]


def _span_head(head) -> list[str]:
    _, hidden = head.weight.shape
    return ["## Head", "",
            f"`head.safetensors` holds its weight [2, {hidden}] and bias [2]. It reads the last state of every token: its "
            "first output scores the token as the answer's first, its second as the last. The answer is the span in the "
            "context whose two scores have the highest sum.", "",
            *_block([*LOAD, "first, last = linear(output.last_hidden_state, head[\"weight\"], head[\"bias\"])"
                     ".unbind(-1)  # each [texts, tokens]"]), ""]


def _classes(data, client: int | None) -> list[str]:
    """The data's class of each logit; a client may read the labels permuted."""
    names = list(data["class_name"].values)
    if client is not None and "label_map" in data:
        order = data["label_map"].values[client].argsort()
        names = [names[i] for i in order]
    return [f"Classes, in the order of the logits: {', '.join(map(str, names))}.", ""]


def _block(code: list[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in code]

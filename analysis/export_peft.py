"""python -m analysis.export_peft RUN --client K|--common --output DIR: what was learned, for PEFT to open."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from . import command, export_readme, measure
from .architectures import ARCHITECTURES, Architecture, beside, by_module, folded
from .loader import Adapters, FormatError, Pair, load_adapters, load_scores

TASKS = {"features": "FEATURE_EXTRACTION", "classification": "SEQ_CLS", "language-model": "CAUSAL_LM"}


class NoSuchClient(ValueError):
    """A client that the run does not have."""


@dataclass
class Head:
    """A head: weight [class, hidden], bias [class]; what it reads, as the option pooling names it.

    dense: weight [hidden, hidden] and bias [hidden] of the layer before, or nothing.
    """

    weight: np.ndarray
    bias: np.ndarray
    pooling: str
    dense: tuple[np.ndarray, ...] = ()

    def tensors(self) -> dict[str, np.ndarray]:
        """By name in head.safetensors."""
        return {"weight": self.weight, "bias": self.bias} | dict(zip(("dense.weight", "dense.bias"), self.dense))


def levels(adapters: Adapters, client: int | None) -> dict[str, list[Pair]]:
    """The pairs that a client adds to each site (None: the common one alone): down [r, in], up [out, r].

    Throws FormatError, which names it, where something is no LoRA or there is none.
    """
    prompts = sorted({path.split("/")[1] for path in adapters.slices if path.split("/")[1] in ("prompt", "prefix")})
    if prompts:
        raise FormatError(f"a {prompts[0]} was learned, vectors among the tokens, which is no LoRA")
    if adapters.dense:
        raise FormatError("the common part holds a dense update of each matrix (base_delta), which is no LoRA; export "
                          "a run of a method that keeps to low-rank pairs")
    if client is None:
        if not adapters.common:
            raise FormatError("there is no common adapter; give --client")
        return {site: [pair] for site, pair in adapters.common.items()}
    if any(pair.combines == "gated" for pair in adapters.client.values()):
        raise FormatError("the common and the client's pair are mixed example by example by a gate, which no LoRA is; "
                          "--common exports the common one")
    if not adapters.common and not adapters.client:
        raise FormatError("the run has no adapters")
    found = {}
    for site in dict.fromkeys([*adapters.common, *adapters.client]):
        common, own = adapters.common.get(site), adapters.client.get(site)
        parts = [common] if common and (own is None or own.combines != "replaces") else []
        if own:
            parts.append(_used(Pair(own.down[client], own.up[client], own.scale)))
        found[site] = parts
    return found


def one_lora(parts: dict[str, list[Pair]]) -> dict[str, Pair]:
    """The pairs of each site as one, all of one scale.

    Pairs as they are stored where each is alone at its site and all have the same scale; else the scales are in up.
    """
    scales = {pair.scale for pairs in parts.values() for pair in pairs}
    if len(scales) == 1 and all(len(pairs) == 1 for pairs in parts.values()):
        return {site: pairs[0] for site, pairs in parts.items()}
    return {site: beside([folded(pair) for pair in pairs]) for site, pairs in parts.items()}


def _used(pair: Pair) -> Pair:
    """Without the parts beyond a client's rank, which a method that gives clients ranks leaves at 0.

    A pair that loses some has its scale in up: lora-alpha is of the rank that it had.
    """
    used = pair.down.any(axis=1) | pair.up.any(axis=0)
    used[0] = True
    return pair if used.all() else folded(Pair(pair.down[used], pair.up[:, used], pair.scale))


def head_of(adapters: Adapters, client: int | None, pooling: str) -> Head | None:
    """A client's head, its own before the common one; None where there is none."""
    own = client is not None and "client/head/weight" in adapters.slices
    owner, index = ("client", client) if own else ("common", ...)

    def part(name: str):
        found = adapters.slices.get(f"{owner}/head/{name}")
        return None if found is None else found[index]

    weight, dense = part("weight"), part("dense/weight")
    if weight is None:
        return None
    return Head(weight, part("bias"), pooling, () if dense is None else (dense, part("dense/bias")))


def architecture_of(model: str) -> tuple[str, Architecture]:
    """The model_type in config.json of a model's directory, and its row. Throws FormatError."""
    path = Path(model) / "config.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} cannot be read ({error}); give the model's directory with --model") from error
    if name not in ARCHITECTURES:
        raise FormatError(f"{path} has the model_type '{name}'; known are {', '.join(ARCHITECTURES)}")
    return name, ARCHITECTURES[name]


def choose_task(wanted: str, name: str, row: Architecture, head: Head | None, headless: bool, spans: bool) -> str:
    """A key of TASKS; `headless`: the run has no head at all. Throws FormatError for a task that does not fit."""
    if wanted == "classification" and spans:
        raise FormatError("the head scores every token as an end of a span, and that of transformers' sequence "
                          "classification whole texts; --task features puts the head beside the adapter")
    fits = not spans and head is not None and row.classifier != "" and head.pooling == row.reads
    if wanted == "auto":
        return "classification" if fits else "language-model" if headless and row.language_model else "features"
    if wanted == "classification" and not fits:
        why = "there is no head" if head is None else f"the head reads '{head.pooling}' (option pooling)"
        form = f"reads '{row.reads}'" if row.classifier else "is more than one linear layer on a pooled state"
        raise FormatError(f"{why}, and that of transformers' sequence classification for {name} {form}; "
                          "--task features puts the head beside the adapter")
    if wanted == "language-model" and not row.language_model:
        raise FormatError(f"a model of the type {name} is no language model; choose another --task")
    return wanted


def alpha_of(pair: Pair) -> float:
    """lora_alpha, which PEFT divides by the rank."""
    alpha = float(pair.scale) * len(pair.down)
    return int(alpha) if alpha.is_integer() else alpha


def of_exact_scale(pairs: dict[str, Pair]) -> dict[str, Pair]:
    """As they are where lora_alpha / r is the scale to the last bit; else with the scale in up."""
    exact = all(alpha_of(pair) / len(pair.down) == pair.scale for pair in pairs.values())
    return pairs if exact else {module: folded(pair) for module, pair in pairs.items()}


def config(pairs: dict[str, Pair], row: Architecture, task: str, base: str) -> dict:
    """adapter_config.json of pairs by module name, whose scale is lora_alpha / r."""
    ranks = {module: len(pair.down) for module, pair in pairs.items()}
    rank = max(set(ranks.values()), key=list(ranks.values()).count)
    alpha = next(alpha_of(pair) for pair in pairs.values() if len(pair.down) == rank)
    others = {module.replace(".", r"\."): pair for module, pair in pairs.items() if ranks[module] != rank}
    return {"peft_type": "LORA", "task_type": TASKS[task], "base_model_name_or_path": base, "inference_mode": True,
            "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none",
            "rank_pattern": {module: len(pair.down) for module, pair in others.items()},  # PEFT reads expressions
            "alpha_pattern": {module: alpha_of(pair) for module, pair in others.items()},
            "target_modules": list(pairs), "fan_in_fan_out": row.transposed,
            "modules_to_save": [row.classifier] if task == "classification" else None}


def export(run, output, client: int | None = None, model=None, base=None, task: str = "auto") -> Path:
    """Writes a client's adapter (None: the common one) of a run's directory to the new folder `output`; returns it.

    `model` is the directory of the base model, `base` what the folder calls it; both as the run has it unless given.
    Throws FormatError, NoSuchClient, OSError.
    """
    run, output = Path(run), Path(output)
    data, adapters = load_scores(run), load_adapters(run)
    options = data.attrs["options"]
    if options["problem"] == "matrix":
        raise FormatError(f"{run} is of the matrix problem: there is no model that PEFT could open")
    if client is not None and not 0 <= client < data.sizes["client"]:
        raise NoSuchClient(f"there is no client {client}; the run has 0 to {data.sizes['client'] - 1}")
    name, row = architecture_of(str(model or options["model"]))
    try:
        parts = levels(adapters, client)
        pooling = str(options["pooling"])
        if pooling == "auto":
            pooling = "last" if row.language_model else "cls"
        head = head_of(adapters, client, pooling)
        headless = not any("/head/" in path for path in adapters.slices)
        spans = measure.of_results(data).task == "span"
        task = choose_task(task, name, row, head, headless, spans)
    except FormatError as error:
        raise FormatError(f"{run} ({options['algorithm']}) cannot be exported: {error}") from error
    inside = "" if task == "features" else f"{row.body}."
    pairs = of_exact_scale({inside + module: pair for module, pair in by_module(one_lora(parts), row).items()})
    base = str(base or _absolute(model or options["model"]))
    _write(output, _files(pairs, head, row.classifier, config(pairs, row, task, base),
                          export_readme.text(data, client, parts, pairs, head, row.dense, task, base)))
    return output


def _absolute(model) -> str:
    """A folder's path as it serves from anywhere on this machine; a name that is none as it is."""
    return str(Path(model).resolve() if Path(model).is_dir() else model)


def _files(pairs: dict[str, Pair], head: Head | None, classifier: str, settings: dict, readme: str) -> dict[str, bytes]:
    """What a folder holds, by the names of its files; the one by which PEFT knows it last."""
    files, tensors = {}, {}
    for module, pair in pairs.items():
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = pair.down, pair.up
    if head:
        files["head.safetensors"] = _stored(head.tensors())
        if settings["modules_to_save"]:
            tensors[f"{classifier}.weight"], tensors[f"{classifier}.bias"] = head.weight, head.bias
    files["adapter_model.safetensors"] = _stored({f"base_model.model.{path}": t for path, t in tensors.items()})
    files["README.md"] = readme.encode()
    files["adapter_config.json"] = (json.dumps(settings, indent=2) + "\n").encode()
    return files


def _stored(tensors: dict[str, np.ndarray]) -> bytes:
    return save({name: np.ascontiguousarray(t, dtype=np.float32) for name, t in tensors.items()},
                metadata={"format": "pt"})


def _write(output: Path, files: dict[str, bytes]) -> None:
    """Writes files into a folder, which must be new or empty; nothing is left of them where one cannot be written."""
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    if output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty")
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (output / name).write_bytes(content)
    except BaseException:
        for name in files:
            (output / name).unlink(missing_ok=True)
        for folder in made:
            if folder.is_dir():
                folder.rmdir()
        raise


def main(arguments=None) -> int:
    """The command; returns its exit code: 0, 2 for bad use, 3 for what is missing or no LoRA can hold."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.export_peft",
        description="Writes a folder that peft.PeftModel.from_pretrained(base, DIR) opens: one LoRA that adds what the "
                    "client's levels add together, the head beside it, and a README.md that says how to load both.")
    parser.add_argument("run", metavar="RUN", help="output directory of a run that has ended")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--client", type=int, metavar="K", help="the client whose model it is, from 0")
    which.add_argument("--common", action="store_true", help="the common adapter alone")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--model", metavar="DIR", help="directory of the base model [the run's]")
    parser.add_argument("--base", metavar="NAME", help="what adapter_config.json calls the base model [as --model]")
    parser.add_argument("--task", choices=["auto", *TASKS], default="auto",
                        help="the model that it is for: AutoModel (features), AutoModelForSequenceClassification or "
                             "AutoModelForCausalLM; auto: with the head inside where transformers has it in that form")
    chosen = parser.parse_args(arguments)

    def write() -> None:
        print(export(chosen.run, chosen.output, chosen.client, chosen.model, chosen.base, chosen.task))

    try:
        return command.ended(write, "the folder")
    except NoSuchClient as error:
        print(f"error: --client: {error}", file=sys.stderr)
        return command.BAD_USE


if __name__ == "__main__":
    sys.exit(main())

"""Exported adapters, opened by PEFT on transformers' models: the logits of weights with s B A + s' D C added by hand,
and the scores that the program recorded."""

from __future__ import annotations

import json
import os
import resource
import textwrap

import h5py
import numpy as np
import pytest
from program import MATRIX, needs_program, run

import analysis
from analysis import export_peft
from analysis.loader import FormatError
from results_files import ROOT as ATTRIBUTES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
# Of rank 3: times 3 and divided by it again it is another number.
INEXACT = next(scale for scale in np.random.default_rng(1).uniform(0.1, 3, 10000).tolist() if scale * 3 / 3 != scale)
LOGITS = 2e-5  # both sides in float32, the products in another order
pytestmark = pytest.mark.filterwarnings("error:Found missing adapter keys")  # of PEFT: names that it has no place for


def export(*arguments) -> int:
    return export_peft.main([str(word) for word in arguments])


def rows_of(directory, data, client):
    """Token ids of a client's test examples, and the labels as it reads them."""
    results = analysis.load(directory)
    rows = results["test_index"].values[slice(*results["test_offsets"].values[client : client + 2])]
    with h5py.File(data) as file:
        offsets, labels = file["offsets"][...], file["labels"][...]
        texts = [torch.from_numpy(file["tokens"][offsets[i] : offsets[i + 1]].astype(np.int64))[None] for i in rows]
    labels = labels[rows]
    return texts, results["label_map"].values[client][labels] if "label_map" in results else labels


def pooled(output, pooling):
    """[1, hidden] of an output without padding."""
    states = output.last_hidden_state
    return {"cls": states[:, 0], "mean": states.mean(1), "pooler": output.pooler_output}[pooling]


def logits_by_hand(directory, options, client, texts, factor=1.0):
    """Of the base model with `factor` times each site's dense update added; client None: the common model."""
    adapters = analysis.load_adapters(directory)
    model = transformers.BertModel.from_pretrained(options["model"]).eval()
    for site in {**adapters.common, **adapters.client}:
        update = adapters.common[site].update() if client is None else adapters.update(site, client)
        model.get_submodule(site).weight.data += factor * torch.from_numpy(np.asarray(update, dtype=np.float32))
    own = client is not None and "client/head/weight" in adapters.slices
    weight, bias = (adapters.slices[f"{'client' if own else 'common'}/head/{part}"] for part in ("weight", "bias"))
    weight, bias = (torch.from_numpy(part[client] if own else part) for part in (weight, bias))
    with torch.no_grad():
        states = [pooled(model(input_ids=text), options.get("pooling", "cls")) for text in texts]
    return torch.cat(states) @ weight.T + bias


def logits_by_readme(folder, texts, monkeypatch, name="logits"):
    """What the code of the folder's README.md calls `name`, run in the folder, its last blocks for every text."""
    page = (folder / "README.md").read_text(encoding="utf-8").split("\n\n")
    blocks, open_block = [], False
    for part in page:
        code = part.startswith("    ")
        if code and open_block:
            blocks[-1] += "\n" + textwrap.dedent(part)
        elif code:
            blocks.append(textwrap.dedent(part))
        open_block = code
    monkeypatch.chdir(folder)
    names = {"torch": torch}
    exec(blocks[0], names)
    assert not names["model"].training
    found = []
    with torch.no_grad():
        for text in texts:
            names["inputs"] = {"input_ids": text, "attention_mask": torch.ones_like(text)}
            exec(blocks[1], names)
            found.append(names[name])
    return torch.cat(found)


@needs_program
@pytest.mark.parametrize("changes", [
    {"algorithm": "pf2lora", "targets": "query,value,intermediate"},
    {"algorithm": "pf2lora", "pooling": "pooler", "head": "personal"},
    {"algorithm": "pf2lora", "pooling": "mean", "label-conflict": 0.5},
    {"algorithm": "hetlora", "min-rank": 1, "rank": 4},
    {"algorithm": "ditto", "pooling": "pooler"},
    {"algorithm": "fedsa-lora"},
    {"algorithm": "homlora", "held-out-clients": 1},
], ids=lambda changes: "-".join(map(str, changes.values())))
def test_a_clients_model_in_peft_is_the_one_that_was_evaluated(tmp_path, small_text, changes, monkeypatch):
    options = {**small_text, **changes, "output": tmp_path / "run"}
    run({**options, "progress": "off"})
    results = analysis.load(tmp_path / "run")
    pooling = options.get("pooling", "cls")
    ranks = []
    for client in (0, 3):
        folder = tmp_path / f"client{client}"
        assert export(tmp_path / "run", "--client", client, "--output", folder) == 0
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["task_type"] == ("SEQ_CLS" if pooling == "pooler" else "FEATURE_EXTRACTION")
        assert settings["modules_to_save"] == (["classifier"] if pooling == "pooler" else None)
        ranks.append(settings["r"])
        alone = options["algorithm"] not in ("pf2lora", "hetlora")  # one pair a site, of the run's own rank and scale
        assert settings["lora_alpha"] == (16 if alone else settings["r"])
        page = (folder / "README.md").read_text()
        assert ("ranks add up at each matrix: 4 + 2." in page) == (options["algorithm"] == "pf2lora")
        texts, labels = rows_of(tmp_path / "run", options["data"], client)
        found = logits_by_readme(folder, texts, monkeypatch)
        torch.testing.assert_close(found, logits_by_hand(tmp_path / "run", options, client, texts), rtol=0, atol=LOGITS)
        without = logits_by_hand(tmp_path / "run", options, client, texts, factor=0)
        assert (found - without).abs().max() > 100 * LOGITS
        correct = int((found.argmax(1).numpy() == labels).sum())
        assert correct == results["personal_correct"].values[-1, client]
        classes = results["class_name"].values
        if "label_map" in results:
            classes = [classes[list(results["label_map"].values[client]).index(i)] for i in range(len(classes))]
        assert f"in the order of the logits: {', '.join(classes)}.\n" in (folder / "README.md").read_text()
    both = options["rank"] + options["client-rank"] if options["algorithm"] == "pf2lora" else options["rank"]
    assert ranks == ([1, 3] if options["algorithm"] == "hetlora" else [both, both])  # r_k rises linearly to --rank


@needs_program
@pytest.mark.parametrize("changes", [{"algorithm": "pf2lora"}, {"algorithm": "feddpa-f", "local-rounds": 1},
                                     {"algorithm": "ditto", "pooling": "pooler"}], ids=lambda c: c["algorithm"])
def test_the_common_model_in_peft_is_the_one_that_was_evaluated(tmp_path, small_text, changes, monkeypatch):
    options = {**small_text, **changes, "output": tmp_path / "run"}
    run({**options, "progress": "off"})
    assert export(tmp_path / "run", "--common", "--output", tmp_path / "common") == 0
    correct = analysis.load(tmp_path / "run")["common_correct"].values[-1]
    for client in range(2):
        texts, labels = rows_of(tmp_path / "run", options["data"], client)
        found = logits_by_readme(tmp_path / "common", texts, monkeypatch)
        torch.testing.assert_close(found, logits_by_hand(tmp_path / "run", options, None, texts), rtol=0, atol=LOGITS)
        assert int((found.argmax(1).numpy() == labels).sum()) == correct[client]


@needs_program
def test_what_is_no_lora_is_refused_by_name(tmp_path, small_text, capsys):
    for algorithm, which, words in (
            ("flora", ["--common"], "dense update"), ("fedex-lora", ["--client", "1"], "dense update"),
            ("feddpa-f", ["--client", "1"], "gate"), ("prompt", ["--common"], "a prompt was learned"),
            ("prefix", ["--client", "0"], "a prefix was learned"), ("local", ["--common"], "no common adapter")):
        directory = tmp_path / algorithm
        if not directory.exists():
            run({**small_text, "algorithm": algorithm, "rounds": 2, "output": directory, "progress": "off"})
        assert export(directory, *which, "--output", tmp_path / "out") == 3
        error = capsys.readouterr().err
        assert error.startswith(f"error: {directory} ({algorithm}) cannot be exported: ") and words in error
    run({**MATRIX, "output": tmp_path / "matrix", "progress": "off"})
    assert export(tmp_path / "matrix", "--common", "--output", tmp_path / "out") == 3
    assert "matrix problem" in capsys.readouterr().err
    # Options: what does not exist, what stands in the way, what does not fit.
    local = tmp_path / "local"
    assert export(local, "--client", 5, "--output", tmp_path / "out") == 2
    assert "the run has 0 to 4" in capsys.readouterr().err
    assert export(local, "--client", 1, "--output", local) == 2
    assert "is not empty" in capsys.readouterr().err
    assert export(local, "--client", 1, "--model", tmp_path, "--output", tmp_path / "out") == 3
    assert "config.json cannot be read" in capsys.readouterr().err
    assert export(local, "--client", 1, "--task", "classification", "--output", tmp_path / "out") == 3
    assert "the head reads 'cls'" in capsys.readouterr().err
    assert export(tmp_path / "nothing", "--client", 1, "--output", tmp_path / "out") == 3
    for words in (["--output", "out"], ["--client", "1", "--common", "--output", "out"], ["--client", "1"]):
        with pytest.raises(SystemExit) as stopped:
            export(local, *words)
        assert stopped.value.code == 2
    assert not (tmp_path / "out").exists()


def write_run(directory, model, pairs):
    """A run's two files with what the export reads: pairs {(owner, site): (down, up, scale)}, and no head."""
    directory.mkdir()
    with h5py.File(directory / "results.h5", "w") as file:
        file.attrs.update({"format": "pf2lora-results", "format_version": np.int64(2), "data_name": "texts",
                           "program": ATTRIBUTES["program"]})
        file.create_group("options").attrs.update({"problem": "transformer", "algorithm": "pf2lora", "pooling": "cls",
                                                   "model": str(model), "held-out-clients": np.int64(0)})
        file["client"] = np.arange(2)
        file["client"].make_scale("client")
    with h5py.File(directory / "adapters.h5", "w") as file:
        file.attrs.update({"format": "pf2lora-adapters", "format_version": np.int64(2), "round": np.int64(3)})
        for (owner, site), (down, up, scale) in pairs.items():
            group = file.create_group(f"{owner}/{site}")
            names = ("A", "B") if owner == "common" else ("C", "D")
            group[names[0]], group[names[1]] = down, up
            group.attrs.update({"scale": scale, "combines": "adds"})
    return directory


def gpt2(folder):
    torch.manual_seed(3)
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=12, n_layer=2, n_head=2,
                                     initializer_range=0.3, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    return model


def gpt2_run(folder, random):
    gpt2(folder / "model")
    pair = random.normal(size=(3, 12)), random.normal(size=(12, 3)), 0.5
    return write_run(folder / "run", folder / "model", {("common", f"h.{i}.attn.c_proj"): pair for i in range(2)})


@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_without_room_is_one_message_and_nothing_is_left(tmp_path, existing, capsys):
    directory, output = gpt2_run(tmp_path, np.random.default_rng(1)), tmp_path / "new" / "out"
    if existing:
        output.mkdir(parents=True)
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        code = export(directory, "--common", "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr()
    assert code == 2 and not told.out
    assert told.err.startswith("error: the folder cannot be written: ") and told.err.count("\n") == 1
    assert list(tmp_path.glob("new/*")) == ([output] if existing else []) and not list(output.glob("*"))
    assert (tmp_path / "new").exists() == existing


def test_all_files_follow_the_umask(tmp_path):
    directory, before = gpt2_run(tmp_path, np.random.default_rng(1)), os.umask(0o027)
    try:
        assert export(directory, "--common", "--output", tmp_path / "out") == 0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == dict.fromkeys(("README.md", "adapter_config.json", "adapter_model.safetensors"), 0o640)


@pytest.mark.parametrize("client", [1, None])
@pytest.mark.parametrize("task", ["features", "auto"])
def test_parts_of_a_fused_matrix_become_one_lora_with_the_same_update(tmp_path, client, task):
    # GPT-2's c_attn is [in, 3 hidden]: query, key and value end to end, of which two have pairs here.
    random = np.random.default_rng(5)
    model = gpt2(tmp_path / "model")
    shapes = {f"h.{i}.attn.c_attn.{part}": (12, 12) for i in range(2) for part in ("value", "query")}
    shapes["h.1.attn.c_proj"], shapes["h.0.mlp.c_fc"] = (12, 12), (48, 12)
    pairs, updates = {}, {}
    for site, (out, width) in shapes.items():
        a, b = random.normal(size=(3, width)), random.normal(size=(out, 3))
        c, d = random.normal(size=(2, 2, width)), random.normal(size=(2, out, 2))
        pairs["common", site], pairs["client", site] = (a, b, 0.5), (c, d, 0.25)
        updates[site] = 0.5 * b @ a + (0 if client is None else 0.25 * d[client] @ c[client])
    run_directory = write_run(tmp_path / "run", tmp_path / "model", pairs)
    which = ["--common"] if client is None else ["--client", client]
    assert export(run_directory, *which, "--task", task, "--output", tmp_path / "out") == 0

    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    body = "" if task == "features" else "transformer."
    alone = 3 if client is None else 5
    assert settings["fan_in_fan_out"] is True
    assert settings["task_type"] == ("FEATURE_EXTRACTION" if task == "features" else "CAUSAL_LM")
    loaded = peft.LoraConfig.from_pretrained(tmp_path / "out")
    wanted = {f"{body}h.0.attn.c_attn": 2 * alone, f"{body}h.1.attn.c_attn": 2 * alone,
              f"{body}h.1.attn.c_proj": alone, f"{body}h.0.mlp.c_fc": alone}
    assert set(loaded.target_modules) == set(wanted)

    kind = transformers.GPT2Model if task == "features" else transformers.GPT2LMHeadModel
    adapted = peft.PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "model"), tmp_path / "out").eval()
    for module, rank in wanted.items():
        layer = adapted.base_model.model.get_submodule(module)
        assert (layer.r["default"], layer.scaling["default"]) == (rank, 0.5 if client is None else 1.0)
    place = {"query": 0, "key": 1, "value": 2}
    for site, update in updates.items():
        module, _, part = site.rpartition(".")
        fused = part in place
        weight = model.transformer.get_submodule(module if fused else site).weight.data  # [in, out]
        first = 12 * place[part] if fused else 0
        weight[:, first : first + update.shape[0]] += torch.from_numpy(update.T.astype(np.float32))
    tokens = torch.arange(20).reshape(2, 10)
    by_hand = model.transformer(tokens).last_hidden_state if task == "features" else model(tokens).logits
    output = adapted(input_ids=tokens)
    found = output.last_hidden_state if task == "features" else output.logits
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-4)  # updates of norm 10, float32
    adapted.merge_and_unload()


SCALES = {
    "whole": ([2.0, 2.0], 2.0, 8), "a fraction": ([10 / 4, 10 / 4], 2.5, 10), "no whole number": ([0.3, 0.3], 0.3, 1.2),
    "several": ([2.0, 0.5], 1.0, 4), "none that a product gives back": ([INEXACT, INEXACT], 1.0, 3),
}  # of the two sites; what PEFT is to multiply by, lora_alpha; fmt: skip


@pytest.mark.parametrize("case", SCALES)
def test_one_scale_of_whole_pairs_is_lora_alphas_and_the_pairs_stay_as_they_are(tmp_path, case):
    scales, wanted, alpha = SCALES[case]
    random = np.random.default_rng(2)
    gpt2(tmp_path / "model")
    sites = ["h.0.attn.c_proj", "h.1.attn.c_proj"]
    rank = 3 if INEXACT in scales else 4
    stored = {site: tuple(random.normal(size=size).astype(np.float32) for size in ((rank, 12), (12, rank)))
              for site in sites}
    directory = write_run(tmp_path / "run", tmp_path / "model",
                          {("common", site): (*stored[site], scale) for site, scale in zip(sites, scales)})
    assert export(directory, "--common", "--output", tmp_path / "out") == 0
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["lora_alpha"] == alpha and isinstance(settings["lora_alpha"], int) == (alpha != 1.2)
    assert f"lora_alpha / r = {wanted:g}" in (tmp_path / "out" / "README.md").read_text()
    adapted = peft.PeftModel.from_pretrained(transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "model"),
                                             tmp_path / "out")
    for site, scale in zip(sites, scales):
        layer = adapted.base_model.model.transformer.get_submodule(site)
        assert layer.scaling["default"] == wanted
        down, up = (part["default"].weight.detach().numpy() for part in (layer.lora_A, layer.lora_B))
        assert np.array_equal(down, stored[site][0])
        factor = 1.0 if wanted == scale else scale
        assert np.array_equal(up, (factor * stored[site][1].astype(np.float64)).astype(np.float32))


def write_headed_run(folder, kind, task, scores, dense, pooling="cls"):
    """A run of one pair and a common head of `scores` outputs, as its directory, and the pair's update."""
    torch.manual_seed(7)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32, pad_token_id=0, initializer_range=0.2)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder / "model")
    random = np.random.default_rng(8)
    down, up = random.normal(size=(2, 16)), random.normal(size=(16, 2))
    directory = write_run(folder / "run", folder / "model", {("common", SITE): (down, up, 0.5)})
    head = {"weight": random.normal(size=(scores, 16)), "bias": random.normal(size=scores)}
    if dense:
        head |= {"dense/weight": random.normal(size=(16, 16)), "dense/bias": random.normal(size=16)}
    with h5py.File(directory / "adapters.h5", "r+") as file:
        for part, values in head.items():
            file[f"common/head/{part}"] = values
    with h5py.File(directory / "results.h5", "r+") as file:
        file["options"].attrs["pooling"] = pooling
        file.attrs["data_task"] = task
        names = file.create_dataset("class_name", data=np.array(["all"], object), dtype=h5py.string_dtype())
        file["class"] = np.arange(1)
        file["class"].make_scale("class")
        names.dims[0].attach_scale(file["class"])
    head = {part: torch.from_numpy(values.astype(np.float32)) for part, values in head.items()}
    return directory, torch.from_numpy((0.5 * up @ down).astype(np.float32)), head


SITE = "encoder.layer.1.attention.self.query"


@pytest.mark.parametrize(("kind", "dense"), [("Bert", False), ("Roberta", True)])
def test_a_head_of_spans_is_said_to_score_every_token(tmp_path, kind, dense, monkeypatch, capsys):
    directory, update, head = write_headed_run(tmp_path, kind, "span", 2, dense, "pooler" if kind == "Bert" else "cls")
    assert export(directory, "--common", "--output", tmp_path / "out") == 0
    texts = [torch.arange(2, 12)[None]]
    model = getattr(transformers, f"{kind}Model").from_pretrained(tmp_path / "model").eval()
    model.get_submodule(SITE).weight.data += update
    with torch.no_grad():
        states = model(texts[0]).last_hidden_state
    if dense:
        states = torch.tanh(states @ head["dense/weight"].T + head["dense/bias"])
    found = logits_by_readme(tmp_path / "out", texts, monkeypatch, "scores")
    torch.testing.assert_close(found, states @ head["weight"].T + head["bias"], rtol=1e-4, atol=1e-4)
    page = (tmp_path / "out" / "README.md").read_text()
    assert "first <= last" in page and not any(words in page for words in ("pooled", "Classes", "[CLS]", "logits"))
    assert export(directory, "--common", "--task", "classification", "--output", tmp_path / "other") == 3
    assert "scores every token" in capsys.readouterr().err


@pytest.mark.parametrize("pooling", ["cls", "pooler"])
def test_a_head_of_a_regression_gives_a_value_and_names_no_classes(tmp_path, pooling, monkeypatch):
    directory, _, _ = write_headed_run(tmp_path, "Bert", "regression", 1, False, pooling)
    assert export(directory, "--common", "--output", tmp_path / "out") == 0
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Classes" not in page and "`logits[:, 0]` is the value" in page
    assert logits_by_readme(tmp_path / "out", [torch.arange(2, 12)[None]], monkeypatch)[:, 0].shape == (1,)


@pytest.mark.parametrize(("kind", "sizes", "sites"), [
    ("Roberta", {}, ["encoder.layer.1.attention.self.query", "encoder.layer.0.output.dense"]),
    ("DistilBert", {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2},
     ["transformer.layer.1.attention.q_lin", "transformer.layer.0.ffn.lin2"]),
    ("DebertaV2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4},
     ["encoder.layer.1.attention.self.query_proj", "encoder.layer.0.attention.self.value_proj"]),
    ("Llama", {"num_key_value_heads": 1}, ["layers.1.self_attn.q_proj", "layers.0.self_attn.v_proj"]),
    ("Qwen2", {"num_key_value_heads": 1}, ["layers.1.self_attn.q_proj", "layers.0.mlp.down_proj"]),
])
def test_the_sites_of_an_architecture_are_its_modules(tmp_path, kind, sizes, sites):
    torch.manual_seed(4)
    common = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
              "intermediate_size": 24, "max_position_embeddings": 32, "pad_token_id": 0, "initializer_range": 0.2}
    common = {"vocab_size": 40, "initializer_range": 0.2} if kind == "DistilBert" else common
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**common, **sizes)).eval()
    model.save_pretrained(tmp_path / "model")
    random = np.random.default_rng(6)
    pairs = {}
    for site in sites:
        out, width = model.get_submodule(site).weight.shape
        pairs["common", site] = random.normal(size=(2, width)), random.normal(size=(out, 2)), 0.5
    run_directory = write_run(tmp_path / "run", tmp_path / "model", pairs)
    assert export(run_directory, "--common", "--task", "features", "--output", tmp_path / "out") == 0
    tokens = torch.arange(2, 12)[None]
    base = transformers.AutoModel.from_pretrained(tmp_path / "model")
    found = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()(input_ids=tokens).last_hidden_state
    for site in sites:
        down, up, scale = pairs["common", site]
        model.get_submodule(site).weight.data += torch.from_numpy((scale * up @ down).astype(np.float32))
    torch.testing.assert_close(found, model(input_ids=tokens).last_hidden_state, rtol=1e-4, atol=1e-4)


def test_an_unknown_architecture_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(FormatError, match="model_type 't5'; known are bert"):
        export_peft.architecture_of(str(tmp_path))

"""A LoRA in PEFT's folder as the start of a run: what PEFT computes with it, what the export gives back, refusals."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_run_answers import decoder, reader  # noqa: F401

from program import assert_refused, assert_same, bits, digests, needs_program, run

import analysis
from analysis import export_peft

pytestmark = needs_program
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")


STILL = {"rounds": 0}


def saved(base, folder, seed=3, **settings):
    """PEFT's folder of an adapter whose B is not 0, and the model that it belongs to."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "init_lora_weights": False, **settings}
    model = peft.get_peft_model(base, peft.LoraConfig(**settings)).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("algorithm", ["homlora", "local", "fedsa-lora", "pf2lora"])
def test_a_run_begins_with_what_peft_saved(small_text, algorithm, tmp_path):
    base = transformers.BertModel.from_pretrained(small_text["model"])
    saved(base, tmp_path / "lora", target_modules=["query", "value"])
    own = {"client-rank": 2} if algorithm == "pf2lora" else {"client-rank": None}
    run({**small_text, **STILL, "algorithm": algorithm, **own, "rank": 4, "lora-alpha": 8,
         "start-adapter": tmp_path / "lora", "output": tmp_path / "run", "progress": "off"}, 2)
    adapters = analysis.load_adapters(tmp_path / "run")
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    for i in range(2):
        for part in ("query", "value"):
            site = f"encoder.layer.{i}.attention.self.{part}"
            a, b = (tensors[f"base_model.model.{site}.lora_{name}.weight"] for name in "AB")
            for client in (0, 3):
                found = adapters.update(site, client)
                np.testing.assert_allclose(found, 2 * b @ a, rtol=0, atol=1e-6 * np.abs(2 * b @ a).max())
            if algorithm in ("homlora", "pf2lora"):
                assert np.array_equal(adapters.common[site].down, a) and np.array_equal(adapters.common[site].up, b)
    if algorithm == "homlora":
        with h5py.File(tmp_path / "run" / "results.h5") as file:
            assert len(file.attrs["start_adapter_sha256"]) == 64
        assert analysis.check_format(tmp_path / "run" / "results.h5") == []


def common_export(directory, folder):
    export_peft.export(directory, folder)
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("changes", [{}, {"pooling": "pooler"}], ids=["features", "classification"])
def test_an_exported_common_adapter_starts_a_run_and_comes_back_bit_for_bit(small_text, changes, tmp_path):
    options = {**small_text, **changes, "algorithm": "homlora", "client-rank": None, "progress": "off"}
    run({**options, "output": tmp_path / "first"})
    wanted = common_export(tmp_path / "first", tmp_path / "exported")
    still = {**options, **STILL, "start-adapter": tmp_path / "exported"}
    run({**still, "output": tmp_path / "second"}, 2)
    found = common_export(tmp_path / "second", tmp_path / "again")
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    heads = [load_file(tmp_path / name / "head.safetensors") for name in ("exported", "again")]
    assert all(np.array_equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert any("classifier" in name for name in wanted) == bool(changes)
    # The same adapter and head: the same loss on the same examples.
    losses = [analysis.load(tmp_path / name)["common_loss"].values[-1] for name in ("first", "second")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_resumed_runs_ask_for_the_same_adapter_and_ranks_do_not_matter(small_text, tmp_path):
    saved(transformers.BertModel.from_pretrained(small_text["model"]), tmp_path / "lora",
          target_modules=["query", "value"])
    options = {**small_text, "algorithm": "fedsa-lora", "client-rank": None, "lora-alpha": 8, "checkpoint-every": 1,
               "start-adapter": tmp_path / "lora"}
    wanted = bits(tmp_path / "1", options)
    for ranks in (2, 4):
        assert_same(bits(tmp_path / str(ranks), options, ranks), wanted)
    run({**options, "output": tmp_path / "stopped", "progress": "off", "max-hours": 1e-6}, 2, code=85)
    shutil.move(tmp_path / "lora", tmp_path / "moved")
    resumed = {"resume": True, "output": tmp_path / "stopped", "max-hours": 0, "start-adapter": tmp_path / "moved"}
    saved(transformers.BertModel.from_pretrained(small_text["model"]), tmp_path / "other", seed=4,
          target_modules=["query", "value"])
    assert_refused({**resumed, "start-adapter": tmp_path / "other"}, 3, ["start_adapter_sha256"], tmp_path)
    run({**resumed, "progress": "off"})
    assert_same(digests(tmp_path / "stopped"), wanted)


@pytest.mark.parametrize("exported", [False, True], ids=["one LoRA", "a LoRA each"])
def test_a_fused_matrix_is_taken_apart(decoder, exported, tmp_path):  # noqa: F811
    options = {**decoder, "algorithm": "homlora", "client-rank": None, "generate-tokens": 0, "progress": "off",
               "targets": "query,value"}
    base = transformers.GPT2LMHeadModel.from_pretrained(options["model"])
    if exported:
        run({**options, "output": tmp_path / "first"})
        wanted = common_export(tmp_path / "first", tmp_path / "lora")
    else:
        saved(base, tmp_path / "lora", target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
        options |= {"lora-alpha": 8, "targets": "query,key,value"}
        assert_refused({**options, "targets": "query,value", "start-adapter": tmp_path / "lora",
                        "output": tmp_path / "no"}, 2, ["the key part", "--targets with key"], tmp_path)
    still = {**options, **STILL, "start-adapter": tmp_path / "lora"}
    run({**still, "output": tmp_path / "second"}, 2)
    if exported:
        found = common_export(tmp_path / "second", tmp_path / "again")
        assert found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)
    # The loss of the first test row of each client, by PEFT.
    model = peft.PeftModel.from_pretrained(transformers.GPT2LMHeadModel.from_pretrained(options["model"]),
                                           tmp_path / "lora").eval()
    results = analysis.load(tmp_path / "second")
    with h5py.File(options["data"]) as data, torch.no_grad():
        for client in range(options["clients"]):
            rows = results["test_index"].values[slice(*results["test_offsets"].values[client : client + 2])]
            total = 0.0
            for row in rows:
                ids = torch.from_numpy(data["tokens"][slice(*data["offsets"][row : row + 2])].astype(np.int64))
                logits = model(input_ids=ids[None]).logits[0]
                at = int(data["target"][row])
                total += float(torch.nn.functional.cross_entropy(logits[at - 1 : -1], ids[at:], reduction="sum"))
            assert float(results["common_loss"].values[-1, client]) == pytest.approx(total, rel=1e-4)


def common_loss(directory):
    return float(analysis.load(directory)["common_loss"].values[-1, 0])


def loss_in_peft(directory, options, model):
    """Of the test examples of client 0, summed."""
    results = analysis.load(directory)
    with h5py.File(options["data"]) as data, torch.no_grad():
        total = 0.0
        for row in results["test_index"].values[slice(*results["test_offsets"].values[:2])]:
            ids = torch.from_numpy(data["tokens"][slice(*data["offsets"][row : row + 2])].astype(np.int64))
            label = torch.tensor([int(data["labels"][row])])
            total += float(torch.nn.functional.cross_entropy(model(input_ids=ids[None]).logits, label))
    return total


SIZES = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 48, "max_position_embeddings": 80, "pad_token_id": 0, "initializer_range": 0.2,
         "num_labels": 6}
KINDS = {
    "Roberta": ({}, ["query", "value"], ["classifier"]),
    "DistilBert": ({"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2}, ["q_lin", "v_lin"],
                   ["pre_classifier", "classifier"]),
    "DebertaV2": ({"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4,
                   "pooler_hidden_size": 32, "position_biased_input": False, "share_att_key": True,
                   "norm_rel_ebd": "layer_norm", "type_vocab_size": 0}, ["query_proj", "value_proj"], ["pooler", "classifier"]),
    "Llama": ({"num_key_value_heads": 1}, ["q_proj", "v_proj"], ["score"]),
    "Qwen2": ({"num_key_value_heads": 1}, ["q_proj", "v_proj"], ["score"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_begins_with_what_peft_saved(small_text, kind, tmp_path):
    sizes, targets, heads = KINDS[kind]
    common = {name: SIZES[name] for name in ("vocab_size", "initializer_range", "num_labels", "pad_token_id")} \
        if kind == "DistilBert" else SIZES
    torch.manual_seed(9)
    config = getattr(transformers, f"{kind}Config")(**{**common, **sizes})
    base = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    base.save_pretrained(tmp_path / "model")
    model = saved(base, tmp_path / "lora", target_modules=targets, task_type="SEQ_CLS", modules_to_save=heads)
    options = {**small_text, **STILL, "model": tmp_path / "model", "algorithm": "homlora", "client-rank": None,
               "lora-alpha": 8, "start-adapter": tmp_path / "lora"}
    run({**options, "output": tmp_path / "run", "progress": "off"})
    assert common_loss(tmp_path / "run") == pytest.approx(loss_in_peft(tmp_path / "run", options, model), rel=1e-4)


def test_the_head_in_modules_to_save_is_the_runs(small_text, reader, tmp_path):  # noqa: F811
    base = transformers.BertForSequenceClassification.from_pretrained(small_text["model"], num_labels=6)
    model = saved(base, tmp_path / "classes", target_modules=["query", "value"], task_type="SEQ_CLS")
    model.base_model.model.classifier.modules_to_save["default"].weight.data.normal_()
    model.save_pretrained(tmp_path / "classes")
    options = {**small_text, **STILL, "algorithm": "homlora", "client-rank": None, "lora-alpha": 8,
               "pooling": "pooler", "start-adapter": tmp_path / "classes"}
    assert_refused({**options, "pooling": "cls", "output": tmp_path / "no"}, 2, ["--pooling pooler"], tmp_path)
    run({**options, "output": tmp_path / "run", "progress": "off"})
    assert common_loss(tmp_path / "run") == pytest.approx(loss_in_peft(tmp_path / "run", options, model), rel=1e-4)

    base = transformers.BertForQuestionAnswering.from_pretrained(reader["model"])
    saved(base, tmp_path / "spans", target_modules=["query", "value"], task_type="QUESTION_ANS")
    run({**reader, **STILL, "algorithm": "homlora", "client-rank": None, "lora-alpha": 8,
         "start-adapter": tmp_path / "spans", "output": tmp_path / "spans_run", "progress": "off"})
    weight = load_file(tmp_path / "spans" / "adapter_model.safetensors")["base_model.model.qa_outputs.weight"]
    assert np.array_equal(analysis.load_adapters(tmp_path / "spans_run").slices["common/head/weight"], weight)


def edited(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def changed(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def rename(tensors):
    for name in list(tensors):
        tensors[name.replace("encoder.layer.1", "encoder.layer.7")] = tensors.pop(name)


def narrow(tensors):
    tensors |= {name: tensor[:, :8].copy() for name, tensor in tensors.items() if "lora_A" in name}


REFUSED = {
    "no folder": (lambda f: shutil.rmtree(f), {}, 3, ["there is no folder"]),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), {}, 3, ["adapter_model.safetensors"]),
    "no settings": (lambda f: (f / "adapter_config.json").write_text("{"), {}, 3, ["adapter_config.json"]),
    "no lora": (lambda f: edited(f, peft_type="IA3"), {}, 3, ['peft_type "IA3"']),
    "dora": (lambda f: edited(f, use_dora=True), {}, 3, ["use_dora"]),
    "pissa": (lambda f: edited(f, init_lora_weights="pissa"), {}, 3, ["pissa"]),
    "biases": (lambda f: edited(f, bias="all"), {}, 3, ["biases"]),
    "foreign tensors": (lambda f: changed(f, lambda t: t.update({"x.y": np.zeros(2, np.float32)})), {}, 3, ["x.y"]),
    "foreign modules": (lambda f: changed(f, rename), {}, 3, ["encoder.layer.7.attention.self.query"]),
    "another rank": (lambda f: None, {"rank": 3}, 2, ["rank 4", "--rank 3", "give --rank 4"]),
    "another scale": (lambda f: None, {"lora-alpha": 16}, 2, ["by 2", "by 4", "--lora-alpha 8"]),
    "a scale of many digits": (lambda f: edited(f, lora_alpha=10 / 3), {}, 2, ["--lora-alpha 3.3333333333333335"]),
    "a stabilised scale": (lambda f: edited(f, use_rslora=True), {}, 2, ["by 4", "by 2", "--lora-alpha 16"]),
    "other targets": (lambda f: None, {"targets": "query"}, 2, ["--targets query,value --adapted-layers 0,1"]),
    "other layers": (lambda f: None, {"adapted-layers": "1"}, 2, ["--targets query,value --adapted-layers 0,1"]),
    "another model": (lambda f: changed(f, narrow), {}, 3, ["give an adapter of this model"]),
    "a damaged pattern": (lambda f: edited(f, alpha_pattern={"(": 3}), {}, 3, ["alpha_pattern"]),
    "a pattern of texts": (lambda f: edited(f, alpha_pattern={"query": "x"}), {}, 3, ["cannot be understood"]),
    "prompts": (lambda f: None, {"algorithm": "prompt", "rank": None, "lora-alpha": None}, 2,
                ["--algorithm prompt learns none"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(small_text, name, tmp_path):
    change, options, code, words = REFUSED[name]
    folder = tmp_path / "lora"
    saved(transformers.BertModel.from_pretrained(small_text["model"]), folder, target_modules=["query", "value"])
    change(folder)
    all_options = {**small_text, "algorithm": "homlora", "client-rank": None, "lora-alpha": 8, "start-adapter": folder,
                   "output": tmp_path / "run", **options}
    assert_refused(all_options, code, words, tmp_path)
    assert not (tmp_path / "run").exists()

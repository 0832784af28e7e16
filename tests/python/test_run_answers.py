"""What clients answer to their test examples: generated texts against transformers, spans against a plain search."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pytest
from conftest import made_once
from preparing import bert_like, gpt2_like, made, write

from program import assert_refused, assert_same, bits, digests, needs_program, run

import analysis
from analysis import answers, export_peft, generation_scores, metrics, span_scores

pytestmark = needs_program
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

NAMES = ["Alimentum", "Aromi", "Bibimbap House", "Blue Spice", "Browns Cambridge", "Clowns", "Cocum", "Cotto"]
AREAS = ["city centre", "riverside"]
OPTIONS = {"partition": "iid", "clients": 3, "rounds": 2, "lockstep": 2, "local-steps": 3, "batch-size": 4, "rank": 4,
           "client-rank": 2, "min-examples": 1, "adaptation-steps": "none", "learning-rate": 0.02}


def e2e_rows(names):
    for i, name in enumerate(names):
        for area in AREAS:
            prompt = f"name[{name}], eatType[{'pub' if i % 2 else 'restaurant'}], area[{area}]"
            yield prompt, f"{name} is a place in the {area}."
            yield prompt, f"In the {area} there is {name}."
            yield prompt, f"You find {name} at the {area}, where it is nice."


@pytest.fixture(scope="session")
def decoder(tmp_path_factory) -> dict[str, object]:
    """Options of a run on descriptions of places with a 2-layer GPT-2."""
    def make(folder):
        texts = [text for row in e2e_rows(NAMES) for text in row]
        model = gpt2_like(folder / "model", texts)
        size = json.loads((model / "config.json").read_text())["vocab_size"]
        torch.manual_seed(11)
        transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=size, n_positions=160, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, bos_token_id=0,
            eos_token_id=0)).save_pretrained(model)
        for split, names in (("train", NAMES[:5]), ("test", NAMES[5:])):
            with (folder / f"{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("mr", "ref"), *e2e_rows(names)])
        made("e2e", "--train", folder / "train.csv", "--test", folder / "test.csv", "--model", model,
             "--max-length", 160, "--output", folder / "e2e.h5")

    folder = made_once(tmp_path_factory, "decoder", make)
    return {**OPTIONS, "model": folder / "model", "data": folder / "e2e.h5", "targets": "query,value,intermediate",
            "generate-tokens": 12}


CONTEXTS = [" ".join(f"In {1700 + 40 * c + i} the river {c} rose {i} metres and took bridge {i} away."
                     for i in range(6 + c)) for c in range(8)]


@pytest.fixture(scope="session")
def reader(tmp_path_factory) -> dict[str, object]:
    """Options of a run on questions, some without an answer, with a 2-layer BERT."""
    def make(folder):
        model = bert_like(folder / "model", CONTEXTS, max_position_embeddings=64)
        size = json.loads((model / "config.json").read_text())["vocab_size"]
        torch.manual_seed(12)
        transformers.BertModel(transformers.BertConfig(
            vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            max_position_embeddings=64, initializer_range=0.3)).save_pretrained(model)
        for split, chosen in (("train", CONTEXTS[:4]), ("dev", CONTEXTS[4:])):
            articles = []
            for c, context in enumerate(chosen):
                asked = [{"id": f"{split}{c}/{i}", "question": f"What did it take in {i}?", "is_impossible": i % 3 == 2,
                          "answers": [] if i % 3 == 2 else [{"text": f"bridge {i}",
                                                              "answer_start": context.index(f"bridge {i}")}]}
                         for i in range(6)]
                articles.append({"title": f"{split}{c}", "paragraphs": [{"context": context, "qas": asked}]})
            write(folder / f"{split}.json", json.dumps({"version": "v2.0", "data": articles}))
        made("squad_v2", "--train", folder / "train.json", "--test", folder / "dev.json", "--model", model,
             "--max-length", 64, "--stride", 20, "--output", folder / "squad.h5")

    folder = made_once(tmp_path_factory, "reader", make)
    return {**OPTIONS, "model": folder / "model", "data": folder / "squad.h5", "targets": "query,value",
            "span-tokens": 5}


@pytest.mark.parametrize("kind", ["decoder", "reader"])
def test_answers_have_the_same_bytes_on_any_number_of_ranks_and_across_a_stop(kind, request, tmp_path):
    options = {**request.getfixturevalue(kind), "answer-every": 1, "beams": 2, "checkpoint-every": 1}
    wanted = bits(tmp_path / "1", options)
    assert analysis.check_format(tmp_path / "1" / "results.h5") == []
    found = [name for name in wanted if "_answer_" in name]
    assert len(found) == (2 if kind == "decoder" else 10)
    for ranks in (2, 4):
        assert_same(bits(tmp_path / str(ranks), options, ranks), wanted)
    directory = tmp_path / "stopped"
    run({**options, "output": directory, "progress": "off", "max-hours": 1e-6}, 2, code=85)
    run({"resume": True, "output": directory, "progress": "off", "max-hours": 0}, 4)
    assert_same(digests(directory), wanted)
    with h5py.File(directory / "results.h5") as file:
        assert file["answer"][...].tolist() == [1, 2]


def questions_by_client(directory):
    with h5py.File(directory / "results.h5") as file:
        bounds = file["question_offsets"][...]
        return file["question_item"][...], [range(a, b) for a, b in zip(bounds, bounds[1:])]


@pytest.mark.parametrize("search", [{}, {"beams": 4, "length-penalty": 0.8, "no-repeat-ngram": 3}],
                         ids=["greedy", "beams"])
@pytest.mark.parametrize("changes", [{}, {"algorithm": "ditto", "lockstep": 3}], ids=["pf2lora", "ditto"])
def test_texts_are_those_of_transformers_with_the_exported_adapter(decoder, search, changes, tmp_path):
    options = {**decoder, **search, **changes}
    options["client-rank"] = None if changes else 2
    directory = tmp_path / "run"
    run({**options, "output": directory, "progress": "off"}, 2)
    items, by_client = questions_by_client(directory)
    with h5py.File(options["data"]) as file:
        prompts = {}
        for row, item in enumerate(file["item"][...]):
            begin = file["offsets"][row]
            prompts[item] = file["tokens"][begin : begin + file["target"][row]]
    read = answers.read(directory, "generation")
    different = 0
    for client, chosen in enumerate(by_client):
        with h5py.File(directory / "results.h5") as results, h5py.File(options["data"]) as data:
            rows = results["test_index"][slice(*results["test_offsets"][client : client + 2])]
            assert items[chosen].tolist() == sorted(set(data["item"][...][rows].tolist()))
        for which, model in ((client, "personal"), (None, "common")):
            folder = export_peft.export(directory, tmp_path / f"{client}{model}", which)
            base = transformers.GPT2LMHeadModel.from_pretrained(options["model"])
            adapted = peft.PeftModel.from_pretrained(base, folder).eval()
            texts = read.tokens(model)
            for question in chosen:
                prompt = torch.from_numpy(prompts[items[question]].astype(np.int64))[None]
                with torch.no_grad():
                    wanted = adapted.generate(
                        input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=0,
                        max_new_tokens=12, num_beams=search.get("beams", 1),
                        **({"length_penalty": 0.8, "early_stopping": False} if search else {}),
                        no_repeat_ngram_size=search.get("no-repeat-ngram", 0))[0, prompt.shape[1] :]
                assert texts[question] == [token for token in wanted.tolist() if token != 0]
        different += sum(read.tokens("common")[i] != read.tokens("personal")[i] for i in chosen)
    assert different > 0


def test_scores_of_a_run_are_those_of_its_decoded_texts(decoder, tmp_path, capsys):
    directory = tmp_path / "run"
    run({**decoder, "output": directory, "progress": "off"})
    assert generation_scores.main([str(directory), "--scores", "NIST", "--output", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "**Texts of the common model after round 2**" in output and "**Texts of the personal model" in output
    values = json.loads((tmp_path / "out" / "generation_scores.json").read_text())
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(decoder["model"] / "tokenizer.json"))
    items, by_client = questions_by_client(directory)
    with h5py.File(directory / "results.h5") as results, h5py.File(decoder["data"]) as data:
        references = [json.loads(text) for text in data["item_references"].asstr()[...]]
        for model in ("common", "personal"):
            lines = []
            for client, chosen in enumerate(by_client):
                for question in chosen:
                    tokens = results[f"{model}_answer_tokens"][-1, question]
                    lines.append({"hypothesis": tokenizer.decode(tokens[tokens >= 0]),
                                  "references": references[items[question]], "client": client})
            assert any(line["hypothesis"] for line in lines) and all(len(line["references"]) == 3 for line in lines)
            path = write(tmp_path / f"{model}.jsonl", "\n".join(map(json.dumps, lines)))
            assert generation_scores.main([str(path), "--scores", "NIST", "--output", str(tmp_path / model)]) == 0
            assert values[model] == json.loads((tmp_path / model / "generation_scores.json").read_text())
            told = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
            assert [{"hypothesis": line[model], "references": line["references"], "client": line["client"]}
                    for line in told] == [line | {"hypothesis": " ".join(line["hypothesis"].split())} for line in lines]
            assert [line["prompt"] for line in told] == data["item_text"].asstr()[...][items].tolist()
            empty = sum(not line[model] for line in told)
            assert (f"\n{empty} of {len(items)} texts are empty." in output) == (empty > 0)
    assert list(told[0]) == ["client", "round", "id", "prompt", "references", "common", "personal"]
    assert {line["round"] for line in told} == {2}
    capsys.readouterr()
    assert generation_scores.main([str(directory), "--round", "1"]) == 3
    assert "holds no answers of round 1, but of 2" in capsys.readouterr().err
    assert generation_scores.main([str(directory), "--data", str(tmp_path / "none.h5")]) == 3
    assert "none.h5 cannot be read" in capsys.readouterr().err
    assert generation_scores.main([str(directory), "--data", str(directory / "adapters.h5")]) == 3
    assert "it has another SHA-256" in capsys.readouterr().err
    assert span_scores.main([str(directory)]) == 3
    assert "of a generation, which python -m analysis.generation_scores scores" in capsys.readouterr().err


def test_no_text_is_generated_where_none_is_asked_for(decoder, tmp_path, capsys):
    run({**decoder, "output": tmp_path / "run", "progress": "off", "generate-tokens": 0})
    with h5py.File(tmp_path / "run" / "results.h5") as file:
        assert not [name for name in file if "answer" in name or "question" in name]
    assert analysis.check_format(tmp_path / "run" / "results.h5") == []
    assert generation_scores.main([str(tmp_path / "run")]) == 3
    assert "holds no answers of a generation" in capsys.readouterr().err
    assert span_scores.main([str(tmp_path / "run")]) == 3


def test_methods_that_cannot_generate_say_so_before_the_run(decoder, tmp_path):
    options = {**decoder, "algorithm": "fedfmsl", "client-rank": None, "output": tmp_path / "run"}
    assert_refused(options, 2, ["fedfmsl", "--generate-tokens 0"], tmp_path)
    assert not (tmp_path / "run").exists()
    run({**options, "generate-tokens": 0, "progress": "off"})


@pytest.mark.parametrize("own_head", [{"algorithm": "fedrep"}, {"algorithm": "homlora", "head": "personal"}])
def test_a_head_of_each_clients_own_is_refused_where_there_is_none(decoder, own_head, tmp_path):
    options = {**decoder, "client-rank": None, "output": tmp_path / "run", **own_head}
    assert_refused(options, 2, ["--head personal", "a generation has none"], tmp_path)


def test_a_method_whose_adapters_differ_by_example_generates(decoder, tmp_path):
    options = {**decoder, "algorithm": "feddpa-t", "client-rank": None}
    assert_same(bits(tmp_path / "2", options, 2), bits(tmp_path / "1", options))


def span_logits(directory, options, client, rows):
    """[2, tokens] scores of each row, of the model that the export hands to PEFT; client None: the common one."""
    folder = export_peft.export(directory, directory.parent / f"exported{client}", client)
    base = transformers.BertModel.from_pretrained(options["model"])
    model = peft.PeftModel.from_pretrained(base, folder).eval()
    from safetensors.torch import load_file

    head = load_file(folder / "head.safetensors")
    found = {}
    with h5py.File(options["data"]) as file, torch.no_grad():
        for row in rows:
            part = slice(*file["offsets"][row : row + 2])
            ids, types = (torch.from_numpy(file[name][part].astype(np.int64))[None]
                          for name in ("tokens", "token_types"))
            states = model(input_ids=ids, token_type_ids=types).last_hidden_state[0]
            found[row] = (states @ head["weight"].T + head["bias"]).T.numpy()
    return found


@pytest.mark.parametrize("algorithm", ["pf2lora", "homlora"])
def test_spans_are_the_best_of_all_windows(reader, algorithm, tmp_path):
    options = {**reader, "algorithm": algorithm, "client-rank": 2 if algorithm == "pf2lora" else None}
    directory = tmp_path / "run"
    run({**options, "output": directory, "progress": "off"}, 2)
    items, by_client = questions_by_client(directory)
    with h5py.File(options["data"]) as file, h5py.File(directory / "results.h5") as results:
        of_row, offsets, inside = file["item"][...], file["offsets"][...], file["token_characters"][:, 0] >= 0
        assert max(np.bincount(of_row)) > 1
        test, bounds = results["test_index"][...], results["test_offsets"][...]
        recorded = {name: results[name][-1] for name in results if "_answer_" in name}
    for client, chosen in enumerate(by_client):
        rows = test[bounds[client] : bounds[client + 1]]
        for which, model in ((client, "personal"), (None, "common"))[: 2 if client == 0 else 1]:
            logits = span_logits(directory, options, which, rows)
            page = (directory.parent / f"exported{which}" / "README.md").read_text()
            assert "scores = linear(output.last_hidden_state, head[" in page and "Classes" not in page
            for question in chosen:
                spans, none = [], []
                for row in rows[of_row[rows] == items[question]]:
                    start, end = logits[row]
                    places = np.flatnonzero(inside[offsets[row] : offsets[row + 1]])
                    none.append(start[0] + end[0])
                    spans += [(start[i] + end[j], row, i, j) for i in places for j in places if i <= j < i + 5]
                best = max(spans)
                found = [recorded[f"{model}_answer_{name}"][question]
                         for name in ("score", "row", "first", "last", "none")]
                assert found[1:4] == list(best[1:])
                assert found[0] == pytest.approx(best[0], abs=1e-4) and found[4] == pytest.approx(min(none), abs=1e-4)


def test_scores_of_spans_are_those_of_their_texts(reader, tmp_path, capsys):
    directory = tmp_path / "run"
    run({**reader, "output": directory, "progress": "off"})
    assert span_scores.main([str(directory), "--output", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "**Spans of the personal model after round 2**" in output and "unanswerable_f1" in output
    values = json.loads((tmp_path / "out" / "span_scores.json").read_text())
    items, by_client = questions_by_client(directory)
    with h5py.File(reader["data"]) as data, h5py.File(directory / "results.h5") as results:
        references = [json.loads(text) for text in data["item_references"].asstr()[...]]
        contexts, offsets, places = data["item_text"].asstr()[...], data["offsets"][...], data["token_characters"][...]
        for model in ("common", "personal"):
            row, first, last, best, none = (results[f"{model}_answer_{name}"][-1]
                                            for name in ("row", "first", "last", "score", "none"))
            texts = []
            for question, item in enumerate(items):
                at = offsets[row[question]]
                begin, end = places[at + first[question], 0], places[at + last[question], 1]
                refused = none[question] > best[question]
                texts.append("" if refused else contexts[item][begin:end])
            for client, chosen in enumerate(by_client):
                wanted = metrics.squad([texts[i] for i in chosen], [references[items[i]] for i in chosen])
                for name in ("exact", "f1"):
                    assert values[model]["clients"][str(client)][name] == pytest.approx(wanted[name])
            assert values[model]["overall"]["questions"] == len(items)
            told = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
            assert [line[model] for line in told] == texts
            assert [line["id"] for line in told] == data["item_id"].asstr()[...][items].tolist()
            assert (f"\n{texts.count('')} of {len(items)} texts are empty." in output) == ("" in texts)
    assert list(told[0]) == ["client", "round", "id", "references", "common", "personal"]
    capsys.readouterr()
    assert generation_scores.main([str(directory)]) == 3
    assert "of a span, which python -m analysis.metrics scores" in capsys.readouterr().err


def test_a_line_of_a_named_client_without_a_common_model_has_null_there(decoder, tmp_path):
    data, directory = tmp_path / "named.h5", tmp_path / "run"
    folder = decoder["data"].parent
    made("e2e", "--train", folder / "train.csv", "--test", folder / "test.csv", "--model", decoder["model"],
         "--max-length", 160, "--client", "area", "--output", data)
    run({**decoder, "algorithm": "local", "client-rank": None, "partition": "field", "clients": 2, "data": data,
         "output": directory, "progress": "off"})
    assert generation_scores.main([str(directory), "--scores", "NIST", "--output", str(tmp_path / "out")]) == 0
    told = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert {line["client_name"] for line in told} == set(AREAS)
    assert all(line["common"] is None and isinstance(line["personal"], str) for line in told)
    assert all(f"area : {line['client_name']}" in line["prompt"] for line in told)

"""Partitions as a run makes and records them: the same on any number of ranks, labels as clients read them."""

from __future__ import annotations

import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from conftest import FILES, GLOSSES
from program import ROOT, assert_refused, assert_same, bits, needs_program, run

import analysis
from analysis.runs import read, same_partition

pytestmark = needs_program

VARIANTS = {
    "shards": {"partition": "shards", "shards-per-client": 3},
    "quantity": {"partition": "quantity", "quantity-alpha": 0.3, "validation-share": 0.1},
    "field": {"partition": "field", "clients": 4, "examples-per-client": 0, "test-examples-per-client": 0},
    "label conflict": {"label-conflict": 0.6, "validation-share": 0.2, "held-out-clients": 2},
    "label conflict, centralized": {"partition": "iid", "label-conflict": 1, "algorithm": "centralized"},
}
WRITERS = ["carol", "alice", "bob", "dave", "erin"]  # of 150, 120, 90, 72 and 48 of 480 glosses
SHARES = [150, 120, 90, 72, 48]


@pytest.fixture(scope="module")
def written(small_text, tmp_path_factory):
    """small_text with a column that names who wrote each gloss."""
    folder = tmp_path_factory.mktemp("written")
    table, data = folder / "glosses.tsv", folder / "glosses.h5"
    writers = np.random.default_rng(3).permutation(np.repeat(WRITERS, SHARES))
    lines, found = ["text\tlabel\twriter"], dict.fromkeys(FILES, 0)
    for line in GLOSSES.read_text(encoding="utf-8").splitlines():
        fields, bar, gloss = line.partition(" | ")
        number = fields.split(" ")[1]
        if bar and number in FILES and found[number] < 80:
            found[number] += 1
            lines.append(f"{gloss.strip()}\t{FILES[number]}\t{writers[len(lines) - 1]}")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "jobs" / "prepare.py", "tsv", "--model", small_text["model"], "--train", table,
                    "--client", "writer", "--max-length", "64", "--test-share", "0.25", "--output", data],
                   check=True, capture_output=True, timeout=120)
    return {**small_text, "data": data}


@pytest.fixture(scope="module", params=VARIANTS)
def finished(request, written, tmp_path_factory):
    """The directory of a run, its options and the digests of its files."""
    options = {**written, "rounds": 2, **VARIANTS[request.param]}
    directory = tmp_path_factory.mktemp(re.sub(r"\W+", "_", request.param)) / "run"
    return directory, options, bits(directory, options)


def test_partitions_give_the_same_bits_on_any_number_of_ranks(finished, tmp_path):
    _, options, wanted = finished
    for ranks in (2, 3):
        assert_same(bits(tmp_path / str(ranks), options, ranks), wanted)


def test_the_record_holds_the_labels_that_clients_read(finished):
    directory, options, _ = finished
    assert analysis.check_format(directory / "results.h5") == []
    with h5py.File(directory / "results.h5") as file, h5py.File(options["data"]) as data:
        labels, split = data["labels"][...], data["split"][...]
        clients, share = options["clients"], options.get("label-conflict", 0)
        assert ("label_map" in file) == (share > 0)
        maps = file["label_map"][...] if share else np.tile(np.arange(6), (clients, 1))
        permuted = (maps != np.arange(6)).any(axis=1)
        assert permuted.sum() == round(share * clients)
        assert (maps[permuted] != np.arange(6)).all()
        seen = []
        for part in ("train", "validation", "test"):
            index, offsets = file[f"{part}_index"][...], file[f"{part}_offsets"][...]
            assert (split[index] == (2 if part == "test" else 0)).all()
            seen += index.tolist()
            if part != "validation":
                counts = [np.bincount(maps[k][labels[index[a:b]]], minlength=6)
                          for k, (a, b) in enumerate(zip(offsets, offsets[1:]))]
                assert np.array_equal(counts, file[f"{part}_class_counts"][...])
        assert len(seen) == len(set(seen))


def test_field_takes_the_largest_clients_and_records_their_names(written, tmp_path):
    options = {**written, **VARIANTS["field"], "rounds": 1, "output": tmp_path / "run", "progress": "lines"}
    said = run(options).stdout
    assert "4 largest of 5 clients" in said and "alice, bob, carol, dave" in said
    with h5py.File(tmp_path / "run" / "results.h5") as file, h5py.File(options["data"]) as data:
        names = data["client_name"].asstr()[...]
        assert file["client_name"].asstr()[...].tolist() == ["alice", "bob", "carol", "dave"]
        for k, name in enumerate(file["client_name"].asstr()[...]):
            for part in ("train", "test"):
                offsets = file[f"{part}_offsets"][...]
                rows = file[f"{part}_index"][offsets[k]:offsets[k + 1]]
                assert set(names[data["client"][...][rows]]) == {name}
        held = np.bincount(data["client"][...][data["split"][...] == 0])
        assert file["train_examples"][...].tolist() == [held[names.tolist().index(n)] for n in ("alice", "bob", "carol", "dave")]


def test_a_partition_that_the_data_cannot_give_is_refused(written, small_text, tmp_path):
    field = {**VARIANTS["field"], "output": tmp_path / "run"}
    assert_refused({**written, **field, "clients": 6}, 2, ["--clients 6", "5 clients"], tmp_path)
    assert_refused({**small_text, **field}, 3, ["--client COLUMN"], tmp_path)
    assert_refused({**written, "label-conflict": 0.05, "output": tmp_path / "run"}, 2, ["--label-conflict 0.05"], tmp_path)
    assert_refused({**written, "partition": "shards", "shards-per-client": 41, "output": tmp_path / "run"}, 2,
                   ["--shards-per-client 41", "40 training examples"], tmp_path)
    assert not (tmp_path / "run").exists()


def entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def test_a_dry_run_prints_the_figures_of_the_partition(written, tmp_path):
    options = {**written, **VARIANTS["label conflict"], "rounds": 1}
    run({**options, "output": tmp_path / "run", "progress": "off"})
    with h5py.File(tmp_path / "run" / "results.h5") as file:
        counts, tests = file["train_class_counts"][...], file["test_examples"][...]
        validation, maps = file["validation_examples"][...], file["label_map"][...]
    page = run({**options, "output": tmp_path / "dry", "dry-run": True}, 2).stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in page.partition("\nPartition")[2].splitlines()]
    table = {row[0]: row[1:] for row in rows if len(row) > 5}
    for k, own in enumerate(counts):
        cells = table[str(k)]
        assert [int(cell) for cell in cells[:4]] == [own.sum(), validation[k], tests[k], (own > 0).sum()]
        assert float(cells[4]) == pytest.approx(entropy(own), abs=0.0051)
        assert float(cells[5]) == pytest.approx(100 * own.max() / own.sum(), abs=0.051)
        assert cells[6:] == (["permuted"] if (maps[k] != np.arange(6)).any() else [])
    for name, wanted in (("min", np.min), ("median", np.median), ("max", np.max)):
        assert float(table[name][4]) == pytest.approx(wanted([entropy(own) for own in counts]), abs=0.0051)
    pooled = counts.sum(axis=0) / counts.sum()
    shares = counts / counts.sum(axis=1, keepdims=True)
    nats = [entropy((own + pooled) / 2) - (entropy(own) + entropy(pooled)) / 2 for own in shares]
    found = float(re.search(r"Jensen-Shannon distance .* mean ([\d.]+)", page)[1])
    assert found == pytest.approx(np.sqrt(np.array(nats) / np.log(2)).mean(), abs=6e-4)


def test_conflicting_labels_can_be_learned_alone_and_not_together(written, tmp_path):
    """Four clients alike but for the names of their classes: one model cannot serve them, their own can.

    A model that knows every gloss's class, but not whose gloss it is, can do no better than to answer what most
    clients call that class.
    """
    options = {**written, "model": ROOT / "models" / "minilm", "adapted-layers": "top:1", "partition": "iid", "clients": 4,
               "examples-per-client": 80, "test-examples-per-client": 25, "rounds": 8, "batch-size": 16,
               "learning-rate": 5e-3, "evaluate-every": 0, "spectra-every": 0, "adaptation-steps": "none", "progress": "off"}
    scores = {}
    for name, change in {"agree": {"algorithm": "homlora"}, "together": {"algorithm": "homlora", "label-conflict": 1},
                         "alone": {"algorithm": "local", "label-conflict": 1}}.items():
        run({**options, **change, "output": tmp_path / name})
        with h5py.File(tmp_path / name / "results.h5") as file:
            scores[name] = file["personal_correct"][-1].sum() / file["test_examples"][...].sum()
            maps = file["label_map"][...] if "label_map" in file else None
    best = np.mean([np.bincount(names).max() for names in maps.T]) / len(maps)
    assert best < 0.6
    assert scores["agree"] > 0.8 and scores["alone"] > 0.8, scores
    assert scores["together"] < best + 0.1, (scores, best)
    agree, together, alone = read([tmp_path / name for name in scores])
    assert same_partition(together, alone) and not same_partition(agree, together)

"""What a run leaves: files that others can open, a configuration that repeats it, numbers that agree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import xarray

from program import MATRIX, ROOT, assert_same, bits, digests, needs_program, personal_matrices, run

import analysis

pytestmark = needs_program


@pytest.fixture(scope="module", params=["text", "matrix", "local", "held out"])
def finished(request, small_text, tmp_path_factory):
    """The directory of a run, its options and what it said."""
    options = {"text": {**small_text, "validation-share": 0.2}, "matrix": MATRIX,
               "local": {**small_text, "algorithm": "local"},
               "held out": {**small_text, "algorithm": "homlora", "held-out-clients": 2, "evaluate-every": 2,
                            "spectra-every": 0}}[request.param]
    directory = tmp_path_factory.mktemp(request.param.replace(" ", "_")) / "run"
    options = {**options, "output": directory, "progress": "lines"}
    return directory, options, run(options, 2).stdout


def test_files_conform_to_their_format(finished):
    assert analysis.check_format(finished[0] / "results.h5") == []
    assert analysis.check_format(finished[0] / "adapters.h5") == []


def test_xarray_opens_results_with_named_dimensions(finished):
    directory, options, _ = finished
    with xarray.open_dataset(directory / "results.h5", engine="h5netcdf") as data:
        assert data["personal_loss"].dims == ("evaluation", "client")
        assert data["total_singular_values"].dims == ("spectrum", "client", "site", "total_index")
        assert data["phase_seconds"].dims == ("round", "phase", "process") and data.sizes["process"] == 2
        assert data["round"].values.tolist() == list(range(1, options["rounds"] + 1))
        assert data.sizes["client"] == options["clients"]
        assert not [name for name in (*data.dims, *data.variables) if name.startswith("phony_dim")]
        assert data.attrs["format"] == "pf2lora-results" and data.attrs["ranks"] == 2


def test_a_profile_holds_the_phases_and_operations_of_every_rank(small_text, tmp_path):
    options = {**small_text, "output": tmp_path / "run", "profile": tmp_path / "trace.json"}
    run(options, 2)
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    data = analysis.load(tmp_path / "run")
    for rank in (0, 1):
        mine = [event for event in events if event["pid"] == rank]
        phases = [event for event in mine if event["cat"] == "phase"]
        operations = [event for event in mine if event["cat"] in ("value", "gradient", "tangent", "gradient tangent")]
        assert {event["name"] for event in operations} >= {"linear", "norm", "activation", "attention", "head"}
        for phase in ("train", "evaluate"):
            spans = [event for event in phases if event["name"] == phase]
            assert len(spans) == options["rounds"]
            recorded = float(data.phase_seconds.sel(phase=phase).isel(process=rank).sum())
            assert sum(event["dur"] for event in spans) / 1e6 == pytest.approx(recorded, rel=0.02, abs=2e-3)
        inside = [any(phase["ts"] <= event["ts"] and event["ts"] + event["dur"] <= phase["ts"] + phase["dur"] + 1
                      for phase in phases) for event in operations]
        assert all(inside)
        totals = {(total["kind"], total["name"]): total for total in trace["totals"] if total["rank"] == rank}
        linear = [event["dur"] for event in operations if (event["cat"], event["name"]) == ("gradient", "linear")]
        assert totals["gradient", "linear"]["count"] == len(linear) > 0
        assert totals["gradient", "linear"]["seconds"] == pytest.approx(sum(linear) / 1e6, rel=1e-6)
    before = (tmp_path / "trace.json").read_bytes()
    run({"resume": True, "output": tmp_path / "run"}, 2)  # complete: its profile is left alone
    assert (tmp_path / "trace.json").read_bytes() == before
    without = {**options, "output": tmp_path / "without", "profile": ""}
    run(without, 2)
    assert_same(digests(tmp_path / "run"), digests(tmp_path / "without"))


def test_a_profile_that_cannot_be_written_is_refused_before_the_run(small_text, tmp_path):
    options = {**small_text, "output": tmp_path / "run", "profile": tmp_path / "no" / "trace.json"}
    done = run(options, 2, code=3)
    assert done.stderr.count("pf2lora: ") == 1 and f"cannot be written to {tmp_path}/no/trace.json" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_profile_that_fails_at_the_end_costs_nothing_of_the_run(tmp_path):
    done = run({**MATRIX, "rounds": 1, "output": tmp_path / "run", "profile": "/dev/full", "progress": "lines"}, 2)
    assert "cannot be written to /dev/full" in done.stdout and "1 round done" in done.stdout
    assert analysis.load(tmp_path / "run").sizes["round"] == 1 and not (tmp_path / "run" / "segments").exists()


def test_a_profile_without_a_round_is_a_trace_or_no_file(tmp_path):
    options = {**MATRIX, "rounds": 0, "output": tmp_path / "run", "profile": tmp_path / "trace.json"}
    run(options)
    assert "traceEvents" in json.loads((tmp_path / "trace.json").read_text())
    run({"resume": True, "output": tmp_path / "run", "profile": tmp_path / "none.json"})  # complete
    assert not (tmp_path / "none.json").exists()


def test_hdf5_tools_read_the_files(finished):
    if not shutil.which("h5dump") or not shutil.which("h5ls"):
        pytest.skip("hdf5-tools is not installed")
    for name in ("results.h5", "adapters.h5"):
        for tool in (["h5ls", "-r", "-v"], ["h5dump"]):
            done = subprocess.run([*tool, finished[0] / name], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0 and not done.stderr, done.stderr
            assert "dataset" in done.stdout.lower()


def test_only_the_files_of_a_finished_run_stay(finished):
    assert sorted(entry.name for entry in finished[0].iterdir()) == ["adapters.h5", "checkpoint.h5", "options.ini",
                                                                     "results.h5"]


def test_the_printed_configuration_and_options_ini_repeat_the_run(finished, tmp_path):
    directory, options, _ = finished
    printed = run({"print-config": True, **options}).stdout
    (tmp_path / "printed.ini").write_text(printed)
    again = run({"config": tmp_path / "printed.ini", "output": tmp_path / "again", "progress": "off"}, 1)
    assert not again.stderr
    assert_same(digests(tmp_path / "again"), digests(directory))
    run({"config": directory / "options.ini", "output": tmp_path / "third", "progress": "off"})
    assert_same(digests(tmp_path / "third"), digests(directory))


def test_options_in_results_are_those_that_were_given(finished):
    directory, options, _ = finished
    with h5py.File(directory / "results.h5") as file:
        stored = dict(file["options"].attrs)
    for name, value in options.items():
        if not isinstance(value, (int, float)):
            assert stored[name] == str(value)
        else:
            assert stored[name] == value
    assert stored["seed"] == 1


def table(output: str, heading: str) -> dict[str, list[str]]:
    """Cells of the summary's table whose first line holds `heading`, by the label of the row."""
    lines = output.splitlines()
    first = next(i for i, line in enumerate(lines) if heading in line)
    rows = {}
    for line in lines[first + 1:]:
        cells = re.split(r"\s{2,}", line.strip())
        if len(cells) < 2:
            break
        rows[cells[0]] = cells[1:]
    return rows


def test_the_summary_agrees_with_the_results(finished):
    directory, options, output = finished
    with xarray.open_dataset(directory / "results.h5", engine="h5netcdf") as data:
        data.load()
    if options["problem"] == "matrix":
        rows = table(output, "relative error")
        for client, error in enumerate(data["relative_error"].values[-1]):
            assert float(rows[str(client)][0]) == pytest.approx(error, rel=5e-3)
            values = data["total_singular_values"].values[-1, client, 0]
            assert int(rows[str(client)][2]) == (values >= 1e-2 * values[0]).sum()
        return
    rows = table(output, "accuracy over clients")
    every = {"personal": data["personal_correct"][-1] / data["test_examples"],
              "common": data["common_correct"][-1] / data["test_examples"]}
    best = data["train_class_counts"].values.argmax(axis=1)
    every["majority class"] = xarray.DataArray(
        data["test_class_counts"].values[np.arange(len(best)), best] / data["test_examples"].values)
    if "adapted_correct" in data:
        steps = int(data["adaptation_step"][-1])
        every[f"adapted by {steps} local steps"] = data["adapted_correct"][-1, -1] / data["test_examples"]
    else:
        assert "not evaluated after local adaptation" in output
    held_out = options.get("held-out-clients", 0)  # the last ones
    training = options["clients"] - held_out
    wanted = {name: shares.values[:training] for name, shares in every.items()}
    if held_out:
        wanted |= {f"held out: {name}": shares.values[training:] for name, shares in every.items()}
    assert held_out or "held out" not in output
    if options.get("algorithm") == "homlora":  # one model, told once
        for prefix in ("", "held out: "):
            rows |= {f"{prefix}{name}": rows[f"{prefix}common = personal"] for name in ("common", "personal")}
    for name, shares in wanted.items():
        if np.isnan(shares).all():
            assert name not in rows  # `local` has no common model
            continue
        mean, _, _, _, smallest, largest = (float(cell) for cell in rows[name])
        assert mean == pytest.approx(100 * shares.mean(), abs=0.051)
        assert smallest == pytest.approx(100 * shares.min(), abs=0.051)
        assert largest == pytest.approx(100 * shares.max(), abs=0.051)
    last = [line for line in output.splitlines() if line.startswith("round ")][-1]
    for label, name in (("common", "common"), ("personal", "personal"), ("adapted", "adapted by 3 local steps"),
                        ("held out", "held out: adapted by 3 local steps")):
        if name in wanted and name in rows:
            assert f"{label} {float(rows[name][0])}%" in last, last
    for name in ("results.h5", "adapters.h5", "checkpoint.h5", "options.ini"):
        assert str(directory / name) in output


def test_spectra_are_those_of_the_stored_adapters(finished):
    """numpy.linalg.svd of the dense matrices, in double precision."""
    directory, options, _ = finished
    with h5py.File(directory / "results.h5") as results, h5py.File(directory / "adapters.h5") as adapters:
        for s, site in enumerate(results["site_name"].asstr()[...]):
            shape = int(results["site_rows"][s]), int(results["site_columns"][s])

            def product(owner, down, up):
                group = adapters.get(f"{owner}/{site}")
                if group is None or down not in group:
                    return np.zeros((1, *shape))
                pairs = group[up][...].astype(float) @ group[down][...].astype(float)
                return (group.attrs["scale"] * pairs).reshape(-1, *shape)

            own = product("client", "C", "D") + product("client", "A", "B")
            dense = product("common", "A", "B") + own
            for client in range(options["clients"]):
                values = np.linalg.svd(dense[min(client, len(dense) - 1)], compute_uv=False)
                found = results["total_singular_values"][-1, client, s]
                found = found[~np.isnan(found)]
                assert np.abs(values[:len(found)] - found).max() <= 1e-6 * max(values[0], 1e-30)
                assert values[len(found):].max(initial=0) <= 1e-6 * values[0]


# One site of 10 x 10 without a head: a pair of rank r has 20 r numbers, AdamW keeps 2 n + 1 of n, HETLoRA the rank.
@pytest.mark.parametrize("change, trained, stored", [
    ({"algorithm": "hetlora", "optimizer": "adamw"}, [20, 60, 80], [42, 122, 162]),
    ({"algorithm": "hetlora"}, [20, 60, 80], [1, 1, 1]),
    ({"algorithm": "flexlora", "client-ranks": "4,2"}, [80, 40, 80], [0, 0, 0]),
    ({"algorithm": "ffa-lora"}, [40] * 3, [0] * 3),
    ({"algorithm": "rolora", "matrix-rows": 12}, [48] * 3, [0] * 3),  # B in one round, A in the other
    ({"algorithm": "ditto"}, [160] * 3, [81] * 3),  # its own pair, and whether it has begun
    ({"client-rank": 1}, [100] * 3, [20] * 3),
], ids=lambda value: value.get("algorithm", "pf2lora") if isinstance(value, dict) else "")
def test_parameters_are_each_clients_own_and_do_not_change_on_the_way(change, trained, stored, tmp_path):
    # Client 0 has rank 1, the last one rank 4; pruning, where it happens, changes neither number.
    mixed = {"min-rank": 1, "pruning": 0.5, "tail-penalty": 1} if change.get("algorithm") == "hetlora" else {}
    options = {**MATRIX, "client-rank": None, "clients": 3, "rounds": 2, **mixed, **change}
    run({**options, "output": tmp_path / "run", "max-hours": 1e-6}, 2, code=85)
    run({"resume": True, "output": tmp_path / "run", "max-hours": 0})
    with h5py.File(tmp_path / "run" / "results.h5") as file:
        assert file["parameters_trained"][...].tolist() == trained
        assert file["parameters_stored"][...].tolist() == stored


def test_partitions_share_no_example_and_keep_proportions(small_text, tmp_path):
    bits(tmp_path / "run", {**small_text, "rounds": 1})
    with h5py.File(tmp_path / "run" / "results.h5") as file, h5py.File(small_text["data"]) as data:
        train, test = file["train_index"][...], file["test_index"][...]
        assert len({*train, *test}) == len(train) + len(test)
        labels = data["labels"][...]
        for part, index in (("train", train), ("test", test)):
            offsets = file[f"{part}_offsets"][...]
            counts = [np.bincount(labels[index[a:b]], minlength=6) for a, b in zip(offsets, offsets[1:])]
            assert np.array_equal(counts, file[f"{part}_class_counts"][...])


# The acceptance of the synthetic problem


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_run_of_no_rounds_records_the_models_as_they_start_and_can_go_on(ranks, small_text, tmp_path):
    options = {**small_text, "output": tmp_path / "run"}
    done = run({**options, "rounds": 0}, ranks)
    assert "Evaluation after round 0" in done.stdout
    for name in re.findall(r"^  .*?(\S+)$", done.stdout.partition("\nFiles\n")[2], re.M):
        assert (ROOT / name).is_file(), name
    assert analysis.check_format(tmp_path / "run" / "results.h5") == []
    with h5py.File(tmp_path / "run" / "results.h5") as file:
        start = file["common_loss"][0]
        assert file["evaluation"][...].tolist() == [0] and file["round"].shape == (0,) and (start > 0).all()
        np.testing.assert_array_equal(file["personal_loss"][0], start)
    assert "complete: all 0 rounds" in run({**options, "rounds": 0, "resume": True}).stdout
    run({**options, "resume": True}, ranks)
    wanted = bits(tmp_path / "wanted", small_text)
    found = digests(tmp_path / "run")
    assert all(found[name] == bits_of for name, bits_of in wanted.items() if name.startswith("adapters.h5:"))
    with h5py.File(tmp_path / "run" / "results.h5") as file:
        assert file["evaluation"][...].tolist() == list(range(small_text["rounds"] + 1))
        np.testing.assert_array_equal(file["common_loss"][0], start)


def test_known_ranks_are_found(tmp_path):
    """PF2LoRA finds targets of rank 3 and 5; HOMLoRA ends at the best common adapter of rank 4."""
    config = {"config": ROOT / "jobs" / "experiments" / "synthetic.ini", "progress": "off"}
    run({**config, "output": tmp_path / "pf2lora"})
    with h5py.File(tmp_path / "pf2lora" / "results.h5") as file:
        assert file["round"].size * file["options"].attrs["local-steps"] == 10_000
        assert file["relative_error"][-1].max() < 1e-6
        values = file["total_singular_values"][-1, :, 0]
        assert ((values >= 1e-2 * values[:, :1]).sum(axis=1) == [3, 5]).all()
        assert (file["personal_loss"][-1] < 1e-11).all()
    targets = personal_matrices(tmp_path / "pf2lora")  # but for 1e-9
    for target, wanted in zip(targets, ([3, 2.5, 2], [3, 2.5, 2.5, 2, 2])):
        assert np.linalg.svd(target, compute_uv=False)[:len(wanted)] == pytest.approx(wanted, abs=1e-5)

    # The mean loss over clients is that of the distance to the mean target, plus a constant, so by Eckart and
    # Young its smallest value is at the truncated singular value decomposition of the mean.
    left, values, right = np.linalg.svd(targets.mean(axis=0))
    best = (left[:, :4] * values[:4]) @ right[:4]
    norms = np.linalg.norm(targets, axis=(1, 2))
    wanted = np.linalg.norm(best - targets, axis=(1, 2)) / norms
    homlora = {**config, "algorithm": "homlora"}
    run({**homlora, "output": tmp_path / "homlora"})
    with h5py.File(tmp_path / "homlora" / "results.h5") as file:  # ten local steps drift a little from the best
        assert file["relative_error"][-1] == pytest.approx(wanted, rel=2e-3)
        assert file["common_loss"][-1].mean() == pytest.approx(((wanted * norms) ** 2 / 2).mean(), rel=1e-4)
    every_step = {"local-steps": 1, "rounds": 10_000, "evaluate-every": 0, "spectra-every": 0, "checkpoint-every": 0}
    run({**homlora, **every_step, "output": tmp_path / "every"})
    with h5py.File(tmp_path / "every" / "results.h5") as file:
        assert file["relative_error"][-1] == pytest.approx(wanted, rel=1e-7)
    assert np.abs(personal_matrices(tmp_path / "every") - best).max() < 1e-7

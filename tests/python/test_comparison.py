"""analysis.report of a folder of runs: numbers against NumPy and SciPy, tuning by validation, ablations, the page."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.stats
from matplotlib.markers import CARETDOWN, CARETLEFT, CARETRIGHT, CARETUP

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from analysis import comparison_figures, comparison_tables, loader, report  # noqa: E402
from analysis.comparison import FormatError, read_folder  # noqa: E402
from conftest import without_figures  # noqa: E402
from program import PROGRAM, needs_program  # noqa: E402
from results_files import matrix_run, text_run  # noqa: E402

METHODS = {"pf2lora": {"own": 2, "lift": 0.35}, "homlora": {"own": 0, "lift": 0.2, "adapted": (5, 10)},
           "local": {"own": 0, "lift": 0.3, "common": False}}


class Folder:
    """Writes a sweep's folder: runs and sweep.json."""

    def __init__(self, path):
        self.path, self.listed = path, []

    def add(self, method, seed, setting="", tuned=None, validation=None, write=text_run, rounds=3, **how):
        parts = [setting, method, ",".join(f"{n}={v}" for n, v in (tuned or {}).items()), f"seed{seed}"]
        place = "/".join(part for part in parts if part)
        options = {name: float(value) for name, value in (tuned or {}).items()}
        file = write(self.path / place / "results.h5", algorithm=how.pop("algorithm", method), seed=seed,
                     rounds=rounds, **options, **how)
        if validation is not None:
            add_variable(file, "validation_personal_correct", ("evaluation", "client"), np.full((3, 8), 10 * validation))
            with h5py.File(file, "r+") as opened:
                opened["validation_examples"][...] = 10
        self.listed.append({"path": place, "setting": setting, "method": method, "seed": str(seed), "rounds": rounds,
                            "tuned": {name: str(value) for name, value in (tuned or {}).items()}})
        return file

    def close(self):
        content = {"format": "pf2lora-sweep", "format_version": 1, "runs": self.listed}
        (self.path / "sweep.json").write_text(json.dumps(content))
        return self.path


def add_variable(file, name, dimensions, values):
    with h5py.File(file, "r+") as opened:
        dataset = opened.create_dataset(name, data=np.asarray(values, dtype=float))
        for axis, dimension in enumerate(dimensions):
            dataset.dims[axis].attach_scale(opened[dimension])


def accuracy(file, kind="personal"):
    """Percent by client at the last evaluation, without the code under test."""
    with h5py.File(file) as opened:
        right = opened[f"{kind}_correct"][-1]
        return 100 * (right if kind != "adapted" else right[-1]) / opened["test_examples"][...]


def cells_of(table, first):
    return dict(zip(table.columns, next(row for row in table.rows if row[0] == first)))


@pytest.fixture
def three(tmp_path):
    """(folder, files by method and seed) of three methods and three seeds in one setting."""
    folder = Folder(tmp_path / "sweep")
    files = {(method, seed): folder.add(method, seed, "dir", **how)
             for seed in (1, 2, 3) for method, how in METHODS.items()}
    return folder.close(), files


def shown(values, digits=1):
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}".replace("-", "−")


# ---- numbers ----------------------------------------------------------------------------------------------
def test_scores_are_means_and_deviations_over_seeds(three):
    folder, files = three
    means, spread = comparison_tables.scores(read_folder(folder), "dir")
    for method in METHODS:
        values = [accuracy(files[method, seed]) for seed in (1, 2, 3)]
        row, over = cells_of(means, method), cells_of(spread, method)
        assert row["seeds"] == "3" and row["personal"] == shown([v.mean() for v in values])
        assert over["worst 10%"] == shown([v.min() for v in values])  # of 8 clients one is the worst tenth
        assert over["best 10%"] == shown([v.max() for v in values])
        assert over["std over clients"] == shown([v.std() for v in values])
        if method != "local":
            gains = [v - accuracy(files["local", seed]) for seed, v in zip((1, 2, 3), values)]
            assert row["gain over local"] == shown([gain.mean() for gain in gains])
            assert over["harmed"] == shown([100 * (gain < 0).mean() for gain in gains])
    assert cells_of(means, "local")["gain over local"] == cells_of(means, "local")["common"] == "–"
    adapted = [accuracy(files["homlora", seed], "adapted").mean() for seed in (1, 2, 3)]
    assert cells_of(means, "homlora")["adapted"] == shown(adapted)
    with h5py.File(files["pf2lora", 1]) as file:
        kinds = file["train_class_counts"][...].argmax(axis=1)
        majority = 100 * (file["test_class_counts"][...][np.arange(8), kinds] / file["test_examples"][...]).mean()
    assert np.isclose(majority, read_folder(folder).cells["dir", "local"].first.mean("majority"))


def test_clients_with_permuted_labels_have_columns_of_their_own(tmp_path):
    folder = Folder(tmp_path / "sweep")
    permuted, plain = [1, 6], [0, 2, 3, 4, 5, 7]
    files = {(method, seed): folder.add(method, seed, "conflict", permuted=permuted, **METHODS[method])
             for seed in (1, 2) for method in ("pf2lora", "homlora")}
    found = read_folder(folder.close())
    means, _ = comparison_tables.scores(found, "conflict")
    for method in ("pf2lora", "homlora"):
        values = [accuracy(files[method, seed]) for seed in (1, 2)]
        row = cells_of(means, method)
        assert row["labels as they are"] == shown([v[plain].mean() for v in values])
        assert row["labels permuted"] == shown([v[permuted].mean() for v in values])
    assert "--label-conflict" in means.note
    marks = {line.get_marker(): line.get_xdata()[0] for line in comparison_figures.by_method(found).figure.axes[0].lines}
    wanted = {mark: np.mean([accuracy(files["homlora", seed])[chosen].mean() for seed in (1, 2)])
              for mark, chosen in (("^", plain), ("v", permuted))}
    assert {mark: marks[mark] for mark in wanted} == pytest.approx(wanted)


def test_a_table_without_adapted_accuracies_says_why(tmp_path):
    folder = Folder(tmp_path / "sweep")
    folder.add("pf2lora", 1, "dir", **{**METHODS["pf2lora"], "adapted": ()})
    means, _ = comparison_tables.scores(read_folder(folder.close()), "dir")
    assert "adapted" not in means.columns
    assert "No column adapted: no run recorded local steps on a copy (--adaptation-steps" in means.note


def test_runs_that_read_labels_otherwise_are_another_setting_and_not_paired(tmp_path):
    for name, permuted in (("none", ()), ("some", (1, 2))):
        for method in ("pf2lora", "homlora"):
            text_run(tmp_path / f"{name}-{method}" / "results.h5", algorithm=method, permuted=permuted, partition_seed=3,
                     **{"label-conflict": 0.25 * bool(permuted)})
    found = read_folder(tmp_path)
    assert set(found.settings) == {"label-conflict 0", "label-conflict 0.25"} and set(found.methods) == {"pf2lora", "homlora"}
    assert len({run.partition for run in found.runs}) == 2


def test_differences_are_paired_by_seed_with_a_t_interval(three):
    folder, files = three
    found = comparison_tables.paired(read_folder(folder), "dir")
    seeds = (1, 2, 3)
    differences = [accuracy(files["homlora", s]).mean() - accuracy(files["pf2lora", s]).mean() for s in seeds]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(differences), scipy.stats.sem(differences))
    text = f"{np.mean(differences):+.2f} [{low:+.2f}, {high:+.2f}]".replace("-", "−")
    assert ["homlora", "personal", "3", text] in found.rows
    adapted = [accuracy(files["homlora", s], "adapted").mean() - accuracy(files["pf2lora", s]).mean() for s in seeds]
    row, = [row for row in found.rows if row[:2] == ["homlora", "adapted"]]
    assert row[3].startswith(f"{np.mean(adapted):+.2f} [".replace("-", "−"))
    assert [row[0] for row in found.rows] == ["homlora", "homlora", "local", "majority class"]
    other = comparison_tables.paired(read_folder(folder, "local"), "dir")
    assert other.title == "Paired differences to local: dir" and other.rows[0][0] == "pf2lora"


def test_a_single_pair_stands_without_an_interval_and_pairs_are_counted(tmp_path):
    folder = Folder(tmp_path)
    files = {(method, seed): folder.add(method, seed, **METHODS[method])
             for method, seed in (("pf2lora", 1), ("pf2lora", 2), ("homlora", 2), ("local", 2))}
    found = read_folder(folder.close())
    only = accuracy(files["homlora", 2]).mean() - accuracy(files["pf2lora", 2]).mean()
    text = f"{only:+.2f} (1 seed, no interval)".replace("-", "−")
    assert ["homlora", "personal", "1", text] in comparison_tables.paired(found, "").rows
    means, spread = comparison_tables.scores(found, "")
    for table in (means, spread):
        assert [cells_of(table, name)["pairs"] for name in ("pf2lora", "homlora", "local")] == ["1", "1", "–"]
    gain = (accuracy(files["pf2lora", 2]) - accuracy(files["local", 2])).mean()
    assert cells_of(means, "pf2lora")["gain over local"] == f"{gain:.1f}"


def test_the_first_method_and_the_distance_of_the_reference_are_named(three):
    folder, files = three
    best = comparison_tables.leaders(read_folder(folder))
    assert best.rows[0][:3] == ["dir", "pf2lora", "homlora, adapted"] and best.rows[0][3].startswith("+")
    behind = comparison_tables.leaders(read_folder(folder, "homlora"))
    gap = np.mean([accuracy(files["homlora", s]).mean() - accuracy(files["pf2lora", s]).mean() for s in (1, 2, 3)])
    assert behind.rows[0][:3] == ["dir", "pf2lora", "pf2lora"]
    assert behind.rows[0][3].startswith(f"−{abs(gap):.2f} [")


def test_runs_on_other_examples_are_not_paired_and_named(tmp_path):
    folder = Folder(tmp_path)
    for seed in (1, 2):
        folder.add("pf2lora", seed, "dir")
        folder.add("local", seed, "dir", own=0, common=False, partition_seed=seed + 50)
    found = read_folder(folder.close())
    assert [row[0] for row in comparison_tables.paired(found, "dir").rows] == ["majority class"]
    assert comparison_tables.paired(found, "dir").note.endswith("Not a single pair: local.")
    assert not {"gain over local", "pairs"} & set(comparison_tables.scores(found, "dir")[0].columns)
    assert any("Not the same partition as pf2lora" in notice and "local (dir)" in notice
               for notice in comparison_tables.notices(found))


def test_methods_made_to_be_adapted_are_judged_after_adaptation(tmp_path):
    folder = Folder(tmp_path)
    files = [folder.add("per-fedavg", seed, own=0, adapted=(1, 5)) for seed in (1, 2)]
    found = read_folder(folder.close())
    cell = found.cells["", "per-fedavg"]
    assert np.allclose([run.headline for run in cell.runs], [accuracy(file, "adapted").mean() for file in files])
    means, spread = comparison_tables.scores(found, "")
    assert "Judged after adaptation" in means.note
    ticks = [text.get_text() for text in comparison_figures.by_method(found).figure.axes[0].get_yticklabels()]
    assert ticks == ["per-fedavg, adapted"]
    assert cells_of(spread, "per-fedavg")["best 10%"] == shown([accuracy(file, "adapted").max() for file in files])


def test_a_method_that_is_better_when_adapted_stands_before_the_reference(tmp_path):
    folder = Folder(tmp_path)
    files = {(where, method, seed): folder.add(method, seed, where, partition_seed=seed, **how)
             for where in ("a", "b") for seed in (1, 2)
             for method, how in (("pf2lora", {"lift": 0.2}), ("homlora", METHODS["homlora"]))}
    found = read_folder(folder.close())
    ours = [accuracy(files["a", "pf2lora", seed]).mean() for seed in (1, 2)]
    theirs = [accuracy(files["a", "homlora", seed], "adapted").mean() for seed in (1, 2)]
    before = [accuracy(files["a", "homlora", seed]).mean() for seed in (1, 2)]
    assert np.mean(before) < np.mean(ours) < np.mean(theirs)
    leaders, overview = comparison_tables.leaders(found), comparison_tables.overview(found)
    assert leaders.rows[0][:3] == ["a", "homlora, adapted", "homlora, adapted"]
    assert leaders.rows[0][3].startswith(f"−{np.mean(theirs) - np.mean(ours):.2f} [")
    assert [row[:2] for row in overview.rows] == [
        ["pf2lora", shown(ours)], ["homlora", shown(before)], ["homlora, adapted", shown(theirs) + " *"]]
    for table in (leaders, overview):
        assert "Adapted: after the most local steps recorded, on a copy" in table.note


def test_the_lowest_loss_of_a_generation_is_the_first(tmp_path):
    folder = Folder(tmp_path)
    files = {(method, seed): folder.add(method, seed, task="generation", partition_seed=seed, **how)
             for seed in (1, 2) for method, how in METHODS.items()}

    def losses(method):
        opened = [h5py.File(files[method, seed]) for seed in (1, 2)]
        return [file["personal_loss"][-1] / file["test_tokens"][...] for file in opened]

    found = read_folder(folder.close())
    means, spread = comparison_tables.scores(found, "")
    for method in METHODS:
        values = losses(method)
        assert cells_of(means, method)["personal"] == shown([v.mean() for v in values], 3)
        assert cells_of(spread, method)["worst 10%"] == shown([v.max() for v in values], 3)
        assert cells_of(spread, method)["best 10%"] == shown([v.min() for v in values], 3)
    gains = [theirs - mine for mine, theirs in zip(losses("pf2lora"), losses("local"))]
    assert cells_of(means, "pf2lora")["gain over local"] == shown([gain.mean() for gain in gains], 3)
    assert cells_of(spread, "pf2lora")["harmed"] == shown([100 * (gain < 0).mean() for gain in gains])
    assert "majority" not in means.columns and "personal tokens foretold, %" in means.columns
    first = min(METHODS, key=lambda method: np.mean(losses(method)))
    assert comparison_tables.leaders(found).rows[0][1] == first
    assert "majority class" not in [row[0] for row in comparison_tables.paired(found, "").rows]
    axes = comparison_figures.by_method(found).figure.axes[0]
    assert axes.get_xlabel() == "personal loss a token, nats" and "%" not in axes.xaxis.get_major_formatter()(2.5)


def test_a_folder_of_different_tasks_is_refused(tmp_path, capsys):
    for task in ("generation", "regression"):
        text_run(tmp_path / task / "results.h5", task=task)
    assert report.main([str(tmp_path)]) == 3
    assert "(generation, regression) cannot be compared" in capsys.readouterr().err


def test_costs_are_of_rounds_that_a_client_took_part_in(tmp_path):
    folder = Folder(tmp_path)
    folder.add("pf2lora", 1)
    lean = folder.add("homlora", 1, own=0)
    with h5py.File(lean, "r+") as file:
        file["gradient_evaluations"][...] = 10 * file["took_part"][...]
    table = comparison_tables.costs(read_folder(folder.close()))
    assert table.rows == [["pf2lora", "30.0", "1 KiB", "2 KiB", "5,000", "1,000"],
                          ["homlora", "10.0", "1 KiB", "2 KiB", "5,000", "1,000"]]


# ---- tuning -----------------------------------------------------------------------------------------------
def test_tuned_options_are_chosen_by_validation_and_never_by_the_test_set(tmp_path):
    def tuned(validation):
        folder = Folder(tmp_path / str(validation))
        for seed in (1, 2):
            for rate, score in zip((0.001, 0.003, 0.009), validation):
                folder.add("pf2lora", seed, "dir", {"learning-rate": rate}, score, lift=0.2 + 20 * rate)
        return read_folder(folder.close())

    found = tuned((0.6, 0.7, 0.5))
    cell = found.cells["dir", "pf2lora"]
    tests = {c.tuned["learning-rate"]: np.mean([run.headline for run in c.runs]) for c in cell.candidates}
    assert max(tests, key=tests.get) == "0.009"  # what the test set would have chosen
    assert [run.tuned for run in cell.runs] == [{"learning-rate": "0.003"}] * 2
    assert cells_of(comparison_tables.scores(found, "dir")[0], "pf2lora")["personal"].startswith(f"{tests['0.003']:.1f}")
    row = cells_of(comparison_tables.tuning(found), "pf2lora")
    assert (row["tried"], row["chosen"]) == ("3", "learning-rate 0.003")
    assert row["validation, %"].startswith("70.0") and row["next best"].startswith("60.0")
    edge = tuned((0.8, 0.7, 0.5))
    assert cells_of(comparison_tables.tuning(edge), "pf2lora")["chosen"] == "learning-rate 0.001 (edge)"


def test_methods_made_to_be_adapted_are_tuned_by_adapted_validation_scores(tmp_path):
    folder = Folder(tmp_path)
    for rate, before, after in ((0.001, 0.9, 0.3), (0.002, 0.1, 0.6)):
        file = folder.add("per-fedavg", 1, tuned={"learning-rate": rate}, validation=before, own=0, adapted=(1, 5))
        values = np.full((3, 2, 8), 10 * after)
        values[:, 0] = 10 * (1 - after)  # after one step
        add_variable(file, "validation_adapted_correct", ("evaluation", "adaptation_step", "client"), values)
    cell = read_folder(folder.close()).cells["", "per-fedavg"]
    assert cell.first.tuned == {"learning-rate": "0.002"} and np.isclose(cell.first.validation, 0.6)


def test_a_generation_is_tuned_by_the_lowest_validation_loss_a_token(tmp_path):
    folder = Folder(tmp_path)
    for rate, loss in ((0.001, 2.5), (0.002, 2.125), (0.003, 3.0)):
        file = folder.add("pf2lora", 1, tuned={"learning-rate": rate}, task="generation", clients=3)
        add_variable(file, "validation_tokens", ("client",), [40, 80, 20])
        add_variable(file, "validation_personal_loss", ("evaluation", "client"), loss * np.array([[40, 80, 20]] * 3))
    found = read_folder(folder.close())
    assert found.cells["", "pf2lora"].first.tuned == {"learning-rate": "0.002"}
    row = cells_of(comparison_tables.tuning(found), "pf2lora")
    assert (row["validation loss a token, nats"], row["next best"]) == ("2.125", "2.500")


def test_grid_sizes_are_told(tmp_path):
    def note(rates):
        folder = Folder(tmp_path / str(len(rates)))
        for method, values in (("pf2lora", (0.001, 0.002)), ("homlora", rates)):
            for rate in values:
                folder.add(method, 1, tuned={"learning-rate": rate}, validation=0.5)
        return comparison_tables.tuning(read_folder(folder.close())).note

    assert "Every method was tried with 2 settings, the same budget" in note((0.001, 0.002))
    assert "NOT tried with the same number of settings: pf2lora 2, homlora 3" in note((0.001, 0.002, 0.003))


def test_tuning_without_validation_scores_is_refused(tmp_path, capsys):
    folder = Folder(tmp_path)
    for rate in (0.001, 0.002):
        folder.add("pf2lora", 1, "dir", {"learning-rate": rate})
    assert report.main([str(folder.close())]) == 3
    message = capsys.readouterr().err
    assert all(word in message for word in ("pf2lora in dir", "learning-rate", "--validation-share", "never used"))


def test_a_candidate_that_lacks_a_seed_is_not_chosen(tmp_path):
    folder = Folder(tmp_path)
    for seed in (1, 2):
        for rate, score in ((0.001, 0.9), (0.002, 0.5), (0.003, 0.4)):
            if (seed, rate) != (2, 0.001):
                folder.add("pf2lora", seed, tuned={"learning-rate": rate}, validation=score)
    folder.listed.append({**folder.listed[0], "path": "pf2lora/learning-rate=0.001/seed2", "seed": "2"})
    found = read_folder(folder.close())
    assert found.cells["", "pf2lora"].first.tuned == {"learning-rate": "0.002"}
    assert cells_of(comparison_tables.tuning(found), "pf2lora")["tried"] == "3 (1 did not end)"
    assert found.missing == ["pf2lora/learning-rate=0.001/seed2"]


# ---- ablations --------------------------------------------------------------------------------------------
def test_an_option_that_varies_alone_is_an_ablation(tmp_path):
    folder, files = Folder(tmp_path), {}
    for seed in (1, 2):
        for setting, alpha in (("strong", 0.1), ("weak", 1.0)):
            for name, options in (("pf2lora", {"hypergradient": "exact"}), ("joint", {"hypergradient": "joint"})):
                files[seed, setting, name] = folder.add(
                    name, seed, setting, algorithm="pf2lora", lift=0.2 + alpha * 0.2, partition="dirichlet",
                    **{"dirichlet-alpha": alpha, **options})
            folder.add("both", seed, setting, algorithm="pf2lora", hypergradient="first-order",
                       **{"dirichlet-alpha": alpha, "partition": "dirichlet", "clip": 1.0})
    found = read_folder(folder.close())
    ablations = {a.option: a for a in comparison_tables.ablations(found)}
    # `both` differs from the others in two options: no ablation of either, but one of dirichlet-alpha with itself.
    assert set(ablations) == {"dirichlet-alpha", "hypergradient"}
    assert set(ablations["hypergradient"].lines) == {"pf2lora, strong", "pf2lora, weak"}
    assert set(ablations["dirichlet-alpha"].lines) == {"pf2lora", "joint", "both"}
    table = comparison_tables.ablation(found, ablations["dirichlet-alpha"])
    values = [accuracy(files[seed, "weak", "joint"]).mean() for seed in (1, 2)]
    low, high = scipy.stats.t.interval(0.95, 1, np.mean(values), scipy.stats.sem(values))
    text = f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]".replace("-", "−")
    assert table.columns == ["", "0.1", "1"] and cells_of(table, "joint")["1"] == text


def test_lines_of_an_ablation_that_share_a_name_say_what_else_differs(tmp_path):
    folder = Folder(tmp_path)
    for rank in (4, 8):
        for own in (1, 2):
            folder.add(f"r{rank}o{own}", 1, algorithm="pf2lora", own=own, rank=rank)
    ablations = {a.option: a for a in comparison_tables.ablations(read_folder(folder.close()))}
    assert set(ablations["rank"].lines) == {"pf2lora, client-rank 1", "pf2lora, client-rank 2"}
    assert set(ablations["client-rank"].lines) == {"pf2lora, rank 4", "pf2lora, rank 8"}


# ---- the folder -------------------------------------------------------------------------------------------
def test_a_folder_without_a_list_is_told_apart_by_options(tmp_path):
    for seed in (1, 2):
        for alpha in (0.1, 1.0):
            for mode in ("exact", "joint"):
                text_run(tmp_path / f"{mode}-{alpha}-{seed}" / "results.h5", seed=seed, hypergradient=mode,
                         **{"dirichlet-alpha": alpha})
            text_run(tmp_path / f"local-{alpha}-{seed}" / "results.h5", algorithm="local", seed=seed, own=0, common=False,
                     **{"dirichlet-alpha": alpha})
    found = read_folder(tmp_path)
    assert set(found.settings) == {"dirichlet-alpha 0.1", "dirichlet-alpha 1"}
    assert set(found.methods) == {"pf2lora, exact", "pf2lora, joint", "local"} and found.reference == "pf2lora, exact"
    assert all(len(cell.runs) == 2 for cell in found.cells.values())
    text_run(tmp_path / "again" / "results.h5", seed=1, hypergradient="exact", **{"dirichlet-alpha": 1.0})
    with pytest.raises(FormatError, match="same configuration with the same seed"):
        read_folder(tmp_path)


def test_runs_that_have_not_ended_are_left_out_and_named(three):
    folder, files = three
    with h5py.File(files["pf2lora", 2], "r+") as file:  # as a run that was stopped after two rounds leaves it
        for name in [name for name, item in file.items() if isinstance(item, h5py.Dataset) and not item.is_scale]:
            axes = [d[0].name.strip("/") for d in file[name].dims]
            if "round" in axes:
                assert axes[0] == "round"
                values = file[name][:2]
                del file[name]
                file.create_dataset(name, data=values)
        del file["round"]
        file.create_dataset("round", data=[1, 2]).make_scale("round")
    (files["local", 3].parent / "segments").mkdir()
    (files["local", 3].parent / "segments" / "000004.h5").touch()  # goes on for further rounds
    text_run(folder / "old" / "seed1" / "results.h5")
    found = read_folder(folder)
    assert sorted(found.missing) == ["dir/local/seed3", "dir/pf2lora/seed2"] and found.further == ["old/seed1"]
    notices = " ".join(comparison_tables.notices(found))
    assert "2 runs have not ended" in notices and "old/seed1" in notices
    assert "pf2lora 2 of 3, local 2 of 3" in comparison_tables.scores(found, "dir")[0].note


def test_a_folder_in_which_nothing_has_ended_is_refused(tmp_path, capsys):
    folder = Folder(tmp_path)
    folder.listed.append({"path": "a", "setting": "", "method": "a", "seed": "1", "rounds": 3, "tuned": {}})
    assert report.main([str(folder.close())]) == 3 and "no run that has ended" in capsys.readouterr().err
    (tmp_path / "sweep.json").write_text("{}")
    assert report.main([str(tmp_path)]) == 3 and "sweep.json" in capsys.readouterr().err


def test_what_is_read_for_scores_is_what_load_reads(tmp_path):
    file = text_run(tmp_path / "results.h5", adapted=(5, 10), held_out=2)
    some, everything = loader.load_scores(file), loader.load(file)
    assert some.attrs == everything.attrs
    assert {"personal_accuracy", "adapted_accuracy", "majority_accuracy", "held_out", "took_part"} <= set(some.variables)
    for name, variable in some.variables.items():
        assert variable.dims == everything[name].dims
        np.testing.assert_array_equal(variable.values, everything[name].values)


# ---- the page ---------------------------------------------------------------------------------------------
def run_report(*arguments):
    return subprocess.run([sys.executable, "-m", "analysis.report", *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)


def test_the_report_of_a_folder_has_tables_figures_and_latex(tmp_path, request):
    folder = Folder(tmp_path / "sweep")
    for seed in (1, 2):
        for setting, alpha in (("strong & cold", 0.1), ("weak", 100.0)):
            for method, how in METHODS.items():
                folder.add(method, seed, setting, **{"dirichlet-alpha": alpha}, **how)
    done = run_report(folder.close(), "--details", "0")
    assert done.returncode == 0, done.stderr
    page = tmp_path / "sweep" / "report" / "report.html"
    assert done.stdout.strip() == str(page)
    names = {"score_by_method", "score_by_round", "ablation_dirichlet-alpha"}
    html = page.read_text()
    assert all(f'<figure id="{name}">' in html for name in names) and html.count("<figure id") == len(names)
    assert {file.name for file in (page.parent / "figures").iterdir()} == {n + s for n in names for s in (".png", ".pdf")}
    assert "<script" not in html and "strong &amp; cold" in html
    tables = (page.parent / "tables.md").read_text()
    for title in ("Personal accuracy in percent", "Where pf2lora stands", "Accuracy in percent: weak", "Cost of a client",
                  "Paired differences to pf2lora: weak", "Ablation: dirichlet-alpha"):
        assert f"**{title}**" in tables
    latex = (page.parent / "tables.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\bottomrule") == tables.count("| --- |")
    assert r"strong \& cold" in latex and r"$\pm$" in latex
    request.getfixturevalue("undrawn")  # from here on
    assert report.main([str(tmp_path / "sweep"), "--output", str(tmp_path / "again"), "--details", "0"]) == 0
    assert (tmp_path / "again" / "report.html").read_text() == without_figures(html)


def test_an_interval_beyond_the_axis_ends_in_an_arrow(tmp_path, three):
    def arrows(plot, markers):
        lines = [line for line in plot.figure.axes[0].lines if line.get_marker() in markers]
        return {line.get_marker() for line in lines}, [text.get_text() for text in plot.figure.legends[0].get_texts()]

    sideways, upright = (CARETLEFT, CARETRIGHT), (CARETDOWN, CARETUP)
    found, legend = arrows(comparison_figures.by_method(read_folder(three[0])), sideways)
    assert not found and "interval goes on" not in legend
    folder = Folder(tmp_path / "wide")
    for seed, lift in ((1, 0.1), (2, 0.4)):
        for rank in ("2", "8"):
            folder.add(f"pf2lora {rank}", seed, algorithm="pf2lora", lift=lift, rank=int(rank))
    wide = read_folder(folder.close())
    found, legend = arrows(comparison_figures.by_method(wide), sideways)
    assert found == set(sideways) and "interval goes on" in legend
    (ablated,) = comparison_tables.ablations(wide)
    plot = comparison_figures.ablation(wide, ablated)
    found, legend = arrows(plot, upright)
    assert found == set(upright) and "interval goes on" in legend
    low, high = plot.figure.axes[0].get_ylim()
    assert all(low <= y <= high for line in plot.figure.axes[0].lines for y in line.get_ydata())


def test_a_single_evaluation_is_no_curve(tmp_path, three):
    folder = Folder(tmp_path / "single")
    folder.add("pf2lora", 1, rounds=1)
    assert comparison_figures.by_round(read_folder(folder.close())) is None
    assert comparison_figures.by_round(read_folder(three[0])) is not None


def test_an_unknown_reference_is_refused(three, capsys):
    assert report.main([str(three[0]), "--reference", "fedavg"]) == 3
    assert "pf2lora, homlora, local" in capsys.readouterr().err


def test_the_report_of_matrix_runs_compares_errors(tmp_path, undrawn):
    def write(path, rounds, **how):
        return matrix_run(path, rounds=rounds, **how)

    folder = Folder(tmp_path)
    for seed, error in ((1, 1e-8), (2, 1e-4)):
        folder.add("pf2lora", seed, write=write, errors=(error, error), hypergradient="exact")
        folder.add("homlora", seed, write=write, errors=(0.1, 0.3))
    found = read_folder(folder.close())
    means, = comparison_tables.scores(found, "")
    assert cells_of(means, "pf2lora")["solved"] == "1 of 2"
    assert cells_of(means, "homlora")["relative error"].startswith("0.2")
    assert cells_of(means, "homlora")["largest"] == "0.3 ± 0"
    difference, = [row for row in comparison_tables.paired(found, "").rows]
    assert difference[3].startswith(f"+{np.mean(np.log10([0.2, 0.2]) - [-8, -4]):.2f}")
    assert report.main([str(tmp_path), "--details", "0"]) == 0
    assert "Relative error by method" in (tmp_path / "report" / "report.html").read_text()


@needs_program
def test_a_sweep_and_its_report_fit_together(tmp_path, undrawn):
    (tmp_path / "grid.toml").write_text("""
[options]
config = "jobs/experiments/synthetic.ini"
rounds = 10
evaluate-every = 5
[grid]
seed = [1, 2]
method = [{name = "pf2lora", algorithm = "pf2lora", vary = {client-rank = [1, 2]}}, {name = "hom", algorithm = "homlora"}]
""")
    subprocess.run([sys.executable, ROOT / "jobs" / "sweep.py", tmp_path / "grid.toml", "--output", tmp_path / "out",
                    "--program", PROGRAM], check=True, capture_output=True, timeout=120)
    found = read_folder(tmp_path / "out")
    assert found.methods == ["pf2lora,client-rank=1", "pf2lora,client-rank=2", "hom"] and not found.missing
    assert [a.option for a in comparison_tables.ablations(found)] == ["client-rank"]
    assert report.main([str(tmp_path / "out"), "--details", "0"]) == 0

"""analysis/ against numbers computed here by other means: by hand, by numpy from the raw file, by scipy."""

import itertools
import math
import re
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import analysis  # noqa: E402
from analysis import ranks, runs, schema, statistics, table, tables  # noqa: E402
import program  # noqa: E402
from program import needs_program  # noqa: E402
from results_files import SITES, adapters_file, matrix_run, text_run  # noqa: E402


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    return text_run(tmp_path_factory.mktemp("text") / "run" / "results.h5", adapted=(5, 10))


def raw(path, name):
    with h5py.File(path) as file:
        return file[name][...]


# FORMAT.md

def markdown_tables():
    """Tables of FORMAT.md as lists of rows of cells, by the name of their first column."""
    found, lines = {}, (ROOT / "analysis" / "FORMAT.md").read_text().splitlines()
    for is_table, block in itertools.groupby(lines, key=lambda line: line.startswith("|")):
        if is_table:
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
            assert {len(row) for row in rows} == {len(rows[0])}
            found[rows[0][0]] = [dict(zip(rows[0], row)) for row in rows[2:]]
    return found


def test_format_page_and_schema_say_the_same():
    page = markdown_tables()
    assert [(d.name, d.kind, d.dtype) for d in schema.DIMENSIONS] == [
        (r["dimension"], r["kind"], r["dtype"]) for r in page["dimension"]]
    assert [(v.name, ", ".join(v.dimensions), v.dtype, v.units, v.presence, v.missing) for v in schema.VARIABLES] == [
        (r["variable"], r["dimensions"], r["dtype"], r["units"], r["presence"], r["missing"].startswith("NaN"))
        for r in page["variable"]]
    assert [(a.name, a.dtype, a.presence) for a in schema.ATTRIBUTES] == [
        (r["attribute"], r["dtype"], r["presence"]) for r in page["attribute"]]
    assert [(s.path, ", ".join(s.shape), s.dtype) for s in schema.SLICES] == [
        (r["dataset"].replace("`", ""), r["shape"], r["dtype"]) for r in page["dataset"]]
    assert ", ".join(schema.PHASES) == next(r["values"] for r in page["dimension"] if r["dimension"] == "phase")
    named = {d for v in schema.VARIABLES for d in v.dimensions}
    assert named == {d.name for d in schema.DIMENSIONS}


def test_conforming_files_have_no_deviation(tmp_path, text_file):
    adapters_file(tmp_path / "adapters.h5")
    assert analysis.check_format(text_file) == []
    assert analysis.check_format(matrix_run(tmp_path / "m" / "results.h5")) == []
    assert analysis.check_format(text_run(tmp_path / "l" / "results.h5", own=0, common=False)) == []
    assert analysis.check_format(tmp_path / "adapters.h5") == []


def replace(file, name, values, like=None):
    """Puts other values in a variable's place, on the same dimension scales."""
    scales = [axis[0] for axis in file[like or name].dims]
    if name in file:
        del file[name]
    dataset = file.create_dataset(name, data=values)
    for axis, scale in enumerate(scales):
        dataset.dims[axis].attach_scale(scale)


BREAKS = {
    "cosine is missing": lambda f: f.__delitem__("cosine"),
    "relative_error does not belong": lambda f: replace(f, "relative_error", f["personal_loss"][...], "personal_loss"),
    "train_los is no variable": lambda f: f.move("train_loss", "train_los"),
    "test_examples is int32, not int64": lambda f: replace(f, "test_examples", f["test_examples"][...].astype("i4")),
    "norm_ratio has the dimensions (spectrum, client, none)":
        lambda f: f["norm_ratio"].dims[2].detach_scale(f["site"]),
    "phase_seconds holds NaN": lambda f: f["phase_seconds"].__setitem__((0, 0, 0), np.nan),
    "train_loss has the units seconds": lambda f: f["train_loss"].attrs.__setitem__("units", "seconds"),
    "attribute git_commit is missing": lambda f: f.attrs.__delitem__("git_commit"),
    "attribute format_version is 1": lambda f: f.attrs.__setitem__("format_version", np.int64(1)),
    "attribute hosts is string, not string list": lambda f: f.attrs.__setitem__("hosts", "alpha"),
    "option seed is missing": lambda f: f["options"].attrs.__delitem__("seed"),
    "option rank is int32": lambda f: f["options"].attrs.__setitem__("rank", np.int32(4)),
    "round does not increase": lambda f: f["round"].__setitem__(0, 9),
    "client is not 0, 1, 2": lambda f: f["client"].__setitem__(0, 1),
    "segment_first_round is not the round after": lambda f: f["segment_first_round"].__setitem__(1, 3),
    "segment_last_round does not end": lambda f: f["segment_last_round"].__setitem__(1, 2),
    "segment_end_utc is not empty just where": lambda f: f["segment_exit"].__setitem__(0, "done"),
    "took_part holds other values": lambda f: f["took_part"].__setitem__((0, 0), 2),
    "train_loss is not NaN just where": lambda f: f["took_part"].__setitem__((0, slice(None)), 0),
    "total_singular_values does not descend": lambda f: f["total_singular_values"].__setitem__((0, 0, 0, 0), 0),
    "test_offsets disagrees": lambda f: f["test_offsets"].__setitem__(1, 0),
    "test_class_counts does not add up": lambda f: f["test_class_counts"].__setitem__((0, 0), 1000),
    "personal_correct is beyond": lambda f: f["personal_correct"].__setitem__((0, 0), 1000),
}


@pytest.mark.parametrize("expected", BREAKS)
def test_each_deviation_is_named(tmp_path, text_file, expected):
    path = tmp_path / "results.h5"
    path.write_bytes(text_file.read_bytes())
    with h5py.File(path, "r+") as file:
        BREAKS[expected](file)
    assert any(expected in fault for fault in analysis.check_format(path)), analysis.check_format(path)


@pytest.mark.parametrize("expected, change", [
    ("lacks B", lambda f: f[f"common/{SITES[0]}"].__delitem__("B")),
    ("has no float64 attribute scale", lambda f: f[f"client/{SITES[1]}"].attrs.__delitem__("scale")),
    ("combines 'mixes'", lambda f: f[f"client/{SITES[1]}"].attrs.__setitem__("combines", "mixes")),
    ("has 9 for in", lambda f: (f.__delitem__(f"client/{SITES[0]}/C"),
                                f.create_dataset(f"client/{SITES[0]}/C", data=np.zeros((3, 2, 9), "f4")))),
    ("not the same float32", lambda f: (f.__delitem__("common/head/bias"),
                                        f.create_dataset("common/head/bias", data=np.zeros(3)))),
    ("client/gate/weight is no slice", lambda f: f.create_dataset("client/gate/weight", data=np.zeros(3, "f4"))),
    ("common/promt is no slice", lambda f: f.create_dataset("common/promt", data=np.zeros((2, 8), "f4"))),
    ("common/prefix/first/key is no slice",
     lambda f: f.create_dataset("common/prefix/first/key", data=np.zeros((2, 8), "f4"))),
    ("common/prefix/0 has key and lacks value",
     lambda f: f.create_dataset("common/prefix/0/key", data=np.zeros((2, 8), "f4"))),
    ("has 7 for width", lambda f: (f.create_dataset("common/prompt", data=np.zeros((2, 8), "f4")),
                                   f.create_dataset("client/prompt", data=np.zeros((3, 2, 7), "f4")))),
    ("base_delta is float32, not float64",
     lambda f: f.create_dataset(f"common/{SITES[0]}/base_delta", data=np.zeros((12, 10), "f4"))),
    ("has 11 for in", lambda f: f.create_dataset(f"common/{SITES[0]}/base_delta", data=np.zeros((12, 11)))),
])
def test_deviations_of_adapters_are_named(tmp_path, expected, change):
    adapters_file(tmp_path / "adapters.h5")
    with h5py.File(tmp_path / "adapters.h5", "r+") as file:
        change(file)
    assert any(expected in fault for fault in analysis.check_format(tmp_path / "adapters.h5"))


# Loading

def test_xarray_opens_the_file_with_named_dimensions(text_file):
    with xarray.open_dataset(text_file, engine="h5netcdf") as data:
        assert data["phase_seconds"].dims == ("round", "phase", "process")
        assert data["phase_seconds"].dtype == float
        assert data["total_singular_values"].dims == ("spectrum", "client", "site", "total_index")


def test_derived_variables_by_hand(tmp_path):
    path = text_run(tmp_path / "results.h5", clients=3)
    with h5py.File(path, "r+") as file:
        file["train_class_counts"][...] = [[10, 0, 0, 0], [5, 5, 0, 0], [1, 1, 1, 1]]
        file["test_class_counts"][...] = [[6, 4, 0, 0], [1, 3, 0, 0], [0, 0, 0, 5]]
        file["test_examples"][...] = [10, 4, 5]
        file["personal_correct"][...] = [9, 2, 0]
        file["common_correct"][...] = [5, 1, np.nan]
    data = analysis.load(path)
    assert data["label_entropy"].values == pytest.approx([0, math.log(2), math.log(4)])
    assert data["majority_accuracy"].values == pytest.approx([0.6, 0.25, 0])
    assert data["personal_accuracy"].values[-1] == pytest.approx([0.9, 0.5, 0])
    assert data["common_accuracy"].values[0] == pytest.approx([0.5, 0.25, math.nan], nan_ok=True)


def test_load_takes_a_directory_and_gives_options_and_labels(text_file):
    data = analysis.load(text_file.parent)
    chosen = data.attrs["options"]
    assert chosen == analysis.options(text_file)
    assert chosen["overwrite"] is False and chosen["rank"] == 4 and chosen["learning-rate"] == 2e-3
    assert chosen["targets"] == ["query", "value"] and chosen["algorithm"] == "pf2lora"
    assert data.attrs["hosts"] == ["alpha", "alpha", "beta"] and data.attrs["ranks"] == 3
    assert list(data["site_name"].values) == SITES and list(data["layer"].values) == [0, 0, 1, 1, 2, 2]
    assert list(data["phase"].values) == list(schema.PHASES)
    assert data["adapted_accuracy"].dims == ("evaluation", "adaptation_step", "client")


def test_adapters_add_up_to_the_dense_update(tmp_path):
    arrays = adapters_file(tmp_path / "adapters.h5")
    adapters, site = analysis.load_adapters(tmp_path), SITES[1]
    expected = (4 * arrays[f"common/{site}/B"] @ arrays[f"common/{site}/A"]
                + 8 * arrays[f"client/{site}/D"][2] @ arrays[f"client/{site}/C"][2])
    np.testing.assert_allclose(adapters.update(site, 2), expected, rtol=1e-6)
    np.testing.assert_array_equal(adapters.slices["common/head/bias"], arrays["common/head/bias"])
    with h5py.File(tmp_path / "adapters.h5", "r+") as file:
        file[f"client/{site}"].attrs["combines"] = "replaces"
        for old, new in (("C", "A"), ("D", "B")):
            file.move(f"client/{site}/{old}", f"client/{site}/{new}")
    own = 8 * arrays[f"client/{site}/D"][2] @ arrays[f"client/{site}/C"][2]
    np.testing.assert_allclose(analysis.load_adapters(tmp_path).update(site, 2), own, rtol=1e-6)


def test_sites_and_clients_that_are_not_there_are_named(tmp_path):
    adapters_file(tmp_path / "adapters.h5", clients=3)
    adapters = analysis.load_adapters(tmp_path)
    with pytest.raises(KeyError, match=re.escape(f"there is no site nowhere; there are {SITES[0]}, {SITES[1]}")):
        adapters.update("nowhere", 0)
    for client in (-1, 3):
        for update in (adapters.update, lambda site, k: adapters.client[site].update(k)):
            with pytest.raises(IndexError, match=f"there is no client {client}; there are 0 to 2"):
                update(SITES[0], client)


def test_a_dense_update_stands_beside_the_pairs(tmp_path):
    arrays = adapters_file(tmp_path / "adapters.h5")
    delta = np.random.default_rng(1).normal(size=(12, 10))
    with h5py.File(tmp_path / "adapters.h5", "r+") as file:
        del file["client"]
        file[f"common/{SITES[0]}/base_delta"] = delta
    assert analysis.check_format(tmp_path / "adapters.h5") == []
    adapters = analysis.load_adapters(tmp_path)
    pairs = [4 * arrays[f"common/{site}/B"] @ arrays[f"common/{site}/A"] for site in SITES[:2]]
    np.testing.assert_allclose(adapters.update(SITES[0], 1), pairs[0] + delta, rtol=1e-5)
    np.testing.assert_allclose(adapters.update(SITES[1], 1), pairs[1], rtol=1e-6)
    assert set(adapters.slices) == {"common/head/weight", "common/head/bias"}


# Ranks and statistics

def test_rank_measures_by_hand():
    s = np.array([[2.0, 2, 2, 0], [3, 1, 0, 0], [1, 0.02, 0.005, 0.0005], [0, 0, 0, 0]])
    found = ranks.measures(s)
    assert found["numerical rank (1e-2)"].tolist() == [3, 2, 2, 0]
    assert found["numerical rank (1e-3)"].tolist() == [3, 2, 3, 0]
    assert found["energy rank (90%)"].tolist() == [3, 1, 1, 0]  # 9 of 10 is 90% exactly
    assert found["energy rank (95%)"].tolist() == [3, 2, 1, 0]
    assert found["stable rank"][:2] == pytest.approx([3, 10 / 9])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["entropy rank"][[0, 1, 3]] == pytest.approx([3, math.exp(entropy), 0])
    assert found["participation ratio"][[0, 1, 3]] == pytest.approx([3, 100 / 82, 0])


def test_rank_measures_keep_leading_axes_and_ignore_scale():
    s = np.sort(np.random.default_rng(0).random((3, 2, 5)))[..., ::-1]
    for name, measure in ranks.MEASURES.items():
        values = measure(s)
        assert values.shape == (3, 2), name
        np.testing.assert_allclose(values, [[measure(row) for row in block] for block in s])
        np.testing.assert_allclose(measure(s * 1e-200), values)
        np.testing.assert_allclose(measure(np.concatenate([s, 0 * s], axis=-1)), values)
        assert np.isnan(measure(np.array([1.0, np.nan]))) and measure(np.zeros((4, 0))).tolist() == [0] * 4


def test_statistics_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 4, 7, 30):
        assert statistics.t_quantile(n) == pytest.approx(stats.t.ppf(0.975, n), rel=1e-12)
    for _ in range(20):
        x, y = rng.integers(0, 6, 25), rng.normal(size=25)
        rho, low, high, n = statistics.spearman(x, y)
        assert rho == pytest.approx(stats.spearmanr(x, y).statistic) and low < rho < high and n == 25
    differences = rng.normal(size=5)
    mean, half, n = statistics.mean_interval(differences)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high)) and n == 5
    assert math.isnan(statistics.spearman([1, 1, 1], [1, 2, 3])[0])


def test_deciles_hold_a_tenth_of_the_clients_rounded_up():
    assert [statistics.decile_size(n) for n in (1, 8, 10, 11, 30, 1000)] == [1, 1, 1, 2, 3, 100]
    values = np.arange(30.0)[::-1]
    assert statistics.worst_decile(values) == 1 and statistics.best_decile(values) == 28
    assert statistics.weighted_mean([1, np.nan, 3], [1, 5, 3]) == 2.5


# Tables

def cells(markdown, first):
    """The cells of the row that starts with `first`."""
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip().replace("−", "-") for cell in line.strip("|").split("|")]


def test_summary_holds_what_numpy_finds_in_the_file(text_file):
    n, correct = raw(text_file, "test_examples"), raw(text_file, "personal_correct")[-1]
    score = 100 * correct / n
    train, test = raw(text_file, "train_class_counts"), raw(text_file, "test_class_counts")
    majority = 100 * np.array([b[np.argmax(a)] / b.sum() for a, b in zip(train, test)])
    (run,) = runs.read([text_file])
    found = cells(tables.summary(run).markdown(), "personal")
    expected = [score.mean(), 100 * correct.sum() / n.sum(), score.std(), score.min(), score.max()]
    assert found[1:6] == [f"{v:.1f}" for v in expected]
    assert found[6] == f"{(score - majority).mean():+.1f}"
    loss = raw(text_file, "personal_loss")[-1]
    assert found[7:9] == [f"{(loss / n).mean():.3f}", f"{loss.sum() / n.sum():.3f}"]
    adapted = 100 * raw(text_file, "adapted_correct")[-1] / n
    assert cells(tables.summary(run).markdown(), "adapted, 10 local steps")[1] == f"{adapted[1].mean():.1f}"
    assert cells(tables.summary(run).markdown(), "majority class")[1] == f"{majority.mean():.1f}"


def test_held_out_clients_are_summed_up_apart(tmp_path):
    path = text_run(tmp_path / "results.h5", clients=6, held_out=2)
    score = 100 * raw(path, "personal_correct")[-1] / raw(path, "test_examples")
    table = tables.summary(*runs.read([path])).markdown()
    assert cells(table, "personal")[1] == f"{score[:4].mean():.1f}"
    assert cells(table, "personal, held-out clients")[1] == f"{score[4:].mean():.1f}"


def test_clients_with_permuted_labels_are_summed_up_apart(tmp_path):
    (run,) = runs.read([text_run(tmp_path / "run" / "results.h5", clients=6, permuted=(1, 4, 5), held_out=1)])
    summary, clients = tables.summary(run), tables.client_summary(run)
    score = 100 * run.data["personal_accuracy"].values[-1]
    loss = run.data["personal_loss"].values[-1]
    n = run.data["test_examples"].values
    for name, chosen in (("", [0, 1, 2, 3, 4]), (", labels as they are", [0, 2, 3]), (", labels permuted", [1, 4])):
        found = cells(summary.markdown(), "personal" + name)
        assert found[1] == f"{score[chosen].mean():.1f}"
        assert found[-1] == f"{loss[chosen].sum() / n[chosen].sum():.3f}"
    assert "They are 2 of the 5." in summary.note and "--label-conflict" in summary.note
    assert [row[0] for row in clients.rows] == ["0", "1, permuted", "2", "3", "4, permuted", "5, held out, permuted"]
    assert "Permuted: reads its labels" in clients.note


@pytest.mark.parametrize("permuted", [(), (0, 1, 2, 3)])
def test_clients_that_read_labels_alike_are_not_set_apart(permuted, tmp_path):
    (run,) = runs.read([text_run(tmp_path / "run" / "results.h5", clients=4, permuted=permuted)])
    assert run.readings() == {} and run.permuted.all() == bool(permuted)
    assert "labels" not in tables.summary(run).markdown()


def test_runs_with_permuted_labels_are_compared_by_how_clients_read_them(tmp_path):
    paths = [text_run(tmp_path / f"{name}{seed}" / "results.h5", algorithm=name, seed=seed, own=own, permuted=(0, 3, 7))
             for name, own in (("pf2lora", 2), ("homlora", 0)) for seed in (1, 2)]
    found = tables.comparison(runs.group(runs.read(paths)))
    assert found.columns[3:6] == ["personal", "labels as they are", "labels permuted"]
    for name in ("pf2lora", "homlora"):
        scores = [100 * run.data["personal_accuracy"].values[-1] for run in runs.read(paths) if run.algorithm == name]
        for column, chosen in ((4, [1, 2, 4, 5, 6]), (5, [0, 3, 7])):
            means = [score[chosen].mean() for score in scores]
            assert cells(found.markdown(), name)[column] == f"{np.mean(means):.1f} ± {np.std(means, ddof=1):.1f}"


@pytest.mark.parametrize("steps, column, note", [
    ([(), ()], False, "No column adapted: no run recorded local steps on a copy (--adaptation-steps"),
    ([(5,), ()], True, "on a copy; a dash where --adaptation-steps recorded none."),
    ([(5,), (5,)], True, "Adapted: after the most local steps recorded, on a copy.")])
def test_a_comparison_says_why_adapted_accuracies_are_absent(steps, column, note, tmp_path):
    paths = [text_run(tmp_path / name / "results.h5", algorithm=name, adapted=taken)
             for name, taken in zip(("homlora", "pf2lora"), steps)]
    found = tables.comparison(runs.group(runs.read(paths)))
    assert ("adapted" in found.columns) == column and note in found.note
    assert ("a dash" in found.note) == (steps[0] != steps[1])


def test_latex_is_booktabs_and_escapes(text_file):
    latex = table.Table("50% of a_b", ["x & y", "±"], [["#1", "−0.5"]]).latex()
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"50\% of a\_b", r"x \& y & $\pm$ \\", r"\#1 & $-$0.5 \\"):
        assert part in latex


@pytest.mark.parametrize("text, latex", [
    ("1.2e-05", r"$1.2\times10^{-5}$"), ("1.05e−7", r"$1.05\times10^{-7}$"), ("−3e-12", r"$-3\times10^{-12}$"),
    ("2.5e+20 ± 1e6", r"$2.5\times10^{20}$ $\pm$ $10^{6}$"), ("9.9e-5", r"$9.9\times10^{-5}$"),
    ("below 1e−6. So", r"below $10^{-6}$. So"),
    # A plain decimal is as easily read.
    ("rank (1e-2) of 5%", r"rank (0.01) of 5\%"), ("4e00", "4"), ("−2.50e-04", "$-$0.000250"), ("1.23e5", "123000"),
    ("run_1e5 v1.2e5x a1e-3", r"run\_1e5 v1.2e5x a1e-3"),
    ("1e-5.2", "1e-5.2"), ("2 eggs, the 3rd, 12.5", "2 eggs, the 3rd, 12.5")])
def test_powers_of_ten_are_typeset(text, latex):
    assert table.latex_text(text) == latex


@pytest.mark.parametrize("value, text", [(0.00012345, "0.000123"), (1.2e-5, "1.2e−5"), (999.4, "999"), (999.6, "1000"),
                                         (-12345.6, "−12346"), (4.2e6, "4.2e6"), (0, "0"), (float("nan"), "–")])
def test_small_numbers_have_an_exponent_only_where_it_helps(value, text):
    assert table.small(value) == text


def test_no_table_holds_a_raw_exponent_in_latex(tmp_path):
    (run,) = runs.read([matrix_run(tmp_path / "results.h5", **{"learning-rate": 3e-5})])
    found = [tables.summary(run), tables.rank_summary(run), tables.client_summary(run), tables.cost_summary(run),
             tables.comparison(runs.group([run]))]
    latex = "".join(table.latex() for table in found)
    assert latex.count(r"\times10^{-7}") >= 3 and not re.search(r"\d ?e\$?[-+−]?\$?\d", latex)


def test_clients_have_a_row_of_what_numpy_finds_in_the_file(text_file):
    (run,) = runs.read([text_file])
    table = tables.client_summary(run)
    assert table.columns == ["client", "train examples", "test examples", "label entropy, nats", "majority, %",
                             "common, %", "personal, %", "adapted (10 steps), %", "numerical rank (1e-2)", "energy rank (99%)"]
    assert len(table.rows) == 8
    n, train, test = (raw(text_file, name) for name in ("test_examples", "train_class_counts", "test_class_counts"))
    spectra = raw(text_file, "total_singular_values")[-1]
    energy = np.cumsum(spectra**2, axis=-1) / (spectra**2).sum(axis=-1, keepdims=True)
    for k in range(8):
        p = train[k][train[k] > 0] / train[k].sum()
        scores = [test[k, train[k].argmax()], raw(text_file, "common_correct")[-1, k],
                  raw(text_file, "personal_correct")[-1, k], raw(text_file, "adapted_correct")[-1, -1, k]]
        assert cells(table.markdown(), str(k)) == [
            str(k), str(train[k].sum()), str(n[k]), f"{-(p * np.log(p)).sum():.2f}",
            *(f"{100 * score / n[k]:.1f}" for score in scores),
            f"{(spectra[k] >= 0.01 * spectra[k][:, :1]).sum(axis=-1).mean():.2f}",
            f"{((energy[k] < 0.99).sum(axis=-1) + 1).mean():.2f}"]


def test_clients_of_one_level_have_no_rank_and_one_score(tmp_path):
    for algorithm, options, scores in (("homlora", {"own": 0}, ["personal = common, %"]),
                                       ("local", {"own": 0, "common": False}, ["personal, %"])):
        (run,) = runs.read([text_run(tmp_path / algorithm / "results.h5", algorithm=algorithm, clients=3, **options)])
        if algorithm == "local":
            run.data["common_singular_values"][...] = np.nan
        assert tables.client_summary(run).columns[5:] == scores


def test_of_many_clients_the_lowest_and_the_highest_are_shown(tmp_path):
    path = text_run(tmp_path / "results.h5", clients=60, held_out=5)
    (run,) = runs.read([path])
    table = tables.client_summary(run)
    score = raw(path, "personal_correct")[-1] / raw(path, "test_examples")
    order = np.argsort(score, kind="stable")
    shown = [int(row[0].split(",")[0]) for row in table.rows]
    assert shown == [*order[:20], *order[40:]]
    assert {k for k, row in zip(shown, table.rows) if row[0].endswith(", held out")} == set(shown) & set(range(55, 60))
    assert table.note.startswith("The 20 of lowest and the 20 of highest personal accuracy, of 60 clients")


def test_clients_of_the_matrix_problem(tmp_path):
    (run,) = runs.read([matrix_run(tmp_path / "results.h5")])
    table = tables.client_summary(run)
    assert table.columns == ["client", "relative error", "loss, personal", "loss, common", "numerical rank (1e-2)",
                             "energy rank (99%)"]
    assert [row[1] for row in table.rows] == ["1e−8", "2e−7"] and [row[4] for row in table.rows] == ["3.00", "5.00"]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Three seeds of pf2lora, homlora and local on the same partitions."""
    base = tmp_path_factory.mktemp("seeds")
    return [text_run(base / f"{name}{seed}" / "results.h5", algorithm=name, seed=seed, **options)
            for seed in (1, 2, 3)
            for name, options in (("pf2lora", {"hypergradient": "exact"}), ("homlora", {"own": 0, "lift": 0.1,
                                  "adapted": (10,)}), ("local", {"own": 0, "common": False}))]


def macro(path, name="personal_correct"):
    return 100 * (raw(path, name)[-1] / raw(path, "test_examples")).mean()


def test_seeds_of_a_configuration_are_grouped_and_compared(seeds):
    groups = runs.group(runs.read(seeds))
    assert [(g.label, [run.seed for run in g.runs]) for g in groups] == [
        (name, [1, 2, 3]) for name in ("pf2lora", "homlora", "local")]
    table = tables.comparison(groups).markdown()
    ours, theirs = [macro(p) for p in seeds[0::3]], [macro(p) for p in seeds[1::3]]
    assert cells(table, "pf2lora")[3] == f"{np.mean(ours):.1f} ± {np.std(ours, ddof=1):.1f}"
    gain = np.subtract(ours, [macro(p) for p in seeds[2::3]])
    assert cells(table, "pf2lora")[9] == f"{gain.mean():.1f} ± {gain.std(ddof=1):.1f}"
    assert cells(table, "local")[6] == "–"
    paired = tables.paired_differences(groups).markdown()
    difference = np.subtract(theirs, ours)
    half = 4.302653 * difference.std(ddof=1) / math.sqrt(3)  # t, two degrees of freedom
    assert cells(paired, "homlora")[1:] == [
        "personal", "3", f"{difference.mean():+.2f}", f"[{difference.mean() - half:+.2f}, {difference.mean() + half:+.2f}]"]


def test_labels_say_what_differs_within_a_method(tmp_path):
    paths = [text_run(tmp_path / name / "results.h5", clients=3, **options) for name, options in {
        "a": {"hypergradient": "exact", "rank": 4}, "b": {"hypergradient": "joint", "rank": 8},
        "c": {"algorithm": "homlora", "own": 0}, "d": {"algorithm": "homlora", "own": 0, "threads": 7}}.items()]
    assert [g.label for g in runs.group(runs.read(paths))] == [
        "pf2lora, exact, rank 4", "pf2lora, joint, rank 8", "homlora (c)", "homlora (d)"]


def test_seeds_that_were_carried_out_in_other_ways_are_one_configuration(tmp_path):
    how = {"output": ("a", "b"), "max-hours": (0.0, 2.0), "checkpoint-every": (5, 1),
           "checkpoint-minutes": (5.0, 0.0), "threads": (1, 4),
           "device": ("cpu", "cuda"), "progress": ("auto", "off"), "profile": ("", "/tmp/trace.json"),
           "backend": ("auto", "native"), "prefix-cache": (2048, 0), "lockstep": (2, 4)}
    paths = [text_run(tmp_path / str(seed) / "results.h5", seed=seed, clients=3,
                      **{name: values[i] for name, values in how.items()}) for i, seed in enumerate((1, 2))]
    read = runs.read(paths)
    assert [[run.seed for run in g.runs] for g in runs.group(read)] == [[1, 2]] and runs.differing(read) == []


@needs_program
def test_all_options_of_the_run_itself_but_seed_and_rounds_are_no_part_of_an_experiment():
    told = program.run({"print-config": True}).stdout.split("# run\n")[1].split("\n\n")[0]
    names = {line.split(" =")[0] for line in told.splitlines()}
    assert "threads" in names and names - {"seed", "rounds"} <= runs.EXECUTION
    assert runs.EXECUTION <= set(re.findall(r"^  --([a-z-]+)", program.run({"help": True}).stdout, re.MULTILINE))


def test_values_that_name_other_things_too_are_told_with_their_option_and_runs_have_one_name(tmp_path):
    paths = [text_run(tmp_path / f"{head}{seed}" / "results.h5", clients=3, head=head, seed=seed)
             for head, seed in (("common", 1), ("common", 2), ("personal", 1))]
    groups = runs.group(runs.read(paths))
    assert [g.label for g in groups] == ["head common", "head personal"]
    assert [run.title for g in groups for run in g.runs] == ["head common, seed 1", "head common, seed 2",
                                                             "head personal"]
    assert tables.summary(groups[1].first).title.endswith(": head personal")


def test_pairs_are_counted_and_a_single_one_stands_without_an_interval(seeds):
    chosen = [path for path in seeds if path.parent.name != "homlora1" and path.parent.name != "homlora2"]
    chosen = [path for path in chosen if path.parent.name not in ("local1", "local3")]
    groups = runs.group(runs.read(chosen))
    paired, table = tables.paired_differences(groups), tables.comparison(groups)
    only = macro(seeds[7]) - macro(seeds[6])
    assert ["homlora", "personal", "1", f"{only:+.2f}".replace("-", "−"), "1 seed, no interval"] in paired.rows
    assert dict(zip([row[0] for row in table.rows], [row[-1] for row in table.rows])) == {
        "pf2lora": "1", "homlora": "0", "local": "–"}
    assert table.columns[-1] == "pairs" and "Pairs: " in table.note
    apart = tables.paired_differences([runs.Configuration("x", groups[0].runs[:1]), groups[2]])
    assert apart.note.endswith("Not a single pair: homlora.") and [row[0] for row in apart.rows] == ["majority class"]


def test_the_recipe_of_the_format_page_reads_what_load_reads(text_file, tmp_path, monkeypatch):
    page = (ROOT / "analysis" / "FORMAT.md").read_text()
    recipe = [line[4:] for line in page.splitlines() if line.startswith("    ")]
    assert recipe[0] == "import h5py, numpy as np" and len(recipe) == 7
    text_file = shutil.copytree(text_file.parent, tmp_path / "run") / "results.h5"
    with h5py.File(text_file, "r+") as file:
        file["total_singular_values"][-1, 1] = np.nan
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec("\n".join(recipe).replace("results/run/", "run/"), found)
    run = analysis.load(text_file)
    np.testing.assert_allclose(found["accuracy"], run.personal_accuracy.values[-1])
    expected = ranks.numerical_rank(run.total_singular_values.values[-1])
    assert expected.dtype == found["ranks"].dtype == np.float64 and np.isnan(expected[1]).all()
    np.testing.assert_array_equal(found["ranks"], expected)
    np.testing.assert_array_equal(found["learned_rank"], expected.mean(axis=1))

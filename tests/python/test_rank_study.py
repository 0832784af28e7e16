"""The rank study: noise-aware ranks against closed forms and simulated spectra, its rules, its page."""

import json
import math
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.stats

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from analysis import (rank_study, rank_study_figures, rank_study_page, rank_study_tables, rank_study_text,  # noqa: E402
                      ranks, report, runs, statistics)
from results_files import matrix_run, text_run  # noqa: E402

INTERVAL = re.compile(r"(−?\d\.\d\d) \[(−?\d\.\d\d), (−?\d\.\d\d)\]")


# ---- noise-aware ranks ------------------------------------------------------------------------------------
def spectrum(rng, rows, columns, signal, deviation, kept):
    """The `kept` largest singular values of a matrix of these singular values plus noise."""
    u, v = (np.linalg.qr(rng.normal(size=(size, len(signal))))[0] for size in (rows, columns))
    noisy = (u * signal) @ v.T + deviation * rng.normal(size=(rows, columns))
    return np.linalg.svd(noisy, compute_uv=False)[:kept]


def test_the_best_threshold_is_gavish_and_donohos():
    """4 / sqrt(3) sqrt(n) for square matrices; else where keeping a value errs as much as dropping it."""
    assert ranks.hard_threshold(64, 64) == pytest.approx(4 / math.sqrt(3) * 8)
    for rows, columns in ((20, 200), (384, 1536), (1536, 384)):
        beta, n = min(rows, columns) / max(rows, columns), max(rows, columns)
        # A signal x is seen as y with y^2 = (x + 1/x) (x + beta/x), turned by angles of cosines c1, c2 on either side:
        # keeping it errs by x^2 + y^2 - 2 x y c1 c2, dropping it by x^2 (their section IV).
        y = ranks.hard_threshold(rows, columns) / math.sqrt(n)
        x = math.sqrt((y**2 - beta - 1 + math.sqrt((y**2 - beta - 1) ** 2 - 4 * beta)) / 2)
        c1 = math.sqrt((x**4 - beta) / (x**4 + beta * x**2))
        c2 = math.sqrt((x**4 - beta) / (x**4 + x**2))
        assert x**2 + y**2 - 2 * x * y * c1 * c2 == pytest.approx(x**2)
    # The gap that counts: the threshold over the edge of the noise, at its largest for a vanishing ratio.
    ratios = [ranks.hard_threshold(m, 10**6) / (1000 + math.sqrt(m)) for m in (1, 100, 10**4, 10**6)]
    assert ratios[0] == pytest.approx(ranks.GAP, rel=2e-3) and max(ratios) <= ranks.GAP
    assert ratios == sorted(ratios, reverse=True)


def test_the_bulk_of_square_noise_follows_the_quarter_circle():
    _, values = ranks.bulk(50, 50, 50)
    x = values / math.sqrt(50)
    below = (x * np.sqrt(4 - x**2) / 2 + 2 * np.arcsin(x / 2)) / math.pi  # of the density sqrt(4 - x^2) / pi on [0, 2]
    np.testing.assert_allclose(below, 1 - (np.arange(1, 51) - 0.5) / 50, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (48, 128), (20, 200), (200, 20)])
def test_simulated_noise_is_where_the_bulk_says(shape):
    rng = np.random.default_rng(1)
    s = np.array([np.linalg.svd(rng.normal(size=shape), compute_uv=False)[:10] for _ in range(200)])
    edge, values = ranks.bulk(*shape, 10)
    np.testing.assert_allclose(s.mean(axis=0), values, rtol=0.012)
    assert (s[:, 0] > edge).mean() <= 0.03  # 1 in 100


@pytest.mark.parametrize("shape", [(64, 64), (48, 160)])
@pytest.mark.parametrize("deviation", [0.01, 0.05])
def test_the_rank_under_noise_is_found_from_the_kept_values_alone(shape, deviation):
    rng, signal = np.random.default_rng(2), [4, 3.6, 3.3, 3, 2.7, 2.4, 2.2, 2, 1.8, 1.6]
    for rank in (6, 7, 9):
        s = np.array([spectrum(rng, *shape, np.array(signal[:rank]), deviation, 12) for _ in range(40)])
        assert (ranks.noise_edge_rank(s, *shape) == rank).mean() >= 0.95
        assert (ranks.gap_rank(s) == rank).all()
        assert (ranks.known_noise_rank(s, *shape, deviation) == rank).all()
        assert (ranks.numerical_rank(s, 1e-2) == 12).all()  # what a threshold relative to the largest value says
    # Noise that is seen in fewer than three values is not seen: the rank is all that there is.
    s = spectrum(rng, *shape, np.array(signal), deviation, 12)
    assert ranks.noise_edge_rank(s, *shape) == 12 and ranks.noise_edge(s, *shape) == 0
    # Nor is noise of two sizes, as of a client's own term and of a common one that is averaged over clients.
    s = np.array([5, 4, 3, 0.8, 0.78, 0.2, 0.19, 0.0029])
    assert ranks.noise_edge(s, *shape) == 0 and ranks.noise_edge_rank(s, *shape) == ranks.numerical_rank(s, 1e-3) == 7


def test_without_noise_all_that_was_learned_counts():
    signal = np.array([4, 3.6, 3.3, 3, 2.7, 2.4, 2.2, 2, 1.8, 1.6])
    for rank in (6, 8, 10):
        for tail in (0, 1e-15, 1e-8):
            s = np.concatenate([signal[:rank], tail * np.geomspace(1, 0.01, 12 - rank)])
            assert ranks.gap_rank(s) == rank and ranks.noise_edge_rank(s, 64, 64) == rank, (rank, tail)


def test_gap_rank_by_hand():
    s = np.array([[5.0, 4, 1, 0.9], [8, 2, 1.5, 1.2], [1, 0.9, 0.8, 0.7], [0, 0, 0, 0], [3, 2.5, 1e-4, 1e-9]])
    assert ranks.gap_rank(s).tolist() == [2, 1, 4, 0, 2]
    assert ranks.gap_rank(np.array([2.0])) == 1


def test_noise_edge_keeps_axes_scale_padding_and_nan():
    rng = np.random.default_rng(4)
    s = np.array([[spectrum(rng, 40, 30, np.array([5, 4, 3.0][:k]), 0.05, 9) for k in (1, 2, 3)] for _ in range(2)])
    edge, rank = ranks.noise_edge(s, 40, 30), ranks.noise_edge_rank(s, 40, 30)
    assert rank.tolist() == [[1, 2, 3]] * 2
    np.testing.assert_allclose(ranks.noise_edge(1e-90 * s, 40, 30), 1e-90 * edge, rtol=1e-12)
    np.testing.assert_allclose(ranks.noise_edge(s.transpose(1, 0, 2), 30, 40), edge.T, rtol=1e-12)
    np.testing.assert_allclose(ranks.noise_edge(np.concatenate([s, 0 * s], axis=-1), 40, 30), edge)
    s[0, 0, 0] = np.nan
    assert np.isnan(ranks.noise_edge_rank(s, 40, 30)[0, 0]) and ranks.noise_edge_rank(s, 40, 30)[1].tolist() == [1, 2, 3]
    assert ranks.noise_edge_rank(np.zeros((2, 5)), 40, 30).tolist() == [0, 0]
    assert ranks.noise_edge_rank(np.zeros((2, 0)), 40, 30).tolist() == [0, 0]


# ---- statistics -------------------------------------------------------------------------------------------
def test_intervals_of_few_clients_are_fishers():
    rng = np.random.default_rng(5)
    for n in (5, 8, 19):
        x, y = rng.normal(size=(2, n))
        found, wanted = statistics.correlation(x, y, False), scipy.stats.pearsonr(x, y)
        assert found.value == pytest.approx(wanted.statistic)
        assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-5)
        found = statistics.correlation(x, y, True)
        assert (found.value, found.low, found.high, found.clients) == statistics.spearman(x, y)
    assert math.isnan(statistics.correlation([1, 2, 3, 4], [1, 3, 2, 4], True).low)
    line, nearly = (statistics.correlation(range(8), y, True) for y in (range(8), [1, 0, *range(2, 8)]))
    assert (line.value, line.high) == (1, 1) and nearly.value == pytest.approx(1 - 12 / 504)
    assert 0 < line.low == pytest.approx(nearly.low) and not statistics.correlation(range(5), range(5), True).shown
    falling = statistics.correlation(range(8), range(8, 0, -1), False)
    assert (falling.value, falling.low) == (-1, -1) and falling.shown
    same = statistics.correlation([0.1 + 0.2] * 4 + [0.3] * 4, range(8), True)
    assert math.isnan(same.value) and not same.shown


def test_intervals_of_many_clients_are_the_bootstraps():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 8, 60).astype(float)
    y = x + 3 * rng.normal(size=60)
    for rank, function in ((False, scipy.stats.pearsonr), (True, scipy.stats.spearmanr)):
        found = statistics.correlation(x, y, rank)
        wanted = scipy.stats.bootstrap((x, y), lambda a, b: function(a, b).statistic, paired=True, vectorized=False,
                                       n_resamples=600, method="percentile", rng=rng).confidence_interval
        assert found.value == pytest.approx(function(x, y).statistic)
        assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=0.05) and found.shown
    drawn = rng.multinomial(60, np.full(60, 1 / 60), size=3)
    for times, row in zip(drawn, statistics._resampled_ranks(x, drawn)):
        np.testing.assert_allclose(np.repeat(row, times), statistics.average_ranks(np.repeat(x, times)))


def test_over_seeds_it_is_the_t_interval():
    rng = np.random.default_rng(7)
    pairs = [rng.normal(size=(2, 8)) for _ in range(4)]
    values = [scipy.stats.spearmanr(x, y).statistic for x, y in pairs]
    found = statistics.correlation_over_seeds([*pairs, (np.ones(8), pairs[0][1])], True)
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert found.value == pytest.approx(np.mean(values)) and (found.seeds, found.clients) == (4, 8)
    assert (found.low, found.high) == pytest.approx((max(-1, low), min(1, high)))


def test_the_test_of_spread_keeps_its_level_and_sees_a_difference():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    ratio, _ = statistics.spread_ratio(list(a), list(b), 99)
    assert ratio == pytest.approx(a.var(axis=1, ddof=1).mean() / b.var(axis=1, ddof=1).mean())
    p = [statistics.spread_ratio(list(3 + rng.normal(size=(2, 8))), list(rng.normal(size=(2, 8))), 99)[1]
         for _ in range(200)]
    assert 0.015 <= np.mean(np.array(p) <= 0.05) <= 0.09 and 0.4 < np.mean(p) < 0.6
    assert statistics.spread_ratio([4 * a[0], 4 * a[1]], list(b))[1] < 0.01
    assert np.isnan(statistics.spread_ratio([np.ones(8)], [np.ones(8)])[0])
    ratio, p = statistics.spread_ratio([a[0]], [np.ones(8)])
    assert ratio == math.inf and p < 0.01


# ---- what a study finds -----------------------------------------------------------------------------------
def set_total(path, values):
    """Puts values [client, k] for all sites into the last spectrum of a file's total."""
    with h5py.File(path, "r+") as file:
        total = file["total_singular_values"]
        total[-1] = np.repeat(np.asarray(values, dtype=float)[:, None], total.shape[2], axis=1)
    return path


def label_entropy(path):
    with h5py.File(path) as file:
        p = file["train_class_counts"][...] / file["train_class_counts"][...].sum(axis=1, keepdims=True)
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=1)


def study_of(*paths, folder=False):
    """A study of runs, each labelled as runs.group does it."""
    return rank_study.study([(g, "", "") for g in runs.group(runs.read(paths))])


def page_of(path, output, **how):
    """The rank-study page of one run, without the report that links to it."""
    return rank_study_page.write([(group, "", "") for group in runs.group(runs.read([path]))], output, "", **how)


def following(path, strength, seed=0):
    """A run whose last total has singular values 1, x, ... with x rising with the client's label entropy."""
    entropy = label_entropy(path)
    noise = np.random.default_rng(seed).normal(size=len(entropy))
    x = 0.55 + 0.1 * (strength * (entropy - entropy.mean()) / entropy.std() + (1 - strength) * noise)
    return set_total(path, np.stack([np.ones_like(x), x, x, x, x, x], axis=1))


def test_a_rank_that_is_the_same_for_all_is_said_not_to_follow(tmp_path):
    path = set_total(text_run(tmp_path / "results.h5"), np.tile([3, 2, 1.5, 1.2, 1, 0.8], (8, 1)))
    found = study_of(path)
    sentences = rank_study_text.findings(found, found.subjects[0])
    assert sentences[0].startswith("All 8 clients have the same learned rank, 6 (")
    assert sentences[1] == "The learned rank does not follow the client: by every measure it is the same for all of them."
    same = r"The numerical rank \(1e-2\), .* of the total are 6 = r \+ r~ for every client: they do not follow the client"
    assert any(re.match(same, sentence) for sentence in sentences)


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.6, 1.0])
def test_an_interval_that_holds_0_is_never_called_an_effect(tmp_path, strength):
    """The sentences' own numbers keep the rule, whatever the data are."""
    seen = {"rise": 0, "no relation": 0}
    for seed in range(6):
        path = following(text_run(tmp_path / str(seed) / "results.h5", seed=seed, clients=12), strength, seed)
        found = study_of(path)
        for sentence in rank_study_text.findings(found, found.subjects[0]):
            intervals = [[float(v.replace("−", "-")) for v in part] for part in INTERVAL.findall(sentence)]
            if re.match("These rise with ", sentence):
                assert intervals and all(low >= 0 for _, low, _ in intervals)
                seen["rise"] += 1
            elif re.match("These fall with ", sentence):
                assert intervals and all(high <= 0 for _, _, high in intervals)
            elif sentence.startswith("No relation to "):
                assert all(low <= 0 <= high for _, low, high in intervals)
                seen["no relation"] += 1
            for part in re.findall(r"does go along with (.*?)(?:; nothing|\.$)", sentence):
                assert all(low > 0 or high < 0 for _, low, high in
                           [[float(v.replace("−", "-")) for v in i] for i in INTERVAL.findall(part)])
    assert seen["no relation"] and (seen["rise"] or strength < 1)


def test_a_pair_that_is_not_added_to_the_common_one_is_told_as_such(tmp_path):
    path = text_run(tmp_path / "results.h5", algorithm="hetlora", own=4, adds=False)
    found = study_of(path)
    (subject,) = found.subjects
    text = " ".join(rank_study_text.findings(found, subject))
    assert "of a client's own pair, which is not added to the common one, mean over sites" in text
    assert "together" not in text and "own term" not in text and "r~" not in text
    assert "The overlap of common and own subspace is the same for every client, 1.00." in text
    correlations, _ = rank_study_tables.correlations(subject)
    assert next(row for row in correlations.rows if row[0] == rank_study.OVERLAP)[1:] == ["–"] * len(subject.causes)
    assert not [row for row in correlations.rows if row[0].endswith(", own")]
    (by_client,) = rank_study_tables.by_client(subject)
    assert by_client.columns[-2:] == [rank_study.RATIO, rank_study.OVERLAP]


def test_figures_say_what_they_show_without_their_captions(tmp_path):
    paths = [text_run(tmp_path / str(seed) / "results.h5", clients=4, seed=seed) for seed in (1, 2)]
    (subject,) = study_of(*paths).subjects
    drawn = rank_study_figures.by_site(subject).figure.axes
    titles = [axes.get_title("left") for axes in drawn if axes.get_title("left")]
    assert titles == [f"{name}\n{target}" for target in ("query", "value")
                      for name in ("entropy rank, total", rank_study.RATIO, rank_study.OVERLAP)]
    axes = rank_study_figures.entropy_rank_relations(subject).figure.axes
    assert {panel.get_title("left").split(", ")[-1] for panel in axes} == {"n = 4"}
    assert "final training loss, nats" in [panel.get_xlabel() for panel in axes]


def test_too_few_clients_for_intervals_are_told_once_and_intervals_left_out(tmp_path, laid_out):
    path = following(text_run(tmp_path / "run" / "results.h5", clients=4), 1.0)
    found = study_of(path)
    sentences = rank_study_text.findings(found, found.subjects[0])
    assert sentences[1] == ("Whether the learned rank follows the client is open: the clients are too few for intervals "
                            "of correlations.")
    assert sentences[2] == ("Correlations over 4 clients have no intervals, and so show no relation: it takes 5 clients, "
                            "or two seeds.")
    html = page_of(path, tmp_path / "out").read_text()
    assert html.count("interval") == 2 and "nothing is shown" not in html and "No relation" not in html
    assert "ρ" in html and "rank_correlations" in html and "leave" not in html
    report_page = report.write_report([path], tmp_path / "report", details=1).read_text()
    assert "Above: Spearman&#39;s ρ." in report_page and "interval" not in report_page
    seeds = [following(text_run(tmp_path / str(s) / "results.h5", clients=4, seed=s), 1.0, s) for s in (1, 2)]
    several = study_of(*seeds)
    assert not any("too few" in text for text in rank_study_text.findings(several, several.subjects[0]))
    assert "95% t-interval" in rank_study_tables.correlations(several.subjects[0])[0].note


def test_correlations_are_those_of_numpy(tmp_path):
    path = following(text_run(tmp_path / "results.h5"), 0.8)
    subject, = study_of(path).subjects
    with h5py.File(path) as file:
        s, loss = file["total_singular_values"][-1], file["train_loss"][...]
        right = {kind: file[f"{kind}_correct"][-1] / file["test_examples"][...] for kind in ("personal", "common")}
        ratio = file["norm_ratio"][-1].mean(axis=1)
    p = s / s.sum(axis=-1, keepdims=True)
    effect = np.exp(-(p * np.log(p)).sum(axis=-1)).mean(axis=1)
    last = np.array([column[~np.isnan(column)][-1] for column in loss.T])
    causes = {"label entropy": label_entropy(path), "final training loss": last,
              "personal gain, points": 100 * (right["personal"] - right["common"])}
    for cause, values in causes.items():
        for rank, function in ((True, scipy.stats.spearmanr), (False, scipy.stats.pearsonr)):
            found = subject.correlations["total", "entropy rank", cause, rank]
            assert found.value == pytest.approx(function(effect, values)[0])
        found = subject.correlations["", rank_study.RATIO, cause, False]
        assert found.value == pytest.approx(np.corrcoef(ratio, values)[0, 1])
    assert "gain over local-only, points" not in subject.causes
    spearman, pearson = rank_study_tables.correlations(subject)
    row = dict(zip(spearman.columns, next(r for r in spearman.rows if r[0] == "entropy rank, total")))
    assert row["label entropy"].startswith(f"{scipy.stats.spearmanr(effect, causes['label entropy'])[0]:.2f} [")


def test_local_only_training_of_the_same_examples_gives_a_gain(tmp_path):
    mine = following(text_run(tmp_path / "pf" / "results.h5"), 0.5)
    local = text_run(tmp_path / "local" / "results.h5", algorithm="local", own=0, common=False)
    other = text_run(tmp_path / "other" / "results.h5", algorithm="local", own=0, common=False, partition_seed=9,
                     rank=5)
    found = study_of(mine, other, local)
    subject = next(s for s in found.subjects if s.first.algorithm == "pf2lora")
    with h5py.File(mine) as a, h5py.File(local) as b:
        gain = 100 * (a["personal_correct"][-1] - b["personal_correct"][-1]) / a["test_examples"][...]
    np.testing.assert_allclose(subject.causes["gain over local-only, points"][0], gain)


def test_a_control_that_is_missing_is_said_to_be_with_the_command_that_makes_it(tmp_path):
    path = following(text_run(tmp_path / "run 1" / "results.h5", partition="dirichlet", **{"dirichlet-alpha": 0.1}), 1.0)
    found = study_of(path)
    sentences = rank_study_text.findings(found, found.subjects[0])
    assert sentences[1].startswith("Whether the learned rank follows the client is open, since an iid control is missing")
    html = page_of(path, tmp_path / "out", details=0).read_text()
    assert (f"build/release/pf2lora --config &#39;{path.parent}/options.ini&#39; --partition iid --output "
            f"&#39;{path.parent}-iid&#39;") in html


def test_permuted_labels_are_a_cause_and_absent_from_the_control(tmp_path):
    path = following(text_run(tmp_path / "run" / "results.h5", partition="iid", permuted=(1, 4, 6),
                              **{"label-conflict": 0.4}), 1.0)
    found = study_of(path)
    subject = found.subjects[0]
    np.testing.assert_array_equal(subject.causes["labels permuted"][0], [0, 1, 0, 0, 1, 0, 1, 0])
    value = subject.correlations["total", "entropy rank", "labels permuted", True].value
    measured = subject.effects["total", "entropy rank"][0]
    assert value == pytest.approx(scipy.stats.spearmanr(measured, subject.causes["labels permuted"][0])[0])
    assert found.needs_control(subject)
    html = page_of(path, tmp_path / "out", details=0).read_text()
    assert "--partition iid --label-conflict 0 --output" in html and "label-conflict = 0}" in html
    table = rank_study_tables.by_client(subject)[0]
    marks = {row[0]: row[table.columns.index("labels permuted")] for row in table.rows}
    assert [marks[str(k)] for k in range(8)] == ["no", "yes", "no", "no", "yes", "no", "yes", "no"]


@pytest.mark.parametrize("wide", [True, False])
def test_beside_an_iid_control_the_spread_decides(tmp_path, wide):
    alike = {"partition": "iid"} if wide else {"partition": "dirichlet", "dirichlet-alpha": 1000.0}
    apart = {"partition": "dirichlet", "dirichlet-alpha": 0.1}
    skewed, control = ([following(text_run(tmp_path / f"{name}{s}" / "results.h5", seed=s, **apart | options), 0.9, s)
                        for s in (1, 2, 3)] for name, options in (("a", {}), ("b", alike)))
    for path in control if wide else []:  # clients that are alike learn ranks that are alike
        with h5py.File(path) as file:
            s = file["total_singular_values"][-1, :, 0]
        set_total(path, s.mean(axis=0) + 0.05 * (s - s.mean(axis=0)))
    found = study_of(*skewed, *control)
    subject, other = found.subjects
    assert found.control(subject) is other and found.control(other) is None and not found.needs_control(other)
    ratio, p = found.spreads(subject)["total", "entropy rank"]
    mine, theirs = (np.array(s.effects["total", "entropy rank"]) for s in (subject, other))
    assert ratio == pytest.approx(mine.var(axis=1, ddof=1).mean() / theirs.var(axis=1, ddof=1).mean())
    assert (p < 0.01) == wide
    verdict = rank_study_text.verdict(found, subject)
    assert verdict.startswith("The learned rank goes along with the client by the" if wide else
                              "It is not shown that the learned rank follows the client")
    row, = [r for r in rank_study_tables.control(found, subject).rows if r[0] == "entropy rank, total"]
    assert row[3] == f"{ratio:.2f}"


def test_what_the_own_term_holds_above_the_noise_of_the_total(tmp_path):
    """The own term's two values cannot show a floor; the total's six do."""
    rng, path = np.random.default_rng(9), text_run(tmp_path / "results.h5")
    with h5py.File(path, "r+") as file:
        shape = file["total_singular_values"].shape
        file["total_singular_values"][-1] = np.array([[spectrum(rng, 12, 10, np.array([9, 8.0]), 0.1, 6)
                                                       for _ in range(shape[2])] for _ in range(shape[1])])
        file["client_singular_values"][-1] = [5, 0.3]
    run, = runs.read([path])
    found = rank_study.measure(run)
    assert (found["total"][ranks.NOISE_EDGE] == 2).mean() > 0.9
    assert (found["own"][ranks.NOISE_EDGE] == 1).mean() > 0.9 and (found["own"]["numerical rank (1e-2)"] == 2).all()


# ---- known ranks ------------------------------------------------------------------------------------------
KNOWN = {"matrix-common-values": "3,2.5,2", "matrix-client-values": ";2.5,2", "matrix-rows": 10, "matrix-columns": 10}


def test_known_ranks_are_those_of_the_targets(tmp_path):
    run, = runs.read([matrix_run(tmp_path / "results.h5", errors=(1e-8, 2e-7, 1e-3), **KNOWN)])
    truth = rank_study.truth(run)
    assert truth.spectra.tolist() == [[3, 2.5, 2, 0, 0], [3, 2.5, 2.5, 2, 2], [3, 2.5, 2, 0, 0]]
    assert truth.rank.tolist() == [3, 5, 3] and truth.matrix_right.tolist() == [True] * 3
    noisy, = runs.read([matrix_run(tmp_path / "n" / "results.h5", errors=(0.1, 0.4), **KNOWN, **{"matrix-noise": 0.1})])
    # Degrees of freedom 3 (10 + 10 - 3) and 5 (10 + 10 - 5); norms from the values.
    wanted = 1.5 * 0.1 * np.sqrt([3 * 17, 5 * 15]) / np.sqrt([19.25, 29.5])
    np.testing.assert_allclose(rank_study.truth(noisy).reachable, wanted)
    assert rank_study.truth(noisy).matrix_right.tolist() == [True, False]


def test_a_right_rank_of_a_wrong_matrix_is_seen(tmp_path):
    path = matrix_run(tmp_path / "results.h5", errors=(1e-8, 0.25), **KNOWN)
    page = page_of(path, tmp_path / "out")
    markdown = (page.parent / "rank_study" / "tables.md").read_text()
    first, second = (next(line for line in markdown.splitlines() if line.startswith(f"| 1, {k} |")) for k in (0, 1))
    assert first.split("|")[2].strip() == "3" and first.rstrip(" |").endswith("both")
    assert second.split("|")[2].strip() == "5" and "rank only" in second and " 0.25 " in second
    html = page.read_text()
    assert "Right of 2: numerical rank (1e-2) 2," in html
    assert "The matrix itself is right for 1; rank right and matrix wrong" in html
    assert "iid control" not in html


def test_one_rank_for_all_is_no_success(tmp_path):
    path = matrix_run(tmp_path / "results.h5", errors=(1e-8, 1e-8, 1e-8), **KNOWN)
    with h5py.File(path, "r+") as file:
        file["total_singular_values"][...] = [3, 2.5, 2.2, 2, 2]
        file["total_singular_values"][0, 0, 0, 1] = 2.4
    found = study_of(path)
    verdict = rank_study_text.verdict(found, found.subjects[0])
    assert "the learned rank does not follow the client (ranks 3 to 5, 3 clients). Right of 3: " in verdict
    assert "one rank for all 2." in verdict


def test_what_stands_out_over_configurations_of_known_rank(tmp_path):
    """The file's totals have ranks 3 and 5, as the targets have, with the own rank 1; or 5 for both."""
    good = matrix_run(tmp_path / "good" / "results.h5", errors=(1e-8, 1e-8), **KNOWN)
    wrong = matrix_run(tmp_path / "wrong" / "results.h5", errors=(0.2, 0.3), **KNOWN, rounds=30)
    same = matrix_run(tmp_path / "same" / "results.h5", errors=(0.2, 0.3), **KNOWN, hypergradient="joint")
    with h5py.File(same, "r+") as file:
        file["total_singular_values"][...] = [3, 2.5, 2.2, 2, 2]
        file["client_singular_values"][:, 0] = 0  # its target has no direction of its own
    found = study_of(good, wrong, same)
    labels = [s.label for s in found.subjects]
    first, second, third, fourth = rank_study_text.across(found)
    # Values as even as 3, 2.5, 2.5, 2, 2 of a 10 x 10 matrix look like noise to the noise-edge rank.
    assert first == ("Over all configurations, of 6 ranks are right: numerical rank (1e-2) 5, numerical rank (1e-3) 5, "
                     "gap rank 5 and noise-edge rank 2.")
    assert second == f"Every rank (numerical rank (1e-2)) is right and every matrix wrong: {labels[1]}."
    assert third == f"The numerical rank (1e-2) is the same for every client, whatever the target's: {labels[2]}."
    assert fourth == ("The own term's numerical rank (1e-2) is the number of directions that are a client's alone: "
                      + "; ".join(f"{label} {own} of 2" for label, own in zip(labels, (0, 0, 1))) + ".")
    for subject, setting in zip(found.subjects, ("clean", "noisy", "noisy")):
        subject.method, subject.setting = "same" if subject is found.subjects[2] else "one", setting
    table = rank_study_tables.known_ranks_by_setting(found)
    assert table.columns == ["method", "clean", "noisy"]
    assert table.rows == [["one", "2, 0, 2 (1e−8)", "2, 0, 0 (0.25)"], ["same", "–", "1, 1, 0 (0.25)"]]
    right, both = rank_study_tables.known_ranks_overview(found)
    assert [row[right.columns.index("gap")] for row in right.rows] == ["2", "2", "1"]
    assert [row[right.columns.index("matrix")] for row in right.rows] == ["2", "0", "0"]
    assert [row[both.columns.index("gap, matrix wrong")] for row in both.rows] == ["0", "2", "1"]


# ---- the page ---------------------------------------------------------------------------------------------
def test_the_report_of_a_run_links_its_rank_study(reported):
    folder = reported / "run" / "report"
    html = (folder / "rank_study.html").read_text()
    assert 'href="rank_study.html"' in (folder / "report.html").read_text() and 'href="report.html"' in html
    names = {"rank_by_client", "rank_correlations", "rank_study_relations", "rank_by_site", "ranks_by_round"}
    assert set(re.findall(r'<figure id="([^"]+)"', html)) == names
    drawn = {p.name for p in (folder / "rank_study" / "figures").iterdir()}
    assert drawn == {n + s for n in names for s in (".png", ".pdf")}
    markdown, latex = ((folder / "rank_study" / f"tables.{kind}").read_text() for kind in ("md", "tex"))
    for name in (*ranks.MEASURES, ranks.NOISE_EDGE):
        assert f"| {name}, total |" in markdown
    assert latex.count(r"\begin{tabular}") == latex.count(r"\bottomrule") == markdown.count("| --- |")
    assert not re.search(r"nan|inf\b|None", markdown) and "<script" not in html


def test_a_method_with_one_adapter_for_all_has_no_rank_study(tmp_path, undrawn):
    path = text_run(tmp_path / "results.h5", algorithm="homlora", own=0)
    with h5py.File(path, "r+") as file:
        file["total_singular_values"][...] = file["total_singular_values"][:, :1]
    page = report.write_report([path], details=0)
    assert not (page.parent / "rank_study.html").exists() and "rank_study" not in page.read_text()


def test_the_report_of_a_folder_studies_every_setting(tmp_path, undrawn):
    listed = []
    for seed in (1, 2):
        for setting, options in (("skewed", {"partition": "dirichlet", "dirichlet-alpha": 0.1}),
                                 ("alike", {"partition": "iid"})):
            for method, how in (("pf2lora", {}), ("local", {"own": 0, "common": False}), ("homlora", {"own": 0})):
                place = f"{setting}/{method}/seed{seed}"
                file = text_run(tmp_path / place / "results.h5", algorithm=method, seed=seed, **how, **options)
                with h5py.File(file, "r+") as opened:
                    total = opened["total_singular_values"]
                    if method == "homlora":
                        total[...] = total[:, :1]
                    elif method == "local":
                        total[...] = np.sort(np.random.default_rng(seed).random(total.shape))[..., ::-1]
                listed.append({"path": place, "setting": setting, "method": method, "seed": str(seed), "rounds": 3,
                               "tuned": {}})
    (tmp_path / "sweep.json").write_text(json.dumps({"format": "pf2lora-sweep", "format_version": 1, "runs": listed}))
    assert report.main([str(tmp_path), "--details", "1"]) == 0
    html = (tmp_path / "report" / "rank_study.html").read_text()
    assert 'href="rank_study.html"' in (tmp_path / "report" / "report.html").read_text()
    for label in ("skewed: pf2lora: ", "skewed: local: ", "alike: pf2lora: ", "alike: local: "):
        assert f"<li>{label}" in html
    assert "Without a rank of the clients&#39; own, and so not studied: skewed: homlora, alike: homlora." in html
    assert "Control: alike: pf2lora." in html and "3 further configurations" in html
    ratio, = re.findall(r"<li>The norm ratio .*? (?:goes|is not shown to go) along with label entropy: (.*?)</li>", html)
    assert "skewed: pf2lora (ρ " in ratio and "alike: pf2lora (ρ " in ratio
    markdown = (tmp_path / "report" / "rank_study" / "tables.md").read_text()
    for part in ("| variance ratio |", "gain over local-only, points", "| skewed: pf2lora | own |"):
        assert part in markdown

"""python -m analysis.report end to end: what stands on the page, in the files and in the exit code."""

import base64
import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import h5py
import matplotlib.colors
import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from analysis import (example, federation, figures, page, rank_study, rank_study_figures,  # noqa: E402
                      rank_study_tables, report, runs, spectra, style, tables)
from conftest import without_figures  # noqa: E402
from results_files import matrix_run, text_run, write_results  # noqa: E402

TEXT_FIGURES = {"accuracy_by_round", "accuracy_by_client", "time_by_phase", "ranks_by_round", "singular_spectra",
                "rank_relations", "norm_ratio_relations", "classes_by_client"}


def named_figures(page, names):
    """The page names just these figures, and needs nothing outside it; returns its text."""
    html = page.read_text(encoding="utf-8")
    assert set(re.findall(r'<figure id="([^"]+)"', html)) == names
    assert not re.search(r"<script|<link|@import|url\(", html) and not re.search(r'(href|src)="(?!data:|rank_study.html")', html)
    return html


def check_page(page, names):
    """As named_figures, and all of them are drawn."""
    html = named_figures(page, names)
    sources = re.findall(r'<img src="([^"]+)"', html)
    assert len(sources) == len(names)
    for source in sources:
        kind, content = re.fullmatch(r"data:image/(svg\+xml|png);base64,(.*)", source).groups()
        content = base64.b64decode(content, validate=True)
        if kind == "png":
            assert content.startswith(b"\x89PNG")
        else:
            assert len(ElementTree.fromstring(content).findall(".//{http://www.w3.org/2000/svg}path")) > 20
    files = {path.name for path in (page.parent / "figures").iterdir()}
    assert files == {f"{name}{suffix}" for name in names for suffix in (".png", ".pdf")}
    for name in names:
        picture = matplotlib.image.imread(page.parent / "figures" / f"{name}.png")
        assert picture.shape[1] > 600 and picture[..., :3].std() > 0.02, name
        assert (page.parent / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    return html


def row(html, first):
    """The cells of the first table row that starts with `first`."""
    found = re.search(rf"<tr><td>{re.escape(first)}</td>(.*?)</tr>", html, re.S).group(1)
    return re.findall(r"<td>(.*?)</td>", found)


def test_report_of_one_run(reported):
    path = reported / "run" / "results.h5"
    html = check_page(reported / "run" / "report" / "report.html", TEXT_FIGURES | {"unseen_clients"})
    with h5py.File(path) as file:
        score = (100 * file["personal_correct"][-1] / file["test_examples"][...])[:-1]  # the last one is held out
        values, seconds = file["total_singular_values"][-1, :-1], file["phase_seconds"][:, 0]
    assert row(html, "personal")[0] == f"{score.mean():.1f}" and row(html, "personal")[3] == f"{score.min():.1f}"
    p = values / values.sum(axis=-1, keepdims=True)
    entropy_rank = np.exp(-(p * np.log(p)).sum(axis=-1)).mean(axis=1)
    assert row(html, "entropy rank")[2].startswith(f"{entropy_rank.mean():.2f} [{entropy_rank.min():.2f}")
    assert row(html, "seconds: train")[0] == f"{seconds.sum(axis=0).mean():.2f}"
    for fact in ("0123456789abcdef", "pf2lora --rounds 3", "alpha, beta", "2025-01-02T03:04:05Z", "learning-rate"):
        assert fact in html
    markdown = (path.parent / "report" / "tables.md").read_text()
    assert f"| personal | {score.mean():.1f} |" in markdown
    assert (path.parent / "report" / "tables.tex").read_text().count(r"\toprule") == 4
    assert markdown.count("| client | train examples |") == 1 and "notice" not in html.partition("<h1>")[2]


def test_a_run_that_has_not_ended_says_so_at_the_top(tmp_path, undrawn):
    path = matrix_run(tmp_path / "run" / "results.h5", rounds=12)
    with h5py.File(path, "r+") as file:
        file["segment_exit"][-1] = "signal SIGUSR1"
        file["options"].attrs["rounds"] = np.int64(40)
    done = matrix_run(tmp_path / "done" / "results.h5")
    html = report.write_report([path, done], tmp_path / "out", details=0).read_text()
    assert html.index("The run run has not ended: 12 of 40 rounds are done; stopped by signal SIGUSR1</p>") < html.index("<section>")
    assert html.count('class="notice"') == 1 and "12 of 40 rounds ·" in html
    (path.parent / "segments").mkdir()
    for segment in ("000010.h5", "000020.h5", "000099.h5.tmp", "note.h5"):
        (path.parent / "segments" / segment).touch()
    (path.parent / "options.ini").write_text("# run\nseed = 1\nrounds = 60\n")  # as a resumed run has written it
    (run,) = runs.read([path])
    assert run.unfinished == (
        "The run run has not ended: 20 of 60 rounds are done, of which this page shows the first 12. If it is not "
        f"running still, go on with: pf2lora --config {path.parent / 'options.ini'} --resume")


def test_clients_that_no_round_drew_are_told(tmp_path, undrawn):
    path = matrix_run(tmp_path / "run" / "results.h5", rounds=12)
    (run,) = runs.read([path])
    assert not run.undrawn.any() and runs.told_undrawn([0, 0]) == ""
    with h5py.File(path, "r+") as file:
        file["took_part"][:, 1] = 0
        file["took_part"][5, 0] = 0
    (run,) = runs.read([path])
    assert run.undrawn.tolist() == [client == 1 for client in range(run.undrawn.size)]
    assert "drawn in none of the rounds: 1. " in report.write_report([path], tmp_path / "out").read_text()
    assert "rounds in 2 of 3 runs: 1 to 4. " in runs.told_undrawn([4, 0, 1])


@pytest.mark.parametrize("change", [
    lambda file: file.attrs.__delitem__("end_utc"), lambda file: file["segment_exit"].__setitem__(-1, "unknown"),
    lambda file: file["options"].attrs.__setitem__("rounds", np.int64(13))])
def test_every_sign_of_an_end_to_come_is_seen(tmp_path, change):
    path = matrix_run(tmp_path / "results.h5", rounds=12)
    assert runs.read([path])[0].unfinished == ""
    with h5py.File(path, "r+") as file:
        change(file)
    assert runs.read([path])[0].unfinished.startswith(f"The run {tmp_path.name} has not ended: 12 ")


def test_a_run_that_was_complete_and_is_resumed_says_so(tmp_path):
    path = text_run(tmp_path / "run" / "results.h5", clients=3, rounds=12)
    (path.parent / "segments").mkdir()
    (path.parent / "segments" / "000012.h5").touch()  # left over where the end was cut short: nothing is missing
    assert runs.read([path])[0].unfinished == ""
    (path.parent / "segments" / "000015.h5").touch()
    assert runs.read([path])[0].unfinished.endswith("15 rounds are done, of which this page shows the first 12")


def test_segments_without_results_are_told_with_their_rounds(tmp_path, capsys):
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "000015.h5").touch()
    (tmp_path / "options.ini").write_text("rounds = 40\n")
    assert report.main([str(tmp_path)]) == 3
    told = capsys.readouterr().err
    assert "holds no results.h5: the run has not ended, 15 of 40 rounds are saved" in told
    assert f"pf2lora --config {tmp_path / 'options.ini'} --resume" in told


def test_relations_leave_out_what_is_the_same_for_every_client(tmp_path):
    path = text_run(tmp_path / "results.h5", clients=6, held_out=1)
    (run,) = runs.read([path])
    assert len(spectra.rank_relations(run).figure.axes) == 4 and len(spectra.norm_ratio_relations(run).figure.axes) == 2
    run.data["train_examples"][:5] = 60  # of those that train
    ranks, norms = spectra.rank_relations(run), spectra.norm_ratio_relations(run)
    assert [axes.get_xlabel() for axes in ranks.figure.axes] == ["label entropy of the client, nats"] * 2
    assert [axes.get_ylabel() for axes in ranks.figure.axes] == ["entropy rank", "energy rank (95%)"]
    assert len(norms.figure.axes) == 1
    for plot in (ranks, norms):
        assert plot.caption.endswith("Not drawn, being the same for every client: training examples (60).")
    run.data["total_singular_values"][-1] = [2, 1.5, 0, 0, 0, 0]
    assert spectra.rank_relations(run) is None
    run.data["total_singular_values"][-1, :, :, 1] = 1.4 + 0.1 * np.arange(6)[:, None]  # the energy rank stays 2
    plot = spectra.rank_relations(run)
    assert [axes.get_ylabel() for axes in plot.figure.axes] == ["entropy rank"]
    assert plot.caption.endswith("every client: energy rank (95%) (2), training examples (60).")


def test_a_pair_that_is_not_added_to_the_common_one_has_no_total_beside_it(tmp_path):
    (run,) = runs.read([text_run(tmp_path / "results.h5", algorithm="hetlora", own=4, adds=False)])
    for plot in (spectra.singular_spectra(run), spectra.ranks_by_round(runs.group([run]))):
        assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["common, s B A", "own pair, alone"]
        assert "A client's own pair is not added to the common one" in plot.caption
    assert tables.rank_summary(run).columns == ["measure", "common", "own"]


def test_common_and_total_of_equal_rank_are_both_seen(tmp_path):
    """The mean of the total's ranks 3 and 5 is the common one's 4."""
    (run,) = runs.read([matrix_run(tmp_path / "results.h5")])
    run.data = run.data.isel(spectrum=[0, 0]).assign_coords(spectrum=[20, 40])
    plot = spectra.ranks_by_round(runs.group([run]))
    plot.save(tmp_path)
    picture = matplotlib.image.imread(tmp_path / "ranks_by_round.png")[..., :3]
    panels = picture[: int(0.85 * len(picture)), picture.shape[1] // 2:]  # without the legend; the numerical rank
    for kind in ("common", "total"):
        near = np.abs(panels - matplotlib.colors.to_rgb(style.TERM[kind])).max(axis=-1) < 0.02
        assert near.sum() > 500 and near.any(axis=0).sum() > 100, kind


def test_report_compares_runs(tmp_path, laid_out):
    paths = [text_run(tmp_path / f"{name}{seed}" / "results.h5", algorithm=name, seed=seed, own=own, common=common)
             for seed in (1, 2) for name, own, common in (("pf2lora", 2, True), ("local", 0, False))]
    page = report.write_report(paths, tmp_path / "out")
    own = {f"run1_{name}" for name in ("classes_by_client", "singular_spectra", "rank_relations", "norm_ratio_relations")}
    other = {"run2_singular_spectra"}  # in this file the ranks of local's clients are the same
    shared = {"accuracy_by_round", "accuracy_by_client", "time_by_phase", "ranks_by_round"}
    html = named_figures(page, shared | own | other)
    assert "Paired differences to pf2lora" in html and "Options that differ" in html
    assert row(html, "local")[:2] == ["2", "3"] and row(html, "local")[5] == "–"
    assert html.count("Provenance: ") == 4


def test_methods_made_to_be_adapted_are_compared_after_adaptation(tmp_path):
    paths = [text_run(tmp_path / name / "results.h5", algorithm=name, partition_seed=1, **how) for name, how in (
        ("per-fedavg", {"own": 0, "adapted": (5,)}), ("homlora", {"own": 0, "adapted": (5,)}), ("pf2lora", {}))]
    groups = runs.group(runs.read(paths))
    table, paired = tables.comparison(groups), tables.paired_differences(groups)
    adapted = groups[0].first.score("adapted")
    worst = dict(zip(table.columns, table.rows[0]))["worst 10%"]
    assert worst == f"{adapted.min():.1f}" != f"{groups[0].first.score('personal').min():.1f}"
    judged = "Judged after adaptation, which its weights are made for: per-fedavg"
    assert judged in table.note and judged in paired.note and "reference: adapted accuracy of per-fedavg" in paired.note
    gap = groups[2].first.score("personal").mean() - adapted.mean()
    assert ["pf2lora", "personal", "1", f"{gap:+.2f}".replace("-", "−"), "1 seed, no interval"] in paired.rows
    plot = figures.score_by_client(groups)
    drawn = [(line.get_markerfacecolor(), line.get_color(), sorted(line.get_ydata()))
             for line in plot.figure.axes[0].lines]
    colours = [look.colour for look in style.configuration_styles([g.first.algorithm for g in groups])]
    expected = [(colours[0], colours[0], adapted), (colours[1], colours[1], groups[1].first.score("personal")),
                ("white", colours[1], groups[1].first.score("adapted")),
                (colours[2], colours[2], groups[2].first.score("personal"))]
    assert drawn == [(face, colour, sorted(values)) for face, colour, values in expected]
    assert judged in plot.caption and "Hollow: adapted by local steps" in plot.caption
    named = [text.get_text() for text in plot.figure.legends[0].get_texts()]
    assert named == ["majority class", "per-fedavg, adapted", "homlora", "pf2lora", style.ADAPTED]


def heights(axes):
    return [bar.get_height() for bar in axes.patches[:-1]]  # the last one is the shade


def test_figures_set_clients_with_permuted_labels_apart(tmp_path):
    permuted = (0, 3, 7)
    paths = [text_run(tmp_path / name / "results.h5", algorithm=name, own=own, permuted=permuted, partition_seed=4)
             for name, own in (("pf2lora", 2), ("homlora", 0))]
    one, both = runs.group(runs.read(paths[:1])), runs.group(runs.read(paths))
    score = 100 * one[0].first.data["personal_accuracy"].values
    plain = [k for k in range(8) if k not in permuted]

    drawn = {tuple(np.round(line.get_ydata(), 9)) for line in figures.score_by_round(one).figure.axes[0].lines}
    assert figures.score_by_reading(one) is None
    panels = figures.score_by_reading(both).figure.axes
    for axes, title, chosen in zip(panels, ("labels as they are", "labels permuted"), (plain, list(permuted))):
        assert tuple(np.round(score[:, chosen].mean(axis=1), 9)) in drawn
        assert axes.get_title(loc="left") == title
        np.testing.assert_allclose(axes.lines[0].get_ydata(), score[:, chosen].mean(axis=1))

    order = sorted(plain, key=lambda k: -score[-1, k]) + sorted(permuted, key=lambda k: -score[-1, k])
    axes = figures.score_by_client(one).figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(k) for k in order]
    np.testing.assert_allclose(heights(axes)[:8], score[-1, order])
    shade = axes.patches[-1].get_extents().transformed(axes.transData.inverted())
    assert shade.x0 == pytest.approx(4.5) and [text.get_text() for text in axes.texts] == ["labels permuted"]
    points = figures.score_by_client(both).figure.axes[0]
    assert [label.get_text() for label in points.get_xticklabels()] == [str(k) for k in order]


def test_the_example_shows_both_figures_side_by_side(reported, tmp_path):
    first, second = (example.draw(reported / "run", tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()
    ink = (matplotlib.image.imread(first)[..., :3] < 0.99).any(axis=-1).any(axis=0)  # by column of pixels
    parts = np.flatnonzero(np.diff(ink.astype(int)))
    assert len(ink) > 1500 and 0.05 < ink[: len(ink) // 3].mean() and parts.size > 2
    picture = matplotlib.image.imread(ROOT / "analysis" / "example.png")
    assert abs(picture.shape[1] - len(ink)) < 200


@pytest.mark.parametrize("several", [True, False])
def test_phases_too_short_to_be_seen_are_left_out_and_bars_end_before_the_edge(tmp_path, several):
    names = ("pf2lora", "ditto") if several else ("pf2lora",)
    groups = runs.group(runs.read([text_run(tmp_path / n / "results.h5", clients=3, algorithm=n) for n in names]))
    for group in groups:
        seconds = group.first.data["phase_seconds"]
        seconds[:] = np.broadcast_to(np.array([300, 0.01, 0.2, 100, 3, 0.9])[:, None], seconds.shape)
    plot = figures.time_by_phase(groups)
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["train", "evaluate", "spectra"]
    assert plot.caption.endswith(" Too short to be seen, and left out: move, all-reduce, write.")
    for axes in plot.figure.axes:
        sideways = axes.get_xlabel().startswith("seconds")
        ends = [bar.get_x() + bar.get_width() if sideways else bar.get_y() + bar.get_height() for bar in axes.patches]
        assert 1.02 * max(ends) < (axes.get_xlim() if sideways else axes.get_ylim())[1]


def test_many_clients_are_aggregated_without_mixing_readers(tmp_path):
    run = runs.read([text_run(tmp_path / "run" / "results.h5", own=0, clients=90, permuted=tuple(range(0, 90, 3)))])[0]
    axes = figures.score_by_client([runs.Configuration("x", [run])]).figure.axes[0]
    score = np.sort(100 * run.data["personal_accuracy"].values[-1][::3])[::-1]
    shown = heights(axes)
    assert len(shown) == 40
    np.testing.assert_allclose(shown[27:], [part.mean() for part in np.array_split(score, 13)])
    assert axes.patches[-1].get_extents().transformed(axes.transData.inverted()).x0 == pytest.approx(26.5)


def test_report_of_the_matrix_problem(tmp_path, laid_out):
    page = report.write_report([matrix_run(tmp_path / "m" / "results.h5")])
    html = named_figures(page, {"error_by_round", "time_by_phase", "singular_spectra", "rank_by_client"})
    assert row(html, "relative error") == ["1.05e−7", "1e−8", "2e−7", "2 of 2"]
    assert row(html, "numerical rank (1e-2)")[2] == "4.00 [3.00, 5.00]"
    seeds = [matrix_run(tmp_path / str(s) / "results.h5", seed=s, errors=(1e-8, e)) for s, e in ((1, 1e-8), (2, 0.25))]
    (compared,) = tables.comparison(runs.group(runs.read(seeds))).rows
    assert compared[5] == "1 of 2" and "(3, 5) × 2" in compared[7]


def test_many_clients_are_aggregated(tmp_path, laid_out):
    path = text_run(tmp_path / "results.h5", clients=45, rounds=30, processes=40)
    html = named_figures(report.write_report([path]), TEXT_FIGURES)
    assert "percentile over clients" in html


def test_a_bare_run_is_reported_without_the_parts_it_lacks(tmp_path):
    """No evaluation, no spectra: what is left are times and who held what."""
    path = text_run(tmp_path / "full" / "results.h5", clients=1, rounds=1)
    with h5py.File(path) as file:
        length = {"evaluation": 0, "spectrum": 0}
        variables = {name: ([d[0].name.strip("/") for d in item.dims], item[...]) for name, item in file.items()
                     if isinstance(item, h5py.Dataset) and not item.is_scale}
        variables = {name: (dims, (values.astype(str) if values.dtype.kind == "O" else values)[
            tuple(slice(length.get(d)) for d in dims)]) for name, (dims, values) in variables.items()}
        options = {name: value for name, value in file["options"].attrs.items() if name != "targets"}
        phases = [name.decode() for name in file["phase"][...]]
    bare = write_results(tmp_path / "bare" / "results.h5", variables, options, {"phase": phases, "round": [1]})
    html = check_page(report.write_report([bare]), {"time_by_phase", "classes_by_client"})
    assert "seconds: train" in html


def test_a_run_of_no_rounds_is_reported_without_times(tmp_path, laid_out):
    path = text_run(tmp_path / "run" / "results.h5", rounds=0)
    by_round = {"accuracy_by_round", "time_by_phase", "ranks_by_round"}
    html = named_figures(report.write_report([path]), TEXT_FIGURES - by_round)
    assert "accuracy after round 0" in html.lower() and "seconds" not in html and "sent by a client" in html
    other = text_run(tmp_path / "other" / "results.h5", rounds=2, **{"learning-rate": 1e-3})
    groups = runs.group(runs.read([path, other]))
    assert "by each process" not in figures.time_by_phase(groups).caption
    assert "by round" in figures.time_by_phase(groups).figure.axes[0].get_title(loc="left")


def test_named_clients_are_shown_with_their_names(tmp_path):
    names = ["coffee shop", "pub", "a place of which the name is rather long", "none"]
    path = text_run(tmp_path / "run" / "results.h5", clients=4, names=names)
    (run,) = runs.read([path])
    assert [line[0] for line in tables.client_summary(run).rows] == [f"{k} {name}" for k, name in enumerate(names)]
    assert run.short_names.tolist() == ["0 coffee shop", "1 pub", "2 a place of which the…", "3 none"]
    groups = runs.group([run])
    found = rank_study.study([(groups[0], "", "")])
    for plot in (figures.score_by_client(groups), federation.classes_by_client(run),
                 rank_study_figures.by_client(found, found.subjects[0])):
        shown = {label.get_text() for axes in plot.figure.axes for label in axes.get_xticklabels()}
        assert shown >= set(run.short_names), plot.name
        plot.save(tmp_path)
    assert {line[0] for line in rank_study_tables.by_client(found.subjects[0])[0].rows} == {
        f"{k} {name}" for k, name in enumerate(names)}


def test_a_single_class_has_no_figure(tmp_path):
    assert federation.classes_by_client(runs.read([text_run(tmp_path / "results.h5", classes=1)])[0]) is None


def test_bands_of_few_clients_are_their_range(tmp_path):
    values = np.arange(18.0).reshape(2, 9)
    np.testing.assert_array_equal(figures.client_band(values), [[0, 9], [8, 17]])
    np.testing.assert_allclose(figures.client_band(np.arange(11.0)), [1, 9])
    assert figures.band_told([9, 0]) == "smallest to largest"
    assert figures.band_told([10]) == "10th to 90th percentile"
    assert figures.band_told([10, 1]) == "10th to 90th percentile (of fewer than 10 smallest to largest)"
    for clients, told in ((9, "smallest to largest"), (10, "10th to 90th percentile")):
        path = text_run(tmp_path / str(clients) / "results.h5", clients=clients)
        assert f"{told} over clients (band)" in figures.score_by_round(runs.group(runs.read([path]))).caption


def test_the_loss_is_given_as_macro_mean_and_as_weighted_mean(tmp_path):
    (run,) = runs.read([text_run(tmp_path / "results.h5")])
    table, n = tables.summary(run), run.data["test_examples"].values
    cells, loss = dict(zip(table.columns, table.rows[0])), run.data["personal_loss"].values[-1]
    assert cells["macro mean loss, nats"] == f"{(loss / n).mean():.3f}"
    assert cells["weighted mean loss, nats"] == f"{loss.sum() / n.sum():.3f}"
    assert "The weighted means weigh clients by test examples." in table.note


def test_the_same_results_give_the_same_page(reported, tmp_path, request):
    """Without reading the clock: the figures of one process are those of another one, and so are the texts."""
    path, before = reported / "run" / "results.h5", reported / "run" / "report"
    (run,) = runs.read([path])
    for plot in (figures.score_by_round(runs.group([run])), federation.unseen_clients(run)):
        for file in plot.save(tmp_path):
            assert file.read_bytes() == (before / "figures" / file.name).read_bytes(), file.name
        assert plot.data_uri() in (before / "report.html").read_text(), plot.name
    request.getfixturevalue("undrawn")  # from here on
    report.write_report([path], tmp_path / "again")
    for name in ("report.html", "rank_study.html", "tables.md", "tables.tex"):
        assert (tmp_path / "again" / name).read_text() == without_figures((before / name).read_text()), name


def test_a_method_keeps_its_colour_and_its_variants_differ():
    alone, together = style.configuration_styles(["homlora"]), style.configuration_styles(["pf2lora", "homlora"] * 2)
    assert alone[0].colour == together[1].colour and len({look.colour for look in together}) == 4
    many = style.configuration_styles(list(style.METHOD)[:8])
    assert len({look.marker for look in many}) == 8 and all(a.line != b.line for a, b in zip(many, many[1:]))


def test_a_curve_under_another_one_is_seen(tmp_path):
    """ditto's common part is homlora: both curves of the panel are drawn, with marks of their own."""
    paths = [text_run(tmp_path / name / "results.h5", clients=3, algorithm=name, own=own)
             for name, own in (("ditto", 2), ("homlora", 0))]
    loaded = runs.read(paths)
    loaded[1].data["common_accuracy"][:] = loaded[0].data["common_accuracy"].values
    axes = figures.score_by_round(runs.group(loaded)).figure.axes[1]
    under, over = axes.lines[:2]
    np.testing.assert_array_equal(under.get_ydata(), over.get_ydata())
    assert under.get_marker() != over.get_marker() and over.get_markerfacecolor() == "none"


def test_a_report_of_several_runs_leaves_those_of_each_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "_write", lambda runs, groups, folder, details: (folder / "report.html").touch())
    paths = [str(matrix_run(tmp_path / name / "results.h5").parent) for name in ("a", "b")]
    monkeypatch.chdir(tmp_path / "a")
    for given in (paths, [".", paths[1]], [*paths, str(tmp_path / "comparison")]):
        assert report.main(given) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'comparison' / 'report.html'}\n"
    assert not (tmp_path / "a" / "report").exists()


def test_a_new_report_takes_away_the_files_of_the_last_one_and_no_others(tmp_path):
    output = tmp_path / "report"
    (tmp_path / "kept.txt").touch()
    with page.replaced(output) as folder:
        (folder / "old" / "deep").mkdir(parents=True)
        for name in ("both.txt", "old/one.png", "old/deep/two.png"):
            (folder / name).write_text("old")
    (output / "mine.txt").touch()
    with (output / page.WRITTEN).open("a") as file:
        file.write("../kept.txt\nold\n")
    with pytest.raises(ZeroDivisionError), page.replaced(output) as folder:
        1 / 0  # the last report stays as it is
    assert (output / "old" / "deep" / "two.png").is_file()
    with page.replaced(output) as folder:
        (folder / "both.txt").write_text("new")
    assert {path.name for path in output.iterdir()} == {"both.txt", "mine.txt", page.WRITTEN}
    assert (output / "both.txt").read_text() == "new" and (tmp_path / "kept.txt").is_file()


def test_bad_use_and_bad_files_have_one_message_and_their_exit_code(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    old = text_run(tmp_path / "old" / "results.h5", clients=1, rounds=1)
    with h5py.File(old, "r+") as file:
        file.attrs["format_version"] = np.int64(9)
    for given, code, message in ((("none",), 3, "does not exist"), (("empty",), 3, "holds no"),
                                 (("text.h5",), 3, "no readable HDF5"), (("old/results.h5",), 3, "format version 9"),
                                 (("foreign.h5",), 3, "written by pf2lora?")):
        assert report.main([str(tmp_path / name) for name in given]) == code
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out
    for given, message in (((), "RESULTS"), (("x", "--details", "-1"), "--details is -1")):
        with pytest.raises(SystemExit, match="^2$"):
            report.main(list(given))
        assert message in capsys.readouterr().err


def test_the_command_ends_with_its_exit_code_and_tells_its_options(tmp_path):
    command = [sys.executable, "-m", "analysis.report"]
    done = subprocess.run([*command, tmp_path / "none"], cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 3 and "does not exist" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([*command, "--help"], cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and "--output DIR" in done.stdout


# ---- tasks ------------------------------------------------------------------------------------------------
def columns(table, first):
    """{column: text} of the row that starts with `first`, with plain minus signs."""
    return dict(zip(table.columns, next([cell.replace("−", "-") for cell in row] for row in table.rows if row[0] == first)))


def test_a_generation_is_judged_by_its_loss_a_token(tmp_path, undrawn):
    path = text_run(tmp_path / "run" / "results.h5", task="generation", adapted=(1, 5))
    with h5py.File(path) as file:
        tokens, loss, right = (file[name][...] for name in ("test_tokens", "personal_loss", "personal_correct"))
        adapted = file["adapted_loss"][-1, -1] / tokens
    score, foretold = loss[-1] / tokens, 100 * right[-1] / tokens
    assert score.min() < score.max() < 5  # not of an example, which is of some ten tokens
    (run,) = runs.read([path])
    found = columns(tables.summary(run), "personal")
    assert list(found)[0] == "loss a token, nats" and not {"over majority", "macro mean loss, nats"} & set(found)
    assert found["macro mean"] == f"{score.mean():.3f}"
    assert found["weighted mean"] == f"{loss[-1].sum() / tokens.sum():.3f}"
    assert (found["worst 10%"], found["best 10%"]) == (f"{score.max():.3f}", f"{score.min():.3f}")
    assert found["tokens foretold, %"] == f"{foretold.mean():.1f}"
    assert columns(tables.summary(run), "adapted, 5 local steps")["macro mean"] == f"{adapted.mean():.3f}"
    for k, client in enumerate(tables.client_summary(run).rows):
        told = columns(tables.client_summary(run), client[0])
        assert told["personal loss a token, nats"] == f"{score[k]:.3f}" and told["test tokens"] == str(tokens[k])
    axes = figures.score_by_client(runs.group([run])).figure.axes[0]
    assert [int(label.get_text()) for label in axes.get_xticklabels()] == np.argsort(score).tolist()
    assert axes.get_ylabel() == "loss a token, nats" and "%" not in axes.yaxis.get_major_formatter()(1.5)
    shown = figures.score_by_round(runs.group([run])).figure.axes[0]
    np.testing.assert_allclose(shown.lines[0].get_ydata(), (loss / tokens).mean(axis=1))

    html = report.write_report([path]).read_text()
    assert not re.search("majority|label entropy|accuracy", html) and '<figure id="loss_by_client"' in html


def test_a_regression_is_judged_by_pearsons_correlation(tmp_path, undrawn):
    path = text_run(tmp_path / "run" / "results.h5", task="regression")
    with h5py.File(path) as file:
        pearson, spearman, loss = (file[f"personal_{name}"][-1] for name in ("pearson", "spearman", "loss"))
        n = file["test_examples"][...]
    (run,) = runs.read([path])
    found = columns(tables.summary(run), "personal")
    assert list(found)[0] == "Pearson correlation"
    wanted = {"macro mean": pearson.mean(), "weighted mean": (pearson * n).sum() / n.sum(), "worst 10%": pearson.min(),
              "best 10%": pearson.max(), "Spearman": spearman.mean(),
              "macro mean squared error": (loss / n).mean(), "weighted mean squared error": loss.sum() / n.sum()}
    assert {name: found[name] for name in wanted} == {name: f"{value:.3f}" for name, value in wanted.items()}
    html = report.write_report([path]).read_text()
    assert not re.search("majority|label entropy|accuracy", html) and '<figure id="pearson_by_round"' in html


def test_spans_are_counted_where_they_are_exact(tmp_path):
    (run,) = runs.read([text_run(tmp_path / "results.h5", task="span")])
    with h5py.File(tmp_path / "results.h5") as file:
        score = 100 * file["personal_correct"][-1] / file["test_examples"][...]
    table = tables.summary(run)
    assert columns(table, "personal")["macro mean"] == f"{score.mean():.1f}"
    assert "span is found exactly" in table.note and [row[0] for row in table.rows] == ["personal", "common"]


def test_a_gain_over_local_training_is_a_lower_loss(tmp_path):
    paths = [text_run(tmp_path / name / "results.h5", algorithm=name, own=own, lift=lift, common=own > 0, partition_seed=3,
                      task="generation") for name, own, lift in (("pf2lora", 2, 0.4), ("local", 0, 0.1))]
    mine, theirs = (h5py.File(path)["personal_loss"][-1] / h5py.File(path)["test_tokens"][...] for path in paths)
    groups = runs.group(runs.read(paths))
    found = columns(tables.comparison(groups), "pf2lora")
    assert found["gain over local"] == f"{(theirs - mine).mean():.3f}" and (theirs - mine).mean() > 0
    assert found["clients harmed"] == f"{100 * (mine > theirs).mean():.1f}"
    assert found["worst 10%"] == f"{mine.max():.3f}" and "majority" not in found
    paired = tables.paired_differences(groups)
    assert columns(paired, "local")["difference"] == f"{(theirs - mine).mean():+.3f}"
    assert "Lower is better" in paired.note and paired.note.startswith("Nats of macro mean loss a token")


@pytest.mark.parametrize("task, wanted", [("generation",) * 2, ("regression",) * 2, ("classification",) * 2,
                                          ("span", "classification")])
def test_files_of_older_programs_tell_their_task_by_what_they_hold(tmp_path, task, wanted):
    path = text_run(tmp_path / "results.h5", task=task)
    assert runs.read([path])[0].measure.task == task
    with h5py.File(path, "r+") as file:
        del file.attrs["data_task"]
    assert runs.read([path])[0].measure.task == wanted


def test_a_run_that_recorded_answers_names_the_command_that_scores_them(tmp_path, undrawn):
    path = text_run(tmp_path / "run" / "results.h5", task="generation")
    assert "analysis.generation_scores" not in report.write_report([path]).read_text()
    with h5py.File(path, "r+") as file:
        for name, values in (("answer", [3]), ("question", [0, 1]), ("answer_token", [0])):
            file.create_dataset(name, data=values).make_scale(name)
        answers = file.create_dataset("personal_answer_tokens", data=np.zeros((1, 2, 1), np.int32))
        for axis, name in enumerate(("answer", "question", "answer_token")):
            answers.dims[axis].attach_scale(file[name])
    assert "python -m analysis.generation_scores" in report.write_report([path]).read_text()


def test_results_of_different_tasks_are_refused_together(tmp_path, capsys):
    paths = {task: text_run(tmp_path / task / "results.h5", clients=2, rounds=1, task=task) for task in
             ("classification", "generation", "regression", "span")}
    paths["matrix problem"] = matrix_run(tmp_path / "m" / "results.h5")
    for a, b in itertools.combinations(paths, 2):
        assert report.main([str(paths[a]), str(paths[b])]) == 3
        assert f"({a}, {b}) cannot be compared" in capsys.readouterr().err
    with h5py.File(paths["span"], "r+") as file:
        file.attrs["data_task"] = "ranking"
    assert report.main([str(paths["span"])]) == 3 and "has the task 'ranking'" in capsys.readouterr().err


def test_a_report_tells_on_stderr_what_it_is_at_and_its_page_alone_on_stdout(tmp_path, undrawn, capsys):
    paths = [text_run(tmp_path / name / "results.h5", clients=3, algorithm=name) for name in ("pf2lora", "ditto")]
    assert report.main([*map(str, paths), "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'out' / 'report.html'}\n"
    assert told.err.splitlines() == [
        "2 runs read", "report.html: comparison", "report.html: pf2lora, 1 of 2", "report.html: ditto, 2 of 2",
        "rank_study.html: pf2lora, 1 of 2", "rank_study.html: ditto, 2 of 2", "rank_study.html: figures"]


def test_a_figure_is_laid_out_once_and_drawn_once_for_each_form(tmp_path, monkeypatch):
    (run,) = runs.read([text_run(tmp_path / "results.h5", clients=3)])
    plot, drawn, draw = spectra.singular_spectra(run), [], matplotlib.figure.Figure.draw
    monkeypatch.setattr(matplotlib.figure.Figure, "draw", lambda *given: (drawn.append(1), draw(*given)))
    plot.save(tmp_path)
    plot.data_uri()
    assert len(drawn) == 1 + len(("png", "pdf", "svg"))


def test_an_output_that_cannot_be_written_is_bad_use(tmp_path, capsys):
    path = text_run(tmp_path / "results.h5", clients=1, rounds=1)
    (tmp_path / "taken").write_text("a file")
    assert report.main([str(path), "--output", str(tmp_path / "taken")]) == 2
    assert "--output" in capsys.readouterr().err

"""Figures of the clients: what each holds, and adaptation of those that never trained."""

import sys
from pathlib import Path

import h5py
import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import analysis  # noqa: E402
from analysis import classification, federation, runs, tables  # noqa: E402
from results_files import matrix_run, text_run  # noqa: E402


def read(path):
    return runs.read([path])[0]


def test_classes_by_client_shows_the_shares_of_the_training_examples(tmp_path):
    path = text_run(tmp_path / "run" / "results.h5")
    plot = federation.classes_by_client(read(path))
    with h5py.File(path) as file:
        counts = file["train_class_counts"][...]
    shown = next(axes.images[0] for axes in plot.figure.axes if axes.images).get_array()
    np.testing.assert_allclose(shown, (counts / counts.sum(axis=1, keepdims=True)).T)
    bars = [bar.get_height() for bar in plot.figure.axes[0].patches]
    np.testing.assert_array_equal(bars, counts.sum(axis=1))


def test_clients_that_read_labels_permuted_are_marked_and_every_class_is_readable(tmp_path):
    run = read(text_run(tmp_path / "run" / "results.h5", permuted=(1, 6)))
    run.data["class_name"] = ("class", ["noun.communication", "a", "b", "c"])
    plot = federation.classes_by_client(run)
    colours = {round(bar.get_x() + 0.4): bar.get_facecolor() for bar in plot.figure.axes[0].patches}
    assert len(colours) == 8 and len(set(colours.values())) == 2
    assert [k for k in sorted(colours) if colours[k] != colours[0]] == [1, 6]
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["labels as they are", "labels permuted"]
    plot.save(tmp_path)
    ink = (matplotlib.image.imread(tmp_path / "classes_by_client.png")[..., :3] < 0.9).any(axis=(0, 2))
    assert not ink[:4].any() and ink.any()


def test_the_matrix_problem_has_no_classes(tmp_path):
    run = read(matrix_run(tmp_path / "run" / "results.h5"))
    assert federation.of_run(run) == []


def test_unseen_clients_are_drawn_along_adaptation(tmp_path):
    path = text_run(tmp_path / "run" / "results.h5", adapted=(1, 5, 10), held_out=2)
    run = read(path)
    plot = federation.unseen_clients(run)
    lines = plot.figure.axes[0].lines
    with h5py.File(path) as file:
        n = file["test_examples"][...]
        personal = file["personal_correct"][-1] / n
        adapted = file["adapted_correct"][-1] / n
    for line, chosen in ((lines[0], slice(-2, None)), (lines[1], slice(None, -2))):
        np.testing.assert_array_equal(line.get_xdata(), [0, 1, 5, 10])
        expected = 100 * np.array([personal[chosen].mean(), *(a[chosen].mean() for a in adapted)])
        np.testing.assert_allclose(line.get_ydata(), expected)


@pytest.mark.parametrize("settings", [{"adapted": (), "held_out": 2}, {"adapted": (5,), "held_out": 0}])
def test_there_is_no_such_figure_without_unseen_clients_or_steps(tmp_path, settings):
    assert federation.unseen_clients(read(text_run(tmp_path / "run" / "results.h5", **settings))) is None


def add_confusion(path, matrices, kinds):
    with h5py.File(path, "r+") as file:
        file["predicted_class"] = np.arange(matrices.shape[-1])
        file["predicted_class"].make_scale("predicted_class")
        for kind in kinds:
            data = file.create_dataset(f"{kind}_confusion", data=matrices)
            for axis, name in enumerate(("evaluation", "client", "class", "predicted_class")):
                data.dims[axis].attach_scale(file[name])


@pytest.mark.parametrize("several, cells", [
    # (4 * 3 - 1 * 2) / sqrt(5 * 5 * 6 * 4) of the first client alone, (18 * 3 - 1 * 2) / sqrt(19 * 5 * 20 * 4) of all.
    ([[4, 1], [2, 3]], ["0.408", "0.596", "0.667", "0.667"]), ([[7, 0], [0, 0]], ["–", "–", "–", "–"])])
def test_clients_without_a_value_of_a_class_score_are_left_out_of_its_mean(several, cells, tmp_path):
    path = text_run(tmp_path / "run" / "results.h5", classes=2, clients=3, rounds=1)
    add_confusion(path, np.array([[several, [[9, 0], [0, 0]], [[5, 0], [0, 0]]]], dtype=float), ("personal",))
    table = tables.class_scores(read(path))
    assert table.columns[3] == "F1 of class 'class 1', mean"
    assert table.rows == [["personal", *cells]]


def test_class_scores_come_from_the_confusion_matrices(tmp_path):
    path = text_run(tmp_path / "run" / "results.h5")
    rng = np.random.default_rng(5)
    assert tables.class_scores(read(path)) is None
    with h5py.File(path, "r+") as file:
        rounds, clients, classes = len(file["evaluation"]), len(file["client"]), len(file["class"])
    matrices = rng.integers(0, 9, (rounds, clients, classes, classes)).astype(float)
    add_confusion(path, matrices, ("personal", "common"))
    data = analysis.load(path)
    np.testing.assert_allclose(data["personal_mcc"].values, classification.mcc(matrices))
    np.testing.assert_allclose(data["personal_f1"].values, classification.macro_f1(matrices))
    cells = tables.class_scores(read(path)).rows[0]
    assert cells[1] == tables.number(classification.mcc(matrices)[-1].mean(), 3)
    assert cells[2] == tables.number(classification.mcc(matrices[-1].sum(axis=0)), 3)

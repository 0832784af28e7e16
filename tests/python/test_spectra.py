"""Spectra that the program wrote, against numpy's SVD of the dense matrices that its adapters make."""

from __future__ import annotations

import numpy as np
import pytest
from program import MATRIX, needs_program, run

import analysis

pytestmark = needs_program
RELATIVE = 1e-9  # both sides compute in double from the same factors, whatever their precision


def leading(dense: np.ndarray) -> np.ndarray:
    """Left singular vectors of at least 1e-2 of the largest value; none of a zero matrix."""
    left, values, _ = np.linalg.svd(dense)
    return left[:, : int(np.sum(values >= 1e-2 * values[0]) if values[0] > 0 else 0)]


def expect_values(found: np.ndarray, dense: np.ndarray) -> None:
    expected = np.linalg.svd(dense, compute_uv=False)
    expected = np.concatenate([expected, np.zeros(max(0, len(found) - len(expected)))])
    assert not expected[len(found):].size or expected[len(found):].max() <= 1e-13 * max(expected[0], 1e-300)
    np.testing.assert_allclose(found, expected[: len(found)], rtol=RELATIVE, atol=1e-13 * expected[0])


def check(directory) -> tuple[int, int]:
    """All of the last round's spectra; the numbers of sites and clients that were compared."""
    results, adapters = analysis.load(directory), analysis.load_adapters(directory)
    assert adapters.attrs["round"] == results["spectrum"].values[-1]
    last = results.isel(spectrum=-1)
    sites = list(results["site_name"].values)
    clients = results.sizes["client"]
    for i, site in enumerate(sites):
        common, own = adapters.common.get(site), adapters.client.get(site)
        if common is None:
            assert np.isnan(last["common_singular_values"].values[i]).all()
        else:
            expect_values(last["common_singular_values"].values[i], as_double(common).update())
        for k in range(clients):
            at = {"client": k, "site": i}
            first = as_double(common).update() if common else None
            second = as_double(own).update(k) if own else None
            expect_values(last["total_singular_values"][at].values, adapters.update(site, k))
            if second is not None:
                expect_values(last["client_singular_values"][at].values, second)
            if first is None or second is None:
                assert np.isnan(last["subspace_overlap"][at]) and np.isnan(last["cosine"][at])
                continue
            size1, size2 = np.linalg.norm(first), np.linalg.norm(second)
            u1, u2 = leading(first), leading(second)
            overlap = np.linalg.norm(u1.T @ u2) ** 2 / min(u1.shape[1], u2.shape[1])
            assert last["norm_ratio"][at].item() == pytest.approx(size2 / size1, rel=RELATIVE)
            assert last["cosine"][at].item() == pytest.approx(np.sum(first * second) / (size1 * size2), abs=RELATIVE)
            assert last["subspace_overlap"][at].item() == pytest.approx(overlap, abs=1e-7)
    return len(sites), clients


def as_double(pair):
    pair.down, pair.up = pair.down.astype(np.float64), pair.up.astype(np.float64)
    return pair


@pytest.mark.parametrize("shape", [(10, 10), (12, 7), (6, 15)])
def test_spectra_of_a_matrix_run_are_those_of_the_dense_matrices(tmp_path, shape):
    rows, columns = shape
    run({**MATRIX, "matrix-rows": rows, "matrix-columns": columns, "output": tmp_path / "run", "progress": "off"})
    assert check(tmp_path / "run") == (1, 2)


def test_a_pair_may_have_a_higher_rank_than_the_matrix(tmp_path):
    run({**MATRIX, "matrix-rows": 6, "matrix-columns": 5, "rank": 7, "client-rank": 6, "output": tmp_path / "run",
         "progress": "off"})
    assert check(tmp_path / "run") == (1, 2)


@pytest.mark.parametrize("algorithm", ["pf2lora", "homlora", "local", "ditto", "hetlora", "flora", "fedex-lora"])
def test_spectra_of_a_text_run_are_those_of_the_dense_matrices(tmp_path, small_text, algorithm):
    run({**small_text, "algorithm": algorithm, "output": tmp_path / "run", "progress": "off",
         "targets": "query,value,intermediate"})
    assert check(tmp_path / "run") == (6, 5)

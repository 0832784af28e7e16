"""PF2LoRA, exact, on every architecture and task: the same bits at any number of ranks."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from architectures import ARCHITECTURES, make_architecture, short_run
from conftest import made_once
from program import assert_same, bits, needs_program

pytestmark = needs_program


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request, tmp_path_factory) -> Path:
    """The folder of its model and data."""
    name = request.param
    return made_once(tmp_path_factory, f"of_{name}", lambda folder: make_architecture(folder, name))


def assert_learned(run: Path) -> None:
    """Finite losses that differ by client and move, and adapters of both levels that add something."""
    with h5py.File(run / "results.h5") as file:
        losses = file["personal_loss"][...]
        assert np.isfinite(losses).all() and len(set(losses[-1])) == 5 and (losses[0] != losses[1]).all()
    with h5py.File(run / "adapters.h5") as file:
        ups: list[str] = []
        file.visit(lambda name: ups.append(name) if name.endswith(("/B", "/D")) else None)
        assert {name.rpartition("/")[2] for name in ups} == {"B", "D"}
        assert all(np.abs(file[name][...]).max() > 0 for name in ups)


def backend_of(run: Path) -> str:
    with h5py.File(run / "results.h5") as file:
        return file.attrs["backend"]


def test_bits_do_not_depend_on_the_number_of_ranks(architecture, tmp_path):
    """With the backend of its own choice and, where that is another, with the reference."""
    for backend in ("auto", "reference"):
        options, folder = {**short_run(architecture), "backend": backend}, tmp_path / backend
        one = bits(folder / "1", options, 1)
        assert_learned(folder / "1")
        for ranks in (2, 4):
            assert_same(bits(folder / str(ranks), options, ranks), one)
            assert (folder / str(ranks) / "adapters.h5").read_bytes() == (folder / "1" / "adapters.h5").read_bytes()
        if backend_of(folder / "1").startswith("reference"):
            break

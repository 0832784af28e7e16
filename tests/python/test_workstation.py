"""jobs/workstation.sh in a checkout of links, whose set-up and build are done."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from preparing import needs_minilm
from program import PROGRAM, ROOT, environment, needs_program

GLOSSES = Path("/usr/share/wordnet/data.noun")
pytestmark = [needs_program, needs_minilm,
              pytest.mark.skipif(not GLOSSES.is_file(), reason="the package wordnet-base is not installed")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (".venv", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    (tmp_path / "jobs" / "setup.sh").write_text("#!/bin/sh\n")
    with (tmp_path / "jobs" / "machine.sh").open("a") as machine:
        machine.write("build_release() { :; }\n")
    program = tmp_path / "build" / "release" / "pf2lora"
    program.parent.mkdir(parents=True)
    program.symlink_to(PROGRAM)
    return tmp_path


def dry_run(checkout: Path) -> str:
    done = subprocess.run(["jobs/workstation.sh", "--dry-run", "--progress", "off"], cwd=checkout, env=environment(),
                          text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_data_of_an_older_format_are_prepared_again_and_then_left(checkout: Path) -> None:
    data = checkout / "data" / "wordnet.h5"
    data.parent.mkdir()
    with h5py.File(data, "w") as file:
        file.attrs.update({"format": "pf2lora-dataset", "format_version": np.int64(1)})
    assert "data/wordnet.h5: classification" in dry_run(checkout)
    made = data.stat().st_mtime_ns
    assert "data/wordnet.h5: up to date" in dry_run(checkout)
    assert data.stat().st_mtime_ns == made

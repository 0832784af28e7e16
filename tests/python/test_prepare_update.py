"""--update of jobs/prepare.py: what an earlier version of it wrote is replaced, and nothing else."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
from preparing import bert_like, made, prepare, write

TABLE = "text\tlabel\na\tx\nb\ty\nc\tx\n"


@pytest.fixture
def common(tmp_path: Path) -> list[object]:
    """Words of a command that writes tmp_path/o.h5."""
    train, model = write(tmp_path / "t.tsv", TABLE), bert_like(tmp_path / "model", [TABLE])
    return ["tsv", "--train", train, "--test", train, "--model", model, "--output", tmp_path / "o.h5", "--update"]


def test_update_replaces_a_file_of_an_older_format_alone(common: list[object], tmp_path: Path) -> None:
    out = tmp_path / "o.h5"
    made(*common)
    before = out.read_bytes()
    assert "up to date" in made(*common).stdout
    assert out.read_bytes() == before
    with h5py.File(out, "r+") as file:
        current = file.attrs["format_version"]
        file.attrs["format_version"] = current - 1
        del file["split"]
    assert "up to date" not in made(*common).stdout
    with h5py.File(out) as file:
        assert (file.attrs["format_version"], file["split"].shape) == (current, (6,))
    assert "--update and --overwrite" in prepare(*common, "--overwrite").stderr


@pytest.mark.parametrize("change", [{"format_version": 99}, {"format": "pf2lora-results"}, None])
def test_update_leaves_what_no_earlier_version_wrote(change: dict | None, common: list[object], tmp_path: Path) -> None:
    out = tmp_path / "o.h5"
    if change is None:
        out.write_text("of another program")
    else:
        with h5py.File(out, "w") as file:
            file.attrs.update({"format": "pf2lora-dataset", "format_version": 1, **change})
    before = out.read_bytes()
    done = prepare(*common)
    assert done.returncode == 2 and f"{out} exists" in done.stderr
    assert out.read_bytes() == before

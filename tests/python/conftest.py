"""A small random BERT and a small set of real glosses, made once a session by whichever worker asks first."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GLOSSES = Path("/usr/share/wordnet/data.noun")
FILES = {"05": "animal", "06": "artifact", "13": "food", "15": "location", "18": "person", "20": "plant"}


def made_once(tmp_path_factory, name: str, make) -> Path:
    """A folder of this test run that make(folder) fills once for all workers of pytest-xdist; read it only."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / name, base / f"{name}.done"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed at it
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def warm_server(tmp_path_factory):
    """The program, loaded once and forked for every start (tests/warm); without it every start loads LibTorch."""
    server = ROOT / "build" / "release" / "tests" / "warm" / "warm_server"
    if not server.is_file() or "PF2LORA_PROGRAM" in os.environ:
        yield
        return
    socket = tmp_path_factory.mktemp("warm") / "socket"
    with subprocess.Popen([server, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout.readline() == b"ready\n"
        os.environ["PF2LORA_WARM_SERVER"] = str(socket)
        yield
        del os.environ["PF2LORA_WARM_SERVER"]
        process.stdin.close()  # it ends


@pytest.fixture(scope="session")
def small_text(tmp_path_factory) -> dict[str, object]:
    """Options of a run on 480 glosses with a 2-layer BERT of width 64, MiniLM's tokenizer."""
    if not (ROOT / "models" / "minilm" / "tokenizer.json").is_file() or not GLOSSES.is_file():
        pytest.skip("models/minilm or the package wordnet-base is not installed")
    folder = made_once(tmp_path_factory, "small_text", make_small_text)
    return {"problem": "transformer", "model": folder / "model", "data": folder / "glosses.h5", "clients": 5, "rounds": 3,
            "lockstep": 2, "dirichlet-alpha": 0.5, "examples-per-client": 40, "test-examples-per-client": 16,
            "local-steps": 3, "batch-size": 8, "rank": 4, "client-rank": 2}


def make_small_text(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    model, table = folder / "model", folder / "glosses.tsv"
    torch.manual_seed(5)
    # A wider start than BERT's 0.02: a model whose outputs differ by example, so that training moves.
    config = BertConfig(vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=128, max_position_embeddings=64, initializer_range=0.2)
    BertModel(config).save_pretrained(model)
    shutil.copy(ROOT / "models" / "minilm" / "tokenizer.json", model)

    lines, found = ["text\tlabel"], {name: 0 for name in FILES}
    for line in GLOSSES.read_text(encoding="utf-8").splitlines():
        fields, bar, gloss = line.partition(" | ")
        number = fields.split(" ")[1]
        if bar and number in FILES and found[number] < 80:
            found[number] += 1
            lines.append(f"{gloss.strip()}\t{FILES[number]}")
    assert set(found.values()) == {80}
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "jobs" / "prepare.py", "tsv", "--model", model, "--train", table,
                    "--max-length", "64", "--test-share", "0.25", "--output", folder / "glosses.h5"],
                   check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="session")
def reported(tmp_path_factory) -> Path:
    """A folder with a text run (run/results.h5) that the command has reported (run/report)."""
    return made_once(tmp_path_factory, "reported", make_reported)


def make_reported(folder: Path) -> None:
    sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []
    from results_files import text_run

    text_run(folder / "run" / "results.h5", adapted=(10,), held_out=1)
    done = subprocess.run([sys.executable, "-m", "analysis.report", folder / "run"], cwd=ROOT, text=True,
                          capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, f"{folder / 'run' / 'report' / 'report.html'}\n"), done.stderr


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Reports whose figures are made but not drawn, for tests of their texts: drawing takes most of the time."""
    sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []
    from analysis import style

    monkeypatch.setattr(style.Plot, "save", lambda plot, directory: [])
    monkeypatch.setattr(style.Plot, "data_uri", lambda plot: "data:,")


@pytest.fixture
def laid_out(undrawn, monkeypatch) -> None:
    """As undrawn, but all parts of every figure find their places, for which each is drawn once without a picture."""
    from analysis import style

    monkeypatch.setattr(style.Plot, "save", lambda plot, directory: plot.figure.draw_without_rendering() or [])


def without_figures(html: str) -> str:
    """A page as undrawn makes it."""
    return re.sub(r'data:image/[^"]*', "data:,", html)

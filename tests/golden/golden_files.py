"""HDF5 files of numbers that the C++ code is compared with, kept while what made them stays the same."""

import hashlib
from collections.abc import Callable
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import h5py


def recipe(script: Path, packages: tuple[str, ...], *others: bytes) -> str:
    """Changes where files of that script would: its text, this one's, versions of packages, and other inputs."""
    digest = hashlib.sha256(script.read_bytes())
    digest.update(Path(__file__).read_bytes())
    for name in packages:
        digest.update(f"{name} {version(name)}".encode())
    for other in others:
        digest.update(other)
    return digest.hexdigest()


def is_current(path: Path, made_by: str) -> bool:
    try:
        with h5py.File(path) as file:
            return file.attrs.get("made_by") == made_by
    except OSError:
        return False


@contextmanager
def new_file(path: Path, made_by: str):
    """An HDF5 file that stands at its path only when it is complete."""
    unfinished = path.with_suffix(".part")
    with h5py.File(unfinished, "w") as file:
        yield file
        file.attrs["made_by"] = made_by
    unfinished.replace(path)


def write(group, values: dict) -> None:
    for name, tensor in values.items():
        group[name] = tensor.detach().numpy()


def make_stale(output: Path, made_by: str, makers: dict[str, Callable[[Path], None]], load: Callable[[], None]) -> None:
    """Has those of the files OUTPUT/NAME.h5 made that are not of this recipe; `load` imports what makers need."""
    output.mkdir(parents=True, exist_ok=True)
    stale = [name for name in makers if not is_current(output / f"{name}.h5", made_by)]
    if not stale:
        print(f"{output} is up to date")
        return
    load()
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in stale:
        path = output / f"{name}.h5"
        makers[name](path)
        print(f"wrote {path}", flush=True)

"""Opens results.h5 as an xarray Dataset with derived variables, and adapters.h5 as arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import xarray

from . import classification, measure, schema
from .check import text


class FormatError(Exception):
    """A file that is missing, unreadable, or not of the format that FORMAT.md describes."""


def find(path, name: str = "results.h5") -> Path:
    """The file itself, or `name` in a run's directory; throws FormatError when there is none."""
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path} does not exist; give a {name} or the output directory of a run")
    if not path.is_dir():
        return path
    if not (path / name).is_file():
        if (saved := saved_rounds(path)) is not None:
            told = told_rounds(saved, asked_rounds(path))
            raise FormatError(f"{path} holds no {name}: the run has not ended, {told} are saved. If it is not running "
                              f"still, go on with: {resume_command(path)}")
        raise FormatError(f"{path} holds no {name}; give the output directory of a run that has ended")
    return path / name


def saved_rounds(directory: Path) -> int | None:
    """The last round in the segments of a run that has not ended; None where there are none."""
    found = [int(file.stem) for file in (directory / "segments").glob("*.h5") if file.stem.isdigit()]
    return max(found, default=None)


def asked_rounds(directory: Path) -> int | None:
    """The rounds that options.ini, which a resumed run writes anew, asks for; None where it says nothing."""
    path = directory / "options.ini"
    found = re.search(r"^rounds = (\d+)$", path.read_text("utf-8"), re.MULTILINE) if path.is_file() else None
    return int(found.group(1)) if found else None


def told_rounds(done: int, asked: int | None) -> str:
    return f"{done} rounds" if asked is None else f"{done} of {asked} rounds"


def resume_command(directory: Path) -> str:
    return f"pf2lora --config {directory / 'options.ini'} --resume"


def options(path) -> dict:
    """The options of a run by their names on the command line, as bool, int, float, str or list of str."""
    with _open(find(path), schema.RESULTS_FORMAT) as file:
        return _options(file)


def load(path) -> xarray.Dataset:
    """Everything in a results.h5 (or in that of a run's directory), in memory, with strings decoded.

    Adds, where a run has them: common_accuracy, personal_accuracy, adapted_accuracy (correct / test examples, or test
    tokens of a generation) and common_mean_loss, personal_mean_loss, adapted_mean_loss (loss / the same), all of them
    with validation_ before the name for validation examples; of a classification label_entropy [client] (nats) and
    majority_accuracy [client] (the score of always answering the client's most frequent training class, the first of
    them when several tie); layer [site], held_out [client].
    attrs hold the root attributes, `options` (a dict) and `path`. Throws FormatError.
    """
    data = _read(find(path))
    lacking = [v.name for v in schema.VARIABLES if v.presence == "always" and v.name not in data]
    if lacking:
        raise FormatError(f"{path} lacks {', '.join(lacking)}; analysis.check_format lists every deviation")
    return _derive(data)


# Axes of spectra, times, provenance, confusion matrices and answers, which a comparison of scores does not need.
_SPECTRA = frozenset("spectrum site common_index client_index total_index".split())
_NO_SCORES = _SPECTRA | frozenset("phase process segment predicted_class answer question answer_token".split())


def load_scores(path, spectra: bool = False) -> xarray.Dataset:
    """What load() gives but for times, segments, confusion matrices, answers and, unless asked for, spectra: faster.

    Throws FormatError.
    """
    left_out = _NO_SCORES - (_SPECTRA if spectra else frozenset())
    return _derive(_read(find(path), left_out | {v.name for v in schema.VARIABLES if left_out & set(v.dimensions)}))


def site_layer(name: str) -> int:
    """Layer of a site that transformers names (encoder.layer.3.output.dense is in 3); -1 where the name has none."""
    return next((int(part) for part in name.split(".") if part.isdigit()), -1)


def _open(path: Path, wanted: str) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(f"{path} is no readable HDF5 file ({error})") from error
    found, version = text(file.attrs.get("format", "")), file.attrs.get("format_version", None)
    if found != wanted:
        file.close()
        raise FormatError(f"{path} has the format '{found}', not '{wanted}'; was it written by pf2lora?")
    if version is None or np.size(version) != 1 or int(np.ravel(version)[0]) != schema.FORMAT_VERSION:
        file.close()
        raise FormatError(f"{path} has format version {version}; this package reads {schema.FORMAT_VERSION}")
    return file


def _read(path: Path, left_out: frozenset[str] = frozenset()) -> xarray.Dataset:
    """The datasets of the root but those left out. By h5py: h5netcdf looks every one up thirty times."""
    variables = {}
    with _open(path, schema.RESULTS_FORMAT) as file:
        attributes = {name: _plain(value) for name, value in file.attrs.items() if not name.startswith("_")}
        attributes |= {"options": _options(file), "path": str(path)}
        try:
            for name, item in file.items():
                if isinstance(item, h5py.Dataset) and name not in left_out:
                    values = item.asstr()[...].astype(str) if h5py.check_string_dtype(item.dtype) else item[...]
                    axes = (name,) if item.is_scale else tuple(axis[0].name.strip("/") for axis in item.dims)
                    said = {key: text(value) for key, value in item.attrs.items() if key in ("long_name", "units")}
                    variables[name] = (axes, values, said)
            return xarray.Dataset(variables, attrs=attributes)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise FormatError(f"{path} cannot be read as format version {schema.FORMAT_VERSION} ({error})") from error


def _plain(value):
    """An attribute as bool (from int8), int, float, str, or a list of these."""
    if isinstance(value, h5py.Empty):
        return []
    if isinstance(value, (bytes, str)):
        return text(value)
    array = np.asarray(value)
    if array.ndim and (array.size != 1 or array.dtype.kind in "OSU"):
        return [_plain(v) for v in array.ravel()]
    return bool(array.item()) if array.dtype in (np.int8, np.bool_) else array.item()


def _options(file) -> dict:
    if "options" not in file:
        raise FormatError(f"{file.filename} has no group options")
    return {name: _plain(value) for name, value in file["options"].attrs.items()}


def _derive(data: xarray.Dataset) -> xarray.Dataset:
    try:
        judged = measure.of_results(data)
    except KeyError as error:
        raise FormatError(f"{data.attrs['path']} has the task {error}; this package reads "
                          f"{', '.join(measure.TASKS)}") from error
    for split, examples in (("", "test"), ("validation_", "validation")):
        if (counts := f"{examples}_{judged.weight}") in data:
            units = data[counts].where(data[counts] > 0)
            for kind in ("common", "personal", "adapted"):
                for summed, mean in (("correct", "accuracy"), ("loss", "mean_loss")):
                    if f"{split}{kind}_{summed}" in data:
                        data[f"{split}{kind}_{mean}"] = data[f"{split}{kind}_{summed}"] / units
    for split in ("", "validation_"):
        for kind in ("common", "personal", "adapted"):
            if (name := f"{split}{kind}_confusion") in data:
                matrices = data[name]
                f1 = classification.f1 if data.sizes["class"] == 2 else classification.macro_f1
                for score, function in (("mcc", classification.mcc), ("f1", f1)):
                    data[f"{split}{kind}_{score}"] = (matrices.dims[:-2], function(matrices.values))
    if judged.classes and "train_class_counts" in data and data.sizes["class"]:
        counts = data["train_class_counts"].values.astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = counts / counts.sum(axis=1, keepdims=True)
            data["label_entropy"] = ("client", -np.where(p > 0, p * np.log(p), 0 * p).sum(axis=1) + 0.0)
        majority = counts.argmax(axis=1)
        right = data["test_class_counts"].values[np.arange(len(counts)), majority]
        data["majority_accuracy"] = ("client", right / np.where(data["test_examples"] > 0, data["test_examples"], np.nan))
        data["majority_accuracy"] = data["majority_accuracy"].where(counts.sum(axis=1) > 0)
    if "site_name" in data:
        data["layer"] = ("site", np.array([site_layer(name) for name in data["site_name"].values], dtype=np.int64))
    clients = data.sizes["client"]
    held_out = int(data.attrs["options"].get("held-out-clients", 0))
    data["held_out"] = ("client", np.arange(clients) >= clients - held_out)
    return data


@dataclass
class Pair:
    """A low-rank pair: down [r, in] and up [out, r] (a client's own: with a leading client axis), and its scale."""

    down: np.ndarray
    up: np.ndarray
    scale: float
    combines: str = "adds"

    def update(self, client: int | None = None) -> np.ndarray:
        """scale * up @ down, [out, in]; of one client where the pair is the clients' own.

        Throws ValueError without a client, IndexError for one that there is not.
        """
        if self.down.ndim == 2:
            return self.scale * self.up @ self.down
        if client is None:
            raise ValueError("the pair is the clients' own: say which client")
        if not 0 <= client < len(self.down):
            raise IndexError(f"there is no client {client}; there are 0 to {len(self.down) - 1}")
        return self.scale * self.up[client] @ self.down[client]


@dataclass
class Adapters:
    """adapters.h5: pairs and dense updates by site name, and every other slice by its path (common/head/weight)."""

    common: dict[str, Pair] = field(default_factory=dict)
    client: dict[str, Pair] = field(default_factory=dict)
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    slices: dict[str, np.ndarray] = field(default_factory=dict)
    attrs: dict = field(default_factory=dict)

    def update(self, site: str, client: int) -> np.ndarray:
        """What client adds to the frozen matrix of a site, [out, in].

        Throws KeyError for an unknown site, IndexError for an unknown client, ValueError where a gate mixes the pairs.
        """
        own, common = self.client.get(site), self.common.get(site)
        if own is None and common is None:
            known = dict.fromkeys([*self.common, *self.client])
            raise KeyError(f"there is no site {site}; there are {', '.join(known)}")
        if "gated" in [pair.combines for pair in (own, common) if pair]:
            raise ValueError(f"the pairs of {site} are mixed by a gate: their sum has no meaning")
        parts = [common.update()] if common and (own is None or own.combines != "replaces") else []
        parts += [own.update(client)] if own else []
        return sum(parts + [self.dense[site]] if site in self.dense else parts)


def load_adapters(path) -> Adapters:
    """The adapters of a run, from its adapters.h5 or its directory. Throws FormatError."""
    path = find(path, "adapters.h5")
    with _open(path, schema.ADAPTERS_FORMAT) as file:
        adapters = Adapters(attrs={name: _plain(value) for name, value in file.attrs.items()})
        for owner in ("common", "client"):
            pairs = getattr(adapters, owner)
            for name, group in file.get(owner, {}).items():
                if not isinstance(group, h5py.Group):
                    adapters.slices[f"{owner}/{name}"] = group[...]
                    continue
                leaves = dict(group.items())
                for down, up in (("A", "B"), ("C", "D")):
                    if down not in leaves or up not in leaves:
                        continue
                    if "scale" not in group.attrs:
                        raise FormatError(f"{path}: {owner}/{name} has no attribute scale")
                    combines = text(group.attrs.get("combines", "adds"))
                    scale = float(np.ravel(group.attrs["scale"])[0])
                    pairs[name] = Pair(leaves.pop(down)[...], leaves.pop(up)[...], scale, combines)
                if "base_delta" in leaves:
                    adapters.dense[name] = leaves.pop("base_delta")[...]
                _collect(leaves, f"{owner}/{name}", adapters.slices)
    return adapters


def _collect(items: dict, prefix: str, slices: dict) -> None:
    for name, item in items.items():
        if isinstance(item, h5py.Group):
            _collect(dict(item.items()), f"{prefix}/{name}", slices)
        else:
            slices[f"{prefix}/{name}"] = item[...]

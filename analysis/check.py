"""Says where a results.h5 or adapters.h5 deviates from FORMAT.md."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np

from . import schema

_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def check_format(path) -> list[str]:
    """Deviations of a file from FORMAT.md, one sentence each; empty when it conforms.

    Takes results.h5 or adapters.h5 (told apart by the attribute `format`); throws OSError where HDF5 cannot open it.
    """
    with h5py.File(Path(path), "r") as file:
        kind = text(file.attrs.get("format", ""))
        faults = _check_attributes(file, kind)
        if kind == schema.RESULTS_FORMAT:
            return faults + _check_options(file) + _check_variables(file, _problem(file))
        if kind == schema.ADAPTERS_FORMAT:
            return faults + _check_adapters(file)
        return faults


def text(value) -> str:
    """An HDF5 string as str, whichever of its forms h5py hands back."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def dtype_name(dtype) -> str:
    """The dtype in FORMAT.md's words: string, or NumPy's name."""
    return "string" if h5py.check_string_dtype(dtype) is not None or dtype.kind in "SU" else dtype.name


def _attribute_dtype(object_, name: str) -> str:
    return dtype_name(object_.attrs.get_id(name).dtype)


def _problem(file) -> str:
    """matrix or text."""
    named = text(file["options"].attrs.get("problem", "")) if "options" in file else ""
    return "matrix" if named == "matrix" else "text"


def _check_attributes(file, kind: str) -> list[str]:
    faults = []
    if kind not in (schema.RESULTS_FORMAT, schema.ADAPTERS_FORMAT):
        faults.append(f"attribute format is '{kind}', not '{schema.RESULTS_FORMAT}' or '{schema.ADAPTERS_FORMAT}'")
    if kind == schema.ADAPTERS_FORMAT:
        attributes = [schema.Attribute(*pair) for pair in schema.ADAPTERS_ATTRIBUTES]
    else:
        attributes = schema.ATTRIBUTES
    for attribute in attributes:
        if attribute.name not in file.attrs:
            if attribute.presence in ("always", _problem(file)):
                faults.append(f"attribute {attribute.name} is missing")
            continue
        found = _attribute_dtype(file, attribute.name)
        found += " list" if file.attrs.get_id(attribute.name).shape else ""
        if found != attribute.dtype:
            faults.append(f"attribute {attribute.name} is {found}, not {attribute.dtype}")
    version = file.attrs.get("format_version", schema.FORMAT_VERSION)
    if np.size(version) != 1 or np.any(version != schema.FORMAT_VERSION):
        faults.append(f"attribute format_version is {version}, not {schema.FORMAT_VERSION}")
    return faults


def _check_options(file) -> list[str]:
    if not isinstance(file.get("options"), h5py.Group):
        return ["group options is missing"]
    group = file["options"]
    faults = [f"option {name} is missing" for name in schema.REQUIRED_OPTIONS if name not in group.attrs]
    for name in group.attrs:
        found = _attribute_dtype(group, name)
        if found not in schema.OPTION_DTYPES:
            faults.append(f"option {name} is {found}, not {', '.join(schema.OPTION_DTYPES)}")
        elif found != "string" and group.attrs.get_id(name).shape != ():
            faults.append(f"option {name} is no single value")
    return faults


def _axes(dataset) -> list[str | None]:
    """Names of the dimension scales of a dataset's axes; a scale names its own axis."""
    if dataset.is_scale and dataset.ndim == 1:
        return [dataset.name.rsplit("/", 1)[-1]]
    return [axis[0].name.rsplit("/", 1)[-1] if len(axis) else None for axis in dataset.dims]


def _check_variables(file, problem: str) -> list[str]:
    faults, sizes = [], {}
    for dimension in schema.DIMENSIONS:
        if dimension.name in file:
            faults += _check_dimension(file[dimension.name], dimension)
            sizes[dimension.name] = file[dimension.name].shape[0] if file[dimension.name].shape else 0
    for name, item in file.items():
        if isinstance(item, h5py.Dataset) and name not in schema.VARIABLE and name not in schema.DIMENSION:
            faults.append(f"{name} is no variable of format version {schema.FORMAT_VERSION}")
    for variable in schema.VARIABLES:
        wanted = variable.presence in ("always", problem)
        if variable.name not in file:
            faults += [f"{variable.name} is missing"] if wanted else []
        elif variable.presence not in ("always", "optional", problem):
            faults.append(f"{variable.name} does not belong to a {problem} run")
        else:
            faults += _check_variable(file[variable.name], variable, sizes)
    return faults or _check_values(file)


def _check_dimension(dataset, dimension) -> list[str]:
    name = dimension.name
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1:
        return [f"{name} is no one-dimensional dataset"]
    faults = [] if dataset.is_scale else [f"{name} is no dimension scale"]
    if bytes(dataset.attrs.get("NAME", b"")).startswith(_NO_VARIABLE):
        return faults + ([f"{name} has no values"] if dimension.kind == "coordinate" else [])
    found = dtype_name(dataset.dtype)
    if found != dimension.dtype:
        return faults + [f"{name} is {found}, not {dimension.dtype}"]
    if name == "phase":
        labels = tuple(text(label) for label in dataset[...])
        return faults + ([] if labels == schema.PHASES else [f"phase is {', '.join(labels)}"])
    if dimension.kind == "index":
        numbered = np.array_equal(dataset[...], np.arange(dataset.shape[0]))
        return faults + ([] if numbered else [f"{name} is not 0, 1, 2, ..."])
    return faults + ([] if np.all(np.diff(dataset[...]) > 0) else [f"{name} does not increase"])


def _check_variable(dataset, variable, sizes) -> list[str]:
    name = variable.name
    if not isinstance(dataset, h5py.Dataset):
        return [f"{name} is no dataset"]
    faults, axes = [], _axes(dataset)
    if tuple(axes) != variable.dimensions:
        shown = ", ".join(axis or "none" for axis in axes)
        faults.append(f"{name} has the dimensions ({shown}), not ({', '.join(variable.dimensions)})")
    elif tuple(sizes.get(axis) for axis in axes) != dataset.shape:
        faults.append(f"{name} has the shape {dataset.shape}, unlike its dimension scales")
    found = dtype_name(dataset.dtype)
    if found != variable.dtype:
        faults.append(f"{name} is {found}, not {variable.dtype}")
    elif found == "float64" and not variable.missing and np.isnan(dataset[...]).any():
        faults.append(f"{name} holds NaN, which has no meaning there")
    units = dataset.attrs.get("units")
    if text(units or "1") != variable.units:
        faults.append(f"{name} has the units {text(units or '1')}, not {variable.units}")
    return faults


def _check_values(file) -> list[str]:
    """What must hold between variables; reads them, so it runs only on a file of the right form."""
    faults = []

    def must(holds, message):
        if not np.all(holds):
            faults.append(message)

    took_part = file["took_part"][...]
    must((took_part == 0) | (took_part == 1), "took_part holds other values than 0 and 1")
    must(np.isnan(file["train_loss"][...]) == (took_part == 0), "train_loss is not NaN just where took_part is 0")
    must(file["phase_seconds"][...] >= 0, "phase_seconds holds negative times")
    common, own, total = (file[f"{kind}_index"].shape[0] for kind in ("common", "client", "total"))
    full = np.minimum(file["site_rows"][...], file["site_columns"][...]).max(initial=0)  # with a dense update
    must(total in (common + own, own, max(common + own, full)), f"total_index has {total} values, not {common} + {own}")
    for kind in ("common", "client", "total"):
        values = np.nan_to_num(file[f"{kind}_singular_values"][...])
        must(values >= 0, f"{kind}_singular_values holds negative values")
        must(np.diff(values, axis=-1) <= 0, f"{kind}_singular_values does not descend")
    first, last = file["segment_first_round"][...], file["segment_last_round"][...]
    must(first[1:] == last[:-1] + 1, "segment_first_round is not the round after the segment before")
    rounds = file["round"][...]
    if len(rounds):
        must(first[:1] == rounds[0], "segment_first_round does not begin with the first round")
        must(last[-1:] == rounds[-1], "segment_last_round does not end with the last round")
    ended = np.array([text(end) != "" for end in file["segment_end_utc"][...]])
    unknown = np.array([text(reason) == "unknown" for reason in file["segment_exit"][...]])
    must(ended != unknown, "segment_end_utc is not empty just where segment_exit is unknown")
    if "train_examples" not in file:
        return faults
    for part in ("train", "validation", "test"):
        offsets, examples = file[f"{part}_offsets"][...], file[f"{part}_examples"][...]
        rows = file[f"{part}_index"].shape[0]
        must(len(offsets) == len(examples) + 1, f"{part}_offsets has not clients + 1 values")
        must(offsets[:1] == 0, f"{part}_offsets does not start at 0")
        must(offsets[-1:] == rows, f"{part}_offsets does not end at the length of {part}_index")
        must(np.array_equal(np.diff(offsets), examples), f"{part}_offsets disagrees with {part}_examples")
        if part != "validation":
            counts = file[f"{part}_class_counts"][...].sum(axis=1)
            must(counts == examples, f"{part}_class_counts does not add up to {part}_examples")
    if "label_map" in file:
        maps = file["label_map"][...]
        must(np.sort(maps, axis=1) == np.arange(maps.shape[1]), "label_map has a row that is no permutation of classes")
    for kind in ("common", "personal", "adapted"):
        if f"{kind}_correct" in file:
            correct = np.nan_to_num(file[f"{kind}_correct"][...])
            units = "test_tokens" if "test_tokens" in file else "test_examples"
            must((correct >= 0) & (correct <= file[units][...]), f"{kind}_correct is beyond {units}")
    return faults


_PLACES = {"<site>": "([^/]+)", "<layer>": r"(\d+)"}
_SLICES = [(re.compile(re.sub("<site>|<layer>", lambda found: _PLACES[found[0]], s.path)), s) for s in schema.SLICES]
_TOGETHER = (("A", "B"), ("C", "D"), ("weight", "bias"), ("key", "value"))
_PAIRS = frozenset("ABCD")


def _check_adapters(file) -> list[str]:
    faults, sizes, groups = [], {"real": None}, {}

    def visit(path, item):
        if isinstance(item, h5py.Group):
            for name in item:
                visit(f"{path}/{name}", item[name])
            return
        found = next(((match, piece) for form, piece in _SLICES if (match := form.fullmatch(path))), None)
        if found is None:
            faults.append(f"{path} is no slice of format version {schema.FORMAT_VERSION}")
            return
        match, piece = found
        group, _, leaf = path.rpartition("/")
        groups.setdefault(group, set()).add(leaf)
        faults.extend(_check_slice(path, item, piece, match.group(1) if "<site>" in piece.path else "", sizes))

    for name in sorted(file, reverse=True):  # what is common first: it says what the clients' own must fit
        visit(name, file[name])
    for group, leaves in groups.items():
        for present, absent in (*_TOGETHER, *((b, a) for a, b in _TOGETHER)):
            if present in leaves and absent not in leaves:
                faults.append(f"{group} has {present} and lacks {absent}")
        if leaves & _PAIRS:
            faults += _check_pair(group, file[group])
    return faults


def _check_slice(path: str, dataset, piece, site: str, sizes: dict) -> list[str]:
    """dtype and shape of one slice; `sizes` collects the lengths that slices of a site, or all, have in common."""
    faults, found = [], dtype_name(dataset.dtype)
    if piece.dtype != "real":
        faults += [f"{path} is {found}, not {piece.dtype}"] if found != piece.dtype else []
    else:
        sizes["real"] = sizes["real"] or found
        if found not in ("float32", "float64") or found != sizes["real"]:
            faults.append(f"{path} is {found}, not the same float32 or float64 as all")
    if dataset.ndim != len(piece.shape):
        return faults + [f"{path} has {dataset.ndim} axes, not ({', '.join(piece.shape)})"]
    owner = path.partition("/")[0]
    for axis, length in zip(piece.shape, dataset.shape):
        key = (site, owner if axis == "r" else "", axis) if site and axis != "client" else axis
        if sizes.setdefault(key, length) != length:
            faults.append(f"{path} has {length} for {axis}, another slice has {sizes[key]}")
    return faults


def _check_pair(path: str, group) -> list[str]:
    """The attributes of a pair's group."""
    faults = []
    if "scale" not in group.attrs or _attribute_dtype(group, "scale") != "float64":
        faults.append(f"{path} has no float64 attribute scale")
    combines = text(group.attrs.get("combines", ""))
    if combines not in schema.COMBINES:
        faults.append(f"{path} has combines '{combines}', not {', '.join(schema.COMBINES)}")
    return faults

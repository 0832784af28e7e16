"""The runs of a sweep: what its TOML file says, multiplied out, each with its options and its folder."""

from __future__ import annotations

import difflib
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

TABLES = ("options", "grid", "tune")
AXES = ("seed", "setting", "method", "algorithm")  # of [grid], which mean more than an option does
# What the sweep decides itself for each run.
OWNED = frozenset("output resume overwrite dry-run progress print-config list version help".split())
RESERVED = frozenset(("logs", "report", "sweep.json"))  # names in the sweep's folder that are no run's


class SweepError(Exception):
    """A sweep that cannot be run as it is written: the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Run:
    """One run: `options` are those of the file and the command line, as texts, `configs` its ini files.

    `setting`, `method` and `seed` say where it stands in the comparison; `tuned` are the options of its method that
    are chosen by validation, and `path` its folder under the sweep's.
    """

    path: str
    setting: str
    method: str
    seed: str
    options: dict[str, str]
    configs: tuple[str, ...]
    tuned: dict[str, str]


@dataclass
class Entry:
    """A named value of an axis: fixed options, ini files, and lists of options that are tuned."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    tuned: dict[str, list[str]] = field(default_factory=dict)


def read_sweep(file: Path, further: list[str]) -> list[Run]:
    """All runs of a sweep file, `further` options of the command line in each. Throws SweepError."""
    try:
        content = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SweepError(f"{file} cannot be read ({error.strerror}); give the TOML file of a sweep") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SweepError(f"{file} is no TOML file: {error}") from error
    try:
        return _multiply(content, further)
    except SweepError as error:
        raise SweepError(f"{file}: {error}") from None


def _multiply(content: dict, further: list[str]) -> list[Run]:
    for name, table in content.items():
        if name not in TABLES:
            raise SweepError(f"'{name}' is not known{_like(name, TABLES)}; a sweep has [options], [grid] and [tune]")
        if not isinstance(table, dict):
            raise SweepError(f"'{name}' must be a table, written [{name}]")
    base, base_configs = _fixed(content.get("options", {}), "[options]")
    tune = {name: _candidates(name, values, "[tune]") for name, values in content.get("tune", {}).items()}
    seeds, settings, methods = _axes(content.get("grid", {}))
    last, last_configs = command_line_options(further)
    runs = []
    for seed, setting, method in itertools.product(seeds, settings, methods):
        parts = [entry for entry in (*setting, method, seed) if entry]
        varied = _join(parts)
        grid = {name: values for name, values in tune.items() if name not in varied} | (method.tuned if method else {})
        for name in last:
            if name in varied or name in grid:
                raise SweepError(f"--{name} of the command line is varied by the sweep; leave it out")
        for choice in itertools.product(*grid.values()):
            tuned = dict(zip(grid, choice))
            folders = [_folder(entry.name) for entry in (*setting, method) if entry]
            folders += [_folder(",".join(f"{name}={value}" for name, value in tuned.items()))] if tuned else []
            folders += [_folder("seed" + seed.name)] if seed else []
            runs.append(Run("/".join(folders) or "run", ", ".join(entry.name for entry in setting),
                            method.name if method else "", seed.name if seed else "",
                            {**base, **varied, **tuned, **last},
                            base_configs + sum((entry.configs for entry in parts), ()) + last_configs, tuned))
    _check_folders(runs)
    return runs


def _axes(grid: dict) -> tuple[list, list, list]:
    """Seeds, settings (tuples of entries, one an axis) and methods; [None] where the grid has no such axis."""
    seeds, methods, others = [None], [None], []
    for name, values in grid.items():
        entries = _axis(name, values)
        if name == "seed":
            seeds = entries
        elif name in ("method", "algorithm"):
            if methods != [None]:
                raise SweepError("[grid] has both method and algorithm; give algorithm in each method")
            methods = entries
        else:
            others.append(entries)
    for entry in (e for axis in (seeds, *others) for e in axis if e):
        if entry.tuned:
            raise SweepError(f"'{entry.name}': {next(iter(entry.tuned))} is a list; only methods are tuned, and what "
                             "makes several settings stands in a table `vary`")
    return seeds, list(itertools.product(*others)), methods


def _axis(name: str, values) -> list[Entry]:
    place = f"[grid] {name}"
    if name not in AXES and (like := _like(name, AXES, 0.8)):
        raise SweepError(f"{place} is not known{like}")
    if not isinstance(values, list) or not values:
        raise SweepError(f"{place} must be a list that is not empty")
    if name in ("setting", "method") and not all(isinstance(value, dict) for value in values):
        other = (f"names of methods alone are algorithm = [{', '.join(map(_toml, values))}]" if name == "method" else
                 "values of an option are a list under the option's name")
        raise SweepError(f"{place} is a list of tables, such as {{name = \"a\", ...}}; {other}")
    if all(isinstance(value, dict) for value in values):
        entries = [entry for value in values for entry in _named(value, name)]
    else:
        _check_name(name, place)
        entries = [Entry(text if name in ("seed", "algorithm") else f"{name}={text}", {name: text})
                   for text in _candidates(name, values, place)]
    names = [entry.name for entry in entries]
    for entry in names:
        if names.count(entry) > 1:
            raise SweepError(f"{place} has '{entry}' twice")
    return entries


def _named(table: dict, axis: str) -> list[Entry]:
    """The entry of a table, or with `vary` one for each combination of that table's lists."""
    name = table.get("name")
    if not isinstance(name, str) or not name.strip():
        raise SweepError(f"[grid] {axis}: each table needs a name, such as {{name = \"a\", ...}}")
    place = f"[grid] {axis} '{name}'"
    rest = {key: value for key, value in table.items() if key not in ("name", "vary")}
    lists = {key: value for key, value in rest.items() if isinstance(value, list) and key != "config"}
    options, configs = _fixed({key: value for key, value in rest.items() if key not in lists}, place)
    tuned = {key: _candidates(key, value, place) for key, value in lists.items()}
    vary = table.get("vary", {})
    if not isinstance(vary, dict):
        raise SweepError(f"{place}: vary must be a table of lists, such as vary = {{rank = [4, 8]}}")
    vary = {key: _candidates(key, value, f"{place}, vary") for key, value in vary.items()}
    for key in vary:
        if key in rest:
            raise SweepError(f"{place}: {key} stands there twice, in vary too")
    return [Entry(",".join([name, *(f"{key}={value}" for key, value in zip(vary, choice))]),
                  options | dict(zip(vary, choice)), configs, tuned) for choice in itertools.product(*vary.values())]


def _fixed(table: dict, place: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """(options as texts, ini files) of a table whose values are single ones; a list is joined by commas."""
    configs = table.get("config", [])
    configs = [configs] if isinstance(configs, str) else configs
    if not isinstance(configs, list) or not all(isinstance(value, str) for value in configs):
        raise SweepError(f"{place}: config must name an ini file, or several in a list")
    options = {}
    for name, value in table.items():
        if name != "config":
            _check_name(name, place)
            options[name] = _text(value, f"{place}: {name}")
    return options, tuple(configs)


def _candidates(name: str, values, place: str) -> list[str]:
    _check_name(name, place)
    if not isinstance(values, list) or not values:
        raise SweepError(f"{place}: {name} must be a list that is not empty")
    texts = [_text(value, f"{place}: {name}") for value in values]
    if len(set(texts)) < len(texts):
        raise SweepError(f"{place}: {name} has a value twice")
    return texts


def _text(value, place: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, str)):
        return str(value)
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(_text(item, place) for item in value)
    raise SweepError(f"{place} must be a number, a text, true or false")


def _check_name(name: str, place: str) -> None:
    if name in OWNED:
        raise SweepError(f"{place}: the sweep sets {name} itself; leave it out")
    if name == "config":
        raise SweepError(f"{place}: config cannot be varied by itself; give it in named tables")


def _join(entries: list[Entry]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for entry in entries:
        for name in (*entry.options, *entry.tuned):
            if name in joined:
                raise SweepError(f"{name} is given by '{entry.name}' and by another axis of [grid]; give it in one")
        joined |= entry.options
    return joined


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=,+~-]+", "-", name.strip())


def _check_folders(runs: list[Run]) -> None:
    paths: dict[str, Run] = {}
    for run in runs:
        parts = run.path.split("/")
        if parts[0] in RESERVED or any(part.startswith(".") or not part.strip("-") for part in parts):
            raise SweepError(f"a run would have the folder '{run.path}'; choose another name")
        if len(max(parts, key=len)) > 200:
            raise SweepError(f"the folder of a run would have a name of more than 200 characters: '{run.path}'")
        if run.path in paths:
            raise SweepError(f"two runs would have the folder '{run.path}'; names must differ in letters or digits")
        paths[run.path] = run
    for path in paths:  # a run's folder holds no other run
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in paths:
                raise SweepError(f"the run '{path}' would lie in the folder of '{above}'; choose other names")


def command_line_options(words: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """(options, ini files) of --name value, --name=value and --flag. Throws SweepError."""
    options, configs, at = {}, [], 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("--") or len(word) == 2:
            raise SweepError(f"'{word}' is no option of pf2lora; behind -- stand options such as --rounds 20")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = "true"
            if at < len(words) and not words[at].startswith("--"):
                value = words[at]
                at += 1
        if name == "config":
            configs.append(value)
        else:
            _check_name(name, "the command line")
            options[name] = value
    return options, tuple(configs)


def _toml(value) -> str:
    return f'"{value}"' if isinstance(value, str) else "..."


def _like(name: str, known, cutoff: float = 0.6) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean '{close[0]}'?" if close else ""

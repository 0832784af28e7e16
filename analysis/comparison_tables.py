"""Tables of a comparison: scores by method and setting, paired differences, costs, tuning, ablations."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from . import statistics
from .comparison import Cell, Comparison, Contender, Scores, contenders, differences, pairs_up
from .measure import capital
from .runs import AS_THEY_ARE, EXECUTION, PERMUTED, show, told_undrawn
from .table import DASH, Table, data_size, number, plus_minus, small
from .tables import ONE_SEED, PAIRS_NOTE, SOLVED, adapted_note, judged, permuted_note, unpaired_note

BESIDE = "Adapted: after the most local steps recorded, on a copy, of a method that deploys its weights as they are."

_COSTS = (("gradient_evaluations", "gradient evaluations", "{:,.1f}".format), ("bytes_up", "sent", data_size),
          ("bytes_down", "received", data_size), ("parameters_trained", "parameters trained", "{:,.0f}".format),
          ("parameters_stored", "stored", "{:,.0f}".format))


def interval(values, digits: int = 2) -> str:
    """'+1.20 [+0.85, +1.55]': mean and 95% t-interval; of one value '+1.20 (1 seed, no interval)'."""
    mean, half, n = statistics.mean_interval(values)
    if n < 2:
        return number(mean, digits, True) + (f" ({ONE_SEED})" if n else "")
    return f"{number(mean, digits, True)} [{number(mean - half, digits, True)}, {number(mean + half, digits, True)}]"


def _interval(comparison: Comparison, found: list[float]) -> str:
    return interval(found, comparison.measure.difference_digits)


def _sign(comparison: Comparison) -> str:
    return "" if comparison.is_matrix else comparison.measure.sign


def titled(text: str, setting: str) -> str:
    return f"{text}: {setting}" if setting else text


# ---- scores -----------------------------------------------------------------------------------------------
def overview(comparison: Comparison) -> Table | None:
    """Headline scores, methods by settings; None for a single setting, whose own table says it."""
    if len(comparison.settings) < 2:
        return None
    table = Table(headline_told(comparison), ["method", *comparison.settings])
    rows: dict[str, dict[str, str]] = {contender.name: {} for method in comparison.methods
                                       for cell in comparison.cells.values() if cell.method == method
                                       for contender in contenders(cell)}
    for setting in comparison.settings:
        best = _ranked(comparison, setting)[:1]
        for contender in comparison.contenders(setting):
            text = plus_minus(contender.cell.over_seeds(contender.value), comparison.measure.digits)
            rows[contender.name][setting] = text + (" *" if contender.name in [b.name for b in best] else "")
    table.rows = [[name, *(texts.get(where, DASH) for where in comparison.settings)] for name, texts in rows.items()]
    table.note = "Mean ± standard deviation over seeds. *: the best of its setting." + _kinds_told(comparison)
    return table


def headline_told(comparison: Comparison) -> str:
    """The headline score with its unit, as a title."""
    measure = comparison.measure
    return f"{measure.title} (log10 of the mean)" if comparison.is_matrix else f"Personal {measure.told}"


def judged_after(runs: list[Scores]) -> str:
    """judged() of the methods of runs."""
    return judged([run.method for run in runs if run.deployed == "adapted"])


def _kinds_told(comparison: Comparison) -> str:
    """Sentences on the scores that are taken after adaptation; empty without any."""
    beside = any(c.name != c.cell.method for setting in comparison.settings for c in comparison.contenders(setting))
    return (f" {BESIDE}" if beside else "") + judged_after(comparison.runs)


def _ranked(comparison: Comparison, setting: str) -> list[Contender]:
    """Contenders of a setting that have a score, the best first."""
    found = [contender for contender in comparison.contenders(setting) if not math.isnan(contender.mean)]
    return sorted(found, key=lambda contender: comparison.measure.loss_like(contender.mean))


def leaders(comparison: Comparison) -> Table | None:
    """Which method is first in each setting, and how far the reference is from it, or from the second."""
    name = comparison.reference
    table = Table(f"Where {name} stands", ["setting", "first", f"{name} against", "difference", "seeds"])
    for setting in comparison.settings:
        ranked = _ranked(comparison, setting)
        reference, others = ([c for c in ranked if (c.name == name) == wanted] for wanted in (True, False))
        if not reference or not others:
            continue
        found = [-d for d in differences(others[0].cell, reference[0].cell, others[0].value)]
        table.rows.append([setting or "all", ranked[0].name, others[0].name, _interval(comparison, found),
                           str(len(found))])
    measure = comparison.measure
    what = "log10 of the relative error" if comparison.is_matrix else measure.difference(f"personal {measure.name}")
    table.note = (f"Difference: {what}, paired by seed, with the 95% t-interval; against the first method, or the second "
                  f"where {name} is first.{_kinds_told(comparison)}{_sign(comparison)}")
    return table if table.rows else None


def scores(comparison: Comparison, setting: str) -> list[Table]:
    """One row a method, mean ± standard deviation over seeds: mean scores, and their spread over clients."""
    tables = [_matrix_scores(comparison, setting)] if comparison.is_matrix else _text_scores(comparison, setting)
    short = [f"{cell.method} {len(cell.runs)} of {cell.wanted}" for cell in comparison.of(setting)
             if len(cell.runs) < cell.wanted]
    if short:
        tables[0].note += f" Not all seeds have ended: {', '.join(short)}."
    return tables


def _text_scores(comparison: Comparison, setting: str) -> list[Table]:
    measure = comparison.measure
    form = functools.partial(number, digits=measure.digits)

    def of_clients(summarise, kind=None):
        def value(run: Scores) -> float:
            values = run.scores.get(kind or run.deployed)
            return math.nan if values is None else measure.scale * summarise(values)
        return value

    def against_local(summarise, scale):
        def value(run: Scores) -> float:
            other = comparison.local_only(run) if run.algorithm != "local" else None
            if other is None or run.deployed not in run.scores or "personal" not in other.scores:
                return math.nan
            return scale * summarise(measure.better_by(run.scores[run.deployed], other.scores["personal"]))
        return value

    mean, cells = statistics.macro_mean, comparison.of(setting)
    gain = against_local(mean, measure.scale)
    further = [(f"personal {f.name}", functools.partial(_further, name=f.name),
                functools.partial(plus_minus, digits=f.digits)) for f in measure.compared]
    means = _filled(titled(capital(measure.told), setting), cells, [
        ("personal", of_clients(mean, "personal")),
        (AS_THEY_ARE, lambda run: run.mean_of_readers(False)), (PERMUTED, lambda run: run.mean_of_readers(True)),
        ("common", of_clients(mean, "common")),
        ("adapted", of_clients(mean, "adapted")), ("majority", of_clients(mean, "majority")),
        *further, ("gain over local", gain), ("pairs", gain, _count),
        ("unseen", lambda run: measure.scale * run.unseen)], form)
    means.note = (
        "Means over clients, then mean ± standard deviation over seeds. Personal: what a client would deploy; common: "
        "the common part alone"
        + ("; majority: always answering the client's most frequent training class. " if measure.classes else ". ")
        + adapted_note(["adapted" in run.scores for cell in cells for run in cell.runs]))
    if PERMUTED in means.columns:
        means.note += f" {permuted_note()}"
    if "gain over local" in means.columns:
        means.note += f" Gain: {measure.gain_over('local-only training on the same examples')}. {PAIRS_NOTE}"
    if "unseen" in means.columns:
        means.note += " Unseen: clients held out of training, adapted."
    means.note += f" {measure.note}" if measure.note else ""
    means.note += judged_after([run for cell in cells for run in cell.runs])

    harmed = against_local(lambda gains: float((gains < 0).mean()), 100)
    spread = _filled(titled(f"Personal {measure.name} over clients", setting), cells, [
        ("worst 10%", of_clients(measure.worst)), ("best 10%", of_clients(measure.best)),
        ("std over clients", of_clients(statistics.spread)),
        ("harmed", harmed, plus_minus), ("pairs", gain, _count)], form)
    clients = sorted({len(values) for cell in cells for run in cell.runs for values in run.scores.values()})
    spread.note = (f"Worst and best 10%: mean of max(1, ceil(0.1 N)) of {' or '.join(map(str, clients))} clients; "
                   "mean ± standard deviation over seeds.")
    if "harmed" in spread.columns:
        spread.note += f" Harmed: percent of clients {measure.worse} local-only training. {PAIRS_NOTE}"
    return [means, spread]


def _further(run: Scores, name: str) -> float:
    return run.further[name]


def _matrix_scores(comparison: Comparison, setting: str) -> Table:
    mean = statistics.macro_mean
    columns = [("relative error", lambda run: run.mean("personal")),
               ("largest", lambda run: float(np.nanmax(run.scores["personal"]))),
               ("loss", lambda run: mean(run.loss) if run.loss is not None else math.nan)]
    table = _filled(titled("The matrix problem", setting), comparison.of(setting), columns, small)
    table.columns.append("solved")
    for row, cell in zip(table.rows, comparison.of(setting)):
        row.append(f"{sum(np.nanmax(run.scores['personal']) < SOLVED for run in cell.runs)} of {len(cell.runs)}")
    table.note = (f"Mean ± standard deviation over seeds. Solved: runs with every client's relative error below "
                  f"{small(SOLVED)}.")
    return table


def _filled(title: str, cells: list[Cell], columns: list[tuple], form=None) -> Table:
    """A row a cell of columns (name, value of a run, text of the values if not mean ± standard deviation).

    Columns without any value are left out.
    """
    spread = functools.partial(plus_minus, form=form)
    texts = {name: [(told[0] if told else spread)(cell.over_seeds(value)) for cell in cells]
             for name, value, *told in columns}
    texts = {name: column for name, column in texts.items() if any(text != DASH for text in column)}
    table = Table(title, ["method", "seeds", *texts])
    for i, cell in enumerate(cells):
        table.rows.append([cell.method, str(len(cell.runs)), *(column[i] for column in texts.values())])
    return table


def _count(values) -> str:
    n = sum(not math.isnan(value) for value in values)
    return str(n) if n else DASH


def paired(comparison: Comparison, setting: str) -> Table | None:
    """Differences to the reference method over seeds, with 95% t-intervals; None where no seeds pair up."""
    reference = comparison.cells.get((setting, comparison.reference))
    if reference is None:
        return None
    table = Table(titled(f"Paired differences to {comparison.reference}", setting),
                  ["method", "quantity", "seeds", "difference [95% interval]"])
    unpaired: list[str] = []

    shown = [c for c in comparison.contenders(setting) if c.name != comparison.reference]
    for contender in [*shown, Contender("majority class", "majority", reference, lambda run: run.mean("majority"))]:
        found = [d for d in differences(contender.cell, reference, contender.value) if not math.isnan(d)]
        if found:
            quantity = "log10 of relative error" if comparison.is_matrix else contender.kind
            name = contender.cell.method if contender.kind != "majority" else contender.name
            table.rows.append([name, quantity, str(len(found)), _interval(comparison, found)])
        elif contender.name == contender.cell.method:
            unpaired.append(contender.name)
    measure = comparison.measure
    what = "log10 of the mean relative error" if comparison.is_matrix else (
        f"{measure.difference(f'macro mean {measure.name}')} against the {reference.first.deployed} {measure.name} of "
        f"{comparison.reference}")
    table.note = f"In {what}; paired by seed, where both runs hold the same partition; 95% t-interval."
    table.note += _sign(comparison) + unpaired_note(unpaired)
    return table if table.rows else None


def costs(comparison: Comparison) -> Table | None:
    """What a client computed, sent and stored; a row a method, or one for each setting where they differ."""
    known = [entry for entry in _COSTS if any(entry[0] in run.costs for run in comparison.runs)]
    if not known:
        return None
    table = Table("Cost of a client", ["method", *(label for _, label, _ in known)])
    for method in comparison.methods:
        rows: dict[tuple, list[str]] = {}
        for setting in comparison.settings:
            if (cell := comparison.cells.get((setting, method))) is not None:
                texts = tuple(form(cell.first.costs[name]) if name in cell.first.costs else DASH
                              for name, _, form in known)
                rows.setdefault(texts, []).append(setting)
        for texts, settings in rows.items():
            table.rows.append([method if len(rows) == 1 else f"{method} ({'; '.join(settings)})", *texts])
    table.note = ("Gradient evaluations (gradients and Hessian-vector products of one batch) and bytes: of a round that "
                  "the client took part in, mean over rounds and clients of the first seed; parameters: numbers that "
                  "local steps change, and numbers that stay with a client between rounds.")
    return table


# ---- tuning -----------------------------------------------------------------------------------------------
def tuning(comparison: Comparison) -> Table | None:
    """What was tuned over, and what validation chose; None where nothing was."""
    cells, measure = [cell for cell in comparison.cells.values() if cell.grid > 1], comparison.measure
    if not cells:
        return None
    table = Table("Tuned options",
                  ["method", "setting", "tried", "chosen", measure.column("validation"), "next best"])
    for cell in cells:
        ranked = sorted(cell.candidates, key=lambda c: (c.runs != cell.runs, measure.loss_like(c.validation)))
        over = [plus_minus([run.validation for run in c.runs], measure.digits, measure.scale) for c in ranked[:2]]
        chosen = ", ".join(f"{name} {value}{_edge(cell, name)}" for name, value in cell.first.tuned.items())
        table.rows.append([cell.method, cell.setting or "all", _tried(cell), chosen, over[0],
                           over[1] if len(over) > 1 else DASH])
    sizes = {cell.grid for cell in comparison.cells.values()}
    budget = (f"Every method was tried with {sizes.pop()} settings, the same budget." if len(sizes) == 1 else
              "The methods were NOT tried with the same number of settings: "
              + ", ".join(f"{cell.method} {cell.grid}" for cell in _one_a_method(comparison)) + ".")
    table.note = (f"{budget} Chosen by the mean {measure.name} on the clients' validation examples over all seeds; "
                  "test scores had no part in it. (edge): the chosen value is the smallest or largest that was tried.")
    return table


def _one_a_method(comparison: Comparison) -> list[Cell]:
    return list({cell.method: cell for cell in comparison.cells.values()}.values())


def _tried(cell: Cell) -> str:
    ended = sum(len(c.runs) == cell.wanted for c in cell.candidates)
    return str(cell.grid) if ended == cell.grid else f"{cell.grid} ({cell.grid - ended} did not end)"


def _edge(cell: Cell, name: str) -> str:
    try:
        values = sorted({float(c.tuned[name]) for c in cell.candidates})
    except ValueError:
        return ""
    return " (edge)" if len(values) > 2 and float(cell.first.tuned[name]) in (values[0], values[-1]) else ""


# ---- ablations --------------------------------------------------------------------------------------------
@dataclass
class Ablation:
    """Cells that differ in one option alone: {label of a line: [(value of the option, cell)]}."""

    option: str
    lines: dict[str, list[tuple[object, Cell]]]

    @property
    def values(self) -> list:
        """All values, ascending where they are numbers."""
        found = list({show(value): value for line in self.lines.values() for value, _ in line}.values())
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)
        return sorted(found) if numbers else found


def ablations(comparison: Comparison) -> list[Ablation]:
    """Every option that varies within a method while all others, the tuned ones aside, stay as they are."""
    cells = list(comparison.cells.values())
    tuned = {name for cell in cells for name in cell.first.tuned}
    aside = EXECUTION | {"seed", "algorithm"} | tuned
    facts = [{name: show(value) for name, value in cell.first.options.items() if name not in aside} for cell in cells]
    found = []
    for option in dict.fromkeys(name for fact in facts for name in fact):
        lines: dict[tuple, list[int]] = {}
        for i, (cell, fact) in enumerate(zip(cells, facts)):
            if option in fact:
                rest = tuple(sorted((name, value) for name, value in fact.items() if name != option))
                lines.setdefault((cell.first.algorithm, rest), []).append(i)
        kept = [members for members in lines.values() if len({facts[i][option] for i in members}) > 1]
        if kept:
            found.append(Ablation(option, _labelled(kept, cells, facts, option)))
    return found


def _labelled(lines: list[list[int]], cells: list[Cell], facts: list[dict], option: str) -> dict[str, list]:
    several = len({cells[i].setting for members in lines for i in members}) > 1
    names = []
    for members in lines:
        methods, settings = {cells[i].method for i in members}, {cells[i].setting for i in members}
        name = methods.pop() if len(methods) == 1 else cells[members[0]].first.algorithm
        names.append(name + (f", {settings.pop()}" if several and len(settings) == 1 else ""))
    told = []
    for members, name in zip(lines, names):
        same = [other for other, shared in zip(lines, names) if shared == name]
        differ = [n for n in facts[members[0]] if n != option and len({facts[o[0]].get(n) for o in same}) > 1]
        told.append(name + "".join(f", {n} {facts[members[0]][n]}" for n in differ))
    return {name: [(cells[i].first.options[option], cells[i]) for i in members] for name, members in zip(told, lines)}


def ablation(comparison: Comparison, found: Ablation) -> Table:
    """Lines by values of the option: mean and 95% t-interval of the headline score."""
    values = found.values
    table = Table(f"Ablation: {found.option}", ["", *(show(value) for value in values)])
    for label, line in found.lines.items():
        cells = {show(value): cell for value, cell in line}
        table.rows.append([label, *(_mean_interval(cells[show(v)]) if show(v) in cells else DASH for v in values)])
    what = "log10 of the mean relative error" if comparison.is_matrix else headline_told(comparison)
    table.note = f"{what}: mean over seeds [95% t-interval]. All other options are the same along a row" + (
        ", those that were tuned aside." if any(cell.grid > 1 for cell in comparison.cells.values()) else ".")
    return table


def _mean_interval(cell: Cell) -> str:
    mean, half, n = statistics.mean_interval(cell.over_seeds(lambda run: run.headline))
    digits = cell.first.measure.difference_digits
    text = number(mean, digits)
    return text if n < 2 else f"{text} [{number(mean - half, digits)}, {number(mean + half, digits)}]"


# ---- what a reader must know ------------------------------------------------------------------------------
def notices(comparison: Comparison) -> list[str]:
    """Runs that lack, partitions that differ, programs that changed."""
    found = []
    if comparison.missing:
        found.append(f"{len(comparison.missing)} runs have not ended and are left out: {_few(comparison.missing)}")
    apart = []
    for setting in comparison.settings:
        reference = comparison.cells.get((setting, comparison.reference))
        for cell in comparison.of(setting) if reference else []:
            if any(a.seed == b.seed and not pairs_up(a, b) for a in cell.runs for b in reference.runs):
                apart.append(f"{cell.method} ({setting})" if setting else cell.method)
    if apart:
        found.append(f"Not the same partition as {comparison.reference}, and so not paired with it: {_few(apart)}")
    if undrawn := told_undrawn([run.undrawn for run in comparison.runs]):
        found.append(undrawn)
    versions = sorted({run.version for run in comparison.runs})
    if len(versions) > 1:
        found.append(f"The runs are of {len(versions)} versions of the program: {_few(versions)}")
    if comparison.further:
        found.append(f"{len(comparison.further)} further runs in the folder are not of the sweep (any more) and are left "
                     f"out: {_few(comparison.further)}")
    return found


def _few(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

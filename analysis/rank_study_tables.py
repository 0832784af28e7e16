"""Tables of a rank study: measures by client, site and round, correlations, the iid control, known ranks."""

from __future__ import annotations

import math

import numpy as np

from . import rank_study, ranks
from .rank_study import CLEAN_ERROR, ENTROPY, EXAMPLES, MEASURES, OVERLAP, RATIO, TARGET, TERMS, Study, Subject
from .rank_study_text import COUNTS, told
from .runs import PERMUTED, client_names
from .table import DASH, Table, number, small
from .tables import CLIENTS_SHOWN

_ROUNDS_SHOWN = 6
_SITES_SHOWN = 12  # up to here a column each beside the clients
SHORT = {"numerical rank (1e-2)": "num. 1e-2", "numerical rank (1e-3)": "num. 1e-3", "energy rank (90%)": "energy 90%",
         "energy rank (95%)": "energy 95%", "energy rank (99%)": "energy 99%", "stable rank": "stable",
         "entropy rank": "entropy", "participation ratio": "participation", "gap rank": "gap",
         ranks.NOISE_EDGE: "noise edge"}
_TERM = {"total": "total", "own": "own term"}
LEGEND = ("num. 1e-2 and 1e-3: singular values of at least that share of the largest; energy: fewest that hold that "
          "share of the sum of squares; stable: sum of squares over the largest one; entropy: exponential of the entropy of the "
          "values' shares; participation: (sum of squares)² over the sum of fourth powers; gap: values above the widest "
          "step (Ahn and Horenstein 2013); noise edge: values above the edge of the noise that the total's last values "
          "show (Kritchman and Nadler 2009), num. 1e-3 where they show none")


def _rank(value: float) -> str:
    return number(float(value), 2).removesuffix(".00")


def _spread(values: np.ndarray) -> str:
    """'8.1 [7, 10]': mean [smallest, largest] over clients; one number where they are the same."""
    values = values[~np.isnan(values)]
    if not values.size:
        return DASH
    if np.ptp(values) < 5e-3:
        return _rank(values.mean())
    return f"{_rank(values.mean())} [{_rank(values.min())}, {_rank(values.max())}]"


def _names(subject: Subject) -> list[str]:
    return [name for name in (RATIO, OVERLAP) if ("", name) in subject.effects]


def _round(subject: Subject) -> str:
    return str(int(subject.first.data["spectrum"].values[-1]))


# ---- several configurations -------------------------------------------------------------------------------
def overview(study: Study) -> Table:
    """A row a configuration and term: every measure over the clients of all seeds."""
    extra = [name for name in (RATIO, OVERLAP) if any(("", name) in s.effects for s in study.subjects)]
    table = Table("Rank measures over clients", ["configuration", "term", *(SHORT[name] for name in MEASURES), *extra])
    for subject in study.subjects:
        for term in TERMS:
            if (term, MEASURES[0]) in subject.effects:
                cells = [_spread(np.concatenate(subject.effects[term, name])) for name in MEASURES]
                more = [_spread(np.concatenate(subject.effects["", name])) if ("", name) in subject.effects
                        and term == "total" else DASH for name in extra]
                table.rows.append([subject.label, term, *cells, *more])
    table.note = f"Mean over sites; over the clients of all seeds: mean [smallest, largest]. {LEGEND}."
    return table


def correlations_overview(study: Study, cause: str) -> Table | None:
    """A row a configuration: Spearman's rho of every measure of the total, the ratio and the overlap with one cause."""
    subjects = [s for s in study.subjects if cause in s.causes]
    if not subjects:
        return None
    effects = [("total", name) for name in MEASURES]
    effects += [("", name) for name in (RATIO, OVERLAP) if any(("", name) in s.effects for s in subjects)]
    table = Table(f"Correlation with {cause} over clients", ["configuration", *(SHORT.get(n, n) for _, n in effects)])
    for s in subjects:
        table.rows.append([s.label, *(_correlation(s, effect, cause, True) for effect in effects)])
    table.note = _correlation_note(next((s for s in subjects if s.has_intervals), subjects[0]), True)
    return table


def known_ranks_overview(study: Study) -> list[Table]:
    """The matrix problem: how often each measure, and the matrix itself, is right."""
    subjects = [s for s in study.subjects if s.is_matrix and s.knows_ranks]
    if not subjects:
        return []
    right = Table("Known ranks: clients for which the rank is right",
                  ["configuration", "clients", *(SHORT[n] for n in MEASURES), "known noise", "matrix", "median error"])
    both = Table("Known ranks: right ranks of wrong matrices, and the own term",
                 ["configuration", *(f"{SHORT[n]}, matrix wrong" for n in COUNTS),
                  *(f"own term: {SHORT[n]}" for n in COUNTS)])
    for s in subjects:
        matrix, counts = s.of_truths("matrix_right"), {name: s.right(name) for name in MEASURES}
        known = DASH if s.known_noise is None else str(int((s.known_noise == s.of_truths("rank")).sum()))
        right.rows.append([s.label, str(matrix.size), *(str(int(counts[n].sum())) for n in MEASURES), known,
                           str(int(matrix.sum())), small(float(np.nanmedian(s.of_truths("error"))))])
        both.rows.append([s.label, *(str(int((counts[n] & ~matrix).sum())) for n in COUNTS),
                          *(str(int(s.own_right(n).sum())) if s.two_levels else DASH for n in COUNTS)])
    right.note = (f"Over the clients of all seeds. Right: a measure is that of the target itself (stable, entropy, "
                  f"participation: within 5%); a matrix: relative error below {small(CLEAN_ERROR)}, with noise below 1.5 "
                  "times what it leaves to who knows the rank, σ √(d (m + n − d)) / ‖W*‖. Known noise: values above the "
                  "best threshold for noise of that deviation (Gavish and Donoho 2014).")
    both.note = ("Clients whose total has the right rank while the matrix is wrong, and clients whose own term has as "
                 "many values as the target has directions that no other client's has.")
    return [right, both]


def known_ranks_by_setting(study: Study) -> Table | None:
    """The matrix problem in several settings: a row a method, how often rank, own rank and matrix are right."""
    subjects = [s for s in study.subjects if s.is_matrix and s.knows_ranks]
    settings = list(dict.fromkeys(s.setting for s in subjects))
    if len(settings) < 2:
        return None
    cells = {(s.method, s.setting): _right_of(s) for s in subjects}
    table = Table("Known ranks: right of the clients of all seeds", ["method", *settings])
    for method in dict.fromkeys(s.method for s in subjects):
        table.rows.append([method, *(cells.get((method, setting), DASH) for setting in settings)])
    table.note = (f"Rank of the total, rank of the own term ({SHORT[COUNTS[0]]} both), matrix; in brackets the median "
                  f"relative error. Of {', '.join(dict.fromkeys(str(s.of_truths('rank').size) for s in subjects))}.")
    return table


def _right_of(subject: Subject) -> str:
    own = str(int(subject.own_right(COUNTS[0]).sum())) if subject.two_levels else DASH
    return (f"{int(subject.right(COUNTS[0]).sum())}, {own}, {int(subject.of_truths('matrix_right').sum())} "
            f"({small(float(np.nanmedian(subject.of_truths('error'))))})")


# ---- one configuration ------------------------------------------------------------------------------------
def by_client(subject: Subject) -> list[Table]:
    """A row a client of the first seed: what it holds, and its measures of the total and of its own term."""
    n, causes = subject.clients, {name: values[0] for name, values in subject.causes.items()}
    order = np.arange(n)
    by = next((name for name in (TARGET, ENTROPY, EXAMPLES) if name in causes), None)
    if by:
        order = np.argsort(causes[by], kind="stable")
    shown = order if n <= CLIENTS_SHOWN else order[np.linspace(0, n - 1, CLIENTS_SHOWN).round().astype(int)]
    names, found = _clients(subject), []
    terms = [term for term in TERMS if (term, MEASURES[0]) in subject.effects]
    for term in terms:
        extra = _names(subject) if term == terms[-1] else []
        table = Table(f"Clients: rank of the {_TERM[term]}", ["client", *causes, *(SHORT[m] for m in MEASURES), *extra])
        for k in shown:
            cells = [_cause(name, values[k]) for name, values in causes.items()]
            cells += [_rank(subject.effects[term, m][0][k]) for m in MEASURES]
            table.rows.append([names[k], *cells, *(number(subject.effects["", e][0][k], 3) for e in extra)])
        told_order = f", by {by}" if by else ""
        table.note = (f"After round {_round(subject)}, first seed, mean over sites{told_order}"
                      + ("" if n <= CLIENTS_SHOWN else f"; {CLIENTS_SHOWN} of {n} clients at equal steps") + "."
                      + (f" {LEGEND}." if term == "total" else ""))
        found.append(table)
    return found


def _clients(subject: Subject) -> list[str]:
    """What the first seed's clients that train are called."""
    return np.array(client_names(subject.first.data), dtype=object)[subject.first.trained].tolist()


def _cause(name: str, value: float) -> str:
    if name == PERMUTED:
        return "yes" if value else "no"
    if name in (EXAMPLES, TARGET):
        return f"{value:.0f}"
    return small(float(value)) if name == rank_study.ERROR else number(float(value), 3)


def by_site(subject: Subject) -> Table | None:
    """A row a layer, target and term: measures over the clients of the first seed; None for a single site."""
    data, measured, levels = subject.first.data, subject.measured[0], subject.levels[0]
    if data.sizes["site"] < 2:
        return None
    extra = _names(subject)
    table = Table("Layers and targets: mean rank over clients", ["site", *(SHORT[m] for m in MEASURES), *extra])
    for i, (layer, target) in enumerate(zip(data["layer"].values, data["site_target"].values)):
        for term, of in measured.items():
            cells = [_rank(np.nanmean(of[m][:, i])) if not np.isnan(of[m][:, i]).all() else DASH for m in MEASURES]
            more = [_spread(levels[e][:, i]) if term == "total" else DASH for e in extra]
            table.rows.append([f"{f'layer {layer}, ' if layer >= 0 else ''}{target}, {term}", *cells, *more])
    table.note = f"After round {_round(subject)}, first seed" + (
        f"; {' and '.join(extra)}: mean [smallest, largest] over clients." if extra else ".")
    return table


def levels_by_client(subject: Subject) -> list[Table]:
    """Norm ratio and overlap: a row a client, a column a site; of too many of either only the figure."""
    data = subject.first.data
    if not 2 <= data.sizes["site"] <= _SITES_SHOWN or subject.clients > CLIENTS_SHOWN:
        return []
    columns = [f"{target} {layer}" if layer >= 0 else target
               for layer, target in zip(data["layer"].values, data["site_target"].values)]
    found = []
    for name in _names(subject):
        table = Table(f"{name[0].upper()}{name[1:]} by client, target and layer", ["client", *columns])
        for client, row in zip(_clients(subject), subject.levels[0][name]):
            table.rows.append([client, *(number(float(v), 3) for v in row)])
        table.note = f"After round {_round(subject)}, first seed."
        found.append(table)
    return found


def by_round(subject: Subject) -> Table | None:
    """Some of the rounds at which spectra were taken: mean over clients and sites, first seed."""
    rounds = subject.first.data["spectrum"].values
    if len(rounds) < 2:
        return None
    table = Table("Rounds: mean rank over clients and sites",
                  ["round", "term", *(SHORT[m] for m in MEASURES), *_names(subject)])
    for i in sorted(set(np.linspace(0, len(rounds) - 1, _ROUNDS_SHOWN).round().astype(int).tolist())):
        levels = rank_study.between_levels(subject.first, i)
        for term, of in rank_study.measure(subject.first, i).items():
            more = [number(_mean(levels[e]), 3) if e in levels and term == "total" else DASH for e in _names(subject)]
            table.rows.append([str(int(rounds[i])), term, *(_rank(_mean(of[m])) for m in MEASURES), *more])
    table.note = "First seed."
    return table


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def correlations(subject: Subject) -> list[Table]:
    """Spearman's and Pearson's correlations, rows measures and columns causes, with their intervals."""
    found, causes = [], list(subject.causes)
    if not causes:
        return []
    for rank, what in ((True, "Spearman's ρ"), (False, "Pearson's r")):
        table = Table(f"Correlation over clients: {what}", ["measure", *causes])
        for term, name in subject.effects:
            label = f"{name}, {term}" if term else name
            table.rows.append([label, *(_correlation(subject, (term, name), cause, rank) for cause in causes)])
        table.note = _correlation_note(subject, rank)
        found.append(table)
    return found


def _correlation(subject: Subject, effect: tuple[str, str], cause: str, rank: bool) -> str:
    if effect not in subject.effects:
        return DASH
    c = subject.correlations[(*effect, cause, rank)]
    return DASH if math.isnan(c.value) else told(c) + (" *" if c.shown else "")


def _correlation_note(subject: Subject, rank: bool) -> str:
    seeds, what = len(subject.runs), f"{'Spearman' if rank else 'Pearson'}, over {subject.clients} clients of means over sites"
    same = f"{DASH}: one of the two is the same for every client."
    if not subject.has_intervals:
        return f"{what}. {same}"
    how = ("mean over seeds with its 95% t-interval" if seeds > 1 else "with the 95% interval of "
           + ("the bootstrap over clients" if subject.clients >= 20 else "Fisher's z"))
    return f"{what}, {how}. *: the interval leaves out 0, as about 1 in 20 does by chance. {same}"


def control(study: Study, subject: Subject) -> Table | None:
    """Spread over clients beside that of the iid control; None without one."""
    other, spreads = study.control(subject), study.spreads(subject)
    if other is None:
        return None
    table = Table("Beside clients that are alike", ["measure", "here", "iid control", "variance ratio", "p"])
    for (term, name), (ratio, p) in spreads.items():
        here, there = (np.concatenate(s.effects[term, name]) for s in (subject, other))
        table.rows.append([f"{name}, {term}" if term else name, _spread(here), _spread(there),
                           DASH if math.isnan(ratio) else "∞" if math.isinf(ratio) else number(ratio, 2),
                           DASH if math.isnan(p) else small(round(p, 4))])
    table.note = (f"Control: {other.label}. Mean [smallest, largest] over the clients of all seeds. Variance over "
                  "clients, around each seed's mean, over that of the control; p: permutation test that it is no larger. "
                  f"{DASH}: no spread in either.")
    return table


def known_ranks(subject: Subject) -> Table | None:
    """The matrix problem: a row a client and seed, what its target's rank is and what was learned."""
    if not subject.is_matrix or not subject.knows_ranks:
        return None
    known = subject.known_noise
    table = Table("Known ranks by client", ["seed, client", "target rank", *(SHORT[m] for m in MEASURES),
                                           *(["known noise"] if known is not None else []), "relative error",
                                           *(f"{SHORT[m]} and matrix" for m in COUNTS)])
    row = 0
    for r, (run, t) in enumerate(zip(subject.runs, subject.truths)):
        for i, k in enumerate(np.flatnonzero(run.trained)):
            learned = {m: subject.effects["total", m][r][i] for m in MEASURES}
            wanted = {m: t.of(m, run)[i] for m in MEASURES}
            cells = [_rank(learned[m]) if m in COUNTS else f"{_rank(learned[m])} ({_rank(wanted[m])})" for m in MEASURES]
            cells += [_rank(known[row])] if known is not None else []
            both = [_both(bool(rank_study.rank_right(m, learned[m], wanted[m])), bool(t.matrix_right[i])) for m in COUNTS]
            table.rows.append([f"{run.seed}, {k}", str(t.rank[i]), *cells, small(float(t.error[i])), *both])
            row += 1
    if len(table.rows) > CLIENTS_SHOWN:
        table.rows = table.rows[:CLIENTS_SHOWN]
    table.note = ("In brackets: the measure of the target itself. The last columns say what is right; "
                  "'rank only' is a rank that is right of a matrix that is wrong."
                  + (f" The first {CLIENTS_SHOWN} of {row} rows." if row > CLIENTS_SHOWN else ""))
    return table


def _both(rank: bool, matrix: bool) -> str:
    return ("both" if matrix else "rank only") if rank else ("matrix only" if matrix else "neither")

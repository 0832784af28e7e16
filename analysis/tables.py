"""Tables of one run and of several. Scores are those of the runs' measure, in its unit."""

from __future__ import annotations

import functools
import math

import numpy as np

from . import classification, ranks, statistics
from .measure import Further, Measure, capital
from .runs import PERMUTED, Configuration, Run, client_names, same_partition
from .table import DASH, Table, data_size, number, plus_minus, small

SOLVED = 1e-6
PAIRS_NOTE = "Pairs: seeds that local-only training has too, on the same partition; others have no part in it."
ONE_SEED = "1 seed, no interval"
ALONE_NOTE = " A client's own pair is not added to the common one: there is no total beside it."
CLIENTS_SHOWN = 40


def last_round(run: Run) -> str:
    rounds = run.data["evaluation"].values
    return str(int(rounds[-1])) if rounds.size else DASH


def evaluated(run: Run) -> list[tuple[str, int, str]]:
    """(kind, adaptation step, name) of every model with a score at the last evaluation."""
    return [model for model in _models(run) if run.score(*model[:2]) is not None]


def _models(run: Run) -> list[tuple[str, int, str]]:
    """(kind, adaptation step, name) of every model that may be evaluated."""
    return [("personal", -1, "personal"), ("common", -1, "common"),
            *(("adapted", i, f"adapted, {steps} local step{'s' if steps != 1 else ''}")
              for i, steps in enumerate(run.adaptation_steps))]


def summary(run: Run) -> Table:
    """Scores of a run's clients at its last evaluation; errors and losses in the matrix problem."""
    return _matrix_summary(run) if run.is_matrix else _text_summary(run)


def _text_summary(run: Run) -> Table:
    measure = run.measure
    table = Table(f"{measure.title} after round {last_round(run)}: {run.title}",
                  [measure.heading, "macro mean", "weighted mean", "std over clients", "worst 10%", "best 10%",
                   *(["over majority"] if measure.classes else []), *_further_columns(measure)])
    readings = run.readings()
    groups = [("", run.trained), *((f", {name}", chosen) for name, chosen in readings.items())]
    if run.data["held_out"].values.any() and run.trained.sum() < run.data.sizes["client"]:
        groups.append((", held-out clients", ~run.trained))

    def of_clients(values: np.ndarray, chosen: np.ndarray) -> list[str]:
        v = values[chosen]
        found = (statistics.macro_mean(v), statistics.weighted_mean(v, run.weights[chosen]), statistics.spread(v),
                 measure.worst(v), measure.best(v))
        return [number(value, measure.digits) for value in found]

    for suffix, chosen in groups:
        for kind, step, name in evaluated(run):
            values = run.score(kind, step)
            row = [name + suffix, *of_clients(values, chosen)]
            if measure.classes:
                majority = math.nan if run.majority is None else run.majority[chosen]
                row.append(number(statistics.macro_mean(values[chosen] - majority), sign=True))
            table.rows.append(row + [number(mean, further.digits) for further in measure.further
                                     for mean in further_means(run, further, kind, step, chosen)])
        if run.majority is not None:
            table.rows.append(["majority class" + suffix, *of_clients(run.majority, chosen), DASH,
                               *[DASH for _ in _further_columns(measure)]])
    n = int(run.trained.sum())
    k = statistics.decile_size(n)
    table.note = f"{n} client{'s' if n != 1 else ''}; worst and best 10%: mean of {k}. {_weighing(measure)}"
    if measure.classes:
        table.note += " Majority class: always answering the client's most frequent training class."
    table.note += f" {measure.note}" if measure.note else ""
    if readings:
        table.note += (f" {permuted_note()} They are {int(readings[PERMUTED].sum())} of the {n}.")
    return table


def _further_columns(measure: Measure) -> list[str]:
    """The columns of further_means(), of each further quantity in turn."""
    return [column for further in measure.further
            for column in ([f"macro mean {further.name}", f"weighted mean {further.name}"] if further.pooled
                           else [further.name])]


def further_means(run: Run, further: Further, kind: str, step: int, chosen: np.ndarray) -> list[float]:
    """Means of a further quantity of a model over clients: the macro mean, of a pooled one the weighted mean too."""
    found = [further_mean(run, further, kind, step, chosen)]
    if further.pooled:
        values = run.clients(further.variable.format(kind), step=step)
        found.append(math.nan if values is None else
                     further.scale * statistics.weighted_mean(values[chosen], run.weights[chosen]))
    return found


def further_mean(run: Run, further: Further, kind: str, step: int = -1, chosen: np.ndarray | None = None) -> float:
    """Macro mean of a further quantity of a model over clients, all that train unless given; NaN without."""
    values, chosen = run.clients(further.variable.format(kind), step=step), run.trained if chosen is None else chosen
    return math.nan if values is None else further.scale * statistics.macro_mean(values[chosen])


def _weighing(measure: Measure) -> str:
    several = any(further.pooled for further in measure.further)
    return f"The weighted mean{'s weigh' if several else ' weighs'} clients by test {measure.weight}."


def judged(names, further: str = "") -> str:
    """A sentence that names those whose score is the adapted one, with what else is to be said; empty without any."""
    told = "; ".join([", ".join(dict.fromkeys(names)), *([further] if further else [])])
    return f" Judged after adaptation, which its weights are made for: {told}." if names else ""


def judged_after(groups: list[Configuration], further: str = "") -> str:
    """judged() of the labels of configurations."""
    return judged([group.label for group in groups if group.first.deployed == "adapted"], further)


def marked(name: str, deployed: str) -> str:
    """What figures call a method, which is marked where its score is the adapted one."""
    return f"{name}, adapted" if deployed == "adapted" else name


def permuted_note() -> str:
    return ("Labels permuted: of the clients that read their labels through a permutation of the classes "
            "(--label-conflict).")


def adapted_note(recorded: list[bool]) -> str:
    """What a table of several runs says of adapted accuracies, some of which may not have been recorded."""
    if not any(recorded):
        return ("No column adapted: no run recorded local steps on a copy (--adaptation-steps; what auto records is for "
                "methods without a personal part, or with held-out clients).")
    return ("Adapted: after the most local steps recorded, on a copy"
            + ("." if all(recorded) else "; a dash where --adaptation-steps recorded none."))


def _matrix_summary(run: Run) -> Table:
    table = Table(f"Error after round {last_round(run)}: {run.title}",
                  ["quantity", "mean", "smallest", "largest", f"clients below {small(SOLVED)}"])
    for name, label in (("relative_error", "relative error"), ("personal_loss", "loss, personal"),
                        ("common_loss", "loss, common")):
        if (values := run.clients(name)) is not None:
            v = values[run.trained]
            below = f"{int((v < SOLVED).sum())} of {v.size}" if name == "relative_error" else DASH
            table.rows.append([label, *(small(f(v)) for f in (np.nanmean, np.nanmin, np.nanmax)), below])
    return table


def class_scores(run: Run) -> Table | None:
    """Matthews correlation and F1 of every model evaluated last, where confusion matrices were recorded."""
    if "personal_confusion" not in run.data:
        return None
    binary = run.data.sizes["class"] == 2
    of = f"F1 of class '{run.data['class_name'].values[1]}'" if binary else "macro F1"
    scores = (classification.mcc, classification.f1 if binary else classification.macro_f1)
    table = Table(f"Class scores after round {last_round(run)}: {run.title}",
                  ["model", "MCC, mean", "MCC, all clients pooled", f"{of}, mean", f"{of}, all clients pooled"])
    for kind, step, label in _models(run):
        if (matrices := run.clients(f"{kind}_confusion", step=step)) is None:
            continue
        matrices = matrices[run.trained]
        values = [value for score in scores for value in (statistics.macro_mean(score(matrices)),
                                                          float(score(matrices.sum(axis=0))))]
        table.rows.append([label, *(number(value, 3) for value in values)])
    table.note = ("Mean: over clients, each on its own test examples, without those where a score has no value: MCC "
                  "where these are of one class alone, F1 where a class is neither among them nor answered.")
    return table if table.rows else None


def client_summary(run: Run) -> Table:
    """One row a client at the last evaluation: its data, its scores, and the rank that it learned.

    Of more than CLIENTS_SHOWN clients, those with the lowest and the highest scores.
    """
    columns = _matrix_client_columns(run) if run.is_matrix else _text_client_columns(run)
    ranked, notes = _learned_ranks(run), []
    columns |= ranked
    table = Table(f"Clients after round {last_round(run)}: {run.title}", ["client", *columns])
    clients = np.arange(run.data.sizes["client"])
    if clients.size > CLIENTS_SHOWN:
        clients, what = _extreme_clients(run)
        notes.append(f"{what}, of {run.data.sizes['client']} clients; results.h5 holds all")
    held_out = run.data["held_out"].values
    permuted, names = run.permuted if not run.is_matrix else np.zeros_like(held_out), client_names(run.data)
    for k in clients:
        name = ", ".join([names[k], *(["held out"] if held_out[k] else []), *(["permuted"] if permuted[k] else [])])
        table.rows.append([name, *(form(values[k]) for values, form in columns.values())])
    if permuted.any():
        notes.append("Permuted: reads its labels through a permutation of the classes")
    if "majority, %" in columns:
        notes.append("Majority: always answering the client's most frequent training class")
    if ranked:
        notes.append(f"Ranks: of the total adapter after round {int(run.data['spectrum'].values[-1])}, mean over sites")
    table.note = ". ".join(notes) + ("." if notes else "")
    return table


def _extreme_clients(run: Run) -> tuple[np.ndarray, str]:
    """CLIENTS_SHOWN clients with the lowest and the highest scores, in that order, and what they are."""
    half, score = CLIENTS_SHOWN // 2, run.score("personal")
    if score is None:
        return np.arange(CLIENTS_SHOWN), f"The first {CLIENTS_SHOWN}"
    order = np.argsort(score, kind="stable")
    order = order[~np.isnan(score[order])]
    chosen = np.concatenate([order[:half], order[half:][-half:]])
    return chosen, f"The {half} of lowest and the {half} of highest {run.measure.personal(run.measure.name)}"


def _text_client_columns(run: Run) -> dict:
    """{column: (values [client], form)} of what is known of a client's examples and scores."""
    measure, columns = run.measure, {}
    for part in ("train", "validation", "test"):
        values = run.clients(f"{part}_examples")
        if values is not None and (part != "validation" or values.any()):
            columns[f"{part} examples"] = (values, "{:.0f}".format)
    if measure.weight != "examples":
        columns[f"test {measure.weight}"] = (run.weights, "{:.0f}".format)
    if (entropy := run.clients("label_entropy")) is not None:
        columns["label entropy, nats"] = (entropy, lambda nats: number(nats, 2))
    personal, common = run.score("personal"), run.score("common")
    if personal is not None and common is not None and np.array_equal(personal, common, equal_nan=True):
        scores = {"personal = common": personal}
    else:
        scores = {"common": common, "personal": personal}
    scores = {"majority": run.majority, **scores}
    if run.adaptation_steps:
        scores[f"adapted ({run.adaptation_steps[-1]} steps)"] = run.score("adapted")
    columns |= {measure.column(name): (values, lambda score: number(score, measure.digits))
                for name, values in scores.items() if values is not None}
    for further in measure.compared:
        if (values := run.clients(further.variable.format("personal"))) is not None:
            columns[f"personal {further.name}"] = (further.scale * values, functools.partial(number, digits=further.digits))
    return columns


def _matrix_client_columns(run: Run) -> dict:
    named = {"relative error": "relative_error", "loss, personal": "personal_loss", "loss, common": "common_loss"}
    found = {label: run.clients(name) for label, name in named.items()}
    return {label: (values, small) for label, values in found.items() if values is not None}


def _learned_ranks(run: Run) -> dict:
    """Columns of the total's rank, empty unless there are two levels."""
    if run.spectra("common") is None or run.spectra("client") is None or run.spectra("total") is None:
        return {}
    return {name: (run.client_rank_measure(name), lambda rank: number(rank, 2))
            for name in ("numerical rank (1e-2)", "energy rank (99%)")}


def rank_summary(run: Run) -> Table | None:
    """Rank measures at the last spectrum: mean over sites, then mean [smallest, largest] over clients."""
    table = Table(f"Ranks after round {int(run.data['spectrum'].values[-1]) if run.data.sizes['spectrum'] else DASH}: "
                  f"{run.title}", ["measure", "common", "own", *(["total"] if run.adds else [])])
    kinds = {kind: run.spectra(kind) for kind in ("common", "client", *(["total"] if run.adds else []))}
    if not run.terms:
        return None
    for name, measure in ranks.MEASURES.items():
        row = [name]
        for kind, values in kinds.items():
            if values is None:
                row.append(DASH)
                continue
            by_client = measure(values).mean(axis=-1)
            if kind != "common":
                by_client = by_client[run.trained]
            text = number(statistics.macro_mean(by_client), 2)
            if np.size(by_client) > 1:
                text += f" [{number(np.nanmin(by_client), 2)}, {number(np.nanmax(by_client), 2)}]"
            row.append(text)
        table.rows.append(row)
    table.note = "Of the scaled terms. Mean over sites; over clients: mean [smallest, largest]."
    if not run.adds:
        table.note += ALONE_NOTE
    return table


def cost_summary(run: Run) -> Table:
    """What the run cost a client, and where the time went; a run of no rounds has no times."""
    data, trained = run.data, run.trained
    table = Table(f"Cost: {run.title}", ["quantity", "value"])
    for name, label, form in (("gradient_evaluations", "gradient evaluations of a client", "{:,.1f}".format),
                              ("bytes_up", "sent by a client", data_size),
                              ("bytes_down", "received by a client", data_size)):
        table.rows.append([label, form(float(data[name].sum("round").values[trained].mean()))])
    for name, label in (("parameters_trained", "parameters trained by a client"),
                        ("parameters_stored", "parameters stored for a client")):
        table.rows.append([label, f"{float(data[name].values[trained].mean()):,.0f}"])
    table.note = "Over all rounds; means over clients that train"
    if totals := run.phase_totals():
        for phase, seconds in totals.items():
            table.rows.append([f"seconds: {phase}", number(seconds, 2)])
        table.rows.append(["seconds: all phases", number(sum(totals.values()), 2)])
        table.note += ", seconds as mean over processes"
    table.note += "."
    return table


def headline(run: Run, kind: str = "personal") -> float:
    """Macro mean of the score of a kind, or of the majority class, at the last evaluation; NaN without."""
    values = run.majority if kind == "majority" else run.score(kind)
    return math.nan if values is None else statistics.macro_mean(values[run.trained])


def comparison(groups: list[Configuration]) -> Table:
    """One row a configuration, mean ± standard deviation over its seeds."""
    return _matrix_comparison(groups) if groups[0].first.is_matrix else _text_comparison(groups)


def _text_comparison(groups) -> Table:
    runs = [run for g in groups for run in g.runs]
    local = [run for run in runs if run.algorithm == "local"]
    recorded, measure = [run.score("adapted") is not None for run in runs], runs[0].measure
    readings = list(dict.fromkeys(name for run in runs for name in run.readings()))
    kinds = ["common", *(["adapted"] if any(recorded) else []), *(["majority"] if measure.classes else [])]
    table = Table(f"Comparison: {measure.told} at the last evaluation",
                  ["configuration", "seeds", "round", "personal", *readings, "worst 10%", "std over clients", *kinds,
                   *(f"personal {further.name}" for further in measure.compared),
                   *(["gain over local", "clients harmed", "pairs"] if local else [])])
    for g in groups:
        def over_seeds(kind, summarise, reading=None):
            per_run = [run.majority if kind == "majority" else run.score(kind or run.deployed) for run in g.runs]
            chosen = [run.readings().get(reading) if reading else run.trained for run in g.runs]
            return plus_minus([None if v is None or c is None else summarise(v[c]) for v, c in zip(per_run, chosen)],
                              measure.digits)

        row = [g.label, str(len(g.runs)), ", ".join(dict.fromkeys(last_round(run) for run in g.runs)),
               over_seeds("personal", statistics.macro_mean)]
        row += [over_seeds(None, statistics.macro_mean, reading) for reading in readings]
        row += [over_seeds(None, f) for f in (measure.worst, statistics.spread)]
        row += [over_seeds(kind, statistics.macro_mean) for kind in kinds]
        row += [plus_minus([further_mean(run, further, run.deployed) for run in g.runs], further.digits)
                for further in measure.compared]
        if local:
            gains = [_against_local(run, local) for run in g.runs if run.algorithm != "local"]
            gains = [gain for gain in gains if gain is not None]
            row += [plus_minus([gain for gain, _ in gains], measure.digits), plus_minus([h for _, h in gains], scale=100),
                    DASH if g.first.algorithm == "local" else str(len(gains))]
        table.rows.append(row)
    table.note = "Macro means over clients" + (
        "; ± standard deviation over seeds. " if any(len(g.runs) > 1 for g in groups) else ". ")
    table.note += adapted_note(recorded)
    if readings:
        table.note += f" {permuted_note()}"
    if local:
        local_score = "local-only training on the same partition"
        table.note += (f" Gain over local: {measure.gain_over(local_score)}; harmed: percent of clients {measure.worse} "
                       f"it. {PAIRS_NOTE}")
    table.note += f" {measure.note}" if measure.note else ""
    table.note += judged_after(groups, "worst 10%, spread and gains are of that")
    return table


def _against_local(run: Run, local: list[Run]) -> tuple[float, float] | None:
    """(mean gain, share of clients harmed) against local-only training of the same seed and partition."""
    mine = run.score(run.deployed)
    for other in local:
        theirs = other.score("personal")
        if mine is not None and theirs is not None and other.seed == run.seed and same_partition(run, other):
            gain = run.measure.better_by(mine, theirs)[run.trained & other.trained]
            return statistics.macro_mean(gain), float((gain < 0).mean())
    return None


def _matrix_comparison(groups) -> Table:
    table = Table("Comparison: the matrix problem at the last evaluation",
                  ["configuration", "seeds", "round", "relative error", "largest", "solved runs", "loss",
                   "numerical rank (1e-2)"])
    for g in groups:
        errors = [run.clients("relative_error") for run in g.runs]
        worst = [math.nan if e is None else float(np.nanmax(e)) for e in errors]
        found = [run.client_rank_measure("numerical rank (1e-2)") for run in g.runs]
        losses = [run.clients("personal_loss") for run in g.runs]
        table.rows.append([
            g.label, str(len(g.runs)), ", ".join(dict.fromkeys(last_round(run) for run in g.runs)),
            plus_minus([headline(run) for run in g.runs], form=small), small(max(worst)),
            f"{sum(w < SOLVED for w in worst)} of {len(worst)}",
            plus_minus([None if v is None else statistics.macro_mean(v) for v in losses], form=small),
            _distinct_ranks(found)])
    table.note = (f"Solved: every client's relative error below {small(SOLVED)}. Ranks: of the total adapter, by client, as "
                  "often as each combination came out.")
    return table


def _distinct_ranks(found) -> str:
    """'(3, 5) × 9' for every combination of the clients' ranks; a range where there are more than 8 clients."""
    found = [f for f in found if f is not None]
    if not found:
        return DASH
    if len(found[0]) > 8:
        return f"{np.nanmin(np.concatenate(found)):g} to {np.nanmax(np.concatenate(found)):g}"
    texts = ["(" + ", ".join(f"{v:g}" for v in f) + ")" for f in found]
    return "; ".join(f"{t} × {texts.count(t)}" for t in dict.fromkeys(texts))


def unpaired_note(names: list[str]) -> str:
    """A sentence on those that share no seed and partition with the reference; empty without any."""
    return f" Not a single pair: {', '.join(names)}." if names else ""


def paired_differences(groups: list[Configuration]) -> Table | None:
    """Differences to what the first configuration deploys, seed by seed; None where no two seeds pair up."""
    reference, measure = {run.seed: run for run in groups[0].runs}, groups[0].first.measure
    digits = measure.difference_digits
    rows, unpaired = [], []
    for g in groups:
        for kind in ("personal", "adapted", "majority"):
            itself = g is groups[0] and kind == g.first.deployed
            if itself or g.first.is_matrix or (kind == "majority" and g is not groups[0]):
                continue
            pairs = [(run, reference[run.seed]) for run in g.runs if run.seed in reference]
            differences = [headline(run, kind) - headline(other, other.deployed) for run, other in pairs
                           if same_partition(run, other)]
            mean, half, n = statistics.mean_interval(differences)
            name = "majority class" if kind == "majority" else g.label
            if n:
                interval = (ONE_SEED if n == 1 else
                            f"[{number(mean - half, digits, True)}, {number(mean + half, digits, True)}]")
                rows.append([name, DASH if kind == "majority" else kind, str(n), number(mean, digits, True), interval])
            elif kind == "personal":
                unpaired.append(name)
    if not rows:
        return None
    what = capital(measure.difference(f"macro mean {measure.name}"))
    note = (f"{what}; reference: {groups[0].first.deployed} {measure.name} of {groups[0].label}. Paired by seed, where "
            f"both runs hold the same partition; 95% t-interval.{measure.sign}{unpaired_note(unpaired)}"
            + judged_after(groups))
    return Table(f"Paired differences to {groups[0].label}",
                 ["configuration", measure.name, "seeds", "difference", "95% interval"], rows, note)

"""A rank study in plain sentences, made from the numbers by rule: an interval that holds 0 is never an effect."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import numpy as np

from . import ranks
from .rank_study import ENTROPY, GIVEN, LEVEL, MEASURES, OVERLAP, RATIO, Study, Subject
from .statistics import FEWEST, Correlation, constant
from .table import number, small

# The measures of the known-rank problem that count singular values, so that they can be right or wrong.
_TERM = {"total": "total", "own": "own term"}
COUNTS = ("numerical rank (1e-2)", "numerical rank (1e-3)", "gap rank", ranks.NOISE_EDGE)


def told(found: Correlation) -> str:
    """'0.10 [−0.50, 0.60]'; the value alone where there is no interval."""
    if math.isnan(found.value):
        return "undefined"
    text = number(found.value, 2)
    return text if math.isnan(found.low) else f"{text} [{number(found.low, 2)}, {number(found.high, 2)}]"


def listed(parts: list[str], last: str = " and ") -> str:
    return last.join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def over(subject: Subject) -> str:
    seeds = len(subject.runs)
    return f"{subject.clients} clients" + (f", {seeds} seeds" if seeds > 1 else "")


def findings(study: Study, subject: Subject) -> list[str]:
    """What was found of a configuration, sentence by sentence, the verdict first."""
    found = [*_opening(subject), verdict(study, subject), *_too_few(subject), *_constants(subject),
             *_interval_kept(subject)]
    found += _known_ranks(subject) if subject.is_matrix else []
    for cause in subject.causes:
        found += _goes_with(subject, cause)
    return [sentence for sentence in (*found, *_between_levels(subject), *_beside_control(study, subject)) if sentence]


def across(study: Study) -> list[str]:
    """What stands out over several configurations."""
    known = [s for s in study.subjects if s.is_matrix and s.knows_ranks]
    found = []
    if known:
        clients = sum(s.of_truths("rank").size for s in known)
        counts = {name: sum(int(s.right(name).sum()) for s in known) for name in COUNTS}
        order = sorted(COUNTS, key=lambda name: -counts[name])
        found.append(f"Over all configurations, of {clients} ranks are right: "
                     + listed([f"{name} {counts[name]}" for name in order]) + ".")
        if wrong := [s.label for s in known if s.right(order[0]).all() and not s.of_truths("matrix_right").any()]:
            found.append(f"Every rank ({order[0]}) is right and every matrix wrong: {'; '.join(wrong)}.")
        if same := [s.label for s in known if s.same_for_all(("total", COUNTS[0]))]:
            found.append(f"The {COUNTS[0]} is the same for every client, whatever the target's: {'; '.join(same)}.")
        counted: dict[str, list] = {}
        for s in (s for s in known if s.two_levels):
            counted.setdefault(s.method or s.label, []).append(s.own_right(COUNTS[0]))
        own = [f"{method} {sum(int(r.sum()) for r in rights)} of {sum(r.size for r in rights)}"
               for method, rights in counted.items()]
        if own:
            found.append(f"The own term's {COUNTS[0]} is the number of directions that are a client's alone: "
                         f"{'; '.join(own)}.")
    texts = [s for s in study.subjects if ("", RATIO) in s.effects and ENTROPY in s.causes and s.has_intervals]
    for shown, what in ((True, "goes along with"), (False, "is not shown to go along with")):
        ratios = [(s.label, s.correlations["", RATIO, ENTROPY, True]) for s in texts]
        parts = [f"{label} (ρ {told(c)})" for label, c in ratios if c.shown == shown and not math.isnan(c.value)]
        if parts:
            found.append(f"The norm ratio ‖s′ D C‖ / ‖s B A‖ {what} {ENTROPY}: {'; '.join(parts)}.")
    return found


def _opening(subject: Subject) -> list[str]:
    """The learned ranks themselves; of the matrix problem the verdict tells them."""
    if subject.is_matrix:
        return []
    values = np.concatenate(subject.effects["total", COUNTS[0]])
    low, high = (f"{round(float(f(values)), 1):g}" for f in (np.nanmin, np.nanmax))
    of = ("common and own part together" if subject.two_levels else
          "what a client adds" if subject.first.adds else "a client's own pair, which is not added to the common one")
    how = f"{COUNTS[0]} of {of}, mean over sites"
    return [f"All {over(subject)} have the same learned rank, {low} ({how})." if low == high else
            f"The learned rank is between {low} and {high} ({over(subject)}; {how})."]


# ---- the verdict ------------------------------------------------------------------------------------------
def verdict(study: Study, subject: Subject) -> str:
    """Whether the learned rank follows the client, as far as these runs can tell."""
    return _matrix_verdict(subject) if subject.is_matrix else _text_verdict(study, subject)


def _text_verdict(study: Study, subject: Subject) -> str:
    varying = [name for name in MEASURES if not subject.same_for_all(("total", name))]
    if not varying:
        return "The learned rank does not follow the client: by every measure it is the same for all of them."
    given = [cause for cause in GIVEN if cause in subject.causes]
    if not given:
        return ("What the clients hold does not differ in label entropy or number of examples, so that there is nothing "
                "for a rank to follow.")
    if not subject.has_intervals:
        return "Whether the learned rank follows the client is open: the clients are too few for intervals of correlations."
    pairs = [(name, cause) for name in varying for cause in given]
    shown = [(name, cause) for name, cause in pairs if subject.correlations["total", name, cause, True].shown]
    chance = f"about {number(LEVEL * len(pairs), 1)} would by chance where nothing is related"
    count = (f"of {len(pairs)} intervals (Spearman, {len(varying)} rank measures of the total that differ between "
             f"clients, with {listed(given)}), {len(shown)} leave{'s' if len(shown) == 1 else ''} out 0, and {chance}")
    if not shown:
        return f"It is not shown that the learned rank follows the client: {count}."
    if subject.is_iid:
        return f"The clients are alike here, a control: {count}."
    spreads = study.spreads(subject)
    if not spreads:
        return f"Whether the learned rank follows the client is open, since an iid control is missing: {count}."
    kept = list(dict.fromkeys(name for name, _ in shown if spreads.get(("total", name), (0, 1))[1] < LEVEL))
    if not kept:
        return ("It is not shown that the learned rank follows the client: no measure that goes along with what clients "
                f"hold differs between them more than between iid ones; {count}.")
    few = " That is no more than chance would give." if len(shown) <= LEVEL * len(pairs) else ""
    differ = "differs" if len(kept) == 1 else "differ"
    return (f"The learned rank goes along with the client by the {listed(kept)}, which also {differ} between clients more than between iid ones; {count}.{few}")


def _matrix_verdict(subject: Subject) -> str:
    if not subject.knows_ranks:
        return "The runs do not say which ranks their targets have."
    right = {name: subject.right(name) for name in COUNTS}
    matrix, wanted = subject.of_truths("matrix_right"), subject.of_truths("rank")
    best = max(right, key=lambda name: right[name].sum())
    guess = max(int((wanted == rank).sum()) for rank in wanted)  # right for as many without looking at the client
    how = "follows the client" if right[best].all() and guess < wanted.size else (
        "does not follow the client" if right[best].sum() <= guess else "follows the client in part")
    counts = ", ".join(f"{name} {right[name].sum()}" for name in COUNTS)
    return (f"By the measure that is right most often, the {best}, the learned rank {how} (ranks {wanted.min()} to "
            f"{wanted.max()}, {over(subject)}). Right of {wanted.size}: {counts}; one rank for all {guess}. The matrix itself is right for "
            f"{matrix.sum()}; rank right and matrix wrong: {int((right[best] & ~matrix).sum())}.")


def _known_ranks(subject: Subject) -> list[str]:
    if not subject.knows_ranks:
        return []
    errors, limits = subject.of_truths("error"), subject.of_truths("reachable")
    told_limit = small(limits.max()) if np.ptp(limits) < 1e-12 else f"{small(limits.min())} to {small(limits.max())}"
    found = [f"The relative error is {small(np.nanmedian(errors))} in the median, {small(np.nanmax(errors))} at most; a "
             f"matrix counts as right below {told_limit}."]
    if subject.known_noise is not None:
        found.append(f"With the threshold that is best for the noise of these runs, were it known (deviation "
                     f"{small(subject.truths[0].deviation)}), the rank is right for "
                     f"{int((subject.known_noise == subject.of_truths('rank')).sum())} of {errors.size}.")
    if subject.two_levels:
        counts = listed([f"the {name} for {int(subject.own_right(name).sum())}" for name in COUNTS])
        found.append(f"Of the own term the rank is the number of directions that are the client's alone: by {counts} of "
                     f"{errors.size}.")
    return found


def _too_few(subject: Subject) -> list[str]:
    """Why no sentence tells what goes along with what, where clients and seeds are too few for intervals."""
    if subject.has_intervals or not subject.causes:
        return []
    clients = f"{subject.clients} client{'s' if subject.clients != 1 else ''}"
    return [f"Correlations over {clients} have no intervals, and so show no relation: it takes {FEWEST} clients, or two "
            "seeds."]


# ---- the measures -----------------------------------------------------------------------------------------
def _constants(subject: Subject) -> list[str]:
    """Which measures of the total, and of the own term, are the same for every client."""
    found = []
    for term in (t for t in ("total", "own") if (t, MEASURES[0]) in subject.effects):
        by_value: dict[str, list[str]] = {}
        for name in MEASURES:
            if subject.same_for_all((term, name)):
                values = np.concatenate([m[term][name].ravel() for m in subject.measured])
                values = values[~np.isnan(values)]
                low, high = (number(v, 2).removesuffix(".00") for v in (values.min(), values.max()))
                text = f"{low}{_capacity(subject, term, low)}" if low == high else f"{low} to {high} by site"
                by_value.setdefault(text, []).append(name)
        for value, names in by_value.items():
            verb, they = ("is", "it does") if len(names) == 1 else ("are", "they do")
            found.append(f"The {listed(names)} of the {_TERM[term]} {verb} {value} for every client: {they} not follow the "
                         "client.")
    return found


def _capacity(subject: Subject, term: str, value: str) -> str:
    """' = r + r~' where the rank is all that the adapters can have."""
    if term == "own":
        return " = r~" if value == str(subject.first.data.sizes["client_index"]) else ""
    if value != str(subject.first.data.sizes["total_index"]):
        return ""
    return " = r + r~" if subject.two_levels else ", all that the adapter can have"


def _interval_kept(subject: Subject) -> list[str]:
    """Where the numerical rank leaves [r − r~, r + r~], which it cannot while both terms have full rank."""
    if not subject.two_levels:
        return []
    r, own = (subject.first.data.sizes[f"{kind}_index"] for kind in ("common", "client"))
    below = {name: np.concatenate([m["total"][name].ravel() for m in subject.measured]) < r - own for name in COUNTS[:2]}
    parts = [f"the {name} at {int(v.sum())} of {v.size}" for name, v in below.items() if v.any()]
    return [f"A threshold relative to σ1 does not keep the rank interval: {listed(parts)} clients and sites is below "
            f"r − r~ = {r - own}."] if parts else []


def _goes_with(subject: Subject, cause: str) -> list[str]:
    """Which rank measures of the total go along with a cause, and for which nothing is shown."""
    if not subject.has_intervals:
        return []
    found = {name: subject.correlations["total", name, cause, True] for name in MEASURES
             if not subject.same_for_all(("total", name))}
    found = {name: c for name, c in found.items() if not math.isnan(c.value)}
    sentences = []
    for verb, chosen in (("rise", lambda c: c.low > 0), ("fall", lambda c: c.high < 0)):
        if parts := [f"{name} {told(c)}" for name, c in found.items() if chosen(c)]:
            sentences.append(f"These {verb} with {cause} over clients (Spearman's ρ of the total): {listed(parts)}.")
    if parts := [f"{name} {told(c)}" for name, c in found.items() if not c.shown]:
        sentences.append(f"No relation to {cause} is shown of: {listed(parts)}.")
    return sentences


def _between_levels(subject: Subject) -> list[str]:
    found = []
    for name, what in ((RATIO, "norm ratio ‖s′ D C‖ / ‖s B A‖"), (OVERLAP, "overlap of common and own subspace")):
        if ("", name) not in subject.effects:
            continue
        values = np.concatenate(subject.apart(("", name)))
        if all(constant(v[~np.isnan(v)]) for v in subject.apart(("", name))):
            low, high = (number(float(f(values)), 2) for f in (np.nanmin, np.nanmax))
            text = low if low == high else f"{low} to {high} by seed"
            found.append(f"The {what} is the same for every client, {text}.")
            continue
        parts, none = [], []
        for cause in subject.causes if subject.has_intervals else ():
            c = subject.correlations["", name, cause, True]
            (parts if c.shown else none).append(f"{cause} (ρ {told(c)})")
        mean, low, high = (number(float(f(values)), 2) for f in (np.nanmean, np.nanmin, np.nanmax))
        text = f"The {what} is {mean} on average, {low} to {high} over clients"
        text += f"; it does go along with {listed(parts)}" if parts else ""
        text += f"; nothing is shown of {listed(none)}" if none else ""
        found.append(text + ".")
    return found


def _beside_control(study: Study, subject: Subject) -> list[str]:
    if not study.needs_control(subject):
        return []
    spreads = study.spreads(subject)
    if not spreads:
        return ["An iid control is missing, so that what clients of any kind differ by is not known; the command below "
                "makes it."]
    larger, others = [], []
    for (term, name), (ratio, p) in spreads.items():
        if term != "own" and not math.isnan(ratio):
            told_ratio = "none in the control" if math.isinf(ratio) else f"ratio {number(ratio, 2)}"
            text = f"{name}{' of the total' if term else ''} ({told_ratio}, p = {small(round(p, 4))})"
            (larger if p < LEVEL else others).append(text)
    found = []
    if larger:
        found.append(f"Over clients these vary more than over the iid clients of the control: {listed(larger)}; variance "
                     "ratio, permutation test.")
    if others:
        found.append(f"Not shown to vary more than over iid clients: {listed(others)}.")
    return found


def has_conflict(subject: Subject) -> bool:
    return float(subject.first.options.get("label-conflict", 0)) > 0


def control_command(subject: Subject) -> str:
    """The command that makes the iid control of a subject's first run."""
    directory = Path(subject.first.data.attrs["path"]).parent
    words = ["build/release/pf2lora", "--config", str(directory / "options.ini"), "--partition", "iid"]
    words += ["--label-conflict", "0"] if has_conflict(subject) else []
    words += ["--output", str(directory.parent / (directory.name + "-iid"))]
    return shlex.join(words)

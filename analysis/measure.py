"""What runs are judged by: one row a task, which says what the score is, how it is told, and which of two is better."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray

from . import statistics


@dataclass(frozen=True)
class Further:
    """A quantity that tables show beside the score; `variable` as a measure's."""

    variable: str
    name: str
    digits: int
    scale: float = 1
    pooled: bool = False  # also as a mean over all examples (tokens), and in a run's own summary alone


@dataclass(frozen=True)
class Measure:
    """How the runs of a task are scored, from the variable's values to what figures and tables show."""

    task: str  # as results.h5 has it in data_task; MATRIX's is the matrix problem
    variable: str  # {} stands for personal, common or adapted
    short: str  # in names of files
    name: str
    unit: str  # %, nats, or none
    scale: float  # from the variable's values to those shown
    digits: int
    bounds: tuple[float, float]  # of the values shown
    higher_is_better: bool = True
    weight: str = "examples"  # what weighs clients, and what a mean loss is taken over
    classes: bool = False  # whether the majority class and the entropy of labels say anything
    further: tuple[Further, ...] = ()
    note: str = ""
    loss_unit: str = "nats"  # of what is trained on
    scored_by: tuple[str, str] | None = None  # the module that scores recorded answers, and by what

    # ---- names ----
    def of(self, kind: str, split: str = "") -> str:
        """The variable of the score of a kind (personal, common, adapted); `split` is empty or validation_."""
        return split + self.variable.format(kind)

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return capital(self.name)

    @property
    def heading(self) -> str:
        """The name with its unit: 'accuracy, %'."""
        return self.name + (f", {self.unit}" if self.unit else "")

    @property
    def told(self) -> str:
        """The name with its unit, in a sentence: 'accuracy in percent'."""
        unit = "percent" if self.percent else self.unit
        return self.name + (f" in {unit}" if unit else "")

    @property
    def axis(self) -> str:
        """As heading, for an axis whose numbers have percent signs."""
        return self.name if self.percent else self.heading

    def column(self, kind: str) -> str:
        """Heading of a table's column of a kind: 'personal, %'."""
        return f"{kind}, {self.unit}" if self.percent else f"{kind} {self.heading}"

    def personal(self, text: str) -> str:
        """A form of the name, as the score of what a client deploys; the matrix problem has no other one."""
        return text if self.task == MATRIX.task else f"personal {text}"

    def difference(self, text: str) -> str:
        """What differences of a form of the name are counted in: 'points of accuracy'."""
        unit = "points" if self.percent else self.unit
        return f"{unit} of {text}" if unit else text

    @property
    def gain(self) -> str:
        """What a gain is counted in, where there is no room for a sentence: 'points'."""
        return "points" if self.percent else self.unit or self.name

    @property
    def sign(self) -> str:
        """A sentence on the sign of differences; empty where the higher score is the better one, as one expects."""
        return "" if self.higher_is_better else " Lower is better: a difference below 0 is a gain."

    @property
    def direction(self) -> str:
        """A sentence of captions; empty where the higher score is the better one."""
        return "" if self.higher_is_better else " Lower is better."

    def gain_over(self, other: str) -> str:
        """How the gain over another score is taken, in a sentence."""
        if self.higher_is_better:
            return f"personal {self.name} minus that of {other}"
        return f"{self.name} of {other} minus the personal one"

    @property
    def worse(self) -> str:
        """On which side of another score a worse one lies."""
        return "below" if self.higher_is_better else "above"

    # ---- numbers ----
    @property
    def compared(self) -> list[Further]:
        """Further quantities of tables of clients and of several runs."""
        return [further for further in self.further if not further.pooled]

    @property
    def percent(self) -> bool:
        return self.unit == "%"

    @property
    def difference_digits(self) -> int:
        return max(2, self.digits)

    def worst(self, values) -> float:
        """Mean of the worst tenth of the clients, at least one."""
        return (statistics.worst_decile if self.higher_is_better else statistics.best_decile)(values)

    def best(self, values) -> float:
        """Mean of the best tenth of the clients, at least one."""
        return (statistics.best_decile if self.higher_is_better else statistics.worst_decile)(values)

    def better_by(self, values, others):
        """By how much values are better than others: below 0 where they are worse."""
        return values - others if self.higher_is_better else others - values

    def loss_like(self, values):
        """Values of which the smallest is the best, to sort by; NaN stays NaN, and so comes last."""
        return -np.asarray(values) if self.higher_is_better else np.asarray(values)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_LOSS = Further("{}_mean_loss", "loss, nats", 3, pooled=True)
MATRIX = Measure("matrix problem", "relative_error", "error", "relative error", "", 1, 2, (-math.inf, math.inf), False,
                 loss_unit="")
TASKS = {row.task: row for row in (
    Measure("classification", "{}_accuracy", "accuracy", "accuracy", "%", 100, 1, (0, 100), classes=True, further=(_LOSS,)),
    Measure("regression", "{}_pearson", "pearson", "Pearson correlation", "", 1, 3, (-1, 1), loss_unit="", further=(
        Further("{}_spearman", "Spearman", 3),
        Further("{}_mean_loss", "squared error", 3, pooled=True))),
    Measure("span", "{}_accuracy", "accuracy", "span accuracy", "%", 100, 1, (0, 100), further=(_LOSS,),
            note="Span accuracy: test examples whose span is found exactly.",
            scored_by=("analysis.metrics", "exact match and F1")),
    Measure("generation", "{}_mean_loss", "loss", "loss a token", "nats", 1, 3, (0, math.inf), False, "tokens",
            further=(Further("{}_accuracy", "tokens foretold, %", 1, 100),),
            note="Tokens foretold: those of the targets to which the model gives the highest probability, given all "
                 "before them.",
            scored_by=("analysis.generation_scores", "BLEU and other scores")),
)}


def of_results(data: xarray.Dataset) -> Measure:
    """The measure of a results.h5, by its data_task, or by its variables where it has none; throws KeyError."""
    if data.attrs["options"].get("problem") == "matrix":
        return MATRIX
    if "data_task" in data.attrs:
        return TASKS[data.attrs["data_task"]]
    if "test_tokens" in data:
        return TASKS["generation"]
    if "question_offsets" in data:
        return TASKS["span"]
    regression = any(str(name).endswith("_pearson") for name in data.variables)
    return TASKS["regression" if regression else "classification"]


def conflict(measures) -> str:
    """What is wrong with comparing runs of these measures; empty where all are of one task."""
    tasks = list(dict.fromkeys(row.task for row in measures))
    if len(tasks) < 2:
        return ""
    return f"runs of different tasks ({', '.join(tasks)}) cannot be compared: give runs of one task"

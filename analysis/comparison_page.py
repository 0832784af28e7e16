"""The report of a folder of runs: one HTML page, figures as PNG and PDF, tables as Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

from . import command, comparison_figures, comparison_tables, page, rank_study_page
from .comparison import Comparison, read_folder
from .loader import load_scores
from .runs import EXECUTION, Configuration, Run, show


def write(folder, output=None, reference: str | None = None, details: int = 8) -> Path:
    """Writes the report of a folder, into its report/ unless `output` is given; returns the page.

    Beside it stands rank_study.html, with sections for the first `details` configurations, where any has ranks of the
    clients' own. Differences are taken to the method `reference`, pf2lora unless given. Throws FormatError, OSError.
    """
    comparison = read_folder(folder, reference)
    command.progress(f"{len(comparison.runs)} runs read")
    output = Path(output) if output else Path(folder) / "report"
    with page.replaced(output) as fresh:
        _write(comparison, fresh, details)
    return output / "report.html"


def _write(comparison: Comparison, folder: Path, details: int) -> None:
    pictures = folder / "figures"
    pictures.mkdir()
    command.progress("report.html: comparison")
    ablations = comparison_tables.ablations(comparison)
    first = [comparison_tables.overview(comparison), comparison_tables.leaders(comparison)]
    plots = [comparison_figures.by_method(comparison), comparison_figures.by_round(comparison)]
    sections = [{"heading": "Comparison", "tables": first, "figures": plots}]
    sections += [{"heading": setting or "Methods", "tables": [*comparison_tables.scores(comparison, setting),
                                                              comparison_tables.paired(comparison, setting)]}
                 for setting in comparison.settings]
    sections.append({"heading": "Budget", "tables": [comparison_tables.costs(comparison),
                                                     comparison_tables.tuning(comparison)]})
    sections += [{"heading": f"Ablation: {found.option}", "tables": [comparison_tables.ablation(comparison, found)],
                  "figures": [comparison_figures.ablation(comparison, found)]} for found in ablations]
    written = []
    for section in sections:
        section["tables"] = [table for table in section["tables"] if table]
        section["figures"] = page.embed([plot for plot in section.get("figures", []) if plot], pictures)
        written += section["tables"]
    sections.append(_runs(comparison))

    page.write_tables(written, folder)
    notices = comparison_tables.notices(comparison)
    command.progress(f"{rank_study_page.NAME}: reading what was learned")
    ranks = rank_study_page.write(_with_spectra(comparison), folder, _subtitle(comparison), details, notices)
    text = page.render(_title(comparison), _subtitle(comparison), sections, notices,
                       [rank_study_page.LINK] if ranks else [])
    (folder / "report.html").write_text(text, encoding="utf-8")


def _with_spectra(comparison: Comparison) -> list[tuple[Configuration, str, str]]:
    """The compared runs, read with what they learned, with their setting and method."""
    return [(Configuration(": ".join(part for part in (cell.setting, cell.method) if part),
                           [Run(load_scores(comparison.folder / run.path, spectra=True), run.path) for run in cell.runs]),
             cell.setting, cell.method) for cell in comparison.cells.values()]


def _runs(comparison: Comparison) -> dict:
    """Where the runs are, and the options that all of them share."""
    runs = comparison.runs
    shared = {name: show(value) for name, value in runs[0].options.items() if name not in EXECUTION}
    for run in runs:
        shared = {name: value for name, value in shared.items() if show(run.options.get(name, "")) == value}
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    facts = [("folder", str(comparison.folder)), ("runs shown", str(len(runs))),
             ("seeds", ", ".join(map(show, seeds))), ("program", ", ".join(sorted({run.version for run in runs})))]
    return {"heading": "Runs", "facts": facts, "options": list(shared.items())}


def _title(comparison: Comparison) -> str:
    methods = comparison.methods
    return "pf2lora: " + (", ".join(methods) if len(methods) <= 5 else f"{len(methods)} methods")


def _subtitle(comparison: Comparison) -> str:
    options = comparison.runs[0].options
    if comparison.is_matrix:
        what = "matrix problem"
    else:
        data = dict.fromkeys(Path(str(run.options.get("data", "text"))).stem for run in comparison.runs)
        what = f"{', '.join(data)} with {Path(str(options.get('model', '?'))).name}"
    settings = len(comparison.settings)
    return " · ".join([what, f"{len(comparison.methods)} methods", f"{settings} setting{'s' if settings > 1 else ''}",
                       f"{len(comparison.runs)} runs"])

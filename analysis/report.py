"""python -m analysis.report RESULTS...|FOLDER [--output DIR]: one HTML page, and its figures and tables as files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import command, comparison_page, federation, figures, measure, page, rank_study_page, spectra, tables
from .comparison import is_folder
from .loader import FormatError
from .runs import Configuration, Run, differing, group, read, show, told_undrawn
from .table import DASH, Table

_PROVENANCE = (
    ("program_version", "program"), ("git_commit", "commit"), ("command_line", "command"),
    ("start_utc", "start (UTC)"), ("end_utc", "end (UTC)"), ("hosts", "hosts"), ("ranks", "MPI ranks"),
    ("threads", "threads a rank"), ("cpu_model", "CPU"), ("backend", "backend"), ("libtorch_version", "LibTorch"), ("mpi_version", "MPI"),
    ("hdf5_version", "HDF5"), ("data_name", "data"), ("data_task", "task"), ("data_source", "source of data"),
    ("data_licence", "licence of data"), ("data_sha256", "SHA-256 of data"), ("model_sha256", "SHA-256 of model"),
)


def write_report(paths, output=None, details: int = 8) -> Path:
    """Writes the report of results files or run directories; returns the page. Throws FormatError, OSError.

    `output` is report/ beside the results file unless given, of several runs comparison/ beside the first one; the
    first `details` configurations get a section of their own. Beside report.html stand figures/*.png and *.pdf,
    tables.md and tables.tex, and where clients have ranks of their own rank_study.html.
    """
    runs = read(paths)
    if conflict := measure.conflict(run.measure for run in runs):
        raise FormatError(conflict)
    command.progress(f"{len(runs)} run{'s' if len(runs) > 1 else ''} read")
    groups = group(runs)
    output = Path(output) if output else _default_output(runs)
    with page.replaced(output) as folder:
        _write(runs, groups, folder, details)
    return output / "report.html"


def _default_output(runs: list[Run]) -> Path:
    file = Path(runs[0].data.attrs["path"])
    if len(runs) == 1:
        return file.parent / "report"
    directory = file.resolve().parent
    return (directory.parent if file.name == "results.h5" else directory) / "comparison"


def _write(runs: list[Run], groups: list[Configuration], folder: Path, details: int) -> None:
    pictures = folder / "figures"
    pictures.mkdir()
    sections, written = [], []
    command.progress("report.html: results" if len(runs) == 1 else "report.html: comparison")
    together = _compare(groups) if len(runs) > 1 else []
    plots = figures.overview(groups) + [p for p in [spectra.ranks_by_round(groups)] if p]
    own = {id(g): [tables.summary(run) for run in g.runs] for g in groups}
    if len(runs) == 1:
        together = own[id(groups[0])] + [tables.client_summary(runs[0])]
    sections.append({"heading": "Results" if len(runs) == 1 else "Comparison", "texts": _answers(runs), "tables": together,
                     "figures": page.embed(plots, pictures)})
    written += together
    for number, g in enumerate(groups[:details]):
        command.progress(f"report.html: {g.label}, {number + 1} of {min(details, len(groups))}")
        prefix = "" if len(groups) == 1 else f"run{number + 1}_"
        extra = [t for t in (tables.class_scores(g.first), tables.rank_summary(g.first), tables.cost_summary(g.first))
                 if t]
        shown = (own[id(g)] if len(runs) > 1 else []) + extra
        sections.append({"heading": "What was learned, and its cost" if len(runs) == 1 else g.label, "tables": shown,
                         "figures": page.embed(federation.of_run(g.first, [h.first for h in groups[:number]])
                                                + spectra.details(g.first), pictures, prefix)})
        written += shown
    if len(groups) > details:
        sections.append({"facts": [("note", f"{len(groups) - details} further configurations have no section of their "
                                            "own; --details says how many do")]})
    sections += [_provenance(run, len(runs) > 1) for run in runs]

    page.write_tables(written, folder)
    undrawn = told_undrawn([int(run.undrawn.sum()) for run in runs])
    notices = [text for text in [*(run.unfinished for run in runs), undrawn] if text]
    ranks = rank_study_page.write([(g, "", "") for g in groups], folder, _subtitle(runs), details, notices)
    text = page.render(_title(groups), _subtitle(runs), sections, notices, [rank_study_page.LINK] if ranks else [])
    (folder / "report.html").write_text(text, encoding="utf-8")


def _answers(runs: list[Run]) -> list[str]:
    """A sentence on the command that scores what clients answered, where runs recorded it."""
    scored_by = runs[0].measure.scored_by
    if not scored_by or not any(run.data.sizes.get("answer", 0) for run in runs):
        return []
    module, scores = scored_by
    return [f"What clients answered is recorded: python -m {module} RUN gives its {scores}."]


def _compare(groups: list[Configuration]) -> list[Table]:
    runs = [run for g in groups for run in g.runs]
    found = [tables.comparison(groups), tables.paired_differences(groups)]
    names = differing(runs)
    if names:
        table = Table("Options that differ", ["configuration", *names])
        for g in groups:
            values = [show(g.first.options[n]) if n in g.first.options else DASH for n in names]
            table.rows.append([g.label, *values])
        if len({run.algorithm for run in runs}) > 1:
            table.note = "As the runs were given them: a method may leave an option unused."
        found.append(table)
    return [t for t in found if t]


def _provenance(run: Run, several: bool) -> dict:
    attrs = run.data.attrs
    facts = [("file", attrs["path"])]
    facts += [(label, _fact(attrs[name])) for name, label in _PROVENANCE if attrs.get(name) not in (None, "")]
    options = [(name, show(value)) for name, value in run.options.items()]
    return {"heading": f"Provenance: {run.title}" if several else "Provenance", "facts": facts, "options": options}


def _fact(value) -> str:
    """An attribute as text; of hosts by rank each name once."""
    return ", ".join(dict.fromkeys(map(str, value))) if isinstance(value, list) else str(value)


def _title(groups: list[Configuration]) -> str:
    algorithms = list(dict.fromkeys(g.first.algorithm for g in groups))
    if len(groups) == 1:
        return f"pf2lora report: {groups[0].label}"
    return "pf2lora report: " + (", ".join(algorithms) if len(algorithms) <= 5 else f"{len(groups)} configurations")


def _subtitle(runs: list[Run]) -> str:
    first = runs[0]
    data, options = first.data, first.options
    if first.is_matrix:
        what = "matrix problem"
    else:
        what = f"{Path(str(options.get('data', 'text'))).stem} with {Path(str(options.get('model', '?'))).name}"
    parts = [what, f"{data.sizes['client']} clients", first.rounds_told]
    if len(runs) > 1:
        parts.append(f"{len(runs)} runs")
    for name, label in (("program_version", ""), ("git_commit", "commit "), ("hosts", "on "), ("start_utc", "")):
        if data.attrs.get(name):
            value = _fact(data.attrs[name])
            parts.append(label + (value[:12] if name == "git_commit" else value))
    return " · ".join(parts)


def main(arguments=None) -> int:
    """The command; returns its exit code: 0, 2 for bad use (argparse), 3 for a missing or foreign file."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="Writes one HTML page about one run, or comparing several, with every figure as PNG and PDF and "
                    "every table as Markdown and LaTeX. Runs that differ in their seed alone are taken together. "
                    "Of a folder of runs, such as jobs/sweep.py leaves, it compares methods in each setting. It takes "
                    "the place of the last report in the same folder, whose other files stay.")
    parser.add_argument("results", nargs="+", metavar="RESULTS",
                        help="results.h5, the output directory of a run, or one folder of runs")
    parser.add_argument("--output", metavar="DIR",
                        help="where the report goes [report/ in the run's directory or the folder of runs; of several "
                             "RESULTS comparison/ beside the first run's directory]")
    parser.add_argument("--reference", metavar="METHOD",
                        help="of a folder: the method that others are compared with [pf2lora]")
    parser.add_argument("--details", metavar="N", type=int, default=8,
                        help="configurations that get a section of their own [8]")
    chosen = parser.parse_args(arguments)
    if chosen.details < 0:
        parser.error(f"--details is {chosen.details}: give 0 or more")

    def report() -> None:
        if len(chosen.results) == 1 and is_folder(chosen.results[0]):
            print(comparison_page.write(chosen.results[0], chosen.output, chosen.reference, chosen.details))
            return
        # A shell's results/* has the last comparison among the runs.
        runs = [path for path in chosen.results if not (Path(path) / page.WRITTEN).is_file()]
        print(write_report(runs or chosen.results, chosen.output, chosen.details))

    return command.ended(report, "the report")


if __name__ == "__main__":
    sys.exit(main())

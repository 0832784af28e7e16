"""The rank-study page of a report: what was found in plain sentences, then tables and figures."""

from __future__ import annotations

from pathlib import Path

from . import command, page, rank_study_figures, rank_study_tables, rank_study_text, spectra
from .rank_study import GIVEN, Study, Subject, study
from .runs import Configuration

NAME = "rank_study.html"
LINK = (NAME, "Rank study: does the learned rank follow the client?")


def write(configurations: list[tuple[Configuration, str, str]], output: Path, subtitle: str, details: int = 8,
          notices: list[str] = ()) -> Path | None:
    """Writes output/rank_study.html of configurations with their setting and method; returns it.

    Its figures, and its tables as Markdown and LaTeX, go to output/rank_study/. None where no run has ranks to study.
    """
    found = study(configurations)
    if not found.subjects:
        return None
    files = output / "rank_study"
    pictures = files / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    several = len(found.subjects) > 1
    sections = [_top(found, details)]
    if several:
        sections.append(_together(found))
    for number, subject in enumerate(found.subjects[:details]):
        command.progress(f"{NAME}: {subject.label}, {number + 1} of {min(details, len(found.subjects))}")
        sections += _section(found, subject, several, f"run{number + 1}_" if several else "")
    if len(found.subjects) > details:
        sections.append({"facts": [("note", f"{len(found.subjects) - details} further configurations have no section of "
                                            "their own; --details says how many do")]})
    written = []
    command.progress(f"{NAME}: figures")
    for section in sections:
        section["tables"] = [table for table in section.get("tables", []) if table]
        prefix = section.pop("prefix", "")
        section["figures"] = page.embed([plot for plot in section.get("plots", []) if plot], pictures, prefix)
        written += section["tables"]
    page.write_tables(written, files)
    target = output / NAME
    target.write_text(page.render("Rank study: does the learned rank follow the client?", subtitle, sections, notices,
                                  [("report.html", "Back to the report")]), encoding="utf-8")
    return target


def _top(found: Study, details: int) -> dict:
    several = len(found.subjects) > 1
    if several:
        told_one_by_one = found.subjects if len(found.subjects) <= details else [
            subject for subject in found.subjects if not subject.is_matrix]  # of these the tables say the same
        findings = [*rank_study_text.across(found),
                    *(f"{subject.label}: {rank_study_text.verdict(found, subject)}" for subject in told_one_by_one)]
    else:
        findings = rank_study_text.findings(found, found.subjects[0])
    if found.without:
        findings.append(f"Without a rank of the clients' own, and so not studied: {', '.join(found.without)}.")
    lacking = [s for s in found.subjects if found.needs_control(s) and found.control(s) is None]
    commands = [rank_study_text.control_command(subject) for subject in lacking]
    told = []
    if commands:
        told.append("What makes the iid control" + (f" of {', '.join(s.label for s in lacking)}" if several else "")
                    + ", the same run with clients that are alike. Put it into one folder with these runs and report "
                    'that folder; in a sweep, add a setting {name = "iid", partition = "iid"'
                    + (", label-conflict = 0" if any(map(rank_study_text.has_conflict, lacking)) else "") + "}:")
    return {"heading": "What was found", "findings": findings, "texts": told, "commands": commands}


def _together(found: Study) -> dict:
    tables = [rank_study_tables.known_ranks_by_setting(found), *rank_study_tables.known_ranks_overview(found), rank_study_tables.overview(found)]
    tables += [rank_study_tables.correlations_overview(found, cause) for cause in GIVEN]
    return {"heading": "All configurations", "tables": tables, "plots": [rank_study_figures.known_ranks(found)]}


def _section(found: Study, subject: Subject, several: bool, prefix: str) -> list[dict]:
    """A configuration's sections: its sentences where they do not stand at the top, and its tables and figures."""
    tables, figures = rank_study_tables, rank_study_figures
    heading = {"heading": subject.label, "findings": rank_study_text.findings(found, subject)} if several else {}
    first = {**heading,
             "tables": [tables.known_ranks(subject), *tables.correlations(subject), tables.control(found, subject)],
             "plots": [figures.learned_against_target(subject), figures.beside_control(found, subject)]}
    second = {"tables": [tables.by_site(subject), *tables.by_client(subject), *tables.levels_by_client(subject),
                         tables.by_round(subject)], "plots": [figures.by_site(subject)]}
    if not subject.is_matrix or not several:  # of many matrix runs, one figure each
        first["plots"] += [figures.by_client(found, subject), figures.correlation_intervals(subject)]
    if not several:
        first["plots"].append(figures.entropy_rank_relations(subject))
        second["plots"].append(spectra.ranks_by_round([Configuration(subject.label, subject.runs)]))
    sections = [first, second] if several else [{"heading": "Correlations" if not subject.is_matrix else "Known ranks",
                                                 **first},
                                                {"heading": "Clients, layers and rounds", **second}]
    return [{**section, "prefix": prefix} for section in sections]

"""Layouts of published data sets that are no plain tables: SQuAD, E2E, WebNLG, AG News and 20 Newsgroups.

A reader gives the values of one record under the names that the hub uses too; a RowMaker makes rows of them.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from prepare_rows import (
    BadRow, Columns, InputError, Place, Row, Values, client_of, name_value, text_value,
)  # fmt: skip
from prepare_tables import Records, read_csv, read_tsv

ANSWERED, UNANSWERABLE = "answered", "unanswerable"


def read_json(path: Path, layout: str) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); {layout}") from None


def columns_of(values: Any, *names: str) -> list[list[Any]]:
    """Columns of a list of records, or of a dictionary of lists: the hub has both."""
    if isinstance(values, dict):
        return [list(values.get(name) or []) for name in names]
    return [[record[name] for record in values or []] for name in names]


# SQuAD (Rajpurkar et al. 2016, 2018)

SQUAD_LAYOUT = "SQuAD's files hold data, a list of titles with paragraphs of a context and qas"


def read_squad(path: Path, _: list[str]) -> Records:
    """Questions of an official SQuAD file, of version 1.1 or 2.0, numbered from 1."""
    page = read_json(path, SQUAD_LAYOUT)
    try:
        number = 0
        for article in page["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    starts, texts = columns_of(question["answers"], "answer_start", "text")
                    yield number, {"id": question["id"], "title": article.get("title"),
                                   "context": paragraph["context"], "question": question["question"],
                                   "answers": {"answer_start": starts, "text": texts}}  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a SQuAD file ({type(error).__name__}: {error}); {SQUAD_LAYOUT}") from None


def checked_answer(context: str, start: Any, text: Any) -> tuple[int, str]:
    """An answer without white space at its ends; throws BadRow where the context has another text there."""
    if not isinstance(start, int) or not isinstance(text, str) or not text.strip():
        raise BadRow("an answer without text or place")
    if start < 0 or context[start : start + len(text)] != text:
        raise BadRow("the answer is not in the context at its place")
    return start + len(text) - len(text.lstrip()), text.strip()


def questioned(values: Values, columns: Columns, place: Place) -> list[Row]:
    question, context = text_value(values["question"], "question").strip(), text_value(values["context"], "context")
    starts, texts = columns_of(values["answers"], "answer_start", "text")
    answers = tuple(dict.fromkeys(checked_answer(context, *answer) for answer in zip(starts, texts)))
    label = ANSWERED if answers else UNANSWERABLE
    client, number = client_of(values, columns), str(name_value(values["id"], "id"))
    return [Row(question, label, place.split, context, client, place.where, place.line, answers=answers,
                question_id=number)]  # fmt: skip


# Tables as one line of text: E2E (Novikova et al. 2017) and WebNLG (Gardent et al. 2017), written as the fine-tuning
# of GPT-2 by Hu et al. 2021 (arXiv 2106.09685, their repository) and Li and Liang 2021 before them have it.

E2E_NAMES = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}


def slots_of(text: str) -> dict[str, str]:
    """The slots of E2E's meaning representation, 'name[The Vaults], eatType[pub]'."""
    slots: dict[str, str] = {}
    at = 0
    while match := re.compile(r"\s*([\w ]+?)\s*\[([^\]]*)\]\s*(,|$)").match(text, at):
        slots[match[1]] = match[2].strip()
        at = match.end()
    if not slots or at < len(text):
        raise BadRow("not a meaning representation, slot[value], slot[value]")
    return slots


def described(values: Values, columns: Columns, place: Place) -> list[Row]:
    """A row of E2E; columns.label and columns.client name slots."""
    slots = slots_of(text_value(values[columns.text], "meaning representation"))
    target = text_value(values[columns.target], "reference").strip()
    prompt = " | ".join(f"{E2E_NAMES.get(slot, slot)} : {value}" for slot, value in slots.items())
    client = slots.get(columns.client, "none") if columns.client else None
    label = slots.get(columns.label or "", "none")
    return [Row(prompt, label, place.split, None, client, place.where, place.line, target=target, slots=tuple(slots))]


WEBNLG_LAYOUT = "WebNLG's files hold entries, a list of numbered entries with modifiedtripleset and lexicalisations"


def read_web_nlg(path: Path, _: list[str]) -> Records:
    """Entries of WebNLG's JSON files, numbered from 1."""
    page = read_json(path, WEBNLG_LAYOUT)
    try:
        for number, entry in enumerate(page["entries"], 1):
            (record,) = entry.values()
            triples = [" | ".join(triple[part] for part in ("subject", "property", "object"))
                       for triple in record["modifiedtripleset"]]  # fmt: skip
            comments, texts = columns_of(record["lexicalisations"], "comment", "lex")
            yield number, {"category": record["category"], "modified_triple_sets": {"mtriple_set": [triples]},
                           "lex": {"comment": comments, "text": texts}}  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a WebNLG file ({type(error).__name__}: {error}); {WEBNLG_LAYOUT}") from None


def verbalised(values: Values, columns: Columns, place: Place) -> list[Row]:
    """A row for each text of an entry that its annotators found good."""
    (sets,) = columns_of(values["modified_triple_sets"], "mtriple_set")
    if not sets or not sets[0]:
        raise BadRow("no triples")
    prompt = " | ".join(" : ".join(part.strip() for part in triple.split(" | ")) for triple in sets[0])
    comments, texts = columns_of(values["lex"], "comment", "text")
    good = [text.strip() for text, comment in zip(texts, comments) if comment in ("good", "") and text.strip()]
    if not good:
        raise BadRow("no text")
    label, client = name_value(values[columns.label], "category"), client_of(values, columns)
    return [Row(text_value(prompt, "triples"), label, place.split, None, client, place.where, place.line,
                target=text_value(text, "text")) for text in good]  # fmt: skip


# AG News (Zhang et al. 2015)


def read_ag_news_csv(path: Path, _: list[str]) -> Records:
    """class,title,description without a header; the text is title and description, as on the hub."""
    for number, values in read_csv(path, [], header=["class", "title", "description"]):
        if not isinstance(values, BadRow):
            values = {"label": values["class"], "text": f"{values['title']} {values['description']}"}
        yield number, values


# 20 Newsgroups (Lang 1995)

QUOTE = re.compile(r"writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>")


def body_of(message: str) -> str:
    """A posting without header, quotations and signature, by the rules of scikit-learn's loader."""
    _, _, body = message.partition("\n\n")
    lines = "\n".join(line for line in body.split("\n") if not QUOTE.search(line)).strip().split("\n")
    breaks = [i for i, line in enumerate(lines) if not line.strip().strip("-")]
    return "\n".join(lines[: breaks[-1]] if breaks and breaks[-1] > 0 else lines)


def postings(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.is_file())


def read_newsgroups(folder: Path, _: list[str]) -> Records:
    """Postings of a folder of group folders, numbered from 1 in the order of their names."""
    for number, path in enumerate(postings(folder), 1):
        text = body_of(path.read_text("latin-1").replace("\0", " "))
        yield number, {"text": text, "label_text": path.parent.name} if text.strip() else BadRow("empty text")


# GLUE (Wang et al. 2019) as tab-separated files

read_cola: Any = partial(read_tsv, header=["source", "label", "mark", "sentence"])
read_glue: Any = read_tsv

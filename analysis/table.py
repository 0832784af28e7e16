"""A table and its forms as Markdown and LaTeX (booktabs), and numbers as texts of its cells."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

DASH = "–"
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", DASH: "--", "−": "$-$", "×": r"$\times$",
    "<": "$<$", ">": "$>$", "|": "$|$",
}
_EXPONENT = re.compile(r"(?<![\w.])([-−]?)(\d+(?:\.\d+)?)e([-+−]?)0*(\d+)(?!\w|\.\d)")
_PLAIN = (Decimal("1e-4"), Decimal("1e6"))  # numbers from, and below, which plain decimals are read easily


@dataclass
class Table:
    """Rows of texts under columns; the first column is left-aligned, the others right."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        def line(cells):
            return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

        rule = "| --- |" + " ---: |" * (len(self.columns) - 1)
        body = [line(self.columns), rule, *(line(row) for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *body, *(["", self.note] if self.note else [])]) + "\n"

    def latex(self) -> str:
        def line(cells):
            return "    " + " & ".join(latex_text(cell) for cell in cells) + r" \\"

        caption = latex_text(self.title + (". " + self.note if self.note else ""))
        return "\n".join([
            r"\begin{table}", r"  \centering", rf"  \caption{{{caption}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"    \toprule", line(self.columns),
            r"    \midrule", *(line(row) for row in self.rows), r"    \bottomrule", r"  \end{tabular}",
            r"\end{table}",
        ]) + "\n"


def latex_text(text) -> str:
    """Text with LaTeX's special characters made harmless; 2e-03 as the decimal that it is, 1.2e-05 typeset."""
    text, pieces, end = str(text), [], 0
    for found in _EXPONENT.finditer(text):
        pieces += [_harmless(text[end : found.start()]), _power(*found.groups())]
        end = found.end()
    return "".join([*pieces, _harmless(text[end:])])


def _harmless(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _power(sign: str, mantissa: str, exponent_sign: str, exponent: str) -> str:
    value = Decimal(mantissa).scaleb(-int(exponent) if exponent_sign in ("-", "−") else int(exponent))
    if _PLAIN[0] <= value < _PLAIN[1]:
        return ("$-$" if sign else "") + f"{value:f}"
    factor = "" if mantissa == "1" else mantissa + r"\times"
    return f"${'-' if sign else ''}{factor}10^{{{'-' if exponent_sign in ('-', '−') else ''}{exponent}}}$"


def number(value: float, digits: int = 1, sign: bool = False) -> str:
    """Fixed digits, a dash for what does not exist, a true minus sign."""
    if value is None or math.isnan(value):
        return DASH
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return (text if float(text) else f"{0:.{digits}f}").replace("-", "−")


def small(value: float) -> str:
    """Three significant digits (more of thousands), for errors and times."""
    if value is None or math.isnan(value):
        return DASH
    if 999.5 <= abs(value) < _PLAIN[1]:
        return number(value, 0)
    return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.3g}").replace("e+", "e").replace("-", "−")


def data_size(value: float) -> str:
    """Bytes in the largest binary unit that keeps the number above 1."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.4g} {unit}"
        value /= 1024


def plus_minus(values, digits: int = 1, scale: float = 1, form=None) -> str:
    """Mean over seeds, with ± the standard deviation (divisor n - 1) where there are several."""
    values = np.array([math.nan if v is None else v for v in values], dtype=float) * scale
    values = values[~np.isnan(values)]
    form = form or (lambda v: number(v, digits))
    if values.size == 0:
        return DASH
    return form(values.mean()) + (f" ± {form(values.std(ddof=1))}" if values.size > 1 else "")

"""The HTML page of a report: one self-contained file, no script and no outside resource."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path

from jinja2 import Environment

_PIXELS = 118  # of the page to an inch of a figure
_MOST_ROWS = 24  # of a table that is not folded
WRITTEN = "report-files.txt"  # in a report's folder: what the report wrote there

_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1b1b1b; background: #fff;
         max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
  h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
  h1 + p { color: #555; margin: 0 0 1.5rem; } .links { margin: -1rem 0 1.5rem; } li { margin: .25rem 0; }
  pre { background: #f4f4f4; padding: .5rem .8rem; overflow-x: auto; font-size: .85rem; }
  .notice { border-left: 4px solid #D55E00; background: #FDF1E8; padding: .5rem .8rem; margin: 0 0 1rem;
            overflow-wrap: anywhere; }
  h2 { border-bottom: 2px solid #0072B2; padding-bottom: .2rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; margin: .3rem 0; font-variant-numeric: tabular-nums; font-size: .9rem; }
  caption { text-align: left; font-weight: 600; padding: .3rem 0; }
  th, td { padding: .22rem .7rem .22rem 0; text-align: right; vertical-align: top; }
  th:first-child, td:first-child { text-align: left; }
  thead th { border-top: 1.5px solid #1b1b1b; border-bottom: 1px solid #1b1b1b; font-weight: 600;
             vertical-align: bottom; }
  tbody tr:last-child td { border-bottom: 1.5px solid #1b1b1b; }
  table.facts td { text-align: left; overflow-wrap: anywhere; } table.facts th { text-align: left; white-space: nowrap; }
  .note, figcaption { color: #444; font-size: .85rem; max-width: 50rem; }
  .note { margin: .1rem 0 1.4rem; }
  figure { margin: 1.2rem 0 1.8rem; } figure img { max-width: 100%; height: auto; display: block; }
  details { margin: .6rem 0; } summary { cursor: pointer; color: #0072B2; }
  code { font-size: .85em; overflow-wrap: anywhere; }
  @media print { body { font-size: 10pt; max-width: none; margin: 0; } h2 { break-after: avoid; }
    figure, tbody tr { break-inside: avoid; } .scroll { overflow: visible; } table { font-size: 8.5pt; }
    th, td { padding-right: .45rem; } }
</style>
</head>
<body>
{% macro table(t) %}
<div class="scroll"><table>
<caption>{{ t.title }}</caption>
<thead><tr>{% for c in t.columns %}<th scope="col">{{ c }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in t.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>
{% if t.note %}<p class="note">{{ t.note }}</p>{% endif %}
{% endmacro %}
{% macro folded(t) %}
{% if t.rows | length > most_rows %}<details><summary>{{ t.title }}: {{ t.rows | length }} rows</summary>{{ table(t) }}</details>
{% else %}{{ table(t) }}{% endif %}
{% endmacro %}
{% macro figure(f) %}
<figure id="{{ f.id }}"><img src="{{ f.uri }}" alt="{{ f.caption }}" width="{{ f.width }}">
<figcaption>{{ f.caption }}</figcaption></figure>
{% endmacro %}
<h1>{{ title }}</h1>
<p>{{ subtitle }}</p>
{% if links %}<p class="links">{% for target, text in links %}<a href="{{ target }}">{{ text }}</a>{% endfor %}</p>
{% endif %}
{% for notice in notices %}<p class="notice" role="note">{{ notice }}</p>
{% endfor %}
{% for section in sections %}
<section>
{% if section.heading %}<h2>{{ section.heading }}</h2>{% endif %}
{% if section.findings %}<ul>{% for finding in section.findings %}
<li>{{ finding }}</li>{% endfor %}
</ul>{% endif %}
{% for text in section.texts %}<p>{{ text }}</p>
{% endfor %}
{% if section.commands %}<pre>{% for command in section.commands %}{{ command }}
{% endfor %}</pre>{% endif %}
{% for t in section.tables %}{{ folded(t) }}{% endfor %}
{% for f in section.figures %}{{ figure(f) }}{% endfor %}
{% if section.facts %}<table class="facts"><tbody>{% for name, value in section.facts %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}
</tbody></table>{% endif %}
{% if section.options %}<details><summary>All options</summary><table class="facts"><tbody>
{% for name, value in section.options %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</tbody></table></details>{% endif %}
</section>
{% endfor %}
</body>
</html>
"""


def render(title: str, subtitle: str, sections: list[dict], notices: list[str] = (), links: list[tuple] = ()) -> str:
    """The page as text. A section has heading, findings (sentences of a list), texts (paragraphs), commands, tables,
    figures (id, uri, caption, width), facts and options, each where it is needed.

    Notices stand above all sections, and above them links (target, text) to pages beside this one.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE).render(title=title, subtitle=subtitle, sections=sections, most_rows=_MOST_ROWS,
                                                          notices=notices, links=links)


def embed(plots: list, directory: Path, prefix: str = "") -> list[dict]:
    """Saves figures (style.Plot) in a directory under prefixed names; returns them as a section's figures."""
    embedded = []
    for plot in plots:
        plot.name = prefix + plot.name
        plot.save(directory)
        embedded.append({"id": plot.name, "uri": plot.data_uri(), "caption": plot.caption,
                         "width": round(plot.figure.get_figwidth() * _PIXELS)})
    return embedded


@contextmanager
def replaced(output: Path):
    """An empty folder to write a report into; at the end its files come to `output` in place of the last report's.

    Of what is in `output` only files go that the last report wrote, as its list WRITTEN says. Throws OSError.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=output) as fresh:
        yield Path(fresh)
        files = sorted(str(path.relative_to(fresh)) for path in Path(fresh).rglob("*") if path.is_file())
        for old in _last_written(output):
            old.unlink()
            for above in old.parents:
                if above == output or any(above.iterdir()):
                    break
                above.rmdir()
        (output / WRITTEN).write_text("".join(f"{name}\n" for name in files), encoding="utf-8")
        for name in files:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(fresh) / name).replace(output / name)


def _last_written(output: Path) -> list[Path]:
    """Files of the last report that stand; what lies outside its folder is none."""
    try:
        names = (output / WRITTEN).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    paths = [output / name for name in names]
    return [path for path in paths if path.is_file() and path.parent.resolve().is_relative_to(output.resolve())]


def write_tables(tables: list, directory: Path) -> None:
    """Writes tables (table.Table) as directory/tables.md and tables.tex."""
    (directory / "tables.md").write_text("\n".join(table.markdown() for table in tables), encoding="utf-8")
    (directory / "tables.tex").write_text("\n".join(table.latex() for table in tables), encoding="utf-8")

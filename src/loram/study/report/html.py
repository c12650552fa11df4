"""A report as one HTML page with its pictures in it, which asks nothing of the network."""

import base64
from pathlib import Path
from typing import Any

from loram.study.report.document import Document, Picture, Table

__all__ = ["html"]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ document.title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5c5c5c; --page: #fff; --line: #ddd;
  --stripe: #f6f6f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #a8a8a8; --page: #16181b;
  --line: #3a3d42; --stripe: #1e2125; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
nav { columns: 3 14rem; } nav a { display: block; color: inherit; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid var(--line); } tr:nth-child(even) td { background: var(--stripe); }
.note { color: var(--soft); font-size: .875rem; margin: .2rem 0; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .875rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
</style>
</head>
<body>
<h1>{{ document.title }}</h1>
<nav>{% for section in document.sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a>
{% endfor %}</nav>
{% for section in document.sections %}
<h2 id="s{{ loop.index }}">{{ section.title }}</h2>
{% for part in section.parts %}{% set kind = kind_of(part) %}
{% if kind == "str" %}<p>{{ part }}</p>
{% elif kind == "tuple" %}<ul>{% for line in part %}<li>{{ line }}</li>
{% endfor %}</ul>
{% elif kind == "Table" %}<div class="scroll"><table><caption>{{ part.caption }}</caption>
<thead><tr>{% for cell in part.headings %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in part.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>
{% for note in part.notes %}<p class="note">{{ note }}</p>
{% endfor %}{% else %}<figure><img alt="{{ part.caption }}" src="{{ embedded(part) }}">
<figcaption>{{ part.caption }}</figcaption></figure>
{% endif %}{% endfor %}{% endfor %}
</body>
</html>
"""


def html(document: Document) -> str:
    """Write a report out; its pictures' SVGs are read and put in.

    Args:
        document: the report.
    """
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return page.render(document=document, kind_of=_kind, embedded=_embedded)


def _kind(part: str | tuple[Any, ...] | Table | Picture) -> str:
    return type(part).__name__


def _embedded(picture: Picture) -> str:
    # An image of its own, not markup of the page: ids of two pictures can't meet.
    content = Path(picture.file).with_suffix(".svg").read_bytes()
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"

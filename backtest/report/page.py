"""The skeleton of a page: everything inline, nothing fetched.

A Content-Security-Policy in the page forbids every request, so that a browser enforces what the
tests check: the report reads the same offline, and tells nobody that it was opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plotly.offline import get_plotlyjs

from .markup import EMPTY, Markup, element, escape, join
from .plots import Figure
from .theme import SCRIPT, STYLE

_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)
# What could end a script element or start a comment inside it never reaches the parser.
_SCRIPT_SAFE: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page with a heading and an entry in the table of contents."""

    key: str
    title: str
    body: Markup


def render_page(*, title: str, header: Markup, sections: Iterable[Section], footer: str) -> str:
    """Return the whole page as text; equal arguments give equal bytes."""
    shown = [section for section in sections if section.body]
    contents = element(
        "ul",
        *(element("li", element("a", part.title, href=f"#{part.key}")) for part in shown),
    )
    parts = (element("section", element("h2", part.title), part.body, id=part.key) for part in shown)
    library = get_plotlyjs().replace("</script", "<\\/script")
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            '<meta name="referrer" content="no-referrer">\n',
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            element("header", header),
            "\n",
            element("nav", contents, aria_label="Contents"),
            "\n",
            _NO_SCRIPT,
            element("main", Markup("\n".join(parts))),
            "\n",
            element("footer", element("p", footer)),
            f"\n<script>{library}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        )
    )


_NO_SCRIPT: Final = element(
    "noscript",
    element(
        "main", element("p", "The figures need JavaScript, which is off; the tables hold the same numbers.")
    ),
)


def figure_block(figure: Figure | None) -> Markup:
    """Return a figure with its selector, its data and the sentence that says how to read it."""
    if figure is None:
        return EMPTY
    spec = {
        "data": figure.traces,
        "layout": figure.layout,
        "views": [list(view.visible) for view in figure.views],
    }
    plot = element(
        "div",
        id=figure.key,
        data_plot="",
        role="img",
        aria_label=f"{figure.title}. {figure.caption}",
        style=f"height:{figure.height_px}px",
    )
    return element(
        "figure",
        element("h3", figure.title),
        _selector(figure),
        plot,
        element("figcaption", figure.caption),
        element("script", script_json(spec), type="application/json", id=f"{figure.key}-data"),
    )


def figure_pair(*figures: Figure | None) -> Markup:
    """Return figures side by side where the page is wide enough."""
    blocks = [figure_block(figure) for figure in figures if figure is not None]
    return element("div", *blocks, class_="pair") if blocks else EMPTY


def script_json(value: Any) -> Markup:
    """Return JSON that may stand inside a script element whatever its strings hold."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.translate(_SCRIPT_SAFE))


def _selector(figure: Figure) -> Markup:
    if not figure.views:
        return EMPTY
    options = (element("option", view.label) for view in figure.views)
    choice = element("select", *options, data_for=figure.key, autocomplete="off")
    return element("label", element("span", figure.selector), choice, class_="choice")


def facts(pairs: Sequence[tuple[str, str]]) -> Markup:
    """Return the strip of key facts."""
    cells = (element("div", element("dt", name), element("dd", value)) for name, value in pairs)
    return element("dl", *cells, class_="facts")


def preformatted(value: Any) -> Markup:
    """Return a configuration as indented, sorted JSON."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    return element("pre", element("code", text), tabindex="0")


def notes(lines: Sequence[str]) -> Markup:
    """Return a list of remarks."""
    return element("ul", *(element("li", text) for text in lines), class_="notes") if lines else EMPTY


def paragraphs(*texts: str) -> Markup:
    """Return one paragraph a text."""
    return join(*(element("p", text) for text in texts if text))

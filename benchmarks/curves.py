"""A document of the suite as one page: latency by percentile, throughputs beside their floors.

Latency is drawn the way HdrHistogram made common: the percentile on an axis that gives each further nine the
same room, so that the tail, which decides, is not a sliver at the edge. The page holds no script and fetches
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from backtest.report.markup import EMPTY, Markup, element, join

from .comparison import Change
from .plates import Curve, percentile_plate, strip_plate
from .tables import (
    CHANGE_COLUMNS,
    COLUMNS,
    PEER_COLUMNS,
    change_rows,
    conditions_of,
    number,
    peer_rows,
    table_rows,
)

STYLE: Final = """
:root { color-scheme: light dark; --paper:#fff; --panel:#f7f8fa; --ink:#1b1f26; --soft:#5a6472;
  --rule:#dfe3e9; --grid:#e6e9ee;
  --c0:#0072b2; --c1:#d55e00; --c2:#009e73; --c3:#b5489a; --c4:#8a6d00; --c5:#4b5563; }
@media (prefers-color-scheme: dark) {
  :root { --paper:#13161b; --panel:#1a1f26; --ink:#e6e9ee; --soft:#9aa5b4; --rule:#303742; --grid:#29303a;
    --c0:#56b4e9; --c1:#f0884a; --c2:#3fc79a; --c3:#e08bc8; --c4:#e3c04b; --c5:#a8b3c2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .9rem; padding-bottom: .35rem;
  border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 0 0 .1rem; }
p, li { color: var(--soft); margin: .15rem 0; font-size: .86rem; }
ul { padding-left: 1.1rem; margin: .6rem 0 0; }
.plates { display: grid; gap: 1.1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); }
figure { margin: 0; padding: 1rem 1rem .9rem; background: var(--panel); border: 1px solid var(--rule);
  border-radius: 10px; min-width: 0; }
svg { display: block; width: 100%; height: auto; margin-top: .5rem; }
svg text { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .strong { fill: var(--ink); }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin-top: .7rem; font-size: .8rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .22rem .55rem; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th.text, td.text { text-align: left; }
/* Six percentiles, a count and the maximum stand beside each other without scrolling. */
figure th, figure td { padding: .22rem .28rem; font-size: .74rem; }
figure td.text { white-space: normal; }
td.slower { color: var(--c1); font-weight: 600; } td.faster { color: var(--c2); font-weight: 600; }
.swatch { display: inline-block; width: 1.4em; height: 0; border-top: 3px solid; margin-right: .5em;
  vertical-align: middle; }
td.missed { color: var(--c1); }
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
_SHOWN: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
_COLOURS: Final = 6


def render_curves(document: Mapping[str, Any], changes: Sequence[Change] = ()) -> str:
    """Return the page as text; equal arguments give equal bytes."""
    latencies, strips = (
        {
            scenario["name"]: figure
            for scenario in document["scenarios"]
            if (figure := draw(scenario)) is not EMPTY
        }
        for draw in (_latency_figure, _strip_figure)
    )
    conditions = conditions_of(document, drawn={*latencies, *strips})
    parts = [
        _section("Latency by percentile", _plates(list(latencies.values()))) if latencies else EMPTY,
        _section("Throughput, time an item", _plates(list(strips.values()))) if strips else EMPTY,
        EMPTY if document["peers"] else _section("All figures", _table(COLUMNS, table_rows(document))),
        _section("Peers", _table(PEER_COLUMNS, peer_rows(document))) if peer_rows(document) else EMPTY,
        _section("Beside the earlier run", _table(CHANGE_COLUMNS, change_rows(changes)))
        if changes
        else EMPTY,
        _section("Conditions", element("ul", *(element("li", line) for line in conditions))),
    ]
    machine = document["machine"]
    header = join(
        element("h1", "anytick bench"),
        element("p", f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"),
        element("p", f"commit {document['commit']}, build {machine['build_hash']}, seed {document['seed']}"),
    )
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>anytick bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            element("header", header),
            "\n",
            "\n".join(parts),
            "\n</body>\n</html>\n",
        )
    )


def _section(title: str, body: Markup) -> Markup:
    return element("section", element("h2", title), body)


def _plates(figures: Sequence[Markup]) -> Markup:
    return element("div", *figures, class_="plates")


def _latency_figure(scenario: Mapping[str, Any]) -> Markup:
    """Return curves and percentiles of one scenario; one floor, since its measures share it."""
    measures = [measure for measure in scenario["measures"] if measure["histogram"]]
    if not measures:
        return EMPTY
    curves: list[Curve] = []
    for index, measure in enumerate(measures):
        colour = f"var(--c{index % _COLOURS})"
        curves.append(Curve(name=measure["name"], colour=colour, dash="", **measure["histogram"]))
        if measure["peer_histogram"]:
            name = f"{measure['peer_name'] or 'peer'}, {measure['name']}"
            curves.append(Curve(name=name, colour=colour, dash="2 4", **measure["peer_histogram"]))
        if measure["floor_histogram"]:
            name = f"floor, {measure['name']}"
            curves.append(Curve(name=name, colour=colour, dash="7 4", **measure["floor_histogram"]))
    floors = {
        round(measure["floor"]) for measure in measures if measure["floor"] and not measure["floor_histogram"]
    }
    return element(
        "figure",
        element("h3", scenario["title"]),
        element("p", scenario["conditions"]),
        percentile_plate(curves, floors=sorted(floors), label=scenario["title"]),
        _percentile_table(curves),
    )


def brief(nanoseconds: float) -> str:
    """Return a time in at most six signs, in ns where it fits.

    Examples
    --------
    >>> [brief(value) for value in (7.0, 1_234.0, 123_456.0, 12_058_623.0)]
    ['7', '1,234', '123 µs', '12.1 ms']
    """
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e5)):
        if nanoseconds >= size:
            return f"{nanoseconds / (size if unit != 'µs' else 1e3):.3g} {unit}"
    return number(nanoseconds)


def brief_count(count: int) -> str:
    """Return a count in at most five signs.

    Examples
    --------
    >>> [brief_count(count) for count in (950, 36_944, 4_000_000)]
    ['950', '36.9k', '4M']
    """
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _percentile_table(curves: Sequence[Curve]) -> Markup:
    head = ("ns", "count", *(f"p{share:g}" for share in _SHOWN), "max")
    rows = []
    for curve in curves:
        style = f"border-color:{curve.colour};border-top-style:{'dashed' if curve.dash else 'solid'}"
        swatch = element("span", class_="swatch", style=style)
        values = [brief(curve.at(share)) if curve.total >= 100 / (100 - share) else "-" for share in _SHOWN]
        cells = (brief_count(curve.total), *values, brief(curve.upper[-1]))
        rows.append(
            element(
                "tr",
                element("td", swatch, curve.name, class_="text"),
                *(element("td", cell) for cell in cells),
            )
        )
    header = element("tr", element("th", head[0], class_="text"), *(element("th", name) for name in head[1:]))
    return element("div", element("table", header, *rows), class_="scroll")


def _strip_figure(scenario: Mapping[str, Any]) -> Markup:
    measures = [
        measure
        for measure in scenario["measures"]
        if not measure["histogram"]
        and measure["unit"] == "ns"
        and math.isfinite(measure["p50"])
        and measure["p50"]
    ]
    if not measures:
        return EMPTY
    return element(
        "figure",
        element("h3", scenario["title"]),
        element("p", scenario["conditions"]),
        strip_plate(measures, label=scenario["title"]),
    )


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Markup:
    def kind(index: int, cell: str) -> dict[str, str]:
        found = [word for word in ("slower", "faster", "missed") if cell.endswith(word)]
        classes = " ".join(["text"] * (index < 3) + found)
        return {"class_": classes} if classes else {}

    header = element("tr", *(element("th", name, **kind(index, "")) for index, name in enumerate(columns)))
    body = (
        element("tr", *(element("td", cell, **kind(index, cell)) for index, cell in enumerate(row)))
        for row in rows
    )
    return element("div", element("table", header, *body), class_="scroll")

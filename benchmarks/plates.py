"""Two drawings as SVG text: latency by percentile, and repetitions on a strip beside their floor."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

from backtest.report.markup import Markup, element, escape

from .tables import number

_WIDTH: Final = 580
_HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 10, 38
_ROW: Final = 46
_LABEL_ROOM: Final = 30
_NAMES: Final = ("0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A distribution to draw: upper edges of its buckets in ns, ascending, and counts."""

    name: str
    colour: str
    dash: str
    upper: Sequence[int]
    counts: Sequence[int]

    @cached_property
    def running(self) -> list[int]:
        return list(accumulate(self.counts))

    @property
    def total(self) -> int:
        return self.running[-1]

    def at(self, percent: float) -> float:
        """Return the upper edge below which `percent` of the values lie."""
        return float(self.upper[bisect_left(self.running, math.ceil(self.total * percent / 100))])


def percentile_plate(curves: Sequence[Curve], *, floors: Sequence[float], label: str) -> Markup:
    """Return latency over percentile; both axes logarithmic, the percentile's in nines."""
    nines = max(1.0, math.log10(max(curve.total for curve in curves)))
    values = [max(1, edge) for curve in curves for edge in (curve.upper[0], curve.upper[-1])]
    low, high = _decades([*values, *floors])

    def across(share_left: float) -> float:
        return _LEFT + (-math.log10(share_left) / nines) * (_WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        height = _HEIGHT - _TOP - _BOTTOM
        return _TOP + height * (1 - (math.log10(max(value, 1)) - low) / (high - low))

    parts = [_rule_y(down(10.0**power), time_label(10.0**power)) for power in range(int(low), int(high) + 1)]
    parts += [
        _rule_x(across(10.0**-nine), _NAMES[nine])
        for nine in range(min(int(nines + 1e-9), len(_NAMES) - 1) + 1)
    ]
    if across(0.5) - across(1.0) > _LABEL_ROOM:
        parts.append(_rule_x(across(0.5), "50 %"))
    parts += [_floor_line(down(floor), floor) for floor in floors]
    parts += [_path(curve, across, down) for curve in curves]
    parts.append(_text((_WIDTH + _LEFT - _RIGHT) / 2, _HEIGHT - 4, "percentile", "middle"))
    return _svg(parts, _HEIGHT, label)


def _path(curve: Curve, across: Any, down: Any) -> Markup:
    """Return a staircase: within a bucket the value is the bucket's upper edge."""
    points, before = [], 0
    for upper, until in zip(curve.upper, curve.running, strict=True):
        # The last value has no share of values above it; it ends where one of them would be.
        left = max(1 - until / curve.total, 1 / curve.total)
        points.append(f"{across(1 - before / curve.total):.1f},{down(upper):.1f}")
        points.append(f"{across(left):.1f},{down(upper):.1f}")
        before = min(until, curve.total - 1)
    dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
    title = element("title", curve.name)
    return Markup(f'<path d="M{" L".join(points)}" style="stroke:{curve.colour}"{dash}>{title}</path>')


def strip_plate(measures: Sequence[Mapping[str, Any]], *, label: str) -> Markup:
    """Return a row per measure on one logarithmic axis: each repetition a dot, floor and peer as marks."""
    height = _TOP + _ROW * len(measures) + _BOTTOM
    values = [
        value for measure in measures for value in (*measure["blocks"], measure["floor"], measure["peer"])
    ]
    low, high = _decades([max(value, 1e-3) for value in values if value])

    def across(value: float) -> float:
        return _LEFT + (math.log10(max(value, 1e-3)) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    bottom = _TOP + _ROW * len(measures)
    parts = []
    for power in range(int(low), int(high) + 1):
        place = across(10.0**power)
        parts.append(
            Markup(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        )
        parts.append(_text(place, bottom + 16, time_label(10.0**power), "middle"))
    parts.append(_text((_WIDTH + _LEFT - _RIGHT) / 2, height - 4, "time an item", "middle"))
    for row, measure in enumerate(measures):
        parts += _strip(measure, _TOP + _ROW * row, across)
    return _svg(parts, height, label)


def _strip(measure: Mapping[str, Any], top: float, across: Any) -> list[Markup]:
    middle = top + 31
    parts = [_text(2, top + 15, f"{measure['name']}: {number(measure['p50'])} ns", "start", "strong")]
    for key, colour, name in (
        ("floor", "var(--c5)", "floor"),
        ("peer", "var(--c1)", measure["peer_name"] or "peer"),
    ):
        if measure[key]:
            place = across(measure[key])
            title = element("title", f"{name} {number(measure[key])} ns")
            parts.append(
                Markup(
                    f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{middle - 8:.1f}" y2="{middle + 8:.1f}" '
                    f'style="stroke:{colour};stroke-width:3">{title}</line>'
                )
            )
            # A name that would leave the drawing stands on the other side of its mark.
            fits = place + 6 * len(name) < _WIDTH - _RIGHT
            parts.append(_text(place + (5 if fits else -5), middle + 12, name, "start" if fits else "end"))
    for value in measure["blocks"]:
        title = element("title", f"{number(value)} ns")
        parts.append(
            Markup(
                f'<circle cx="{across(value):.1f}" cy="{middle:.1f}" r="4.5" '
                f'style="fill:var(--c0);fill-opacity:.45">{title}</circle>'
            )
        )
    return parts


def time_label(nanoseconds: float) -> str:
    """Return a power of ten of nanoseconds as people write it.

    Examples
    --------
    >>> [time_label(value) for value in (0.1, 1.0, 1e4, 1e9)]
    ['0.1 ns', '1 ns', '10 µs', '1 s']
    """
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size * 0.999:
            return f"{nanoseconds / size:.6g} {unit}"
    return f"{nanoseconds:.6g} ns"


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Return the powers of ten around the values, at least one apart."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return float(low), float(max(high, low + 1))


def _rule_y(y: float, label: str) -> Markup:
    line = f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return Markup(line + _text(_LEFT - 7, y + 4, label, "end"))


def _rule_x(x: float, label: str) -> Markup:
    bottom = _HEIGHT - _BOTTOM
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
    return Markup(line + _text(x, bottom + 16, label, "middle"))


def _floor_line(y: float, value: float) -> Markup:
    line = (
        f'<line class="axis" stroke-dasharray="7 4" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
        f'y1="{y:.1f}" y2="{y:.1f}">'
        f"{element('title', f'floor {number(value)} ns')}</line>"
    )
    # Below its line, unless that is where the axis has its own words.
    below = 13 if y < _HEIGHT - _BOTTOM - 16 else -5
    return Markup(line + _text(_WIDTH - _RIGHT - 2, y + below, f"floor {number(value)} ns", "end"))


def _text(x: float, y: float, content: str, anchor: str, kind: str = "") -> Markup:
    name = f' class="{kind}"' if kind else ""
    return Markup(f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>')


def _svg(parts: Sequence[Markup], height: float, label: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="xMidYMid meet">{"".join(parts)}</svg>'
    )

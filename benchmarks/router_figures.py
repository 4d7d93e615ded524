"""The router's figures as SVG: policies by hit rate and value, latency by users, a hog over time.

    python -m benchmarks.router_figures days docs/img/router-days.svg
    python -m benchmarks.router_figures users docs/img/router-users.svg quiet.json hog.json
    python -m benchmarks.router_figures hog docs/img/router-hog.svg [ladder]

The JSON files are what `anytick stress --json` printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import numpy as np

from .router_days import compare_days, policies
from .router_hog import BEFORE_MS, watch_hogs
from .router_ladders import REFERENCE

_WIDTH, _HEIGHT, _LEFT, _TOP, _PLOT_W, _PLOT_H = 760, 416, 70, 60, 650, 300
_LETTER, _LINE = 6.3, 14.0
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#b5489a", "#8a6d00", "#4b5563")


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis: its label, its ends, the places of its ticks, and their texts where those differ."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    texts: tuple[str, ...] = ()

    def marks(self) -> list[tuple[float, str]]:
        """Return the ticks with what is written at them."""
        texts = self.texts or tuple(f"{tick:g}" for tick in self.ticks)
        return list(zip(self.ticks, texts, strict=True))


class Plot:
    """A small SVG plot with a white ground, so that it reads on any page."""

    def __init__(self, title: str, across: Axis, up: Axis) -> None:
        self._across, self._up = across, up
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            'font-family="system-ui, sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        ]
        self._text(_LEFT, 24, title, size=15)
        for tick, text in across.marks():
            x = self.x(tick)
            self._line(x, _TOP, x, _TOP + _PLOT_H, "#e6e9ee")
            self._text(x, _TOP + _PLOT_H + 18, text, anchor="middle")
        for tick, text in up.marks():
            y = self.y(tick)
            self._line(_LEFT, y, _LEFT + _PLOT_W, y, "#e6e9ee")
            self._text(_LEFT - 8, y + 4, text, anchor="end")
        self._text(_LEFT + _PLOT_W / 2, _TOP + _PLOT_H + 40, across.label, anchor="middle")
        self._text(_LEFT, _TOP - 12, up.label)
        # (left, top, right, bottom) of what labels keep off.
        self._taken: list[tuple[float, float, float, float]] = []
        self._points: list[tuple[float, float, str]] = []

    def x(self, value: float) -> float:
        """Return where a value lies across."""
        axis = self._across
        return _LEFT + _PLOT_W * (value - axis.low) / (axis.high - axis.low)

    def y(self, value: float) -> float:
        """Return where a value lies up."""
        axis = self._up
        return _TOP + _PLOT_H * (1.0 - (value - axis.low) / (axis.high - axis.low))

    def curve(
        self, xs: Sequence[float], ys: Sequence[float], colour: int, label: str = "", down: float = -7
    ) -> None:
        """Draw a line through points, its label at the last."""
        points = " ".join(
            f"{self.x(x):.1f},{min(max(self.y(y), _TOP), _TOP + _PLOT_H):.1f}"
            for x, y in zip(xs, ys, strict=True)
        )
        self._parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[colour]}" stroke-width="2"/>'
        )
        if label:
            y = min(max(self.y(ys[-1]), _TOP + 10), _TOP + _PLOT_H)
            self._text(self.x(xs[-1]) - 4, y + down, label, anchor="end", colour=_COLOURS[colour])

    def point(self, x: float, y: float, colour: int, label: str) -> None:
        """Draw a point; its label finds a free place when all are drawn."""
        across, up = self.x(x), self.y(y)
        self._parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="5" fill="{_COLOURS[colour]}"/>')
        self._taken.append((across - 6, up - 6, across + 6, up + 6))
        self._points.append((across, up, label))

    def mark(self, x: float, label: str, *, left: bool = False) -> None:
        """Draw a dashed line across the whole height."""
        self._line(self.x(x), _TOP, self.x(x), _TOP + _PLOT_H, "#5a6472", dashed=True)
        self._text(self.x(x) + (-6 if left else 6), _TOP + 14, label, anchor="end" if left else "start")

    def level(self, y: float, label: str) -> None:
        """Draw a dashed line along the whole width."""
        self._line(_LEFT, self.y(y), _LEFT + _PLOT_W, self.y(y), "#5a6472", dashed=True)
        self._text(_LEFT + 6, self.y(y) - 5, label)
        self._taken.append((_LEFT, self.y(y) - 1, _LEFT + _PLOT_W, self.y(y) + 1))

    def _label_points(self) -> None:
        for across, up, label in self._points:
            wide = _LETTER * len(label)
            places = (
                (start, up + down)
                for down in (0.0, -16.0, 16.0, -30.0, 30.0, -44.0, 44.0)
                for start in (across + 10, across - 10 - wide)
            )
            for left, middle in places:
                box = (left, middle - _LINE / 2, left + wide, middle + _LINE / 2)
                if left > _LEFT and box[2] < _LEFT + _PLOT_W and not any(_meet(box, o) for o in self._taken):
                    break
            self._taken.append(box)
            self._text(left, middle + 4, label)
            near = left if left > across else left + wide
            if abs(middle - up) > _LINE:
                self._line(across, up, near, middle, "#9aa3af")
        self._points.clear()

    def text(self) -> str:
        """Return the file's text."""
        self._label_points()
        return "\n".join([*self._parts, "</svg>"]) + "\n"

    def _line(self, x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dash}/>'
        )

    def _text(
        self, x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = "#1b1f26"
    ) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
            # A rim of the page's colour keeps a label legible where a line runs through it.
            ' stroke="#ffffff" stroke-width="4" stroke-linejoin="round" paint-order="stroke">'
            f"{escape(text)}</text>"
        )


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def draw_days(*, deadlines: float = 80.0, seed: int = 1) -> str:
    """Return policies by hit rate and mean value over the 24 simulated loads."""
    found = compare_days(REFERENCE, policies(REFERENCE), deadlines=deadlines, seed=seed)
    tenths = tuple(step / 10 for step in range(0, 11, 2))
    plot = Plot(
        "24 simulated loads: answered in time, and what the answers are worth",
        Axis(
            label="share answered in time",
            low=0.3,
            high=1.05,
            ticks=tuple(step / 10 for step in range(3, 11)),
        ),
        Axis(label="mean value per request (largest model in time = 1)", low=0.0, high=1.05, ticks=tenths),
    )
    plot.level(float(found.bound.mean()), "bound of a clairvoyant")
    for row, policy in enumerate(found.policies):
        kind = 1 if policy == "anytick" else 2 if policy.startswith("Clock") else 3 if "INF" in policy else 0
        hit, value = float(found.hit_rate[row].mean()), float(found.value[row].mean())
        plot.point(hit, value, kind, policy)
    return plot.text()


def draw_users(quiet: Path, hog: Path) -> str:
    """Return p99 by users, ours and the naive session's, from two JSON documents of ``anytick stress``."""
    tables = [json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["loads"] for path in (quiet, hog)]
    plot = Plot(
        "Closed-loop users, 50 ms deadline: p99 of answered",
        Axis(label="users", low=-0.1, high=3.2, ticks=(0, 1, 2, 3), texts=("1", "4", "16", "64")),
        Axis(label="ms", low=-1.0, high=3.0, ticks=(-1, 0, 1, 2, 3), texts=(".1", "1", "10", "100", "1000")),
    )
    plot.level(float(np.log10(50.0)), "deadline")
    for number, (loads, name) in enumerate(zip(tables, ("", ", hogs"), strict=True)):
        closed = [load for load in loads if load["load"].endswith("users")]
        users = [float(np.log(int(load["load"].split()[0])) / np.log(4.0)) for load in closed]
        # Labels stand below their curves' ends, far enough for the curves' slopes; the topmost stands above.
        for key, colour, label, down in (
            ("p99_ms", 0, "anytick", 20),
            ("naive_p99_ms", 1, "one shared session", -11 if number else 36),
        ):
            heights = [float(np.log10(load[key])) for load in closed]
            plot.curve(users, heights, colour + 2 * number, label + name, down=down)
    return plot.text()


def draw_hog(ladder: Path | None, *, count: int = 30) -> str:
    """Return the workers' slowdown over time, processes that spin going on at 0; measured now."""
    times = watch_hogs(ladder, count=count)
    seen = [np.quantile(times.seen_ms, share, method="higher") for share in (0.5, 0.9)]
    first, last = -300, 700
    plot = Plot(
        f"{len(times.seen_ms)} times a hog on every core: "
        f"a third slower after {seen[0]:.0f} ms (median), {seen[1]:.0f} (90 %)",
        Axis(
            label="ms since the hogs go on, which they do for 400",
            low=first,
            high=last,
            ticks=tuple(range(first, last + 1, 100)),
        ),
        Axis(
            label="slowdown that workers plan with (1 = quiet machine)",
            low=0.0,
            high=5.0,
            ticks=tuple(range(6)),
        ),
    )
    plot.mark(0.0, "hogs go on", left=True)
    plot.mark(40.0, "40 ms")
    plot.mark(400.0, "hogs stop")
    shown = times.slowdowns[:, BEFORE_MS + first : BEFORE_MS + last]
    for share, colour, label, down in (
        (0.9, 2, "90 % of them", -7),
        (0.5, 0, "median", -7),
        (0.1, 3, "10 %", 16),
    ):
        plot.curve(range(first, last), np.quantile(shown, share, axis=0).tolist(), colour, label, down)
    return plot.text()


def main(arguments: Sequence[str]) -> int:
    """Draw one figure into a file."""
    kind, target, *rest = arguments
    paths = [Path(text) for text in rest]
    makers: dict[str, Callable[[], str]] = {
        "days": draw_days,
        "users": lambda: draw_users(*paths),
        "hog": lambda: draw_hog(paths[0] if paths else None),
    }
    Path(target).write_text(makers[kind](), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

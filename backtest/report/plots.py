"""The grammar of the pictures: plotly specifications as plain values.

A figure is the JSON that plotly.js draws, built without plotly's Python objects: the bytes depend on
our values only, never on a template or a random id. Colours are Okabe and Ito's (2008), which readers
with any common colour vision tell apart; dashes and marks repeat what they say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape as html_escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..result import Floats, LatencyHistogram
from .formats import nanoseconds
from .markup import printable

Spec = dict[str, Any]

POINTS_MAX: Final = 2_000
"""Points a trace may hold; longer series keep each stretch's lowest and highest point."""
SIGNIFICANT_DIGITS: Final = 6
LABEL_CHARACTERS_MAX: Final = 40
LATENCY_BINS_MAX: Final = 90
# Empty bins lie on the foot of a logarithmic axis, below one measurement.
_LOG_ZERO: Final = 0.5

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
VERMILION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
SKY: Final = "#56B4E9"
GREY: Final = "#8A8F98"
# Okabe-Ito's yellow and black vanish on white and on dark paper, so grey takes their place.
CYCLE: Final = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY)
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px,2px")
SYMBOLS: Final = ("circle", "square", "triangle-up", "x", "diamond", "cross", "star")
HATCHES: Final = ("", "/", ".", "x", "-", "\\", "|", "+")
SHADE: Final = "rgba(128,136,150,0.13)"


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One entry of a figure's selector: which traces it shows."""

    label: str
    visible: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One picture with the sentence that says how to read it.

    Parameters
    ----------
    key : str
        Element id, unique on its page, from our own source.
    selector : str
        Label of the selector; used when there are `views`.
    """

    key: str
    title: str
    caption: str
    traces: list[Spec]
    layout: Spec
    height_px: int = 380
    selector: str = ""
    views: tuple[View, ...] = field(default=())


def label(text: str, limit: int = LABEL_CHARACTERS_MAX) -> str:
    """Return `text` for use inside a plot, where plotly reads a subset of HTML."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    # plotly also expands %{...} in hover templates.
    return html_escape(printable(short).replace("%{", "% {"), quote=False)


def numbers(values: Sequence[float] | Floats | NDArray[np.int64]) -> list[float | None]:
    """Return values for JSON: six significant digits, null where not finite."""
    written = (float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in np.asarray(values, dtype=np.float64))
    return [value if math.isfinite(value) else None for value in written]


def milliseconds(ts_ns: NDArray[np.int64]) -> list[float]:
    """Return instants the way plotly's date axes take them: ms since the Unix epoch, UTC."""
    return [int(instant) / 1e6 for instant in ts_ns]


def thin(values: Floats, limit: int = POINTS_MAX) -> NDArray[np.intp]:
    """Return the indices of at most `limit` points that keep every stretch's extremes.

    Parameters
    ----------
    values : array, shape (n,)
        Non-finite points are dropped.
    limit : int
        At least 4.

    Returns
    -------
    array of intp, ascending
    """
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size <= limit:
        return finite
    kept = [finite[:1], finite[-1:]]
    for stretch in np.array_split(finite, limit // 2 - 1):
        kept.append(stretch[[int(np.argmin(values[stretch])), int(np.argmax(values[stretch]))]])
    return np.unique(np.concatenate(kept))


def line(name: str, x: list[Any], y: list[float | None], *, place: int, strong: bool = False) -> Spec:
    """Return a line trace; no two of the first 49 places share colour and dash."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(name),
        "x": x,
        "y": y,
        "line": {
            "color": CYCLE[place % len(CYCLE)],
            "dash": DASHES[(place + place // len(CYCLE)) % len(DASHES)],
            "width": 2.8 if strong else 1.4,
        },
        "opacity": 1.0 if strong else 0.9,
    }


def layout(*, x_title: str = "", y_title: str = "", legend: bool = True, **more: Any) -> Spec:
    """Return the common layout; the page adds the colours of its scheme when it draws."""
    spec: Spec = {
        "margin": {"l": 64, "r": 18, "t": 18, "b": 36},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "traceorder": "normal",
        },
        "xaxis": axis(x_title),
        "yaxis": axis(y_title),
    }
    return spec | more


def axis(title: str = "", **more: Any) -> Spec:
    """Return a quiet axis that makes room for its own labels."""
    return {"title": {"text": title, "standoff": 10}, "automargin": True, "zeroline": False} | more


def vertical_rule(x: float, *, dash: str = "dash", width: float = 1.2) -> Spec:
    """Return a line across the plot at `x`."""
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"color": GREY, "width": width, "dash": dash},
    }


def latency_figure(key: str, histogram: LatencyHistogram, *, what: str) -> Figure | None:
    """Draw counts by latency on logarithmic axes; None when nothing was measured."""
    upper_ns, counts = _coarser(histogram)
    if upper_ns.size == 0:
        return None
    first = float(upper_ns[0]) / 1.08
    edges = [max(first, 1.0), *(float(edge) for edge in upper_ns)]
    low, high = math.log10(edges[0]), math.log10(edges[-1]) + 0.02
    trace: Spec = {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(edges),
        # The step before an edge carries the bucket that ends there.
        "y": [max(float(count), _LOG_ZERO) for count in (counts[0], *counts)],
        "line": {"shape": "vh", "color": BLUE, "width": 1.6},
        "fill": "tozeroy",
        "fillcolor": "rgba(0,114,178,0.22)",
        "hovertemplate": "up to %{x:,.0f} ns: %{y:,.0f}<extra></extra>",
    }
    floor, peak = math.log10(_LOG_ZERO), math.log10(float(counts.max()))
    top = peak + 0.18 * (peak - floor)
    marks = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)]
    percentiles = [(name, histogram.percentile_ns(percent)) for name, percent in marks]
    percentiles.append(("max", float(histogram.max_ns)))
    shapes: list[Spec] = []
    notes: list[Spec] = []
    for step, (name, value_ns) in enumerate(percentiles):
        place = math.log10(max(value_ns, 1.0))
        shapes.append(vertical_rule(value_ns, dash=DASHES[(step + 1) % len(DASHES)], width=1.6))
        right_half = place > (low + high) / 2
        notes.append(
            {
                "x": place,
                "xref": "x",
                # Close percentiles must not write over each other.
                "y": 1.0 - 0.1 * step,
                "yref": "paper",
                "text": f"{name} {nanoseconds(value_ns)}",
                "showarrow": False,
                "xanchor": "right" if right_half else "left",
                "yanchor": "top",
                "xshift": -4 if right_half else 4,
            }
        )
    ticks = [10.0**power for power in range(math.floor(low), math.ceil(high) + 1)]
    spec = layout(
        legend=False,
        shapes=shapes,
        annotations=notes,
        xaxis=axis(
            what,
            type="log",
            range=[low, high],
            tickvals=ticks,
            ticktext=[nanoseconds(tick).replace(".00", "").replace(".0", "") for tick in ticks],
        ),
        yaxis=axis("measurements in bin", type="log", range=[floor, top], dtick=1),
    )
    caption = (
        "Each step counts the measurements that ended in its bin; both axes are logarithmic, so the far "
        "right is the tail. Dashed lines mark percentiles."
    )
    return Figure(key=key, title=f"Latency: {what}", caption=caption, traces=[trace], layout=spec)


def _coarser(histogram: LatencyHistogram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join neighbouring buckets, never splitting one, until the used range has few enough bins."""
    used = np.flatnonzero(histogram.counts)
    if used.size == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    part = slice(int(used[0]), int(used[-1]) + 1)
    upper_ns, counts = histogram.upper_ns[part], histogram.counts[part]
    logs = np.log(np.maximum(upper_ns.astype(np.float64), 1.0))
    step = max((logs[-1] - logs[0]) / LATENCY_BINS_MAX, 1e-9)
    bins = np.floor((logs - logs[0]) / step).astype(np.int64)
    lasts = np.flatnonzero(np.append(np.diff(bins) > 0, True))
    totals = np.cumsum(counts)[lasts]
    return upper_ns[lasts], np.diff(totals, prepend=0)

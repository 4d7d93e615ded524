"""The pictures of one strategy's backtest: equity, drawdown, position and fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..result import Floats, Result
from .plots import BLUE, GREY, VERMILION, Figure, Spec, axis, label, layout, line, milliseconds, numbers, thin

FILLS_MAX: Final = 1_000
"""Fills drawn for each side; the table counts all of them."""
_SIDES: Final = ((1, "buy", "triangle-up", BLUE), (-1, "sell", "triangle-down", VERMILION))


def drawdown(equity: Floats) -> Floats:
    """Return how far the equity stands below its highest point so far; zero or negative."""
    below: Floats = equity - np.maximum.accumulate(np.concatenate(([0.0], equity)))[1:]
    return below


def equity_figure(results: Sequence[Result]) -> Figure | None:
    """Draw equity above drawdown, all results over each other; None without any point."""
    traces: list[Spec] = []
    for place, result in enumerate(results):
        for values, below in ((result.equity, False), (drawdown(result.equity), True)):
            kept = thin(values)
            if kept.size == 0:
                continue
            x = milliseconds(result.equity_ts_ns[kept])
            trace = line(result.name, x, numbers(values[kept]), place=place, strong=not below and place == 0)
            trace["legendgroup"] = str(place)
            if below:
                trace |= {
                    "yaxis": "y2",
                    "showlegend": False,
                    "fill": "tozeroy",
                    "line": trace["line"] | {"width": 1},
                }
            traces.append(trace)
    if not traces:
        return None
    currency = results[0].currency
    return Figure(
        key="equity",
        title="Equity and drawdown",
        caption=(
            "Above: cash plus position at mid, after fees, from zero. Below: distance from the highest point "
            "so far; deeper is worse. Times are UTC."
        ),
        traces=traces,
        layout=layout(
            legend=len(results) > 1,
            hovermode="x unified",
            xaxis=axis(type="date", anchor="y2"),
            yaxis=axis(f"equity, {label(currency)}", domain=[0.36, 1.0]),
            yaxis2=axis(f"drawdown, {label(currency)}", domain=[0.0, 0.28]),
        ),
        height_px=480,
    )


def position_figure(results: Sequence[Result]) -> Figure | None:
    """Draw the position held; None without any point."""
    traces: list[Spec] = []
    for place, result in enumerate(results):
        kept = thin(result.position_lots.astype(np.float64))
        if kept.size:
            x = milliseconds(result.equity_ts_ns[kept])
            trace = line(result.name, x, numbers(result.position_lots[kept]), place=place)
            trace["line"] |= {"shape": "hv", "width": 1.2}
            traces.append(trace)
    if not traces:
        return None
    return Figure(
        key="position",
        title="Position",
        caption="Lots held over time: above zero long, below zero short; plateaus are inventory at risk.",
        traces=traces,
        layout=layout(
            legend=len(results) > 1,
            xaxis=axis(type="date"),
            yaxis=axis("position, lots", zeroline=True, zerolinecolor=GREY),
        ),
        height_px=300,
    )


def fills_figure(result: Result, *, key: str) -> Figure | None:
    """Draw fill prices, buys and sells apart by mark and colour; None without a fill."""
    fills = result.fills
    if fills.size == 0:
        return None
    path = thin(fills["price_ticks"].astype(np.float64))
    traces: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "fill price",
            "x": milliseconds(fills["ts_ns"][path]),
            "y": numbers(fills["price_ticks"][path]),
            "line": {"color": GREY, "width": 0.8},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for side, name, symbol, color in _SIDES:
        own = _sample(np.flatnonzero(fills["side"] == side))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": milliseconds(fills["ts_ns"][own]),
                "y": numbers(fills["price_ticks"][own]),
                "customdata": fills["size_lots"][own].tolist(),
                "marker": {"symbol": symbol, "size": 6, "color": color, "opacity": 0.75},
                "hovertemplate": f"{name} %{{customdata:,}} lots at %{{y:,}} ticks<extra></extra>",
            }
        )
    drawn = sum(len(trace["x"]) for trace in traces[1:])
    return Figure(
        key=key,
        title=f"Fills: {result.name}",
        caption=(
            f"Prices of our fills in grid ticks; triangles up are buys, down are sells. "
            f"{drawn:,} of {fills.size:,} fills are drawn, evenly sampled."
        ),
        traces=traces,
        layout=layout(xaxis=axis(type="date"), yaxis=axis("price, ticks", tickformat=",d")),
        height_px=360,
    )


def _sample(indices: NDArray[np.intp], limit: int = FILLS_MAX) -> NDArray[np.intp]:
    """Return at most `limit` of the indices, evenly spread, first and last included."""
    if indices.size <= limit:
        return indices
    return indices[np.linspace(0, indices.size - 1, limit).round().astype(np.intp)]

"""The pictures of the main job's page: one function a figure, from `RunResult` to `Figure`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

import numpy as np

from ..result import Floats, Interval, RunResult, StrategyResult
from .comparison import learner_of, outcome_of, ranked, reference_of
from .formats import estimate
from .plots import (
    BLUE,
    CYCLE,
    GREY,
    HATCHES,
    SHADE,
    VERMILION,
    Figure,
    Spec,
    View,
    axis,
    label,
    layout,
    line,
    numbers,
    thin,
    vertical_rule,
)

ROLLING_DAYS: Final = 60
# The first days of a running mean swing too far to set the scale of the years that follow.
SETTLING_DAYS: Final = 40


def cost_forest(result: RunResult) -> Figure | None:
    """Draw each policy's cost with its interval; None without policies."""
    if not result.policies:
        return None
    reference = reference_of(result)
    rows = [(policy.name, policy.label, policy.cost_bps) for policy in ranked(result)]
    shapes = (
        [vertical_rule(reference.cost_bps.mean)] if reference and np.isfinite(reference.cost_bps.mean) else []
    )
    return Figure(
        key="cost-forest",
        title="Cost per policy",
        caption=(
            "Points are mean costs, bars their confidence intervals; further left is cheaper. The diamond "
            "and the dashed line mark the reference, the large blue point the router under study."
        ),
        traces=_interval_traces(result, rows, sign=False),
        layout=layout(
            legend=False,
            shapes=shapes,
            xaxis=axis("cost, bps of notional", tickformat=".3~f", nticks=7),
            yaxis=_row_axis(rows),
        ),
        height_px=110 + 34 * max(len(result.policies), 3),
    )


def difference_forest(result: RunResult) -> Figure | None:
    """Draw each policy's paired difference from the reference; None without any."""
    reference = reference_of(result)
    rows = [
        (policy.name, policy.label, policy.difference_bps)
        for policy in ranked(result)
        if policy.difference_bps is not None
    ]
    if not rows or reference is None:
        return None
    return Figure(
        key="difference-forest",
        title=f"Difference from {reference.label}",
        caption=(
            "Costs compared day by day: left of the zero line is cheaper than the reference. A bar that "
            "touches the line shows no difference."
        ),
        traces=_interval_traces(result, rows, sign=True),
        layout=layout(
            legend=False,
            shapes=[vertical_rule(0.0, dash="solid")],
            xaxis=axis("difference, bps of notional", tickformat="+.3~f", nticks=7),
            yaxis=_row_axis(rows),
        ),
        height_px=110 + 34 * max(len(result.policies), 3),
    )


def _interval_traces(
    result: RunResult, rows: Sequence[tuple[str, str, Interval]], *, sign: bool
) -> list[Spec]:
    """Return one trace a row, so that mark and colour can say what the row is."""
    learner, reference = learner_of(result), reference_of(result)
    traces: list[Spec] = []
    for place, (name, title, interval) in enumerate(rows):
        color, symbol, size = GREY, "circle", 9
        if reference is not None and name == reference.name:
            color, symbol, size = VERMILION, "diamond", 12
        if learner is not None and name == learner.name:
            color, symbol, size = BLUE, "circle", 13
        hover = estimate(interval, sign=sign) + (f", {outcome_of(interval).value}" if sign else "")
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": numbers([interval.mean]),
                "y": [place],
                "marker": {"color": color, "symbol": symbol, "size": size},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": numbers([interval.high - interval.mean]),
                    "arrayminus": numbers([interval.mean - interval.low]),
                    "color": color,
                    "thickness": 2,
                    "width": 5,
                },
                "hovertemplate": f"{label(title)}: {hover}<extra></extra>",
            }
        )
    return traces


def _row_axis(rows: Sequence[tuple[str, str, Interval]]) -> Spec:
    """Return an axis of labelled rows, the first on top; positions, because labels may repeat."""
    titles = [label(title) for _, title, _ in rows]
    return axis(
        tickvals=list(range(len(rows))), ticktext=titles, range=[len(rows) - 0.4, -0.6], showgrid=False
    )


def running_mean(daily: Floats) -> Floats:
    """Return the mean of all days so far, each day counted once; NaN before the first."""
    known = np.isfinite(daily)
    seen = np.cumsum(known).astype(np.float64)
    seen[seen == 0] = np.nan
    means: Floats = np.cumsum(np.where(known, daily, 0.0)) / seen
    return means


def rolling_mean(daily: Floats, days: int = ROLLING_DAYS) -> Floats:
    """Return the mean of the last `days` days that have a cost; NaN until half of them have."""
    known = np.isfinite(daily)
    totals = np.cumsum(np.where(known, daily, 0.0))
    seen = np.cumsum(known).astype(np.float64)
    totals[days:] = totals[days:] - totals[:-days].copy()
    seen[days:] = seen[days:] - seen[:-days].copy()
    means: Floats = np.where(seen >= days / 2, totals / np.maximum(seen, 1.0), np.nan)
    return means


def learning_curve(result: RunResult) -> Figure | None:
    """Draw mean cost over time, windows shaded; None when no day has a cost."""
    days = [str(day) for day in result.days]
    learner = learner_of(result)
    traces: list[Spec] = []
    settled: list[Floats] = []
    for kind in (running_mean, rolling_mean):
        for place, policy in enumerate(result.policies):
            curve = kind(policy.daily_cost_bps)
            kept = thin(curve)
            strong = learner is not None and policy.name == learner.name
            trace = line(
                policy.label, [days[i] for i in kept], numbers(curve[kept]), place=place, strong=strong
            )
            trace["visible"] = kind is running_mean
            traces.append(trace)
            settled.append(curve[min(SETTLING_DAYS, curve.size // 4) :])
    values = np.concatenate(settled) if settled else np.empty(0)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    margin = 0.06 * float(np.ptp(values)) or 0.1
    spread = [float(values.min()) - margin, float(values.max()) + margin]
    half = len(result.policies)
    return Figure(
        key="learning-curve",
        title="Learning curve",
        caption=(
            "Mean cost per day, each day counted once; lower is better, and a router that learns falls "
            "against the others. Shaded bands are every second test window."
        ),
        traces=traces,
        layout=layout(
            y_title="mean cost, bps",
            shapes=_window_bands(result),
            hovermode="x unified",
            xaxis=axis(type="date"),
            yaxis=axis("mean cost, bps", range=[float(f"{edge:.6g}") for edge in spread]),
        ),
        height_px=460,
        selector="Average over",
        views=(
            View(label="all days so far", visible=(True,) * half + (False,) * half),
            View(label=f"the last {ROLLING_DAYS} days", visible=(False,) * half + (True,) * half),
        ),
    )


def _window_bands(result: RunResult) -> list[Spec]:
    """Shade every second test window."""
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": window.test_from,
            "x1": window.test_until,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "fillcolor": SHADE,
            "line": {"width": 0},
        }
        for window in result.windows[::2]
    ]


def venue_mix(result: RunResult) -> Figure | None:
    """Draw where each policy's lots were filled, window by window, the learner's first."""
    if not result.windows or not result.venues or not result.policies:
        return None
    learner = learner_of(result)
    policies = sorted(result.policies, key=lambda policy: learner is None or policy.name != learner.name)
    starts = [window.test_from for window in result.windows]
    traces: list[Spec] = []
    for policy in policies:
        for place, venue in enumerate(result.venues):
            share = policy.venue_share[:, place]
            color = CYCLE[place % len(CYCLE)]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": label(venue),
                    # A window's share holds to its end, so the last step needs a closing point.
                    "x": [*starts, result.windows[-1].test_until],
                    "y": numbers(np.append(share, share[-1:])),
                    "stackgroup": policy.name,
                    "line": {"shape": "hv", "color": color, "width": 1},
                    "fillcolor": color,
                    "fillpattern": {
                        "shape": HATCHES[place % len(HATCHES)],
                        "fgcolor": "rgba(255,255,255,0.55)",
                        "bgcolor": color,
                        "fillmode": "replace",
                        "size": 7,
                        "solidity": 0.2,
                    },
                    "visible": policy is policies[0],
                    "hovertemplate": "%{fullData.name}: %{y:.1%}<extra></extra>",
                }
            )
    width = len(result.venues)
    views = tuple(
        View(
            label=policy.label,
            visible=tuple(place // width == chosen for place in range(len(traces))),
        )
        for chosen, policy in enumerate(policies)
    )
    return Figure(
        key="venue-mix",
        title="Venue mix over time",
        caption="Height is a venue's share of filled lots in each test window; the bands add to 100 %.",
        traces=traces,
        layout=layout(
            hovermode="x unified",
            xaxis=axis(type="date"),
            yaxis=axis("share of filled lots", range=[0, 1], tickformat=".0%"),
        ),
        height_px=400,
        selector="Policy",
        views=views,
    )


def regret_curve(result: RunResult) -> Figure | None:
    """Draw cumulative regret; None when no policy has any."""
    days = [str(day) for day in result.days]
    learner = learner_of(result)
    traces = []
    for place, policy in enumerate(result.policies):
        kept = thin(policy.cumulative_regret_bps)
        if kept.size:
            strong = learner is not None and policy.name == learner.name
            values = numbers(policy.cumulative_regret_bps[kept])
            traces.append(line(policy.label, [days[i] for i in kept], values, place=place, strong=strong))
    if not traces:
        return None
    return Figure(
        key="regret",
        title="Cumulative regret",
        caption=(
            "Running sum of what each day's decisions cost beyond the best arm in hindsight; a flattening "
            "curve is a policy that stops making the same mistake."
        ),
        traces=traces,
        layout=layout(
            hovermode="x unified",
            xaxis=axis(type="date"),
            yaxis=axis("cumulative regret, bps", rangemode="tozero"),
        ),
        height_px=440,
    )


def model_accuracy(result: RunResult) -> Figure | None:
    """Draw held-back accuracy by window; None without a model."""
    models = [window.model for window in result.windows if window.model is not None]
    if not models:
        return None
    windows = [model.window for model in models]
    series = (
        ("FP32", [model.accuracy_fp32 for model in models], BLUE, "circle", "solid"),
        ("INT8", [model.accuracy_int8 for model in models], VERMILION, "x", "dot"),
        ("majority class", [model.accuracy_majority for model in models], GREY, "line-ew-open", "dash"),
    )
    traces: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": windows,
            "y": numbers(values),
            "line": {"color": color, "dash": dash, "width": 1.6},
            "marker": {"symbol": symbol, "size": 9},
            "hovertemplate": f"window %{{x}}, {name}: %{{y:.1%}}<extra></extra>",
        }
        for name, values, color, symbol, dash in series
    ]
    return Figure(
        key="model-accuracy",
        title="Accuracy on held-back data",
        caption=(
            "A model earns its place where it stands above the dashed line (always guessing the commonest "
            "class), and INT8 where it stays on FP32."
        ),
        traces=traces,
        layout=layout(
            xaxis=axis(
                "walk-forward window",
                dtick=max(1, len(windows) // 12),
                range=[windows[0] - 0.5, windows[-1] + 0.5],
            ),
            yaxis=axis("accuracy", tickformat=".0%"),
        ),
        height_px=340,
    )


def strategy_equity(strategies: Sequence[StrategyResult], days: Sequence[str]) -> Figure | None:
    """Draw cumulative profit of the example strategies; None without any."""
    traces = []
    # Strategies are marked on weekdays; the other curves of the page run over all scored days.
    weekdays = [day for day in days if date.fromisoformat(day).weekday() < 5]
    dated = all(strategy.daily_pnl.size == len(weekdays) for strategy in strategies)
    for place, strategy in enumerate(strategies):
        equity: Floats = np.cumsum(np.nan_to_num(strategy.daily_pnl))
        kept = thin(equity)
        x = [weekdays[i] if dated else int(i) + 1 for i in kept]
        traces.append(line(strategy.name, x, numbers(equity[kept]), place=place))
    if not traces:
        return None
    return Figure(
        key="strategy-equity",
        title="Equity curves",
        caption=(
            "Cumulative profit after fees, in the instrument's currency. A rising curve alone proves "
            "nothing: the deflated Sharpe ratio in the table says whether it beats the best of that many "
            "trials."
        ),
        traces=traces,
        layout=layout(
            hovermode="x unified",
            xaxis=axis(type="date") if dated else axis("trading day"),
            yaxis=axis("cumulative profit"),
        ),
        height_px=380,
    )

"""Tables with scopes and captions, and the ones of the main job's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..result import Interval, Performance, PolicyResult, RunResult, SensitivityRow
from .comparison import Outcome, learner_of, outcome_of, ranked, reference_of, sign_flips
from .formats import (
    bounds,
    confidence,
    count,
    decimal,
    nanoseconds,
    percent,
    seconds,
    short_hash,
    signed,
)
from .markup import EMPTY, Markup, element, join, true_minus

_SVG_WIDTH: Final = 144.0
_OUTCOME_CLASS: Final = {
    Outcome.CHEAPER: "better",
    Outcome.DEARER: "worse",
    Outcome.UNRESOLVED: "unresolved",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column's heading and how its cells are set."""

    title: str
    numeric: bool = True
    wraps: bool = False


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[str]], *, chosen: int | None = None
) -> Markup:
    """Return a table whose first column heads its rows.

    Parameters
    ----------
    rows : iterable of sequences of str
        One cell a column; escaped unless `Markup`.
    chosen : int, optional
        Index of the row to set off.
    """
    head = element("tr", *(_cell("th", column.title, column, scope="col") for column in columns))
    body = []
    for index, row in enumerate(rows):
        cells = [_cell("th", row[0], columns[0], scope="row")]
        cells += [_cell("td", cell, column) for cell, column in zip(row[1:], columns[1:], strict=True)]
        marks = {"class_": "chosen"} if index == chosen else {}
        body.append(element("tr", *cells, **marks))
    if not body:
        return EMPTY
    content = element(
        "table", element("caption", element("span", caption)), element("thead", head), element("tbody", *body)
    )
    return element("div", content, class_="scroll", role="region", tabindex="0", aria_label=caption)


def _cell(tag: str, content: str, column: Column, **attributes: str) -> Markup:
    if not column.numeric:
        marks = {"class_": "wraps"} if column.wraps else {}
        return element(tag, content, **marks, **attributes)
    return element(tag, true_minus(content), class_="number", **attributes)


def verdict_mark(outcome: Outcome) -> Markup:
    """Return the outcome as a mark and a word; colour only repeats them."""
    return element("span", f"{outcome.mark} {outcome.value}", class_=_OUTCOME_CLASS[outcome])


def code(text: str) -> Markup:
    """Return an identifier."""
    return element("code", text) if text else EMPTY


def policy_table(result: RunResult) -> Markup:
    """Return the result table, cheapest policy first."""
    policies = ranked(result)
    if not policies:
        return EMPTY
    level = confidence(policies[0].cost_bps)
    learner, reference = learner_of(result), reference_of(result)
    against = f"from {reference.label}" if reference else "from the reference"
    columns = (
        Column(title="policy", numeric=False, wraps=True),
        Column(title=f"cost, bps [{level}]"),
        Column(title=f"difference, bps [{level}]"),
        Column(title="shown", numeric=False),
        Column(title="fees, bps"),
        Column(title="taker share"),
        Column(title="filled"),
        Column(title="decisions"),
        Column(title="journal hash", numeric=False),
    )
    chosen = next((i for i, policy in enumerate(policies) if policy is learner), None)
    return table(
        "Implementation shortfall against the arrival mid, fees included, in 1e-4 of notional; lower is "
        f"better. Differences are {against}, paired by day; intervals come from a block bootstrap by day.",
        columns,
        (_policy_row(policy) for policy in policies),
        chosen=chosen,
    )


def _policy_row(policy: PolicyResult) -> tuple[str, ...]:
    difference = policy.difference_bps
    return (
        policy.label,
        interval_cell(policy.cost_bps),
        interval_cell(difference, sign=True) if difference else element("span", "–", class_="soft"),
        verdict_mark(outcome_of(difference))
        if difference
        else element("span", "◆ reference", class_="unresolved"),
        decimal(policy.fee_bps),
        percent(policy.taker_share),
        percent(policy.filled_share),
        count(policy.decisions),
        code(short_hash(policy.journal_hash)),
    )


def interval_cell(interval: Interval, digits: int = 3, *, sign: bool = False) -> Markup:
    """Return the estimate, and its bounds in a softer voice."""
    mean = signed(interval.mean, digits) if sign else decimal(interval.mean, digits)
    span = bounds(interval, digits, sign=sign)
    return join(true_minus(mean), Markup(" "), element("span", true_minus(span), class_="soft"))


def _reasons(result: RunResult) -> str:
    """Say once per reason why a form ran."""
    models = (window.model for window in result.windows)
    said = "; ".join(dict.fromkeys(model.runs_because for model in models if model is not None))
    return f"{said[:1].upper()}{said[1:]}."


def model_table(result: RunResult) -> Markup:
    """Return one row for each window's model."""
    models = [(window, window.model) for window in result.windows if window.model is not None]
    names = (
        "samples", "FP32", "INT8", "majority", "agreement", "mean |FP32 − INT8|", "FP32 latency",
        "INT8 latency",
    )  # fmt: skip
    columns = (
        Column(title="window"),
        Column(title="test days", numeric=False),
        *(Column(title=name) for name in names),
        Column(title="runs", numeric=False),
        Column(title="INT8 SHA-256", numeric=False),
    )
    rows = (
        (
            str(model.window),
            f"{window.test_from} – {window.test_until}",
            count(model.samples),
            percent(model.accuracy_fp32, 2),
            percent(model.accuracy_int8, 2),
            percent(model.accuracy_majority, 2),
            percent(model.agreement, 2),
            decimal(model.mean_abs_difference, 4),
            nanoseconds(model.latency_fp32_ns),
            nanoseconds(model.latency_int8_ns),
            model.runs.upper(),
            code(short_hash(model.sha256_int8)),
        )
        for window, model in models
    )
    return table(
        "The model of each training window on data held back from its fit: accuracy of the full-precision "
        "and the quantized form, how often the two agree, the time of one inference measured after this run, "
        "and the form that ran: the faster one by the stored profile, FP32 where INT8 failed its gate. "
        f"{_reasons(result)}",
        columns,
        rows,
    )


def strategy_table(result: RunResult) -> Markup:
    """Return the example strategies with their probabilistic and deflated Sharpe ratios."""
    level = confidence(result.strategies[0].sharpe) if result.strategies else ""
    titles = ("trades", "profit", f"annual Sharpe [{level}]", "PSR", "DSR", "trials")
    columns = (Column(title="strategy", numeric=False), *(Column(title=title) for title in titles))
    rows = (
        (
            strategy.name,
            count(strategy.trades),
            decimal(strategy.pnl, 2),
            interval_cell(strategy.sharpe, 2),
            decimal(strategy.probabilistic_sharpe),
            decimal(strategy.deflated_sharpe),
            count(strategy.trials),
        )
        for strategy in result.strategies
    )
    return table(
        "PSR: probability that the true Sharpe ratio is above zero. DSR: the same against the best ratio "
        "that this many trials without skill would show (Bailey and López de Prado, 2014). Both speak of the "
        "simulated profits, in the instrument's currency: no figure here is better than the model of fills "
        "and fees behind it.",
        columns,
        rows,
    )


def sensitivity_table(result: RunResult) -> Markup:
    """Return the comparison under moved assumptions; a changed sign is marked in words."""
    rows = result.sensitivity
    if not rows:
        return EMPTY
    learner, reference = learner_of(result), reference_of(result)
    finite = [
        edge
        for row in rows
        for edge in (row.difference_bps.low, row.difference_bps.high)
        if np.isfinite(edge)
    ]
    reach = max((abs(edge) for edge in finite), default=1.0) or 1.0
    columns = (
        Column(title="scenario", numeric=False, wraps=True),
        Column(title=f"difference, bps [{confidence(rows[0].difference_bps)}]"),
        Column(title=f"−{decimal(reach, 2)} … 0 … +{decimal(reach, 2)}", numeric=False),
        Column(title="shown", numeric=False),
        Column(title="sign", numeric=False),
        Column(title="events"),
    )
    pair = f"{learner.label} minus {reference.label}" if learner and reference else "Difference"
    return table(
        f"{pair}, run again with one group of modelled ranges moved; negative is cheaper. "
        "⇄ marks a scenario whose sign differs from the main result's.",
        columns,
        (_sensitivity_row(row, reach, flips=sign_flips(result, row)) for row in rows),
    )


def _sensitivity_row(row: SensitivityRow, reach: float, *, flips: bool) -> tuple[str, ...]:
    difference = row.difference_bps
    sign = element("span", "⇄ flips", class_="worse") if flips else element("span", "same", class_="soft")
    return (
        row.scenario,
        interval_cell(difference, sign=True),
        interval_picture(difference, reach),
        verdict_mark(outcome_of(difference)),
        sign,
        count(row.events),
    )


def interval_picture(interval: Interval, reach: float) -> Markup:
    """Return a small inline drawing of an interval around zero; `reach` is the half width."""
    if not all(np.isfinite((interval.mean, interval.low, interval.high))):
        return EMPTY

    def place(value: float) -> str:
        return f"{_SVG_WIDTH / 2 * (1.0 + 0.94 * value / reach):.1f}"

    low, mean, high = place(interval.low), place(interval.mean), place(interval.high)
    zero = place(0.0)
    return Markup(
        f'<svg class="interval" viewBox="0 0 {_SVG_WIDTH:.0f} 18" aria-hidden="true" focusable="false">'
        f'<line x1="{zero}" y1="0" x2="{zero}" y2="18" stroke="currentColor" stroke-opacity=".35"/>'
        f'<line x1="{low}" y1="9" x2="{high}" y2="9" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{mean}" cy="9" r="3.6" fill="currentColor"/></svg>'
    )


def stage_table(performance: Performance) -> Markup:
    """Return where the time went."""
    total = sum(performance.stage_seconds.values())
    rows = (
        (stage, seconds(spent), percent(spent / total if total else float("nan")))
        for stage, spent in performance.stage_seconds.items()
    )
    columns = (Column(title="stage", numeric=False), Column(title="time"), Column(title="share"))
    return table("Time by stage; stages that ran side by side may add to more than the total.", columns, rows)


def hash_table(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return what identifies a run, hashes in full."""
    columns = (
        Column(title="what", numeric=False, wraps=True),
        Column(title="value", numeric=False, wraps=True),
    )
    return table(
        "Two runs with equal seed, configuration and data have equal journal hashes.",
        columns,
        ((name, element("code", value)) for name, value in pairs),
    )


def latency_sentence(performance: Performance) -> Markup:
    """Return the percentiles in words, for readers without the picture."""
    histogram = performance.tick_to_order
    total = int(histogram.counts.sum())
    if total == 0:
        return element("p", "No tick-to-order latency was measured in this run.")
    named = ((f"p{percent:g}", histogram.percentile_ns(percent)) for percent in (50.0, 99.0, 99.9))
    text = ", ".join(f"{name} {nanoseconds(value_ns)}" for name, value_ns in named)
    return join(element("p", f"{count(total)} measurements: {text}, max {nanoseconds(histogram.max_ns)}."))

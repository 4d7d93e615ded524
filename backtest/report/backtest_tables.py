"""The tables of one or several strategies' backtests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.schema import Liquidity

from ..result import Result
from .formats import confidence, count, decimal, estimate, percent, signed
from .markup import EMPTY, Markup
from .tables import Column, interval_cell, table

METRICS: Final[tuple[tuple[str, Callable[[Result], str]], ...]] = (
    ("profit after fees", lambda result: f"{decimal(result.pnl, 2)} {result.currency}"),
    ("fees (negative: rebate)", lambda result: f"{decimal(result.fees, 2)} {result.currency}"),
    ("largest drawdown", lambda result: f"{decimal(result.max_drawdown, 2)} {result.currency}"),
    ("shortfall against arrival, bps", lambda result: signed(result.shortfall_bps, 2)),
    ("orders", lambda result: count(result.orders)),
    ("fills", lambda result: count(result.fills.size)),
    ("filled lots", lambda result: count(int(result.fills["size_lots"].sum()))),
    ("maker share of lots", lambda result: percent(maker_share(result.fills))),
    ("refused orders", lambda result: count(sum(result.rejections.values()))),
    ("largest position, lots", lambda result: count(largest_position(result))),
    ("events", lambda result: count(result.events)),
)
"""What the page and the terminal say of a result, besides its Sharpe ratio."""


def joint_headline(results: Sequence[Result]) -> str:
    """Return one headline for results that share a page: what ran, each name once, and on what."""
    if len(results) == 1:
        return results[0].headline
    names = dict.fromkeys(result.name.partition(",")[0] for result in results)
    sources = dict.fromkeys(result.source for result in results)
    return f"{', '.join(names)} on {'; '.join(sources)}"


def maker_share(fills: NDArray[np.void]) -> float:
    """Return the share of filled lots that rested before they traded; NaN without fills."""
    lots = int(fills["size_lots"].sum())
    made = int(fills["size_lots"][fills["liquidity"] == Liquidity.MAKER].sum())
    return made / lots if lots else float("nan")


def largest_position(result: Result) -> int:
    """Return the largest absolute position, in lots."""
    return int(np.abs(result.position_lots).max(initial=0))


def sharpe_label(results: Sequence[Result]) -> str:
    """Return the name of the Sharpe row with its confidence level."""
    return f"annual Sharpe [{confidence(results[0].sharpe)}]"


def metric_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return one plain-text row a metric, one column a result."""
    sharpe = (sharpe_label(results), *(estimate(result.sharpe, 2) for result in results))
    rows = [(name, *(write(result) for result in results)) for name, write in METRICS]
    return [*rows[:3], sharpe, *rows[3:]]


def summary_table(results: Sequence[Result]) -> Markup:
    """Return the results side by side."""
    columns = (Column(title="", numeric=False), *(Column(title=result.name) for result in results))
    rows: list[tuple[str, ...]] = [tuple(row) for row in metric_rows(results)]
    rows[3] = (rows[3][0], *(interval_cell(result.sharpe, 2) for result in results))
    caption = (
        "Side by side. Where the columns are an optimistic and a pessimistic fill bound, the fills lie "
        "between them."
        if len(results) > 1
        else "Sharpe ratio annualised, with its interval; an interval that holds zero shows no skill."
    )
    return table(caption, columns, rows)


def fill_table(results: Sequence[Result]) -> Markup:
    """Return every fill counted once, by result, venue, side and liquidity."""
    columns = (
        *(Column(title=title, numeric=False) for title in ("result", "venue", "side", "liquidity")),
        *(Column(title=title) for title in ("fills", "lots", "mean lots", "mean price, ticks", "fees")),
    )
    rows = [row for result in results for row in _fill_rows(result)]
    return table("Mean prices are weighted by lots; fees in the instrument's currency.", columns, rows)


def _fill_rows(result: Result) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    fills = result.fills
    groups = np.unique(fills[["venue_id", "side", "liquidity"]])
    for venue_id, side, liquidity in groups.tolist():
        own = fills[
            (fills["venue_id"] == venue_id) & (fills["side"] == side) & (fills["liquidity"] == liquidity)
        ]
        lots = own["size_lots"].astype(np.float64)
        weight = float(lots.sum())
        price = float((own["price_ticks"] * lots).sum()) / weight if weight else float("nan")
        rows.append(
            (
                result.name,
                str(venue_id),
                {1: "buy", -1: "sell"}.get(side, "none"),
                _liquidity_name(liquidity),
                count(own.size),
                count(weight),
                decimal(weight / own.size, 1),
                decimal(price, 1),
                decimal(float(own["fee_nano"].sum()) / 1e9, 2),
            )
        )
    return rows


def _liquidity_name(liquidity: int) -> str:
    known = {member.value: member.name.lower() for member in Liquidity}
    return known.get(liquidity, str(liquidity))


def rejection_table(results: Sequence[Result]) -> Markup:
    """Return refused orders by reason, one column a result."""
    reasons = sorted({reason for result in results for reason in result.rejections})
    if not reasons:
        return EMPTY
    columns = (Column(title="reason", numeric=False), *(Column(title=result.name) for result in results))
    rows = ((reason, *(count(result.rejections.get(reason, 0)) for result in results)) for reason in reasons)
    return table(
        "Orders the risk gate or a venue refused; reasons starting with RISK are ours.", columns, rows
    )

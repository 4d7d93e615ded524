"""One generated market for every engine: orders that our matching engine accepted, as a feed tells them.

Passive orders come near a slowly walking mid, live ones are cancelled, and takers consume the queues in time
priority. What the engine answers becomes the feed, so that every cancel and execution names an order that
stands, and sizes add up. The same flow also comes aggregated by price level.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.schema import (
    EVENT_DTYPE,
    ORDER_DTYPE,
    RECV_NOT_RECORDED,
    EventFlag,
    EventKind,
    Liquidity,
    OrderAction,
    OrderFlag,
    OrderType,
    ReportKind,
    TimeInForce,
)
from ext.matching_engine import MatchingEngine

START_NS: Final = 1_577_975_400 * 10**9
GAP_NS_MEAN: Final = 20_000
MID_TICKS: Final = 100_000
REACH_TICKS: Final = 2_000
DEPTH_TICKS: Final = 20
LOTS_MAX: Final = 200
_ID_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_ADD_SHARE, _CANCEL_SHARE = 0.48, 0.92


def order_flow(count: int, *, live: int, seed: int) -> NDArray[np.void]:
    """Return `count` events by order, EVENT_DTYPE, around `live` orders standing after the first of them.

    Prices stay within `MID_TICKS` plus or minus `REACH_TICKS`.
    """
    draw = np.random.default_rng(seed)
    engine = MatchingEngine(4 * live, 65_536)
    chunk = max(64, live // 8)
    alive = np.zeros(0, np.uint64)
    parts: list[NDArray[np.void]] = []
    written, next_id, mid = 0, 1, MID_TICKS
    while written < count:
        commands = _commands(draw, chunk, alive, live, next_id, mid)
        next_id += chunk
        events, alive = _told(engine.submit(commands), commands, alive)
        parts.append(events)
        written += len(events)
        mid = int(
            np.clip(mid + draw.integers(-3, 4), MID_TICKS - REACH_TICKS // 2, MID_TICKS + REACH_TICKS // 2)
        )
    flow = np.concatenate(parts)[:count]
    flow["ts_ns"] = START_NS + np.cumsum(draw.integers(1, 2 * GAP_NS_MEAN, count))
    flow["recv_ns"] = RECV_NOT_RECORDED
    flow["seq"] = np.arange(count)
    flow["flags"] = EventFlag.LAST_IN_PACKET
    return flow


def command_flow(count: int, *, live: int, seed: int) -> NDArray[np.void]:
    """Return `count` commands of the kind that `order_flow` sends, ORDER_DTYPE, from an empty book on."""
    draw = np.random.default_rng(seed)
    engine = MatchingEngine(4 * live, 65_536)
    chunk = max(64, live // 8)
    alive, parts = np.zeros(0, np.uint64), []
    for first in range(0, count, chunk):
        commands = _commands(draw, chunk, alive, live, first + 1, MID_TICKS)
        _, alive = _told(engine.submit(commands), commands, alive)
        parts.append(commands)
    return np.concatenate(parts)[:count]


def level_flow(flow: NDArray[np.void]) -> NDArray[np.void]:
    """Return the same market by price level: after each event the level's whole size, 0 when it is gone."""
    signed = np.where(flow["kind"] == EventKind.ADD, flow["size_lots"], -flow["size_lots"])
    level = flow["price_ticks"].astype(np.int64) * 2 + (flow["side"] > 0)
    order = np.argsort(level, kind="stable")
    levels = flow.copy()
    levels["size_lots"][order] = _running(level[order], signed[order])
    levels["kind"], levels["order_id"] = EventKind.LEVEL, 0
    return levels


def remaining_lots(flow: NDArray[np.void]) -> NDArray[np.int64]:
    """Return what each event's order has left after it, shape (n,): 0 where it is gone."""
    order = np.argsort(flow["order_id"], kind="stable")
    signed = np.where(flow["kind"] == EventKind.ADD, flow["size_lots"], -flow["size_lots"])[order]
    left = np.empty(len(flow), np.int64)
    left[order] = _running(flow["order_id"][order], signed)
    return left


def _running(group: NDArray[Any], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the running sum of the values within each group; equal groups stand together."""
    starts = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
    total = np.cumsum(values)
    before = np.concatenate(([0], total))[starts]
    return np.asarray(total - np.repeat(before, np.diff(np.append(starts, len(values)))), np.int64)


def standing(flow: NDArray[np.void]) -> dict[tuple[int, int], int]:
    """Return lots by (side, price_ticks) after the last event, counted by numpy: what a book must show."""
    levels = level_flow(flow)
    key = levels["price_ticks"].astype(np.int64) * 2 + (levels["side"] > 0)
    _, newest = np.unique(key[::-1], return_index=True)
    last = levels[::-1][newest]
    return {
        (int(row["side"]), int(row["price_ticks"])): int(row["size_lots"])
        for row in last[last["size_lots"] > 0]
    }


def _commands(
    draw: np.random.Generator, count: int, alive: NDArray[np.uint64], live: int, next_id: int, mid: int
) -> NDArray[np.void]:
    orders = np.zeros(count, ORDER_DTYPE)
    side = draw.choice(np.array([-1, 1]), count)
    orders["client_order_id"] = np.arange(next_id, next_id + count, dtype=np.uint64) * _ID_FACTOR
    orders["action"], orders["order_type"] = OrderAction.NEW, OrderType.LIMIT
    orders["time_in_force"], orders["flags"] = TimeInForce.GTC, OrderFlag.POST_ONLY
    orders["side"] = side
    orders["size_lots"] = draw.integers(1, LOTS_MAX, count)
    away = np.minimum(1 + draw.exponential(DEPTH_TICKS, count).astype(np.int64), REACH_TICKS // 2)
    orders["price_ticks"] = mid - side * away
    if len(alive) < live:
        return orders
    kind = draw.permutation(count) / count
    cancels = np.flatnonzero((kind >= _ADD_SHARE) & (kind < _CANCEL_SHARE))[: len(alive)]
    takes = np.flatnonzero(kind >= _CANCEL_SHARE)
    orders["action"][cancels] = OrderAction.CANCEL
    orders["client_order_id"][cancels] = draw.choice(alive, len(cancels), replace=False, shuffle=False)
    orders["flags"][takes], orders["time_in_force"][takes] = 0, TimeInForce.IOC
    orders["price_ticks"][takes] = mid + side[takes] * REACH_TICKS
    # A book that has grown meets larger takers, else its size would walk away at random.
    largest = max(2, round(LOTS_MAX * (len(alive) / live) ** 4))
    orders["size_lots"][takes] = draw.integers(1, largest, len(takes))
    return orders


def _told(
    reports: NDArray[np.void], commands: NDArray[np.void], alive: NDArray[np.uint64]
) -> tuple[NDArray[np.void], NDArray[np.uint64]]:
    """Return the feed that tells these reports, and the orders that then stand."""
    takers = commands["client_order_id"][commands["time_in_force"] == TimeInForce.IOC]
    theirs = np.isin(reports["client_order_id"], takers)
    added = (reports["kind"] == ReportKind.ACCEPTED) & ~theirs
    traded = (reports["kind"] == ReportKind.FILL) & (reports["liquidity"] == Liquidity.MAKER)
    cancelled = (reports["kind"] == ReportKind.CANCELLED) & ~theirs
    kinds = np.select((added, traded, cancelled), (EventKind.ADD, EventKind.EXECUTE, EventKind.CANCEL), 0)
    told, kinds = reports[kinds > 0], kinds[kinds > 0]
    events = np.zeros(len(told), EVENT_DTYPE)
    events["kind"], events["order_id"] = kinds, told["client_order_id"]
    events["side"], events["price_ticks"] = told["side"], told["price_ticks"]
    events["size_lots"] = np.where(kinds == EventKind.ADD, told["leaves_lots"], told["size_lots"])
    gone = told["client_order_id"][(kinds != EventKind.ADD) & (told["leaves_lots"] == 0)]
    alive = np.concatenate((alive, told["client_order_id"][kinds == EventKind.ADD]))
    return events, alive[np.isin(alive, gone, invert=True)]

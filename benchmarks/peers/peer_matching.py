"""Matching engines from pip beside ours: the same adds, cancels and takers, final books compared.

The flow holds plain limit orders that rest, cancels of orders that stand, and takers, since that is what
all of them understand. Each peer is called once an order, which is the only way it offers; ours takes an
array, and once more one order a call, so that both shapes of use stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.schema import REPORT_DTYPE, OrderAction, ReportKind, TimeInForce
from ext.matching_engine import MatchingEngine

from ..flow import command_flow
from ..harness import Bench, Work, peer_scenario

BATCH_COMMANDS: Final = 4_096
LIVE: Final = 1_000
Levels = dict[tuple[int, int], int]
# What happens (0 add, 1 cancel, 2 take), id, side, lots, price.
Step = tuple[int, int, int, int, int]
CONDITIONS: Final = (
    f"one generated flow around {LIVE:,} live orders: limit orders, cancels, takers; every level of the "
    "final book compared with ours."
)


def plain_flow(count: int, *, seed: int) -> NDArray[np.void]:
    """Return commands that all engines answer alike: none is refused, no cancel comes too late."""
    commands = command_flow(count, live=min(LIVE, max(16, count // 8)), seed=seed)
    engine = MatchingEngine(4 * LIVE, 65_536)
    reports = engine.submit(commands)
    answered = {
        kind: np.isin(commands["client_order_id"], reports["client_order_id"][reports["kind"] == kind])
        for kind in (ReportKind.REJECTED, ReportKind.ACCEPTED)
    }
    # An id that was both accepted and refused is an order whose cancel came too late.
    is_cancel = commands["action"] == OrderAction.CANCEL
    refused = answered[ReportKind.REJECTED] & (is_cancel | ~answered[ReportKind.ACCEPTED])
    kept: NDArray[np.void] = commands[~refused]
    return kept


def steps_of(commands: NDArray[np.void]) -> list[Step]:
    """Return the commands as Python numbers, which every peer is called with."""
    kinds = np.where(commands["action"] == OrderAction.CANCEL, 1, 0)
    kinds[(kinds == 0) & (commands["time_in_force"] == TimeInForce.IOC)] = 2
    columns = (commands[name].tolist() for name in ("client_order_id", "side", "size_lots", "price_ticks"))
    return list(zip(kinds.tolist(), *columns, strict=True))


class Ours:
    """Our engine, called with arrays or, like the peers, with one order after another."""

    def __init__(self, commands: NDArray[np.void]) -> None:
        self.batches = [
            commands[first : first + BATCH_COMMANDS] for first in range(0, len(commands), BATCH_COMMANDS)
        ]
        self.steps = steps_of(commands)
        self.out = np.empty(4 * BATCH_COMMANDS, REPORT_DTYPE)
        self.prepare()

    def prepare(self) -> None:
        self.engine = MatchingEngine(4 * LIVE, 65_536)

    def run_batches(self) -> None:
        submit, out = self.engine.submit, self.out
        for batch in self.batches:
            submit(batch, out)

    def run_singly(self) -> None:
        limit, cancel, now = self.engine.limit, self.engine.cancel, int(TimeInForce.IOC)
        for kind, order_id, side, lots, price in self.steps:
            if kind == 0:
                limit(order_id, side, price, lots)
            elif kind == 1:
                cancel(order_id)
            else:
                limit(order_id, side, price, lots, time_in_force=now)

    def levels(self) -> Levels:
        found = {}
        for side in (1, -1):
            for price, lots, *_ in self.engine.depth_array(side, 100_000).tolist():
                found[side, int(price)] = int(lots)
        return found


class SortedLadder:
    """A price ladder as people write it with sortedcontainers: levels sorted, orders in a dictionary."""

    def __init__(self) -> None:
        from sortedcontainers import SortedDict

        self.levels: dict[int, Any] = {1: SortedDict(), -1: SortedDict()}
        self.orders: dict[int, tuple[int, int]] = {}

    def run(self, steps: Iterable[Step]) -> None:
        levels, orders = self.levels, self.orders
        for kind, order_id, side, lots, price in steps:
            if kind == 0:
                level = levels[side].get(price)
                if level is None:
                    level = levels[side][price] = {}
                level[order_id] = lots
                orders[order_id] = side, price
            elif kind == 1:
                where, price = orders.pop(order_id)
                level = levels[where][price]
                del level[order_id]
                if not level:
                    del levels[where][price]
            else:
                self._take(levels[-side], side, lots)

    def _take(self, book: Any, side: int, lots: int) -> None:
        while lots and book:
            price, level = book.peekitem(0 if side > 0 else -1)
            order_id, resting = next(iter(level.items()))
            traded = min(lots, resting)
            lots -= traded
            if traded < resting:
                level[order_id] = resting - traded
                return
            del level[order_id], self.orders[order_id]
            if not level:
                del book[price]

    def shown(self) -> Levels:
        return {
            (side, price): sum(level.values())
            for side, book in self.levels.items()
            for price, level in book.items()
        }


class LimitOrderBook:
    """limit-order-book, a C++ book behind ctypes."""

    def __init__(self) -> None:
        from limit_order_book import LimitOrderBook as Book

        self.book = Book()

    def run(self, steps: Iterable[Step]) -> None:
        book = self.book
        for kind, order_id, side, lots, price in steps:
            if kind == 0:
                if side > 0:
                    book.limit_buy(order_id, lots, price)
                else:
                    book.limit_sell(order_id, lots, price)
            elif kind == 1:
                book.cancel(order_id)
            elif side > 0:
                book.market_buy(order_id, lots)
            else:
                book.market_sell(order_id, lots)

    def level(self, side: int, price: int) -> int:
        return int(self.book.volume_buy(price) if side > 0 else self.book.volume_sell(price))


class LightMatchingEngine:
    """lightmatchingengine, which hands out its own ids: the count of orders that were sent."""

    def __init__(self) -> None:
        from lightmatchingengine.lightmatchingengine import LightMatchingEngine as Engine

        self.engine = Engine()

    def run(self, steps: Iterable[Step]) -> None:
        engine = self.engine
        for kind, order_id, side, lots, price in steps:
            if kind == 1:
                engine.cancel_order(order_id, "FLOW")
            else:
                engine.add_order("FLOW", 0 if kind else price, lots, 1 if side > 0 else 2)

    def shown(self) -> Levels:
        book = self.engine.order_books["FLOW"]
        return {
            (side, price): sum(order.leaves_qty for order in orders)
            for side, levels in ((1, book.bids), (-1, book.asks))
            for price, orders in levels.items()
        }


def _numbered(steps: list[Step]) -> list[Step]:
    """Return the steps with the ids that an engine hands out which counts what it is sent."""
    numbers: dict[int, int] = {}
    for kind, order_id, *_ in steps:
        if kind != 1:
            numbers[order_id] = len(numbers) + 1
    return [(kind, numbers[order_id], *rest) for kind, order_id, *rest in steps]  # type: ignore[misc]


def _compare(
    bench: Bench,
    name: str,
    make: Callable[[], Any],
    *,
    full: int,
    numbered: bool = False,
    shown: Callable[[Any, Levels], Levels] = lambda peer, _: peer.shown(),
) -> None:
    commands = plain_flow(bench.parameter("commands", smoke=1_000, full=full), seed=bench.seed)
    steps = _numbered(steps_of(commands)) if numbered else steps_of(commands)
    current: list[Any] = [None]

    def prepare_peer() -> None:
        current[0] = make()

    def run_peer() -> None:
        current[0].run(steps)

    peer: Work = run_peer
    ours = Ours(commands)
    for title, run in (("in batches", ours.run_batches), ("one a call", ours.run_singly)):
        bench.throughput(
            f"command, {title}",
            run,
            count=len(commands),
            prepare=ours.prepare,
            peer=peer,
            prepare_peer=prepare_peer,
            peer_name=name,
        )
        wanted = ours.levels()
        bench.verify(len(wanted) > 10, "orders stand at the end")
        bench.verify(shown(current[0], wanted) == wanted, f"{name} ends with our book")


@peer_scenario(
    "matching-sortedcontainers",
    "matching beside a ladder on sortedcontainers",
    conditions=CONDITIONS,
    needs=("sortedcontainers",),
)
def matching_sortedcontainers(bench: Bench) -> None:
    _compare(bench, "SortedDict ladder", SortedLadder, full=100_000)


@peer_scenario(
    "matching-limit-order-book",
    "matching beside limit-order-book",
    conditions=CONDITIONS,
    needs=("limit-order-book",),
)
def matching_limit_order_book(bench: Bench) -> None:
    def shown(peer: LimitOrderBook, wanted: Levels) -> Levels:
        # It cannot list its levels: ours are asked for, and its total says whether it has others.
        if peer.book.volume() != sum(wanted.values()):
            return {}
        return {key: peer.level(*key) for key in wanted}

    _compare(bench, "limit-order-book", LimitOrderBook, full=100_000, shown=shown)


@peer_scenario(
    "matching-lightmatchingengine",
    "matching beside lightmatchingengine",
    conditions=CONDITIONS,
    needs=("lightmatchingengine",),
)
def matching_lightmatchingengine(bench: Bench) -> None:
    _compare(bench, "lightmatchingengine", LightMatchingEngine, full=20_000, numbered=True)

"""Commands and answers in few words, for the cases of the matching engine."""

from __future__ import annotations

import itertools

from matching_flow import orders, rows

from data.schema import OrderAction, ReportKind
from ext.matching_engine import MatchingEngine
from tests.reference.matching_orders import Command

ACCEPTED, FILL = ReportKind.ACCEPTED, ReportKind.FILL

owners = itertools.repeat(0)  # of the orders that name none


def buy(order_id: int, size: int, price: int = 0, *, side: int = +1, **more: int) -> Command:
    more.setdefault("owner", next(owners))
    return Command(order_id=order_id, side=side, size=size, price=price, **more)


def sell(order_id: int, size: int, price: int = 0, **more: int) -> Command:
    return buy(order_id, size, price, side=-1, **more)


def cancel(order_id: int) -> Command:
    return Command(order_id=order_id, action=OrderAction.CANCEL)


def replace(order_id: int, size: int, price: int = 0, **more: int) -> Command:
    return Command(order_id=order_id, action=OrderAction.REPLACE, size=size, price=price, **more)


def engine_with(*commands: Command, **more: str) -> MatchingEngine:
    engine = MatchingEngine(16, 16, **more)  # type: ignore[arg-type]
    engine.submit(orders(*commands))
    return engine


def fills(engine: MatchingEngine, *commands: Command) -> list[tuple[int, ...]]:
    """Submit, and return (id, lots, leaves, price) of each fill report in order."""
    found = [(row[0], *row[4:7]) for row in rows(engine.submit(orders(*commands))) if row[1] == FILL]
    engine.verify()
    return found


def endings(engine: MatchingEngine, *commands: Command) -> list[tuple[int, int, int, int]]:
    """Submit, and return (id, kind, reason, lots) of what was neither an acceptance nor a fill."""
    reports = rows(engine.submit(orders(*commands)))
    engine.verify()
    return [(row[0], row[1], row[2], row[4]) for row in reports if row[1] not in (ACCEPTED, FILL)]

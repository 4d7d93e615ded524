"""Random commands for the matching engine, and the comparison of its answers with the reference's."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.schema import ORDER_DTYPE, OrderAction, OrderFlag, OrderType, TimeInForce
from ext.matching_engine import MatchingEngine
from tests.reference.matching import ReferenceEngine
from tests.reference.matching_orders import Command, Report

NEW, CANCEL, REPLACE = OrderAction.NEW, OrderAction.CANCEL, OrderAction.REPLACE
TIFS = (TimeInForce.GTC,) * 5 + (TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTD, TimeInForce.DAY)
TYPES = (OrderType.LIMIT,) * 8 + (
    OrderType.MARKET, OrderType.STOP, OrderType.STOP_LIMIT, OrderType.PEG_MID, OrderType.PEG_PRIMARY,
)  # fmt: skip
FLAGS = (0,) * 8 + (OrderFlag.POST_ONLY, OrderFlag.HIDDEN, OrderFlag.HIDDEN)


def orders(*commands: Command) -> NDArray[np.void]:
    return np.array([command.row() for command in commands], ORDER_DTYPE)


def rows(reports: NDArray[np.void]) -> list[Report]:
    names = [
        "client_order_id",
        "kind",
        "reason",
        "side",
        "size_lots",
        "leaves_lots",
        "price_ticks",
        "liquidity",
    ]
    return [tuple(int(report[name]) for name in names) for report in reports]  # type: ignore[misc]


def simple(draw: random.Random, next_id: int) -> Command:
    """A command of the core: limit, market, IOC, FOK, post-only, cancel, replace."""
    action = draw.choices((NEW, CANCEL, REPLACE), (6, 3, 2))[0]
    order_type = OrderType.MARKET if draw.random() < 0.05 else OrderType.LIMIT
    post_only = order_type == OrderType.LIMIT and draw.random() < 0.1
    return Command(
        order_id=next_id if action == NEW else draw.randint(max(1, next_id - 60), next_id),
        size=draw.randint(1, 30),
        price=100 + int(draw.gauss(0, 4)),
        action=action,
        side=draw.choice((+1, -1)),
        order_type=order_type,
        tif=TimeInForce.GTC if post_only else draw.choice(TIFS[:7]),
        flags=OrderFlag.POST_ONLY if post_only else 0,
    )


def full(draw: random.Random, next_id: int, now_ns: int) -> Command:
    """A command of any kind, contradictory ones among them."""
    command = simple(draw, next_id)
    command.ts_ns = now_ns
    command.flags = draw.choice(FLAGS)
    command.tif = draw.choice(TIFS)
    command.order_type = draw.choice(TYPES)
    command.owner = draw.choice((0, 0, 1, 2))
    command.expire_ns = (now_ns + draw.randint(0, 300)) // 20 * 20  # many end at one instant
    command.stop = command.price + command.side * draw.randint(-2, 6)
    if command.order_type in (OrderType.PEG_MID, OrderType.PEG_PRIMARY):
        command.offset = -command.side * draw.choice((0, 0, 1, 2, -1))
        command.price += command.side * 5
        command.tif, command.flags = draw.choice((1, 1, 4, 5)), 0
        command.minimum = draw.choice((0, 0, 0, 5))
        return command
    if draw.random() < 0.2:
        command.display = draw.randint(1, 8)
    if draw.random() < (0.3 if command.flags == OrderFlag.HIDDEN else 0.1):
        command.minimum = draw.randint(1, 32)
    if draw.random() < 0.02:
        command.size = draw.choice((0, -1, 2**48 + 1, 2**48))
    if draw.random() < 0.02:
        command.order_id = draw.randint(0, next_id)
    if draw.random() < 0.002:
        command.action = OrderAction.MASS_CANCEL
        command.side = draw.choice((+1, -1, 0))
        command.owner = draw.choice((1, 2, 2, 0))
    return command


def flow(seed: int, count: int, *, core_only: bool) -> Iterator[Command]:
    draw = random.Random(seed)
    now_ns = 0
    told: dict[int, Command] = {}
    for next_id in range(1, count + 1):
        now_ns += draw.randint(0, 10)
        if next_id % 1_000 == 0:  # the reference looks at every order for every command
            yield Command(action=OrderAction.MASS_CANCEL, ts_ns=now_ns)
            continue
        command = simple(draw, next_id) if core_only else full(draw, next_id, now_ns)
        before = told.get(command.order_id)
        if command.action == REPLACE and before and before.size > 0 and draw.random() < 0.5:
            # What keeps its place: the price it has, and fewer lots.
            command.price, command.size = before.price, draw.randint(1, before.size)
        told[command.order_id] = command
        yield command


class Calls:
    """What a venue does between commands, the same to an engine and to the reference."""

    def __init__(self, engine: MatchingEngine, reference: ReferenceEngine, seed: int) -> None:
        self.engine, self.reference, self.draw = engine, reference, random.Random(seed)

    def any(self) -> None:
        """Change the phase or the price band; more often than not back to what it was."""
        phase, price = self.reference.phase, 100 + self.draw.randint(-5, 5)
        if phase == "auction":
            assert self.engine.indicative(price) == self.reference.indicative(price)
            halts = self.draw.random() < 0.3
            wanted = self.reference.uncross(price, then_halt=halts)
            assert rows(self.engine.uncross(price, then_halt=halts)) == wanted
        elif phase == "halted":
            assert rows(self.engine.resume()) == self.reference.resume()
        elif self.draw.random() < 0.4:
            self.engine.open_auction()
            self.reference.open_auction()
        elif self.draw.random() < 0.3:
            self.engine.halt()
            self.reference.halt()
        else:
            width = self.draw.choice((3, 8, 2**20))
            self.engine.set_price_band(price - width, price + width)
            self.reference.set_price_band(price - width, price + width)


def assert_same(engine: MatchingEngine, reference: ReferenceEngine, place: object) -> None:
    assert engine.state_hash() == reference.state_hash(), place
    assert engine.fill_hash == reference.fill_hash, place
    assert (engine.fill_count, engine.traded_lots) == (reference.fill_count, reference.traded), place
    assert engine.live_orders == len(reference.orders), place
    for side in (+1, -1):
        depth = [tuple(level) for level in engine.depth_array(side, 10_000).tolist()]
        assert depth == reference.depth(side), place
    engine.verify()

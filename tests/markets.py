"""Small markets written by hand or drawn by seed, and strategies that follow a script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest.api import backtest
from backtest.result import Result
from backtest.venue_config import VenueConfig
from data.instrument import Instrument
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from engine.strategy import Context, Report, Strategy

SECOND_NS = 1_000_000_000
START_NS = 1_340_285_400 * SECOND_NS
INSTRUMENT = Instrument(symbol="TEST", price_increment=0.01)
AT_ONCE = VenueConfig(feed_latency_ns=0, order_latency_ns=0, ack_latency_ns=0)


def event(
    kind: EventKind,
    second: float,
    *,
    order_id: int = 0,
    side: int = 0,
    price: int = 0,
    size: int = 0,
    flags: int = EventFlag.LAST_IN_PACKET,
    venue: int = 0,
) -> NDArray[np.void]:
    """Return one event, `second` seconds after START_NS."""
    made = np.zeros(1, EVENT_DTYPE)
    made["ts_ns"], made["recv_ns"] = START_NS + round(second * SECOND_NS), RECV_NOT_RECORDED
    made["order_id"], made["side"], made["price_ticks"], made["size_lots"] = order_id, side, price, size
    made["kind"], made["flags"], made["venue_id"] = kind, flags, venue
    return made


def add(second: float, order_id: int, side: int, price: int, size: int) -> NDArray[np.void]:
    return event(EventKind.ADD, second, order_id=order_id, side=side, price=price, size=size)


def cancel(second: float, order_id: int, side: int, price: int, size: int) -> NDArray[np.void]:
    return event(EventKind.CANCEL, second, order_id=order_id, side=side, price=price, size=size)


def execute(second: float, order_id: int, side: int, price: int, size: int) -> NDArray[np.void]:
    return event(EventKind.EXECUTE, second, order_id=order_id, side=side, price=price, size=size)


def trade(second: float, side: int, price: int, size: int, *, flags: int = 0) -> NDArray[np.void]:
    return event(
        EventKind.TRADE, second, side=side, price=price, size=size, flags=flags | EventFlag.LAST_IN_PACKET
    )


def quote(
    second: float,
    bid: int,
    ask: int,
    *,
    bid_size: int = 10,
    ask_size: int = 10,
    venue: int = 0,
    flags: int = 0,
) -> NDArray[np.void]:
    made = event(EventKind.QUOTE, second, venue=venue, flags=flags | EventFlag.LAST_IN_PACKET)
    view = made.view(QUOTE_DTYPE)
    view["bid_price_ticks"], view["ask_price_ticks"] = bid, ask
    view["bid_size_lots"], view["ask_size_lots"] = bid_size, ask_size
    return made


def joined(*events: NDArray[np.void]) -> NDArray[np.void]:
    made = np.concatenate(events)
    made["seq"] = np.arange(len(made))
    return made


Step = Callable[[Context], Any]


class Script(Strategy):
    """Does what it is told at seconds after START_NS and remembers what it hears."""

    def __init__(self, **steps: Step) -> None:
        self._steps = {float(name[1:].replace("_", ".")): step for name, step in steps.items()}
        self.heard: list[tuple[str, int, int, int, int]] = []
        self.fills: list[tuple[int, int]] = []
        self.rejects: list[int] = []

    def on_start(self, ctx: Context) -> None:
        for tag, second in enumerate(self._steps, start=1):
            ctx.schedule(START_NS + round(second * SECOND_NS), tag)

    def on_timer(self, ctx: Context) -> None:
        list(self._steps.values())[ctx.timer_tag - 1](ctx)

    def on_fill(self, ctx: Context, fill: Report) -> None:
        self.fills.append((fill.size_lots, fill.price_ticks))

    def on_reject(self, ctx: Context, report: Report) -> None:
        self.rejects.append(report.reason)

    @property
    def filled_lots(self) -> int:
        return sum(size for size, _ in self.fills)


def play(strategy: Strategy, events: NDArray[np.void], *, queue: str = "auto", **options: Any) -> Result:
    """Run a strategy over events on venues without latency."""
    options.setdefault("instrument", INSTRUMENT)
    options.setdefault(
        "venue", VenueConfig(feed_latency_ns=0, order_latency_ns=0, ack_latency_ns=0, queue=queue)
    )
    return backtest(strategy, events, **options)


def random_flow(
    seed: int, *, orders: int = 400, announced: float = 0.9, hidden: float = 0.05
) -> NDArray[np.void]:
    """Return a seeded order flow of one venue with unannounced cancels and hidden prints.

    A LEVEL that nobody announced stands under each side, as in a recording that starts in the middle of
    a day.
    """
    draw = np.random.default_rng(seed)
    events: list[NDArray[np.void]] = []
    live: list[tuple[int, int, int, int]] = []
    for price in range(90, 111):
        side = 1 if price < 100 else -1
        if price != 100:
            events.append(event(EventKind.LEVEL, 0.0, side=side, price=price, size=20, flags=5))
    second, order_id = 1.0, 0
    while order_id < orders:
        second += float(draw.exponential(0.5))
        what = draw.random()
        side = int(draw.choice((1, -1)))
        price = 100 - side * int(draw.integers(1, 6))
        size = int(draw.integers(1, 9))
        if what < 0.5 or not live:
            order_id += 1
            live.append((order_id, side, price, size))
            events.append(add(second, order_id, side, price, size))
        elif what < 0.75:
            if draw.random() < announced:
                events.append(cancel(second, *live.pop(int(draw.integers(len(live))))))
            else:
                events.append(cancel(second, 1_000_000 + order_id, side, price, size))
        elif what < 0.95:
            # The oldest order at the best price of a side trades.
            best = max((o for o in live if o[1] == side), key=lambda o: (o[1] * o[2], -o[0]), default=None)
            if best is not None:
                traded = min(best[3], size)
                events.append(execute(second, best[0], best[1], best[2], traded))
                live.remove(best)
                if traded < best[3]:
                    live.insert(0, (best[0], best[1], best[2], best[3] - traded))
        elif draw.random() < hidden * 10:
            events.append(trade(second, -side, price, size, flags=EventFlag.HIDDEN))
    return joined(*events)


def random_quotes(
    seed: int, *, count: int = 2_000, spread: int = 4, seconds: float = 1.0
) -> NDArray[np.void]:
    """Return a seeded walk of two-sided quotes, `seconds` apart."""
    draw = np.random.default_rng(seed)
    mids = 1_000 + np.cumsum(draw.integers(-2, 3, count))
    sizes = draw.integers(1, 50, (count, 2))
    return joined(
        *(
            quote(
                index * seconds,
                int(mid) - spread // 2,
                int(mid) + spread // 2,
                bid_size=int(bid),
                ask_size=int(ask),
            )
            for index, (mid, (bid, ask)) in enumerate(zip(mids, sizes, strict=True))
        )
    )


def write_quotes(path: Path, events: NDArray[np.void], *, increment: float = 0.01) -> Path:
    """Write quotes as Parquet or CSV, as a user would have them."""
    import polars as pl

    view = events.view(QUOTE_DTYPE)
    table = pl.DataFrame(
        {
            "ts_ns": view["ts_ns"],
            "bid": np.round(view["bid_price_ticks"] * increment, 4),
            "ask": np.round(view["ask_price_ticks"] * increment, 4),
            "bid_size": view["bid_size_lots"],
            "ask_size": view["ask_size_lots"].astype(np.int64),
        }
    )
    if path.suffix == ".csv":
        table.write_csv(path)
    else:
        table.write_parquet(path)
    return path

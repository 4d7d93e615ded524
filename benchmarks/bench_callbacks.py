"""What a strategy costs per packet: in machine code, in Python, and nobody at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from data.instrument import Instrument
from engine.compiled import CompiledStrategy
from engine.strategy import Context, Strategy, make_agent
from ext.event_loop import EventLoop
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.risk_gate import RiskGate
from ext.sim_venue import SimulatedVenue
from ext.tick_path import Agent

from .bench_events import RING_EVENTS, random_quotes
from .harness import Bench, scenario


def count_wide(view: Any, commands: Any, state: Any) -> int:
    """Count the packets after which the spread is above three ticks."""
    if view["call"] == 1 and view["two_sided"] and view["best_ask_ticks"] - view["best_bid_ticks"] > 3:
        state[0] += 1
    return 0


class CountWide(Strategy):
    """The same in Python."""

    batch_events = 1

    def __init__(self) -> None:
        self.found = 0

    def on_batch(self, ctx: Context) -> None:
        """Count."""
        if ctx.two_sided and ctx.ask_price_ticks - ctx.bid_price_ticks > 3:
            self.found += 1


@scenario(
    "callbacks",
    "a strategy called for every packet: compiled by numba, and in Python",
    conditions="quotes of one venue through the event loop, one thread; the strategy looks at the spread and "
    "orders nothing; floor: the same loop with nobody called; peer: the same strategy in Python.",
)
def callbacks(bench: Bench) -> None:
    count = bench.parameter("events", smoke=3_000, full=1_000_000)
    events = random_quotes(count, venues=1, seed=bench.seed)
    try:
        compiled = CompiledStrategy(count_wide, state=np.zeros(1, np.int64))
    except ConfigError:
        compiled = None  # without the extra, what Python costs is still worth knowing
    python = CountWide()

    def machine() -> None:
        assert compiled is not None
        stream(events, compiled.compiled_agent(instrument=Instrument(symbol="X"), run_id=1))

    def interpreted() -> None:
        python.found = 0
        stream(events, make_agent(python, instrument=Instrument(symbol="X"), run_id=1))

    def nobody() -> None:
        stream(events, Agent())

    wide = int((spreads(events) > 3).sum())
    if compiled is None:
        bench.throughput("Python, packet", interpreted, count=count, floor=nobody)
    else:
        bench.throughput(
            "compiled, packet", machine, count=count, floor=nobody, peer=interpreted, peer_name="Python"
        )
        bench.verify(int(compiled.state[0]) == wide, "the compiled strategy saw every packet")
    # The first packet tells a Python strategy only that there is a market.
    bench.verify(
        python.found == wide - int(spreads(events[:1])[0] > 3), "the Python strategy saw every packet"
    )


def spreads(events: NDArray[np.void]) -> NDArray[np.int64]:
    """Return the spread of each quote."""
    ask = (events["order_id"] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    found: NDArray[np.int64] = ask - events["price_ticks"]
    return found


def stream(events: NDArray[np.void], agent: Agent) -> None:
    """Put the events through a fresh loop with this agent."""
    rules = {"order_latency_ns": 0, "ack_latency_ns": 0, "feed_latency_ns": 0}
    loop = EventLoop(
        ring=SpscRing(RING_EVENTS),
        venues=[SimulatedVenue(rules, venue_id=0, tick_value=1.0, seed=1, book=OrderBook(64, 64))],
        agent=agent,
        gate=RiskGate(
            order_size_lots_max=1, price_band_ticks=1, position_lots_max=1, messages_per_second_max=1
        ),
        journal=JournalBuffer(1 << 14),
    )
    for first in range(0, len(events), RING_EVENTS):
        loop.ring.try_push(events[first : first + RING_EVENTS])
        loop.run(RING_EVENTS)

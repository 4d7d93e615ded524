"""One engine on a market of a few quotes: what the executor's tests run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.instrument import Instrument
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from engine.journal import JournalReader, JournalWriter, replay_state, verify_journal
from engine.journal_replay import JournalState
from engine.risk import RiskLimits, make_gate
from ext.event_loop import EventLoop
from ext.executor import PLAN_DTYPE, ParentExecutor
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.routing import Router
from ext.signal_source import SessionSignal
from ext.sim_venue import SimulatedVenue

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
FIRST_DAY = 18_000
START_NS = FIRST_DAY * DAY_NS + 9 * 3_600 * SECOND_NS
INSTRUMENT = Instrument(symbol="TEST", price_increment=0.01)
LIMITS = RiskLimits(
    order_size_lots_max=1_000_000,
    notional_max=1e12,
    price_band_ticks=1_000_000,
    position_lots_max=10**12,
    messages_per_second_max=100_000,
)
RUN_ID = 77
PROMPT = {"order_latency_ns": 0, "ack_latency_ns": 0, "feed_latency_ns": 0, "queue_mode": "flow"}

Quote = tuple[float, int, int, int, int, int]
"""Seconds after START_NS, venue, bid, bid size, ask, ask size."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run left: the agent at rest, its loop, its journal read back and replayed."""

    agent: ParentExecutor
    loop: EventLoop
    journal: JournalReader
    state: JournalState
    sha256: str

    @property
    def stats(self) -> NDArray[np.void]:
        """Summed over days, one row per group."""
        days = self.agent.day_stats()
        total = np.zeros(len(days), days.dtype)
        for name in days.dtype.names or ():
            total[name] = days[name].sum(axis=1)
        return total


def parents(*rows: tuple[float, float, int, int, int]) -> NDArray[np.void]:
    """Return a plan from (arrival, deadline: seconds after START_NS; side, size, slices)."""
    plan = np.zeros(len(rows), dtype=PLAN_DTYPE)
    for parent, (arrival, deadline, side, size, slices) in zip(plan, rows, strict=True):
        parent["arrival_ns"] = START_NS + round(arrival * SECOND_NS)
        parent["deadline_ns"] = START_NS + round(deadline * SECOND_NS)
        parent["side"], parent["size_lots"], parent["slices"] = side, size, slices
    return plan


def quote_events(quotes: Sequence[Quote]) -> NDArray[np.void]:
    """Return the quotes as events, in the order given."""
    events = np.zeros(len(quotes), dtype=EVENT_DTYPE)
    view = events.view(QUOTE_DTYPE)
    for index, (second, venue, bid, bid_size, ask, ask_size) in enumerate(quotes):
        row = view[index]
        row["ts_ns"], row["venue_id"] = START_NS + round(second * SECOND_NS), venue
        row["bid_price_ticks"], row["bid_size_lots"] = bid, bid_size
        row["ask_price_ticks"], row["ask_size_lots"] = ask, ask_size
    view["recv_ns"], view["kind"], view["flags"] = (
        RECV_NOT_RECORDED,
        EventKind.QUOTE,
        EventFlag.LAST_IN_PACKET,
    )
    view["seq"] = np.arange(len(quotes))
    return events


def steady(
    seconds: int, *, bid: int = 1_000, ask: int = 1_010, size: int = 10_000, every: float = 1.0
) -> list[Quote]:
    """One venue that quotes the same again and again."""
    return [(index * every, 0, bid, size, ask, size) for index in range(round(seconds / every) + 1)]


def execute(
    folder: Path,
    router: Router,
    plan: NDArray[np.void],
    quotes: Sequence[Quote],
    *,
    venues: Sequence[dict[str, Any]] = (PROMPT,),
    limits: RiskLimits = LIMITS,
    session: object | None = None,
    model_ns: int = 0,
    decision_ns: int = 0,
    batch: int = 64,
    journal_records: int = 1 << 14,
    **options: Any,
) -> Outcome:
    """Run a plan over quotes to the end, and read back the journal it wrote."""
    agent = ParentExecutor(
        router,
        plan,
        first_day=FIRST_DAY,
        day_count=40,
        tick_value=INSTRUMENT.tick_value,
        run_id=RUN_ID,
        **options,
    )
    buffer = JournalBuffer(journal_records, run_id=RUN_ID)
    loop = EventLoop(
        ring=SpscRing(4_096),
        venues=[
            SimulatedVenue(
                rules, venue_id=index, tick_value=INSTRUMENT.tick_value, seed=5, book=OrderBook(64, 64)
            )
            for index, rules in enumerate(venues)
        ],
        agent=agent,
        gate=make_gate(limits, INSTRUMENT),
        journal=buffer,
        decision_ns=decision_ns,
        seed=5,
    )
    if session is not None:
        loop.configure(source=SessionSignal(session), model_ns=model_ns)
    path = folder / "run.journal"
    writer = JournalWriter(path, buffer=buffer)
    events = quote_events(quotes)
    for first in range(0, len(events), batch):
        assert loop.ring.try_push(events[first : first + batch]) == len(events[first : first + batch])
        while loop.run():
            writer.flush()
    while not loop.finish():
        writer.flush()
    agent.censor()
    sha256 = writer.commit()
    verify_journal(path)
    return Outcome(
        agent=agent, loop=loop, journal=JournalReader(path), state=replay_state(path), sha256=sha256
    )

"""``anytick replay``: any recording through ring, books and features, with nobody trading."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .parser import whole

if TYPE_CHECKING:
    from data.events import EventSource
    from ext.event_loop import EventLoop

_RING_EVENTS: Final = 4_096
_VENUES_MAX: Final = 16
_ORDERS_MAX: Final = 1 << 20


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "replay",
        help="stream a recording through ring, books and features",
        description="Stream a recording through ring, books and features. The state hash is the same "
        "whenever the books end the same.",
    )
    parser.add_argument("path", type=Path, help="a file or folder: quotes, trades, LOBSTER, tick store, .npy")
    parser.add_argument(
        "--format", help="quotes, trades, lobster, store or events; default: told from the file"
    )
    parser.add_argument("--strict", action="store_true", help="make a crossed quote an error")
    parser.add_argument("--limit", type=whole(1, 1 << 62), metavar="N", help="stop after the first N events")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay and print events, speed, touches and hashes; a bad file raises DataError."""
    from data.events import open_events

    source = open_events(args.path, format=args.format, strict=args.strict)
    started = time.perf_counter()
    loop, seconds_engine = _replay(source, path=args.path, limit=args.limit)
    found = {
        "source": source.source,
        "events": loop.events,
        "venues": [_touch(venue.book) for venue in loop.venues],
        "notes": list(source.notes),
        "state_hash": _state_hash(loop),
        "seconds": round(time.perf_counter() - started, 3),
        "events_per_second": round(loop.events / seconds_engine) if seconds_engine else 0,
    }
    if args.json:
        print(json.dumps(found))
    else:
        _print(found, price_increment=source.instrument.price_increment)
    return 0


def _replay(source: EventSource, *, path: Path, limit: int | None) -> tuple[EventLoop, float]:
    """Return the loop after the last event, and the seconds it took without decoding."""
    from data.errors import DataError

    loop: EventLoop | None = None
    left, engine_seconds = limit, 0.0
    for block in source.blocks():
        events = block if left is None else block[:left]
        venue_count = int(events["venue_id"].max()) + 1
        if loop is None:
            loop = _loop(source, _VENUES_MAX if venue_count > 1 else 1)
        if venue_count > loop.venue_count:
            raise DataError(f"venue ids must be below {loop.venue_count}, was {venue_count - 1}", path=path)
        begun, pushed = time.perf_counter(), 0
        while pushed < len(events):
            pushed += loop.ring.try_push(events[pushed:])
            while loop.run(_RING_EVENTS):
                pass
        engine_seconds += time.perf_counter() - begun
        if left is not None:
            left -= len(events)
            if left == 0:
                break
    if loop is None:
        raise DataError("expected at least one event, was empty", path=path)
    return loop, engine_seconds


def _loop(source: EventSource, venue_count: int) -> EventLoop:
    """Return a loop with nobody trading at venues of no delay."""
    from ext.event_loop import Agent, EventLoop
    from ext.journal import JournalBuffer
    from ext.order_book import OrderBook
    from ext.ring_buffer import SpscRing
    from ext.risk_gate import RiskGate
    from ext.sim_venue import SimulatedVenue

    instrument = source.instrument
    rules = {"order_latency_ns": 0, "ack_latency_ns": 0, "feed_latency_ns": 0}
    venues = [
        SimulatedVenue(
            rules,
            venue_id=index,
            tick_value=instrument.tick_value,
            seed=1,
            book=OrderBook(_ORDERS_MAX // venue_count),
        )
        for index in range(venue_count)
    ]
    gate = RiskGate(order_size_lots_max=1, price_band_ticks=1, position_lots_max=1, messages_per_second_max=1)
    return EventLoop(
        ring=SpscRing(_RING_EVENTS),
        venues=venues,
        agent=Agent(),
        gate=gate,
        journal=JournalBuffer(1 << 14),
        instrument_id=instrument.instrument_id,
    )


def _touch(book: Any) -> dict[str, int]:
    names = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots", "live_orders")
    counters = ("applied", "crossed", "unknown_orders", "duplicate_orders", "refused", "lost")
    return {name: getattr(book, name) for name in (*names, *counters)}


def _state_hash(loop: EventLoop) -> str:
    """Return the hash of all books: each venue's own, folded in the order of venues (FNV-1a, 64 bits)."""
    folded = 0xCBF29CE484222325
    for venue in loop.venues:
        for byte in venue.book.state_hash().to_bytes(8, "little"):
            folded = (folded ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{folded:016x}"


def _print(found: dict[str, Any], *, price_increment: float) -> None:
    print(found["source"])
    print(f"{'events':<14}{found['events']:,}")
    speed = found["events_per_second"]
    print(
        f"{'speed':<14}{speed:,} events/s through ring, book and features; {found['seconds']} s with decoding"
    )
    for index, venue in enumerate(found["venues"]):
        if not venue["applied"]:
            continue
        sides = " | ".join(
            f"{venue[side + '_size_lots']:,} lots at {venue[side + '_price_ticks'] * price_increment:.10g}"
            if venue[side + "_size_lots"]
            else "empty"
            for side in ("bid", "ask")
        )
        print(f"{f'venue {index}':<14}{sides}")
        odd = {
            name: venue[name] for name in ("crossed", "unknown_orders", "duplicate_orders", "refused", "lost")
        }
        told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in odd.items() if count)
        if told:
            print(f"{'':<14}{told}")
    print(f"{'state hash':<14}{found['state_hash']}")
    for note in found["notes"]:
        print(f"note: {note}")

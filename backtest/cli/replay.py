"""``anytick replay``: any imported recording through books and features, with nobody trading."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import whole

if TYPE_CHECKING:
    from data.events import EventSource

    from ..replayer import ReplayResult


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "replay",
        help="stream a recording through books and features",
        description="Stream any imported recording (see anytick data import) through books and features: "
        "one thread decodes, another applies. "
        "The state hash is the same whenever the books end the same. Writes no file.",
    )
    parser.add_argument("path", type=Path, help="a file or folder: quotes, trades, LOBSTER, tick store, .npy")
    parser.add_argument(
        "--format", help="quotes, trades, lobster, store or events; default: told from the file"
    )
    parser.add_argument("--strict", action="store_true", help="make a crossed quote an error")
    parser.add_argument("--limit", type=whole(1, 1 << 62), metavar="N", help="stop after the first N events")
    parser.add_argument(
        "--features",
        metavar="NAMES",
        help="features to keep and print, separated by commas, or 'all'; default: none",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay and print events, speed, touches and hashes; a bad file raises DataError."""
    from data.events import open_events

    from ..console import run_progress
    from ..replayer import replay

    names = _feature_names(args.features)
    source = open_events(args.path, format=args.format, strict=args.strict)
    total = args.limit or _events_of(source)
    with run_progress(total, description="replay", quiet=args.quiet or args.json) as shown:
        result = replay(source, features=names, limit=args.limit, progress=shown.update)
        shown.update(result.events)
    found = _document(result)
    if args.json:
        print(json.dumps(found))
    else:
        _print(found, price_increment=source.instrument.price_increment)
    return 0


def _feature_names(text: str | None) -> tuple[str, ...]:
    from data.errors import ConfigError
    from ext.feature_set import ALL_FEATURE_NAMES

    if text is None:
        return ()
    # Nobody trades here, so nobody of ours queues.
    known = tuple(name for name in ALL_FEATURE_NAMES if not name.startswith("queue_ahead"))
    names = known if text == "all" else tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        raise ConfigError(f"--features must be distinct ones of {', '.join(known)}, was {text}")
    return names


def _events_of(source: EventSource) -> int:
    """Return how many events a source holds where that is written down, else 0."""
    from data.events import StoreEvents

    if not isinstance(source, StoreEvents):
        return 0
    return sum(part.rows for part in source.store.partitions(instrument=source.instrument.symbol))


def _document(result: ReplayResult) -> dict[str, Any]:
    return {
        "source": result.source.source,
        "events": result.events,
        "venues": [_touch(book) for book in result.books],
        "features": result.features,
        "notes": list(result.source.notes),
        "state_hash": result.state_hash,
        "seconds": round(result.seconds, 3),
        "events_per_second": round(result.events / result.seconds) if result.seconds else 0,
        "engine_seconds": round(result.engine_seconds, 3),
        "peak_bytes": result.peak_bytes,
    }


def _touch(book: Any) -> dict[str, int]:
    names = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots", "live_orders")
    counters = ("applied", "crossed", "unknown_orders", "duplicate_orders", "refused", "lost")
    return {name: getattr(book, name) for name in (*names, *counters)}


def _print(found: dict[str, Any], *, price_increment: float) -> None:
    print(found["source"])
    print(f"{'events':<14}{found['events']:,}")
    print(
        f"{'speed':<14}{found['events_per_second']:,} events/s with decoding, {found['seconds']} s; "
        f"{found['engine_seconds']} s of it in books and features"
    )
    print(f"{'peak memory':<14}{found['peak_bytes'] / 2**20:.0f} MiB")
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
    for name, value in found["features"].items():
        print(f"{name:<22}{value:+.6g}")
    print(f"{'state hash':<14}{found['state_hash']}")
    for note in found["notes"]:
        print(f"note: {note}")

"""Kraken's websocket version 2, told in the terms of version 1.

Messages are objects: ``{"channel": "book", "type": "update", "data": [{...}]}``. Numbers are JSON numbers
that the venue writes with all their digits, zeros at the end included, since the checksum is over the digits;
they are kept as text. The depth subscribed to stands in the answer to the subscription, not in the messages.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..errors import DataError

DEPTHS: Final = (10, 25, 100, 500, 1_000)
"""That can be subscribed to; the least one that a snapshot fits in is taken where no answer was recorded."""

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_TRADE_SIDE: Final = {"buy": "b", "sell": "s"}

Told = tuple[str, int, list[Any], str]
"""Channel, depth, payload parts and pair, as version 1 has them."""


def is_version_2(record: dict[str, Any]) -> bool:
    """Tell whether an object is a message of version 2."""
    return "channel" in record and isinstance(record.get("data"), list)


def subscribed_depth(record: dict[str, Any]) -> tuple[str, int] | None:
    """Return (pair, depth) of an answer to a book's subscription, None for other messages."""
    result = record.get("result")
    if record.get("method") != "subscribe" or not isinstance(result, dict) or result.get("channel") != "book":
        return None
    pair, depth = result.get("symbol"), result.get("depth")
    return (pair, depth) if isinstance(pair, str) and isinstance(depth, int) else None


def as_version_1(record: dict[str, Any], *, clock: str, path: Path, row: int) -> list[Told]:
    """Return the book and trade messages that an object holds.

    Parameters
    ----------
    record : dict
    clock : str
        Receive time in decimal seconds, for a snapshot without a time of its own.
    """
    channel, opening = record["channel"], record.get("type") == "snapshot"
    if channel not in ("book", "trade"):
        return []
    found: dict[str, Told] = {}
    for entry in record["data"]:
        pair = entry.get("symbol") if isinstance(entry, dict) else None
        if not isinstance(pair, str):
            raise DataError("expected data with a symbol", path=path, row=row)
        stamp = _seconds(entry.get("timestamp"), clock, path=path, row=row)
        if channel == "trade":
            told = found.setdefault(pair, ("trade", 0, [[]], pair))
            side = _TRADE_SIDE.get(str(entry.get("side")), "")
            told[2][0].append([_text(entry, "price"), _text(entry, "qty"), stamp, side])
            continue
        parts: dict[str, Any] = {
            key + ("s" if opening else ""): [
                [_text(level, "price"), _text(level, "qty"), stamp] for level in entry.get(name) or ()
            ]
            for key, name in (("a", "asks"), ("b", "bids"))
        }
        most = max(map(len, parts.values()))
        depth = next((depth for depth in DEPTHS if depth >= most), DEPTHS[-1])
        if "checksum" in entry:
            parts["c"] = str(entry["checksum"])
        found[pair] = ("book", depth, [parts], pair)
    return list(found.values())


def _text(level: Any, name: str) -> str | None:
    value = level.get(name) if isinstance(level, dict) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _seconds(stamp: Any, clock: str, *, path: Path, row: int) -> str:
    if stamp is None:
        return clock
    match = _TIME.fullmatch(stamp) if isinstance(stamp, str) else None
    try:
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) if match else None
    except ValueError:
        whole = None
    if match is None or whole is None:
        raise DataError(f"expected a UTC time, was {str(stamp)[:40]!r}", path=path, row=row)
    return f"{int(whole.timestamp())}.{match[2] or '0'}"

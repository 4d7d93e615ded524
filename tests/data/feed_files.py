"""Small recordings of feeds, made up line by line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import AnytickError

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
BASE_MS = 1_700_000_000_000


def write_lines(path: Path, rows: Iterable[str], compress: Callable[[bytes], bytes] | None = None) -> Path:
    data = "".join(f"{row}\n" for row in rows).encode()
    path.write_bytes(compress(data) if compress else data)
    return path


def joined(source: Any, block_events: int = 65_536) -> NDArray[np.void]:
    """All events of a source, whose blocks must end with a packet and never go back in time."""
    blocks = list(source.blocks(block_events))
    for block in blocks:
        assert block["flags"][-1] & 1
    events = np.concatenate(blocks)
    assert (np.diff(events["ts_ns"]) >= 0).all()
    return events


def told(events: NDArray[np.void]) -> list[tuple[int, ...]]:
    """Kind, side, ticks, lots and flags of each event."""
    names = ("kind", "side", "price_ticks", "size_lots", "flags")
    return [tuple(int(event[name]) for name in names) for event in events]


def depth(
    first: int,
    last: int,
    bids: Sequence[tuple[str, str]] = (),
    asks: Sequence[tuple[str, str]] = (),
    *,
    previous: int | None = None,
    ms: int = 0,
    symbol: str = "BTCUSDT",
    wrap: bool = True,
) -> str:
    data: dict[str, Any] = {"e": "depthUpdate", "E": BASE_MS + ms, "s": symbol, "U": first, "u": last}
    if previous is not None:
        data |= {"pu": previous, "T": BASE_MS + ms}
    data |= {"b": bids, "a": asks}
    return stamped({"stream": "x@depth", "data": data} if wrap else data, ms)


def stamped(message: Any, ms: int, behind_ms: int = 5) -> str:
    return f"{(BASE_MS + ms + behind_ms) * 1_000_000} {json.dumps(message)}"


def mutants(data: bytes, *, count: int, seed: int) -> Iterable[bytes]:
    """Copies with a flipped bit, a part cut out, the end cut off, or a piece repeated."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        at, length = int(random.integers(len(data))), int(random.integers(1, 40))
        kind = int(random.integers(4))
        if kind == 0:
            yield data[:at] + bytes([data[at] ^ (1 << int(random.integers(8)))]) + data[at + 1 :]
        elif kind == 1:
            yield data[:at] + data[at + length :]
        elif kind == 2:
            yield data[:at]
        else:
            yield data[:at] + data[max(at - length, 0) : at] + data[at:]


def survives(open_source: Callable[[], Any], path: Path) -> bool:
    """Whether a damaged file is read, or refused by a typed error that names it."""
    try:
        for block in open_source().blocks():
            assert len(block)
    except AnytickError as error:
        message = str(error)
    else:
        return True
    assert str(path) in message
    return False

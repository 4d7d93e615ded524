"""The limits of this machine, measured in the run that measures the scenarios.

Memory in order, a dependent read at four distances, the clock, a cache line between two cores, and the
least that decoding stored ticks costs. `benchmarks/roofline.py` says which of them bounds which scenario.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ext.limit_probe import chase_links, read_clock, read_stream

from .bench_rings import line_round_trips

TURNS: Final = 7
UNITS: Final = {
    "stream_ns": "one 64-byte line of memory, read in order on one core",
    "near_ns": "a read that waits for the one before, within the first-level cache",
    "second_ns": "the same over 512 KiB, within the second-level cache",
    "third_ns": "the same over 8 MiB, beyond it",
    "memory_ns": "the same over 128 MiB, mostly from memory",
    "clock_ns": "reading the clock, compiled",
    "one_line_ns": "one cache line from core to core and back",
    "two_lines_ns": "two cache lines, one a direction, there and back",
    "decode_ns": "one event's six varying columns out of Parquet (delta, lz4) into Arrow, one thread",
}
_REACHES: Final = (("near_ns", 16), ("second_ns", 512), ("third_ns", 8_192), ("memory_ns", 131_072))


def machine_limits(*, smoke: bool = False) -> dict[str, float]:
    """Measure the limits; keys and meanings stand in `UNITS`.

    With `smoke` the arrays are small and the figures mean nothing.
    """
    limits = {"stream_ns": _stream_ns(1 << 16 if smoke else 1 << 24)}
    for name, kibibytes in _REACHES:
        reach = min(kibibytes, 64) if smoke else kibibytes
        limits[name] = _chase_ns(reach * 128, 1 << 10 if smoke else 1 << 18)
    clock_reads = 1_000 if smoke else 200_000
    limits["clock_ns"] = _least(lambda: read_clock(clock_reads) / clock_reads)
    for name, lines in (("one_line_ns", 1), ("two_lines_ns", 2)):
        limits[name] = _hand_over_ns(lines, 50 if smoke else 5_000)
    limits["decode_ns"] = _decode_ns(2_000 if smoke else 200_000)
    return {name: round(value, 3) for name, value in limits.items()}


def _least(measure: Callable[[], float]) -> float:
    """Return the least of a few turns: what the machine can do when nobody disturbs it."""
    return min(measure() for _ in range(TURNS))


def _stream_ns(words: int) -> float:
    source = np.ones(words, np.uint64)
    return _least(lambda: read_stream(source)[0] / (words / 8))


def _chase_ns(words: int, steps: int) -> float:
    """One random cycle through cache lines: no prefetcher guesses the next."""
    lines = words // 8
    order = np.random.default_rng(1).permutation(lines)
    links = np.zeros(words, np.int64)
    links[order * 8] = np.roll(order, -1) * 8
    return _least(lambda: chase_links(links, steps)[0] / steps)


def _hand_over_ns(lines: int, rounds: int) -> float:
    return _least(lambda: float(np.median(line_round_trips(lines, rounds))))


def _decode_ns(count: int) -> float:
    random = np.random.default_rng(1)
    columns: dict[str, Any] = {
        "ts_ns": np.cumsum(random.integers(1, 200_000, count)),
        "order_id": np.cumsum(random.integers(1, 40, count)),
        "size_lots": random.choice((100, 200, 50, 1), count),
        "price_ticks": (100_000 + np.cumsum(random.integers(-1, 2, count))).astype(np.int32),
        "kind": random.integers(1, 6, count).astype(np.int32),
        "side": random.choice((-1, 1), count).astype(np.int32),
    }
    sink = io.BytesIO()
    encoding = dict.fromkeys(columns, "DELTA_BINARY_PACKED")
    pq.write_table(pa.table(columns), sink, compression="lz4", use_dictionary=False, column_encoding=encoding)
    stored = sink.getvalue()

    def once() -> float:
        begun = time.perf_counter()
        rows = int(pq.read_table(io.BytesIO(stored), use_threads=False).num_rows)
        return (time.perf_counter() - begun) * 1e9 / rows

    return _least(once)

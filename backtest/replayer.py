"""A recording through books and features: one thread decodes and merges, another applies.

The reader is ahead by a few blocks and never more, so memory does not depend on the recording's length.
Blocks change hands as they are, without a copy, and are freed once they are applied. Both threads release
the interpreter lock while they work; between blocks they need it for some ten microseconds.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError, DataError
from data.events import EventSource
from data.instrument import Instrument
from ext.feature_set import FeatureSet
from ext.order_book import OrderBook
from ext.replay import Replay

from .memory import PeakMemory
from .sources import VENUE_LIMIT, DataLike, open_source, place_of
from .turns import short_turns

BLOCK_EVENTS: Final = 32_768
BLOCKS_AHEAD: Final = 16
"""Half a million events: what the other thread applies while a day's file is opened."""
_LEVELS: Final = 4_096
_ORDERS: Final = 65_536
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayResult:
    """What a replay leaves.

    Parameters
    ----------
    source : EventSource
    events : int
    books : tuple of OrderBook
        By venue, up to the last one that spoke, as the last event left them.
    features : dict of str to float
        Those chosen, as the market stood at the end.
    state_hash : str
        16 hexadecimal digits over the books of all venues that spoke.
    seconds : float
        Wall time from the first block asked for to the last one applied.
    engine_seconds : float
        Of that, applying; the rest was waiting for the reader.
    peak_bytes : int
        Largest proportional set size of the process meanwhile.
    """

    source: EventSource
    events: int
    books: tuple[OrderBook, ...]
    features: dict[str, float]
    state_hash: str
    seconds: float
    engine_seconds: float
    peak_bytes: int


def replay(
    data: DataLike,
    *,
    instrument: Instrument | None = None,
    features: Sequence[str] = (),
    limit: int | None = None,
    block_events: int = BLOCK_EVENTS,
    progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Stream a recording through each venue's book and the features, with nobody trading.

    Parameters
    ----------
    data : path, array of EVENT_DTYPE, or EventSource
    instrument : Instrument, optional
        Instead of what the recording tells.
    features : sequence of str
        Of `ext.feature_set.ALL_FEATURE_NAMES`, without those of our own orders. None are kept, or paid for,
        that nobody asked for.
    limit : int, optional
        Stop after that many events.
    block_events : int
        Events decoded at a time.
    progress : callable, optional
        Told the events done so far, a few times a second.

    Raises
    ------
    DataError
        There are no events, a venue id is not below 16, time runs back, or the files break their format's
        rules.
    ConfigError
        `limit` or `block_events` is below 1.
    """
    if block_events < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"block_events and limit must be at least 1, were {block_events} and {limit}")
    source = open_source(data, instrument)
    place = place_of(data)
    chosen = FeatureSet(features) if features else None
    # Which venues will speak is not known yet; a book starts small and grows with its market.
    small = {"order_capacity": _ORDERS // VENUE_LIMIT, "level_capacity": _LEVELS // VENUE_LIMIT}
    state = Replay(VENUE_LIMIT, features=chosen, **small)
    engine_seconds, told = 0.0, time.perf_counter()
    with PeakMemory() as memory:
        begun = time.perf_counter()
        with _read_ahead(source.blocks(block_events)) as blocks:
            left = limit
            for block in blocks:
                events = block if left is None else block[:left]
                started = time.perf_counter()
                state.apply(np.ascontiguousarray(events))
                engine_seconds += time.perf_counter() - started
                _require_order(state, place)
                if progress is not None and time.perf_counter() - told > _LOOK_SECONDS:
                    progress(state.events)
                    told = time.perf_counter()
                if left is not None:
                    left -= len(events)
                    if left == 0:
                        break
        seconds = time.perf_counter() - begun
    if state.events == 0:
        raise DataError("expected at least one event, was empty", path=place)
    return ReplayResult(
        source=source,
        events=state.events,
        books=_spoken(state.books),
        features={} if chosen is None else dict(zip(chosen.names, state.values().tolist(), strict=True)),
        state_hash=f"{state.state_hash():016x}",
        seconds=seconds,
        engine_seconds=engine_seconds,
        peak_bytes=memory.peak_bytes,
    )


def _spoken(books: tuple[OrderBook, ...]) -> tuple[OrderBook, ...]:
    last = max((venue for venue, book in enumerate(books) if book.applied), default=0)
    return books[: last + 1]


def _require_order(state: Replay, place: str) -> None:
    if state.foreign:
        raise DataError(
            f"venue ids must be below {state.venue_count}, was otherwise in {state.foreign:,} events",
            path=place,
        )
    if state.backwards:
        raise DataError(f"ts_ns must not run back, did {state.backwards:,} times", path=place)


@contextmanager
def _read_ahead(blocks: Iterator[NDArray[np.void]]) -> Iterator[Iterator[NDArray[np.void]]]:
    """Yield an iterator over the blocks that another thread reads, at most a few ahead."""
    waiting: queue.Queue[NDArray[np.void] | BaseException | None] = queue.Queue(BLOCKS_AHEAD)
    over = threading.Event()

    def put(entry: NDArray[np.void] | BaseException | None) -> bool:
        while not over.is_set():
            try:
                waiting.put(entry, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for block in blocks:
                if len(block) and not put(block):
                    return
        except BaseException as error:
            put(error)
        else:
            put(None)
        finally:
            close = getattr(blocks, "close", None)
            if close is not None:
                close()

    def taken() -> Iterator[NDArray[np.void]]:
        while (entry := waiting.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry

    reader = threading.Thread(target=read, name="reader", daemon=True)
    # Whoever wants the interpreter between two blocks would wait 5 ms for it, as long as ten blocks take.
    with short_turns():
        reader.start()
        try:
            yield taken()
        finally:
            over.set()
            reader.join()

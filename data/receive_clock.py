"""Receive clocks that run behind the venue's.

A recorder's clock is rarely the venue's. Where it runs behind, events seem to arrive before they happened
(``recv_ns < ts_ns``): legal input, but no latency that a simulation could use. The correction here moves the
receive clock and never an event:

1. *Shift.* All receipts are moved by one constant, the largest ``ts_ns - recv_ns`` found plus `floor_ns`. The
   order of receipts and the time between any two are those recorded; the fastest event now took `floor_ns`.
2. *Raise*, only where the shift came from a part of the recording (``measure`` of a sample, a clock that
   was set back in between): a receipt before ``ts_ns + floor_ns`` is raised to that.

Both keep the order of events, which is by ``ts_ns``. The true latency is not in the recording: what remains
is relative to its fastest event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .events import EventSource
from .instrument import Instrument
from .schema import RECV_NOT_RECORDED


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiveClock:
    """What a recording says about the clock it was received by.

    Parameters
    ----------
    events : int
        All events.
    recorded : int
        Those whose receipt was recorded.
    negative : int
        Those received before they happened.
    backwards : int
        Those received before the event ahead of them, which two streams in order of venue time may be.
    latency_ns_min, latency_ns_max : int
        Extremes of ``recv_ns - ts_ns``; 0 where nothing was recorded.
    """

    events: int = 0
    recorded: int = 0
    negative: int = 0
    backwards: int = 0
    latency_ns_min: int = 0
    latency_ns_max: int = 0

    @property
    def shift_ns(self) -> int:
        """Nanoseconds that make every latency at least 0."""
        return max(-self.latency_ns_min, 0)

    def __str__(self) -> str:
        if not self.recorded:
            return "receipt is not recorded"
        return (
            f"receive latency {self.latency_ns_min / 1e6:,.3f} to {self.latency_ns_max / 1e6:,.3f} ms, "
            f"negative in {self.negative:,} of {self.recorded:,} events"
        )


def measure_receive_clock(blocks: Iterable[NDArray[np.void]]) -> ReceiveClock:
    """Read events and return what they say about the receive clock."""
    events = recorded = negative = backwards = 0
    low: int | None = None
    high: int | None = None
    last_ns: int | None = None
    for block in blocks:
        events += len(block)
        block = block[block["recv_ns"] != RECV_NOT_RECORDED]
        if len(block) == 0:
            continue
        receipt = block["recv_ns"]
        latency = receipt - block["ts_ns"]
        recorded += len(block)
        negative += int((latency < 0).sum())
        backwards += int((receipt[1:] < receipt[:-1]).sum()) + (last_ns is not None and receipt[0] < last_ns)
        last_ns = int(receipt[-1])
        low = int(latency.min()) if low is None else min(low, int(latency.min()))
        high = int(latency.max()) if high is None else max(high, int(latency.max()))
    return ReceiveClock(
        events=events,
        recorded=recorded,
        negative=negative,
        backwards=backwards,
        latency_ns_min=low or 0,
        latency_ns_max=high or 0,
    )


def correct_receive_clock(
    blocks: Iterable[NDArray[np.void]], *, shift_ns: int, floor_ns: int = 0
) -> Iterator[NDArray[np.void]]:
    """Yield copies of the events with corrected receipts, by the rule of this module.

    Parameters
    ----------
    blocks : iterable of arrays of EVENT_DTYPE
    shift_ns : int
        Added to every recorded receipt: `ReceiveClock.shift_ns`.
    floor_ns : int
        Smallest latency left over, at least 0.
    """
    if floor_ns < 0:
        raise ConfigError(f"floor_ns must not be negative, was {floor_ns}")
    for block in blocks:
        corrected = block.copy()
        recorded = block["recv_ns"] != RECV_NOT_RECORDED
        earliest = block["ts_ns"][recorded] + floor_ns
        corrected["recv_ns"][recorded] = np.maximum(
            block["recv_ns"][recorded] + (shift_ns + floor_ns), earliest
        )
        yield corrected


class CorrectedReceipts:
    """Another source's events with a receive clock that never runs behind the venue's.

    The source is read once to measure, then once more for events.

    Parameters
    ----------
    recorded : EventSource
    floor_ns : int
        Latency given to the fastest event; the recording cannot tell it.
    """

    def __init__(self, recorded: EventSource, *, floor_ns: int = 0) -> None:
        self._recorded, self._floor_ns = recorded, floor_ns
        self.clock = measure_receive_clock(recorded.blocks())

    @property
    def instrument(self) -> Instrument:
        return self._recorded.instrument

    @property
    def source(self) -> str:
        return self._recorded.source

    @property
    def data_hash(self) -> str:
        return self._recorded.data_hash

    @property
    def notes(self) -> tuple[str, ...]:
        done = f"{self.clock}; receipts moved by {(self.clock.shift_ns + self._floor_ns) / 1e6:,.3f} ms"
        return (*self._recorded.notes, done)

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield events with corrected receipts."""
        return correct_receive_clock(
            self._recorded.blocks(block_events), shift_ns=self.clock.shift_ns, floor_ns=self._floor_ns
        )

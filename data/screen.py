"""The rules that every event must keep, whatever its format; what breaks one is set aside, not lost."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.event_array import first_illegal

from .errors import ConfigError, DataError
from .event_blocks import take_events
from .quarantine import Quarantine
from .schema import RECV_NOT_RECORDED, EventKind

OUT_OF_ORDER: Final = ("refuse", "quarantine", "carry")

KIND_RULE: Final = "kind must be 1 to 9"
SIDE_RULE: Final = "side must be -1, 0 or 1"
TIME_RULE: Final = "time must not run backwards"


class Screen:
    """Passes on what keeps the rules.

    Parameters
    ----------
    source : str
        Named in errors and in the quarantine.
    quarantine : Quarantine or None
        None makes every breach an error.
    out_of_order : str
        What happens to an event whose time lies before one already passed on: refuse it with an error,
        quarantine it, or carry it: give it the newest time, so that the feed's order stays.
    receive_offset_ns : int or None
        Added to recorded receipts, which are then raised to their event's time and to the receipt before
        them, so that order is kept. None leaves receipts alone.
    """

    def __init__(
        self,
        *,
        source: str,
        quarantine: Quarantine | None,
        out_of_order: str = "refuse",
        receive_offset_ns: int | None = None,
    ) -> None:
        if out_of_order not in OUT_OF_ORDER:
            raise ConfigError(f"out_of_order must be one of {', '.join(OUT_OF_ORDER)}, was {out_of_order!r}")
        self._source, self._quarantine = source, quarantine
        self._out_of_order, self._receive_offset_ns = out_of_order, receive_offset_ns
        self._row = 0
        self._newest_ns = np.iinfo(np.int64).min
        self._recv_newest_ns = np.iinfo(np.int64).min

    def kept(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """Return the events that keep the rules, corrected where that was asked for."""
        if self._receive_offset_ns is None and first_illegal(events, self._newest_ns) == len(events):
            if len(events):
                self._row, self._newest_ns = self._row + len(events), int(events["ts_ns"][-1])
            return events
        kind, side = events["kind"], events["side"]
        good = np.ones(len(events), bool)
        for rule, legal in (
            (KIND_RULE, (kind >= EventKind.ADD) & (kind <= EventKind.STATUS)),
            (SIDE_RULE, np.abs(side.astype(np.int16)) <= 1),
        ):
            if not legal.all():
                self._reject(events, good & ~legal, rule)
                good &= legal
        ts_ns = events["ts_ns"]
        newest = np.maximum.accumulate(
            np.concatenate(([self._newest_ns], np.where(good, ts_ns, self._newest_ns)))
        )
        late = good & (ts_ns < newest[1:])
        if late.any() and self._out_of_order != "carry":
            if self._out_of_order == "refuse":
                at = int(np.argmax(late))
                raise DataError(
                    f"{TIME_RULE}: expected at least {newest[at]} ns, was {ts_ns[at]}",
                    path=self._source,
                    row=self._row + at,
                )
            self._reject(events, late, TIME_RULE)
            good &= ~late
        self._row += len(events)
        self._newest_ns = int(newest[-1])
        changed = self._receive_offset_ns is not None or (late.any() and self._out_of_order == "carry")
        if good.all() and not changed:
            return events
        kept = take_events(events, good)
        if late.any() and self._out_of_order == "carry":
            kept["ts_ns"] = newest[1:][good]
        if self._receive_offset_ns is not None and len(kept):
            self._correct_receipt(kept)
        return kept

    def _reject(self, events: NDArray[np.void], chosen: NDArray[np.bool_], rule: str) -> None:
        for at in np.flatnonzero(chosen).tolist():
            raw = {name: events[name][at].item() for name in events.dtype.names or () if name != "_reserved"}
            if self._quarantine is None:
                raise DataError(f"{rule}, was {raw}", path=self._source, row=self._row + at)
            self._quarantine.add(file=self._source, row=self._row + at, rule=rule, raw=raw)

    def _correct_receipt(self, events: NDArray[np.void]) -> None:
        assert self._receive_offset_ns is not None
        recorded = events["recv_ns"] != RECV_NOT_RECORDED
        if not recorded.any():
            return
        received = np.maximum(
            events["recv_ns"][recorded] + self._receive_offset_ns, events["ts_ns"][recorded]
        )
        received = np.maximum.accumulate(np.maximum(received, self._recv_newest_ns))
        events["recv_ns"][recorded] = received
        self._recv_newest_ns = int(received[-1])

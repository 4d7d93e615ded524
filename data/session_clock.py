"""Is the market open? An instrument's session applied to nanoseconds since the epoch."""

from __future__ import annotations

from datetime import time
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .instrument import Instrument

_MINUTE_NS: Final = 60 * 10**9
_DAY_MINUTES: Final = 24 * 60
# Clocks are set at quarters of an hour of UTC, everywhere.
_QUARTER_MINUTES: Final = 15
_DAY_QUARTERS: Final = 96
_EPOCH_WEEKDAY: Final = 3  # a Thursday


class SessionClock:
    """Judges times to the minute by the instrument's weekdays, hours and time zone.

    A session that closes at or before it opens spans midnight and belongs to the day on which it opens.
    """

    def __init__(self, instrument: Instrument) -> None:
        session = instrument.session
        self._weekdays = set(session.weekdays)
        self._opens, self._closes = _minutes(session.opens), _minutes(session.closes)
        if session.closes >= time(23, 59):
            self._closes = _DAY_MINUTES
        self._overnight = self._closes <= self._opens
        self._time_zone = instrument.time_zone
        self._days: set[int] = set()
        self._offsets: dict[int, NDArray[np.int64]] = {}

    def inside(self, ts_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which times lie in a session, and remember their days."""
        minutes = ts_ns // _MINUTE_NS
        changes = np.flatnonzero(np.diff(minutes, prepend=minutes[:1] - 1))
        day, opened = self._sessions(minutes[changes])
        self._days.update(np.unique(day[opened]).tolist())
        return np.repeat(opened, np.diff(changes, append=len(minutes)))

    def same_session(self, early_ns: int, late_ns: int) -> bool:
        """Return whether both times lie in one session; days that are open all day run into each other."""
        day, opened = self._sessions(np.array([early_ns, late_ns]) // _MINUTE_NS)
        if not opened.all():
            return False
        first, last = sorted(day.tolist())
        if not (self._opens == 0 and self._closes == _DAY_MINUTES):
            return bool(first == last)
        return all(_weekday(day) in self._weekdays for day in range(first, min(last, first + 7) + 1))

    def missing_days(self) -> int:
        """Return how many session days between the first and the last seen had no event."""
        if not self._days:
            return 0
        span = range(min(self._days), max(self._days) + 1)
        return sum(_weekday(day) in self._weekdays and day not in self._days for day in span)

    def _sessions(self, minutes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return each minute's session day, since the epoch, and whether the session is open."""
        local = minutes + self._offset_minutes(minutes)
        day, clock = np.divmod(local, _DAY_MINUTES)
        if self._overnight:
            early = clock < self._closes
            day = day - early
            opened = early | (clock >= self._opens)
        else:
            opened = (clock >= self._opens) & (clock < self._closes)
        return day, opened & np.isin(_weekday(day), list(self._weekdays))

    def _offset_minutes(self, minutes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how far local time is ahead of UTC; a day is looked up once, since asking is slow."""
        if len(minutes) == 0:
            return minutes
        utc_day, minute = np.divmod(minutes, _DAY_MINUTES)
        days, place = np.unique(utc_day, return_inverse=True)
        for day in days.tolist():
            if day not in self._offsets:
                self._offsets[day] = self._offsets_of(day)
        table = np.stack([self._offsets[day] for day in days.tolist()])
        found: NDArray[np.int64] = table[place, minute // _QUARTER_MINUTES]
        return found

    def _offsets_of(self, day: int) -> NDArray[np.int64]:
        quarters = day * _DAY_MINUTES + _QUARTER_MINUTES * np.arange(_DAY_QUARTERS, dtype=np.int64)
        # polars carries its own time zone tables; zoneinfo's may be missing from a bare machine.
        utc = pl.Series(quarters * 60_000).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
        local = utc.dt.convert_time_zone(self._time_zone).dt.replace_time_zone(None)
        return (local.cast(pl.Int64).to_numpy() - quarters * 60_000) // 60_000


def _weekday(day: Any) -> Any:
    """Return 0 for Monday to 6 for Sunday."""
    return (day + _EPOCH_WEEKDAY) % 7


def _minutes(clock: time) -> int:
    return clock.hour * 60 + clock.minute

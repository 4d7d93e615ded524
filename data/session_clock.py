"""Is the market open? An instrument's session applied to nanoseconds since the epoch."""

from __future__ import annotations

from datetime import date, time, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .instrument import Instrument

_MINUTE_NS = 60 * 10**9


class SessionClock:
    """Judges times to the minute by the instrument's weekdays, hours and time zone.

    A session that closes at or before it opens spans midnight and belongs to the day on which it opens.
    """

    def __init__(self, instrument: Instrument) -> None:
        session = instrument.session
        self._weekdays = set(session.weekdays)
        self._opens, self._closes = _minutes(session.opens), _minutes(session.closes)
        if session.closes >= time(23, 59):
            self._closes = 24 * 60
        self._overnight = self._closes <= self._opens
        self._time_zone = instrument.time_zone
        self._days: set[date] = set()

    def inside(self, ts_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which times lie in a session, and remember their days."""
        minutes = ts_ns // _MINUTE_NS
        changes = np.flatnonzero(np.diff(minutes, prepend=minutes[:1] - 1))
        day, opened = self._sessions(minutes[changes])
        self._days.update(day.filter(pl.Series(opened)).unique().to_list())
        return np.repeat(opened, np.diff(changes, append=len(minutes)))

    def same_session(self, early_ns: int, late_ns: int) -> bool:
        """Return whether both times lie in one session; days that are open all day run into each other."""
        day, opened = self._sessions(np.array([early_ns, late_ns]) // _MINUTE_NS)
        if not opened.all():
            return False
        first, last = sorted(day.to_list())
        if not (self._opens == 0 and self._closes == 24 * 60):
            return bool(first == last)
        days = min((last - first).days, 7)
        return all((first + timedelta(days=count)).weekday() in self._weekdays for count in range(days + 1))

    def missing_days(self) -> int:
        """Return how many session days between the first and the last seen had no event."""
        if not self._days:
            return 0
        first, last = min(self._days), max(self._days)
        span = (first + timedelta(days=count) for count in range((last - first).days + 1))
        return sum(day.weekday() in self._weekdays and day not in self._days for day in span)

    def _sessions(self, minutes: NDArray[np.int64]) -> tuple[pl.Series, NDArray[np.bool_]]:
        """Return each minute's session day and whether the session is open."""
        utc = pl.Series(minutes * 60_000).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
        local = utc.dt.convert_time_zone(self._time_zone)
        clock = (local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute()).to_numpy()
        day = local.dt.date()
        if self._overnight:
            early = clock < self._closes
            day = (
                pl.DataFrame({"day": day, "early": early})
                .select(pl.when("early").then(pl.col("day").dt.offset_by("-1d")).otherwise("day"))
                .to_series()
            )
            opened = early | (clock >= self._opens)
        else:
            opened = (clock >= self._opens) & (clock < self._closes)
        weekday = day.dt.weekday().to_numpy() - 1
        return day, np.asarray(opened & np.isin(weekday, list(self._weekdays)))


def _minutes(clock: time) -> int:
    return clock.hour * 60 + clock.minute

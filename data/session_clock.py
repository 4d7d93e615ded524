"""Is the market open? A calendar of sessions applied to nanoseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .errors import ConfigError
from .instrument import Instrument

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_MINUTE_NS: Final = 60 * 10**9
_DAY_MINUTES: Final = 24 * 60
# Clocks are set at quarters of an hour of UTC, everywhere.
_QUARTER_MINUTES: Final = 15
_DAY_QUARTERS: Final = 96
_EPOCH_WEEKDAY: Final = 3  # a Thursday


@dataclass(frozen=True, kw_only=True, slots=True)
class Calendar:
    """When a market is open.

    Parameters
    ----------
    time_zone : str
        Of all that follows.
    weekdays : tuple of int
        0 is Monday.
    opens, closes : time
        A session that closes at or before it opens spans midnight and belongs to the day on which it opens;
        one that closes at 23:59 or later goes on until midnight.
    holidays : tuple of date
    early_closes : mapping of date to time
        Half days.
    """

    time_zone: str = "UTC"
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    opens: time = time(0, 0)
    closes: time = time(23, 59)
    holidays: tuple[date, ...] = ()
    early_closes: Mapping[date, time] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        try:
            pl.Series([0]).cast(pl.Datetime("ms")).dt.replace_time_zone(self.time_zone)
        except pl.exceptions.PolarsError as error:
            raise ConfigError(f"time_zone must be known, was {self.time_zone!r}") from error

    @classmethod
    def of(cls, instrument: Instrument) -> Calendar:
        """Return the calendar that an instrument's session tells."""
        session = instrument.session
        return cls(
            time_zone=instrument.time_zone, weekdays=session.weekdays, opens=session.opens,
            closes=session.closes,
        )  # fmt: skip


class SessionClock:
    """Judges times to the minute by a calendar.

    Parameters
    ----------
    calendar : Calendar
    """

    def __init__(self, calendar: Calendar) -> None:
        self._weekdays = set(calendar.weekdays)
        self._opens, self._closes = _minutes(calendar.opens), _minutes(calendar.closes)
        if calendar.closes >= time(23, 59):
            self._closes = _DAY_MINUTES
        self._overnight = self._closes <= self._opens
        self._time_zone = calendar.time_zone
        self._holidays = {_day_of(day) for day in calendar.holidays}
        self._early = {_day_of(day): _minutes(hour) for day, hour in calendar.early_closes.items()}
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
        days = range(first, min(last, first + 7) + 1)
        return all(self._is_open(day) for day in days) and not any(day in self._early for day in days[:-1])

    def missing_days(self) -> int:
        """Return how many session days between the first and the last seen had no event."""
        if not self._days:
            return 0
        span = range(min(self._days), max(self._days) + 1)
        return sum(self._is_open(day) and day not in self._days for day in span)

    def _is_open(self, day: int) -> bool:
        return _weekday(day) in self._weekdays and day not in self._holidays

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
        opened &= np.isin(_weekday(day), list(self._weekdays)) & ~np.isin(day, list(self._holidays))
        for half_day, closes in self._early.items():
            # Counted from the opening, so that a session over midnight may end early too.
            since, until = (clock - self._opens) % _DAY_MINUTES, (closes - self._opens) % _DAY_MINUTES
            opened &= (day != half_day) | (since < until)
        return day, opened

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


def _day_of(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _minutes(clock: time) -> int:
    return clock.hour * 60 + clock.minute

"""What is known of an instrument, by date: its grid, its names, its fees.

A store keeps these beside the events, because years of ticks outlive tick sizes, tickers and fee
schedules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from .errors import ConfigError
from .instrument import Instrument
from .partition import require_path_part

_FIRST_DAY = date(1970, 1, 1)
_LAST_DAY = date(9999, 12, 31)

GRID_FIELDS = ("price_increment", "lot_size", "multiplier", "inverse", "instrument_id")
"""What a stream may not change half-way: events count in these units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeeSchedule:
    """What a venue charges for an instrument between two dates.

    Parameters
    ----------
    symbol, venue : str
    maker_bps, taker_bps : float
        Of notional, 1e-4; negative is a rebate.
    maker_per_lot, taker_per_lot : float
        In the instrument's currency.
    valid_from, valid_until : date
        Both days are included.
    """

    symbol: str
    venue: str
    maker_bps: float = 0.0
    taker_bps: float = 0.0
    maker_per_lot: float = 0.0
    taker_per_lot: float = 0.0
    valid_from: date = _FIRST_DAY
    valid_until: date = _LAST_DAY

    def __post_init__(self) -> None:
        for name in ("maker_bps", "taker_bps", "maker_per_lot", "taker_per_lot"):
            value = getattr(self, name)
            if not abs(value) < 1e9:
                raise ConfigError(f"{self.symbol}: {name} must be finite, was {value}")
        if self.valid_from > self.valid_until:
            raise ConfigError(f"{self.symbol}: valid_from must not be after valid_until")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rename:
    """A change of symbol.

    Parameters
    ----------
    old, new : str
    first_day : date
        The first day of the new name.
    """

    old: str
    new: str
    first_day: date

    def __post_init__(self) -> None:
        for symbol in (self.old, self.new):
            require_path_part("instrument", symbol)
        if self.old == self.new:
            raise ConfigError(f"a rename must change the symbol, was {self.old} twice")


def version_on(versions: Sequence[Instrument], day: date) -> Instrument | None:
    """Return the description that is valid on a day."""
    return next((entry for entry in versions if entry.valid_from <= day <= entry.valid_until), None)


def with_version(versions: Sequence[Instrument], added: Instrument) -> tuple[Instrument, ...]:
    """Return the versions with one more, which wins where it overlaps older ones.

    An older version that reaches into the new one's dates is cut back, one that the new one covers goes.
    """
    from dataclasses import replace
    from datetime import timedelta

    one_day = timedelta(days=1)
    kept = []
    for entry in versions:
        if entry.valid_from < added.valid_from:
            last = min(entry.valid_until, added.valid_from - one_day)
            kept.append(replace(entry, valid_until=last))
        if entry.valid_until > added.valid_until:
            first = max(entry.valid_from, added.valid_until + one_day)
            kept.append(replace(entry, valid_from=first))
    return tuple(sorted([*kept, added], key=lambda entry: entry.valid_from))


def names_of(symbol: str, renames: Sequence[Rename]) -> tuple[tuple[str, date, date], ...]:
    """Return the names that an instrument has had, each with its first and last day, oldest first.

    >>> names_of("META", [Rename(old="FB", new="META", first_day=date(2022, 6, 9))])[0][0]
    'FB'
    """
    from datetime import timedelta

    found = []
    name, last = symbol, _LAST_DAY
    seen = {symbol}
    while True:
        before = max(
            (entry for entry in renames if entry.new == name and entry.first_day <= last),
            key=lambda entry: entry.first_day,
            default=None,
        )
        if before is None:
            found.append((name, _FIRST_DAY, last))
            return tuple(reversed(found))
        found.append((name, before.first_day, last))
        if before.old in seen:
            # The symbol went round and came back: its own files before the first rename are its own.
            return tuple(reversed(found))
        seen.add(before.old)
        name, last = before.old, before.first_day - timedelta(days=1)


def require_same_grid(symbol: str, entries: Sequence[Instrument]) -> None:
    """Refuse to mix two price or size grids in one stream."""
    for entry in entries[1:]:
        for name in GRID_FIELDS:
            if getattr(entry, name) != getattr(entries[0], name):
                raise ConfigError(
                    f"{symbol}: {name} must not change within one stream; read up to and from "
                    f"{entry.valid_from} apart: expected {getattr(entries[0], name)}, "
                    f"was {getattr(entry, name)}"
                )

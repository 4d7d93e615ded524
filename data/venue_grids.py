"""One grid for a stream over venues that count in different units.

Each venue's events are stored in its own ticks and lots. Whoever reads them gets the coarsest grid in which
all of the instrument's venues are whole numbers, so that books and replays compare prices of any two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, Final

from .errors import ConfigError
from .grid_factor import SAME_UNITS, Factor
from .instrument import Instrument
from .reference import version_on

if TYPE_CHECKING:
    from .manifest import Manifest

SAME: Final = ("multiplier", "inverse", "instrument_id")
"""What no factor makes equal: a contract worth 100 dollars is no fraction of a coin."""


class VenueGrids:
    """The grids of a store's venues, and what is common to them.

    Parameters
    ----------
    manifest : Manifest
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._venues: dict[str, tuple[str, ...]] = {}
        for symbol, venue in sorted(manifest.listings, key=lambda key: manifest.venues.get(key[1], 0)):
            self._venues[symbol] = (*self._venues.get(symbol, ()), venue)
        self._known: dict[tuple[str, tuple[Instrument, ...]], Instrument] = {}
        self._factors: dict[tuple[str, Instrument, tuple[Instrument | None, ...]], Factor] = {}

    def venues(self, symbol: str) -> tuple[str, ...]:
        """Return the venues of an instrument in order of their ids."""
        return self._venues.get(symbol, ())

    def own(self, symbol: str, venue: str, day: date | None) -> Instrument | None:
        """Return how a venue describes an instrument on a day, or its latest word."""
        versions = self._manifest.listings.get((symbol, venue)) or self._manifest.instruments[symbol]
        return versions[-1] if day is None else version_on(versions, day)

    def common(
        self, symbol: str, day: date | None, *, among: Iterable[str] | None = None
    ) -> Instrument | None:
        """Return an instrument over all its venues on a day; None where no description is valid.

        Parameters
        ----------
        among : iterable of str, optional
            The venues that must be worth the same; all of them if left out. The grid is common to all.
        """
        venues = self.venues(symbol)
        found = [(venue, self.own(symbol, venue, day)) for venue in venues]
        if not venues:
            versions = self._manifest.instruments[symbol]
            return versions[-1] if day is None else version_on(versions, day)
        chosen = set(venues if among is None else among)
        alike = [(venue, entry) for venue, entry in found if entry is not None and venue in chosen]
        every = tuple(entry for _, entry in found if entry is not None)
        if not alike or not every:
            return None
        _require_same_worth(symbol, alike)
        first, entries = alike[0][1], tuple(entry for _, entry in alike)
        key = symbol, (*entries, *every)
        if key not in self._known:
            scaled = [on_grid(entry, every) for entry in entries]
            tick = gcd(*(entry.tick_size_ticks for entry in scaled))
            self._known[key] = replace(on_grid(first, every), tick_size_ticks=tick)
        return self._known[key]

    def at(self, symbol: str, venue: str, day: date | None) -> Instrument | None:
        """Return a venue's own description, told on the grid common to all."""
        own = self.own(symbol, venue, day)
        every = [self.own(symbol, other, day) for other in self.venues(symbol)]
        return None if own is None else on_grid(own, [entry for entry in every if entry is not None] or [own])

    def factor(self, symbol: str, venue: str, day: date) -> Factor:
        """Return what one unit of a venue's events of a day is in the common grid of that day."""
        if len(self.venues(symbol)) < 2:
            return SAME_UNITS
        own = self.own(symbol, venue, day)
        if own is None:
            return SAME_UNITS
        every = tuple(self.own(symbol, other, day) for other in self.venues(symbol))
        key = venue, own, every
        if key not in self._factors:
            common = on_grid(own, [entry for entry in every if entry is not None])
            units = (
                f"{name} (ticks of {entry.price_increment}, lots of {entry.lot_size})"
                for name, entry in zip(self.venues(symbol), every, strict=True)
                if entry is not None
            )
            self._factors[key] = Factor(
                price=steps(own.price_increment, common.price_increment),
                size=steps(own.lot_size, common.lot_size),
                at=f"{symbol} at {venue}, read on one grid with {', '.join(units)}",
            )
        return self._factors[key]

    def of_range(
        self, days: Mapping[str, tuple[date, date]], *, among: Sequence[str] | None = None
    ) -> list[Instrument]:
        """Return the common description of each name at the start of a range, and wherever one changes."""
        found = []
        for symbol, (first, last) in days.items():
            changes = {
                entry.valid_from
                for venue in self.venues(symbol)
                for entry in self._manifest.listings[symbol, venue]
                if first < entry.valid_from <= last
            }
            for day in sorted({first, *changes}):
                entry = self.common(symbol, day, among=among)
                if entry is not None:
                    found.append(replace(entry, valid_from=day, valid_until=max(day, entry.valid_until)))
        return sorted(found, key=lambda entry: entry.valid_from)


def on_grid(instrument: Instrument, others: Sequence[Instrument]) -> Instrument:
    """Return an instrument on the coarsest grid in which all of some count, its tick size as it was.

    >>> on_grid(Instrument(symbol="A", price_increment=0.5, tick_size_ticks=3),
    ...         [Instrument(symbol="A", price_increment=0.2)]).tick_size_ticks
    15
    """
    price = common_unit([instrument.price_increment, *(entry.price_increment for entry in others)])
    lot = common_unit([instrument.lot_size, *(entry.lot_size for entry in others)])
    if (price, lot) == (instrument.price_increment, instrument.lot_size):
        return instrument
    finer = steps(instrument.price_increment, price)
    return replace(
        instrument, price_increment=price, lot_size=lot, tick_size_ticks=instrument.tick_size_ticks * finer
    )


def common_unit(increments: Sequence[float]) -> float:
    """Return the largest unit of which all increments, as their shortest decimals read, are multiples.

    >>> common_unit([0.25, 0.1, 1.0])
    0.05
    """
    exact = [Fraction(repr(increment)) for increment in dict.fromkeys(increments)]
    if len(exact) == 1:
        return increments[0]
    below = 1
    for one in exact:
        below = below * one.denominator // gcd(below, one.denominator)
    return float(Fraction(gcd(*(int(one * below) for one in exact)), below))


def steps(coarse: float, fine: float) -> int:
    """Return how many fine units a coarse one is."""
    found = Fraction(repr(coarse)) / Fraction(repr(fine))
    if found.denominator != 1:
        raise ConfigError(f"expected a multiple of {fine}, was {coarse}")
    return int(found)


def _require_same_worth(symbol: str, alike: Sequence[tuple[str, Instrument]]) -> None:
    (first_venue, first), *others = alike
    for venue, entry in others:
        for name in SAME:
            if getattr(entry, name) != getattr(first, name):
                raise ConfigError(
                    f"{symbol}: {name} must be the same at all venues that are read as one, was "
                    f"{getattr(first, name)} at {first_venue} and {getattr(entry, name)} at {venue}; "
                    "read them apart"
                )

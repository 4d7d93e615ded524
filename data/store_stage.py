"""Events on their way into a store: cut by day, checked against what is there, staged, committed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .instrument import Instrument
from .manifest import Manifest
from .partition import Partition, require_path_part
from .partition_file import write_events
from .reference import GRID_FIELDS, version_on, with_version
from .store_commit import Transaction

DAY_NS: Final = 86_400 * 10**9
VENUES_MAX: Final = 256


class Stage:
    """Events of one instrument and venue on their way into a store.

    Parameters
    ----------
    change : Transaction
    instrument : Instrument
    venue : str
    overwrite, append : bool
        What to do with days that are there already; refuse them if neither.
    """

    def __init__(
        self, change: Transaction, *, instrument: Instrument, venue: str, overwrite: bool, append: bool
    ) -> None:
        require_path_part("instrument", instrument.symbol)
        require_path_part("venue", venue)
        self.change, self.instrument, self.venue = change, instrument, venue
        self._overwrite, self._append = overwrite, append
        self._venues = dict(change.manifest.venues)
        self.venue_id = self._venues.setdefault(venue, len(self._venues))
        if self.venue_id >= VENUES_MAX:
            raise ConfigError(f"a store holds at most {VENUES_MAX} venues, was one more: {venue}")
        self._versions = known_at(change.manifest, instrument, venue)

    def write_day(self, day: str, blocks: Iterable[NDArray[np.void]]) -> Partition:
        """Stage one file of events of one day."""
        self.require_day(day)
        path = self.change.staged_path()
        writer = write_events(
            blocks, path, instrument_id=self.instrument.instrument_id, venue_id=self.venue_id
        )
        partition = writer.finish(instrument=self.instrument.symbol, venue=self.venue, day=day)
        self.adopt(path, partition)
        return partition

    def adopt(self, path: Path, partition: Partition) -> None:
        """Take over a file staged earlier."""
        self.require_day(partition.day)
        for other in self.change.manifest.partitions.parts_of(partition.day_key):
            if self._overwrite:
                self.change.remove(other)
            elif partition.first_ts_ns < other.last_ts_ns and other.first_ts_ns < partition.last_ts_ns:
                raise ConfigError(
                    f"{'/'.join(partition.day_key)}: appended events must not overlap those there: "
                    f"expected before {other.first_ts_ns} or after {other.last_ts_ns} ns, was "
                    f"{partition.first_ts_ns} to {partition.last_ts_ns}"
                )
        self.change.add(path, partition)

    def commit(self, **changes: Any) -> tuple[Partition, ...]:
        """Make the staged files visible."""
        symbol, versions = self.instrument.symbol, self._versions
        if version_on(versions, self.instrument.valid_from) is None:
            versions = with_version(versions, self.instrument)
        instruments = {symbol: versions} | self.change.manifest.instruments
        listings = self.change.manifest.listings | {(symbol, self.venue): versions}
        return self.change.commit(venues=self._venues, instruments=instruments, listings=listings, **changes)

    def require_day(self, day: str) -> None:
        """Refuse a day that is there already, unless told what to do with it, or has another grid."""
        known = version_on(self._versions, date.fromisoformat(day))
        if known is not None:
            require_grid(known, self.instrument)
        key = (self.instrument.symbol, self.venue, day)
        if not (self._overwrite or self._append) and self.change.manifest.partitions.parts_of(key):
            raise ConfigError(
                f"{'/'.join(key)} is in the store: --overwrite (overwrite=True) replaces it, --append "
                "(append=True) adds to it"
            )


def known_at(manifest: Manifest, instrument: Instrument, venue: str) -> tuple[Instrument, ...]:
    """Return a store's descriptions of an instrument at a venue, those of the symbol where they fit.

    Raises
    ------
    ConfigError
        The symbol has another instrument id.
    """
    symbol = instrument.symbol
    default = manifest.instruments.get(symbol, ())
    if any(entry.instrument_id != instrument.instrument_id for entry in default):
        raise ConfigError(
            f"{symbol}: instrument_id must be {default[0].instrument_id} as in the store, "
            f"was {instrument.instrument_id}"
        )
    own = manifest.listings.get((symbol, venue))
    if own is not None:
        return own
    fits = all(getattr(entry, name) == getattr(instrument, name) for entry in default for name in GRID_FIELDS)
    return default if fits else ()


def require_grid(known: Instrument | None, instrument: Instrument) -> None:
    """Refuse to mix two price or size grids at one venue and date."""
    for name in GRID_FIELDS if known is not None else ():
        if getattr(known, name) != getattr(instrument, name):
            raise ConfigError(
                f"{instrument.symbol}: {name} must be {getattr(known, name)} as in the store, "
                f"was {getattr(instrument, name)}; import the finer recording first, give this its grid "
                "(--price-increment, --lot-size), or use a --venue, a --symbol or a store of its own"
            )


def by_day(
    blocks: Iterable[NDArray[np.void]], root: Path
) -> Iterator[tuple[str, Iterator[NDArray[np.void]]]]:
    """Cut a stream of blocks where the UTC day changes; each day's iterator must be used up in turn.

    Raises
    ------
    DataError
        Time runs backwards; names the event's place in the stream.
    """
    pieces = _day_pieces(blocks, root)
    ahead = next(pieces, None)

    def one_day(day: int) -> Iterator[NDArray[np.void]]:
        nonlocal ahead
        while ahead is not None and ahead[0] == day:
            yield ahead[1]
            ahead = next(pieces, None)

    while ahead is not None:
        day = ahead[0]
        yield str(np.datetime64(day, "D")), one_day(day)


def _day_pieces(blocks: Iterable[NDArray[np.void]], root: Path) -> Iterator[tuple[int, NDArray[np.void]]]:
    row, previous_ns = 0, np.iinfo(np.int64).min
    for block in blocks:
        if len(block) == 0:
            continue
        ts_ns = block["ts_ns"]
        if ts_ns[0] < previous_ns or (ts_ns[1:] < ts_ns[:-1]).any():
            before = np.concatenate(([previous_ns], ts_ns[:-1]))
            at = int(np.argmax(ts_ns < before))
            raise DataError(
                f"events must be in order of time: expected at least {before[at]} ns, was {ts_ns[at]}",
                path=root,
                row=row + at,
            )
        row, previous_ns = row + len(block), int(ts_ns[-1])
        first_day, last_day = int(ts_ns[0]) // DAY_NS, int(ts_ns[-1]) // DAY_NS
        if first_day == last_day:
            yield first_day, block
            continue
        days = ts_ns // DAY_NS
        cuts = np.concatenate(([0], np.flatnonzero(days[1:] != days[:-1]) + 1, [len(block)])).tolist()
        for low, high in pairwise(cuts):
            yield int(days[low]), block[low:high]

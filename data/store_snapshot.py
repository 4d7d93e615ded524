"""One committed state of a store, for reading."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .event_merge import merge_feeds
from .grid_factor import SAME_UNITS, Factor
from .instrument import Instrument
from .manifest import Manifest
from .packed_cache import cache_path, open_cache
from .partition import Partition, in_time_order
from .partition_file import read_partition, require_length
from .reference import FeeSchedule, names_of, require_same_grid
from .store_commit import HELD_SUFFIX, locate
from .venue_grids import VenueGrids

if TYPE_CHECKING:
    import polars as pl


class StoreSnapshot:
    """What a store held at one moment.

    Parameters
    ----------
    root : Path
    manifest : Manifest
    holder : Path, optional
        A folder for links to the files that `scan` names, since a query is run later than it is made and
        a writer may have moved them by then. Goes with the snapshot.
    """

    def __init__(self, root: Path, manifest: Manifest, *, holder: Path | None = None) -> None:
        self.root, self.manifest = root, manifest
        self.grids = VenueGrids(manifest)
        self._holder = holder

    def partitions(
        self,
        *,
        instrument: str | None = None,
        venues: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> tuple[Partition, ...]:
        """Return files that may hold events with start_ns <= ts_ns < stop_ns, by name, day and time.

        An instrument's earlier names are its own up to the day of the change.
        """
        rows = self._rows(instrument, venues, start_ns, stop_ns)
        return tuple(map(self.manifest.partitions.at, rows.tolist()))

    def _rows(
        self,
        instrument: str | None,
        venues: Sequence[str] | None,
        start_ns: int | None,
        stop_ns: int | None,
    ) -> NDArray[np.intp]:
        days: dict[str, list[tuple[date, date]]] | None = None
        if instrument is not None:
            days = {}
            for name, first, last in names_of(instrument, self.manifest.renames):
                days.setdefault(name, []).append((first, last))
        return self.manifest.partitions.rows(days=days, venues=venues, start_ns=start_ns, stop_ns=stop_ns)

    def instrument(
        self, symbol: str | None = None, *, venue: str | None = None, day: date | None = None
    ) -> Instrument:
        """Return an instrument's description on a day, or its latest, in the units that `stream` yields.

        Parameters
        ----------
        symbol : str, optional
            May be left out where the store knows only one.
        venue : str, optional
            Tick size, currency and all else as that venue has them. Without, the tick size is the largest
            that divides those of all venues, and the rest is that of the venue that came first. Either way
            `price_increment` and `lot_size` are the grid common to all venues: those of one venue's own stand
            in ``manifest.listings``.

        Raises
        ------
        ConfigError
            The venues are not worth the same (multiplier, inverse), so that one must be named.
        """
        symbol = self._symbol(symbol)
        venues = self.grids.venues(symbol)
        if venue is not None and venue not in venues:
            raise DataError(
                f"expected one of the venues {sorted(venues)} of {symbol}, was {venue}", path=self.root
            )
        found = self.grids.common(symbol, day) if venue is None else self.grids.at(symbol, venue, day)
        if found is None:
            raise DataError(f"expected a description of {symbol} valid on {day}, was none", path=self.root)
        return found

    def _symbol(self, symbol: str | None) -> str:
        known = self.manifest.instruments
        if symbol is None and len(known) == 1:
            return next(iter(known))
        if symbol is None or symbol not in known:
            raise DataError(f"expected one of the instruments {sorted(known)}, was {symbol}", path=self.root)
        return symbol

    def _factor(self, part: Partition) -> Factor:
        if len(self.grids.venues(part.instrument)) < 2:
            return SAME_UNITS
        return self.grids.factor(part.instrument, part.venue, date.fromisoformat(part.day))

    def fees(self, symbol: str, venue: str, *, day: date) -> FeeSchedule | None:
        """Return what a venue charged on a day, None where nobody said."""
        return next(
            (
                entry
                for entry in self.manifest.fees
                if (entry.symbol, entry.venue) == (symbol, venue)
                and entry.valid_from <= day <= entry.valid_until
            ),
            None,
        )

    def scan(
        self,
        *,
        instrument: str | None = None,
        venues: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> pl.LazyFrame:
        """Return the events as a Polars LazyFrame with `instrument` and `venue` columns.

        For kind QUOTE the ask stands in `order_id`: price in the low 32 bits, size in the high ones. Prices
        and sizes are in the units of `instrument` on the day of the event.
        """
        import polars as pl

        chosen = self.partitions(instrument=instrument, venues=venues, start_ns=start_ns, stop_ns=stop_ns)
        if not chosen:
            raise DataError("expected at least one matching partition, was 0", path=self.root)
        groups: dict[tuple[str, str, Factor], list[Path]] = {}
        for part in chosen:
            path = require_length(part, self._held(part))
            groups.setdefault((part.instrument, part.venue, self._factor(part)), []).append(path)
        frame = pl.concat(
            factor.scan(pl.scan_parquet(paths, hive_partitioning=False)).with_columns(
                instrument=pl.lit(symbol), venue=pl.lit(venue)
            )
            for (symbol, venue, factor), paths in groups.items()
        )
        if start_ns is not None:
            frame = frame.filter(pl.col("ts_ns") >= start_ns)
        return frame if stop_ns is None else frame.filter(pl.col("ts_ns") < stop_ns)

    def stream(
        self,
        *,
        instrument: str | None = None,
        venues: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
        block_events: int = 65_536,
        cache: bool = True,
    ) -> Iterator[NDArray[np.void]]:
        """Yield blocks of EVENT_DTYPE in order of time, then venue, then the feed's own order.

        Prices and sizes are in the units of `instrument`, the same for all venues, whichever are chosen.

        Parameters
        ----------
        instrument : str, optional
            May be left out where the store holds only one.
        cache : bool
            Read the packed cache of partitions that have a fresh one.

        Raises
        ------
        ConfigError
            The grid common to the venues changes within the range, or venues are not worth the same.
        DataError
            A file differs from what was written; nothing of the row group at fault was yielded.
        """
        symbol = self._symbol(instrument)
        table = self.manifest.partitions
        rows = self._rows(symbol, venues, start_ns, stop_ns)
        among = sorted({table.venues[place] for place in set(table.files["venue"][rows].tolist())})
        require_same_grid(symbol, self.grids.of_range(table.days_of(rows), among=among))
        # A day's files are described when its turn comes: those of years would take longer than to find them.
        rows = rows[np.argsort(table.files["day"][rows], kind="stable")]
        cuts = np.flatnonzero(np.diff(table.files["day"][rows])) + 1
        for first, last in pairwise((0, *cuts.tolist(), len(rows))):
            feeds = [
                self._feed(parts, start_ns, stop_ns, block_events, cache=cache)
                for parts in _by_venue([table.at(row) for row in rows[first:last].tolist()])
            ]
            yield from merge_feeds(feeds)

    def read(
        self, partition: Partition, *, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[NDArray[np.void]]:
        """Yield a file's row groups that may hold a range of time, from the Parquet file itself."""
        path = locate(self.root, partition)
        blocks = read_partition(partition, path, start_ns=start_ns, stop_ns=stop_ns)
        try:
            first = next(blocks, None)
        except DataError:
            # A writer may have moved the file before it was open; from then on it stays so.
            moved = locate(self.root, partition)
            if moved == path:
                raise
            blocks = read_partition(partition, moved, start_ns=start_ns, stop_ns=stop_ns)
            first = next(blocks, None)
        if first is not None:
            yield first
            yield from blocks

    def _held(self, part: Partition) -> Path:
        path = locate(self.root, part)
        if self._holder is None:
            return path
        link = self._holder / f"{part.name.replace('/', ',')}{HELD_SUFFIX}"
        while True:
            try:
                self._holder.mkdir(parents=True, exist_ok=True)
                link.hardlink_to(path)
                return link
            except FileExistsError:
                return link
            except OSError:
                # Some file systems know no links, and some users may only read.
                moved = locate(self.root, part)
                if moved == path:
                    return path
                path = moved

    def _feed(
        self,
        parts: Sequence[Partition],
        start_ns: int | None,
        stop_ns: int | None,
        block_events: int,
        *,
        cache: bool,
    ) -> Iterator[NDArray[np.void]]:
        """Yield one venue's day, cut to the range."""
        for part in parts:
            factor = self._factor(part)
            for block in self._blocks(part, start_ns, stop_ns, block_events, cache=cache):
                ts_ns = block["ts_ns"]
                low = 0 if start_ns is None else int(np.searchsorted(ts_ns, start_ns))
                high = len(block) if stop_ns is None else int(np.searchsorted(ts_ns, stop_ns))
                for first in range(low, high, block_events):
                    yield factor.apply(block[first : min(first + block_events, high)])

    def _blocks(
        self,
        part: Partition,
        start_ns: int | None,
        stop_ns: int | None,
        block_events: int,
        *,
        cache: bool,
    ) -> Iterator[NDArray[np.void]]:
        after_ns = start_ns
        seen_at_instant = 0
        if cache:
            try:
                packed = open_cache(cache_path(self.root, part), part)
                if packed is not None:
                    with packed:
                        for block in packed.blocks(
                            start_ns=start_ns, stop_ns=stop_ns, block_events=block_events
                        ):
                            yield block
                            after_ns, seen_at_instant = _last_instant(block, after_ns, seen_at_instant)
                    return
            except DataError as error:
                warnings.warn(f"the cache is damaged, its Parquet file is read instead: {error}",
                              RuntimeWarning, stacklevel=2)  # fmt: skip
        yield from _resumed(
            self.read(part, start_ns=after_ns, stop_ns=stop_ns),
            after_ns,
            seen_at_instant,
        )


def _last_instant(block: NDArray[np.void], before_ns: int | None, seen: int) -> tuple[int, int]:
    """Return the last time of what was read, and how many events at that very time were."""
    last_ns = int(block["ts_ns"][-1])
    here = len(block) - int(np.searchsorted(block["ts_ns"], last_ns))
    return last_ns, here + (seen if before_ns == last_ns else 0)


def _resumed(
    blocks: Iterator[NDArray[np.void]], after_ns: int | None, seen: int
) -> Iterator[NDArray[np.void]]:
    """Leave out what came before a time, and as many events at it as were read already."""
    for block in blocks:
        low, skipped = 0, 0
        if after_ns is not None:
            low = int(np.searchsorted(block["ts_ns"], after_ns))
            at_instant = int(np.searchsorted(block["ts_ns"], after_ns, side="right")) - low
            skipped = min(seen, at_instant)
        seen -= skipped
        if low + skipped < len(block):
            yield block[low + skipped :]


def _by_venue(parts: Sequence[Partition]) -> list[list[Partition]]:
    venues: dict[str, list[Partition]] = {}
    for part in parts:
        venues.setdefault(part.venue, []).append(part)
    return [in_time_order(entry) for _, entry in sorted(venues.items())]

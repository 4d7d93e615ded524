"""The tick store: a folder of Parquet files that any Polars, DuckDB or pandas user can read.

One file holds one instrument's events of one venue on one UTC day, or a part of it that was appended, in
the feed's order. How a change becomes visible at once stands in `data.store_commit`, how files are
encoded and checked in `data.partition_file`, how they are read in `data.store_snapshot`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .instrument import Instrument
from .manifest import Manifest, read_manifest
from .packed_cache import CACHE_FOLDER, cache_damage_of, cache_path, open_cache, write_cache
from .partition import Partition, require_path_part
from .partition_file import damage_of, write_events
from .reference import FeeSchedule, Rename, version_on, with_version
from .store_commit import Transaction, holder_of, leased, locate, require_store, transaction
from .store_snapshot import StoreSnapshot
from .store_stage import Stage, by_day, known_at, require_grid

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreReport:
    """What a whole-store check found.

    Parameters
    ----------
    matched, total : int
        Files whose every byte is as written, and all: partitions, and packed caches where there are some.
    damage : tuple of str
        By file: what is wrong and which rows it touches.
    """

    matched: int
    total: int
    damage: tuple[str, ...]


class TickStore:
    """Years of events on disk.

    Parameters
    ----------
    root : path
        The store's folder; made by the first write.

    Examples
    --------
    >>> store = TickStore("var/store")  # doctest: +SKIP
    >>> store.write(source.blocks(), instrument=source.instrument, venue="NASDAQ")  # doctest: +SKIP
    >>> store.scan(instrument="AAPL").select("ts_ns", "price_ticks").collect()  # doctest: +SKIP
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise DataError("expected a folder", path=self.root)

    # Reading.

    def manifest(self) -> Manifest:
        """Return the committed state at this moment."""
        return read_manifest(self.root)

    @contextmanager
    def snapshot(self) -> Iterator[StoreSnapshot]:
        """Yield one committed state whose files stay readable until the end, whatever writers do."""
        with leased(self.root) as manifest:
            holder = holder_of(self.root, manifest)
            try:
                yield StoreSnapshot(self.root, manifest, holder=holder)
            finally:
                shutil.rmtree(holder, ignore_errors=True)

    def partitions(
        self,
        *,
        instrument: str | None = None,
        venues: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> tuple[Partition, ...]:
        """Return what is committed and may hold events with start_ns <= ts_ns < stop_ns."""
        return self._now().partitions(
            instrument=instrument, venues=venues, start_ns=start_ns, stop_ns=stop_ns
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

        For kind QUOTE the ask stands in `order_id`: price in the low 32 bits, size in the high ones. Where a
        writer may delete or compact meanwhile, scan and collect within `snapshot`.
        """
        return self._now().scan(instrument=instrument, venues=venues, start_ns=start_ns, stop_ns=stop_ns)

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

        The state at the first block is read to the end, whatever writers do meanwhile.

        Parameters
        ----------
        instrument : str, optional
            May be left out where the store holds only one.
        cache : bool
            Read the packed cache of partitions that have a fresh one.
        """
        with self.snapshot() as snapshot:
            yield from snapshot.stream(
                instrument=instrument, venues=venues, start_ns=start_ns, stop_ns=stop_ns,
                block_events=block_events, cache=cache,
            )  # fmt: skip

    def instrument(
        self, symbol: str | None = None, *, venue: str | None = None, day: date | None = None
    ) -> Instrument:
        """Return an instrument's description on a day, or its latest; see `StoreSnapshot.instrument`."""
        return self._now().instrument(symbol, venue=venue, day=day)

    def fees(self, symbol: str, venue: str, *, day: date) -> FeeSchedule | None:
        """Return what a venue charged on a day, None where nobody said."""
        return self._now().fees(symbol, venue, day=day)

    def verify(self) -> tuple[str, ...]:
        """Compare every byte of every file with what was written; return what is wrong, by file."""
        return self.check().damage

    def check(self) -> StoreReport:
        """As `verify`, with counts."""
        require_store(self.root)
        read_manifest(self.root, fresh=True)
        with self.snapshot() as snapshot:
            parts = snapshot.partitions()
            found = [_damage_in_place(self.root, part) for part in parts]
            caches = [(part, path) for part in parts if (path := cache_path(self.root, part)).exists()]
            found += [cache_damage_of(part, path) for part, path in caches]
        damage = tuple(text for text in found if text is not None)
        return StoreReport(matched=len(found) - len(damage), total=len(found), damage=damage)

    # Writing.

    def write(
        self,
        blocks: Iterable[NDArray[np.void]],
        *,
        instrument: Instrument,
        venue: str,
        overwrite: bool = False,
        append: bool = False,
    ) -> tuple[Partition, ...]:
        """Add events, one file per UTC day; all become visible together or none does.

        Parameters
        ----------
        blocks : iterable of arrays of EVENT_DTYPE
            In order of time. Instrument and venue ids are stamped by the store.
        instrument : Instrument
        venue : str
        overwrite : bool
            Replace files of the same instrument, venue and day instead of refusing.
        append : bool
            Add to days that are there already; the new events must not overlap theirs in time.

        Raises
        ------
        ConfigError
            A day is there already, or overlaps.
        DataError
            Time runs backwards.
        """
        with transaction(self.root) as change:
            stage = Stage(change, instrument=instrument, venue=venue, overwrite=overwrite, append=append)
            for day, events in by_day(blocks, self.root):
                stage.write_day(day, events)
            return stage.commit()

    def delete(
        self,
        *,
        instrument: str,
        venues: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> int:
        """Remove the events with start_ns <= ts_ns < stop_ns in one step; return how many they were."""
        with transaction(self.root) as change:
            snapshot = StoreSnapshot(self.root, change.manifest)
            chosen = snapshot.partitions(
                instrument=instrument, venues=venues, start_ns=start_ns, stop_ns=stop_ns
            )
            deleted = 0
            for part in chosen:
                change.remove(part)
                left = 0
                # What goes whole is not read: it may be damaged, which is why it goes.
                if not _is_within(part, start_ns, stop_ns):
                    left = self._rewrite(change, part, _without(snapshot.read(part), start_ns, stop_ns))
                deleted += part.rows - left
            if deleted:
                change.commit()
            return deleted

    def compact(self) -> int:
        """Join the parts of each day that has several; return how many files went.

        Each day is one step of its own, so that little more than a day's space is needed.
        """
        before = len(self.manifest().partitions)
        for key in sorted({key[:3] for key in self.manifest().partitions}):
            with transaction(self.root) as change:
                parts = change.manifest.partitions.parts_of(key)
                if len(parts) < 2:
                    continue
                snapshot = StoreSnapshot(self.root, change.manifest)
                for part in parts:
                    change.remove(part)
                self._rewrite(change, parts[0], (block for part in parts for block in snapshot.read(part)))
                change.commit()
        return before - len(self.manifest().partitions)

    def describe(self, instrument: Instrument, *, venue: str | None = None) -> None:
        """Record what holds for an instrument between two dates: tick size, session, currency, lot size.

        Parameters
        ----------
        instrument : Instrument
        venue : str, optional
            Where it holds; everywhere if left out.

        Raises
        ------
        ConfigError
            Events are stored in those dates whose grid the description would change.
        """
        require_path_part("instrument", instrument.symbol)
        symbol = instrument.symbol
        with transaction(self.root) as change:
            before = change.manifest
            if venue is not None:
                require_path_part("venue", venue)
                described = {(symbol, venue): known_at(before, instrument, venue)}
            else:
                described = {key: known for key, known in before.listings.items() if key[0] == symbol}
            for name, at, day, *_ in before.partitions:
                stored_on = date.fromisoformat(day)
                if (name, at) in described and instrument.valid_from <= stored_on <= instrument.valid_until:
                    require_grid(version_on(described[name, at], stored_on), instrument)
            listings = {key: with_version(known, instrument) for key, known in described.items()}
            instruments = dict(before.instruments)
            if venue is None or symbol not in instruments:
                instruments[symbol] = with_version(instruments.get(symbol, ()), instrument)
            change.commit(instruments=instruments, listings=before.listings | listings)

    def set_fees(self, schedule: FeeSchedule) -> None:
        """Record a fee schedule; it wins over what was recorded for the same dates before."""
        with transaction(self.root) as change:
            change.commit(fees=(schedule, *change.manifest.fees))

    def rename(self, old: str, new: str, *, first_day: date) -> None:
        """Record a change of symbol: reading `new` also reads `old` up to the day before."""
        entry = Rename(old=old, new=new, first_day=first_day)
        with transaction(self.root) as change:
            if old not in change.manifest.instruments:
                raise ConfigError(f"{old} must be in the store, was not")
            instruments = dict(change.manifest.instruments)
            instruments.setdefault(new, (replace(instruments[old][-1], symbol=new),))
            listings = dict(change.manifest.listings)
            for (symbol, venue), versions in change.manifest.listings.items():
                if symbol == old:
                    listings.setdefault((new, venue), (replace(versions[-1], symbol=new),))
            renames = (*change.manifest.renames, entry)
            change.commit(instruments=instruments, listings=listings, renames=renames)

    # The packed cache.

    def build_cache(self, *, instrument: str | None = None) -> int:
        """Write the packed cache of every file that lacks a fresh one; return how many were written."""
        written = 0
        with self.snapshot() as snapshot:
            for part in snapshot.partitions(instrument=instrument):
                path = cache_path(self.root, part)
                try:
                    packed = open_cache(path, part)
                except DataError:
                    packed = None
                if packed is not None:
                    packed.close()
                    continue
                write_cache(snapshot.read(part), path, part)
                written += 1
        return written

    def drop_cache(self) -> int:
        """Remove every packed cache; return the bytes freed."""
        freed = 0
        for path in list((self.root / CACHE_FOLDER).glob("instrument=*/venue=*/*")):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed

    def _now(self) -> StoreSnapshot:
        return StoreSnapshot(self.root, self.manifest())

    def _rewrite(self, change: Transaction, part: Partition, blocks: Iterable[NDArray[np.void]]) -> int:
        """Stage a file in place of `part` unless nothing is left; return its rows."""
        filled = _filled(blocks)
        if filled is None:
            return 0
        path = change.staged_path()
        ids = change.manifest.instruments[part.instrument][-1].instrument_id
        writer = write_events(filled, path, instrument_id=ids, venue_id=change.manifest.venues[part.venue])
        written = writer.finish(instrument=part.instrument, venue=part.venue, day=part.day)
        change.add(path, written)
        return written.rows


def _damage_in_place(root: Path, part: Partition) -> str | None:
    """As `damage_of`; a writer may move the file before it is open."""
    path = locate(root, part)
    found = damage_of(part, path)
    moved = path if found is None else locate(root, part)
    return found if moved == path else damage_of(part, moved)


def _is_within(part: Partition, start_ns: int | None, stop_ns: int | None) -> bool:
    return (start_ns is None or start_ns <= part.first_ts_ns) and (
        stop_ns is None or part.last_ts_ns < stop_ns
    )


def _without(
    blocks: Iterable[NDArray[np.void]], start_ns: int | None, stop_ns: int | None
) -> Iterator[NDArray[np.void]]:
    for block in blocks:
        gone = np.ones(len(block), bool)
        if start_ns is not None:
            gone &= block["ts_ns"] >= start_ns
        if stop_ns is not None:
            gone &= block["ts_ns"] < stop_ns
        yield block[~gone]


def _filled(blocks: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]] | None:
    """Return the blocks that hold events, None where none does."""
    filled = (block for block in blocks if len(block))
    first = next(filled, None)
    if first is None:
        return None

    def chained() -> Iterator[NDArray[np.void]]:
        yield first
        yield from filled

    return chained()

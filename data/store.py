"""The tick store: a folder of Parquet files that any Polars, DuckDB or pandas user can read.

One file holds one instrument's events of one venue on one UTC day, in the feed's order. Files are written
beside their final place, synced, renamed, and count only once the manifest lists them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .event_merge import merge_feeds
from .instrument import Instrument
from .manifest import (
    MANIFEST_NAME,
    Manifest,
    Partition,
    partition_path,
    read_manifest,
    require_path_part,
    sync_folder,
)
from .manifest import write_manifest as commit_manifest
from .schema import EVENT_DTYPE
from .table_file import READ_BUFFER_BYTES, file_sha256, library_errors

if TYPE_CHECKING:
    import polars as pl

EVENT_COLUMNS: Final = tuple(name for name in (EVENT_DTYPE.names or ()) if name != "_reserved")

_DAY_NS: Final = 86_400 * 10**9
_VENUES_MAX: Final = 256
_ROW_GROUP_EVENTS: Final = 1 << 17
_SCHEMA: Final = pa.schema(
    [pa.field(name, pa.from_numpy_dtype(EVENT_DTYPE[name]), nullable=False) for name in EVENT_COLUMNS]
)
# Times, ids and prices move in small steps; the rest take few values.
_DELTA: Final = ("ts_ns", "recv_ns", "order_id", "price_ticks", "seq")
_WRITER_OPTIONS: Final[dict[str, Any]] = {
    "compression": "zstd",
    "use_dictionary": [name for name in EVENT_COLUMNS if name not in _DELTA],
    "column_encoding": dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
    "write_statistics": ["ts_ns"],
    # A damaged page is noticed when it is read, not only by `verify`.
    "write_page_checksum": True,
}


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

    def manifest(self) -> Manifest:
        """Return the committed state at this moment."""
        return read_manifest(self.root)

    def write(
        self,
        blocks: Iterable[NDArray[np.void]],
        *,
        instrument: Instrument,
        venue: str,
        overwrite: bool = False,
    ) -> tuple[Partition, ...]:
        """Add events, one partition per UTC day; all become visible together or none does.

        Parameters
        ----------
        blocks : iterable of arrays of EVENT_DTYPE
            In order of time. Instrument and venue ids are stamped by the store.
        instrument : Instrument
        venue : str
        overwrite : bool
            Replace partitions of the same instrument, venue and day instead of refusing.

        Raises
        ------
        ConfigError
            A partition is there already.
        DataError
            Time runs backwards.
        """
        require_path_part("instrument", instrument.symbol)
        require_path_part("venue", venue)
        self.root.mkdir(parents=True, exist_ok=True)
        with self._only_writer():
            manifest = self.manifest()
            self._require_same(manifest, instrument)
            venue_id = manifest.venues.setdefault(venue, len(manifest.venues))
            if venue_id >= _VENUES_MAX:
                raise ConfigError(f"a store holds at most {_VENUES_MAX} venues, was one more: {venue}")
            staged: list[tuple[Path, Partition]] = []
            try:
                for day, events in _by_day(blocks, self.root):
                    key = (instrument.symbol, venue, day)
                    if key in manifest.partitions and not overwrite:
                        raise ConfigError(f"{'/'.join(key)} is in the store; say overwrite to replace it")
                    staged.append(self._stage(key, events, instrument.instrument_id, venue_id))
                for temporary, partition in staged:
                    temporary.replace(partition.path(self.root))
            except BaseException:
                for path in self.root.glob(f"instrument=*/venue=*/.date=*.{os.getpid()}.tmp"):
                    path.unlink()
                raise
            for folder in {partition.path(self.root).parent for _, partition in staged}:
                sync_folder(folder)
            manifest.instruments[instrument.symbol] = instrument
            manifest.partitions.update({partition.key: partition for _, partition in staged})
            commit_manifest(self.root, manifest)
        return tuple(partition for _, partition in staged)

    def partitions(
        self,
        *,
        instrument: str | None = None,
        venues: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> tuple[Partition, ...]:
        """Return what is committed and may hold events with start_ns <= ts_ns < stop_ns."""
        return tuple(
            partition
            for _, partition in sorted(self.manifest().partitions.items())
            if (instrument is None or partition.instrument == instrument)
            and (venues is None or partition.venue in venues)
            and (start_ns is None or partition.last_ts_ns >= start_ns)
            and (stop_ns is None or partition.first_ts_ns < stop_ns)
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

        For kind QUOTE the ask stands in `order_id`: price in the low 32 bits, size in the high ones.
        """
        import polars as pl

        chosen = self.partitions(instrument=instrument, venues=venues, start_ns=start_ns, stop_ns=stop_ns)
        if not chosen:
            raise DataError("expected at least one matching partition, was 0", path=self.root)
        frame = pl.concat(
            pl.scan_parquet(self._require_whole(partition), hive_partitioning=False).with_columns(
                instrument=pl.lit(partition.instrument), venue=pl.lit(partition.venue)
            )
            for partition in chosen
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
    ) -> Iterator[NDArray[np.void]]:
        """Yield blocks of EVENT_DTYPE in order of time, then venue, then the feed's own order.

        Parameters
        ----------
        instrument : str, optional
            May be left out where the store holds only one.
        """
        symbol = self.instrument(instrument).symbol
        chosen = self.partitions(instrument=symbol, venues=venues, start_ns=start_ns, stop_ns=stop_ns)
        for day in sorted({partition.day for partition in chosen}):
            feeds = [self._read(partition, block_events) for partition in chosen if partition.day == day]
            for block in merge_feeds(feeds):
                ts_ns = block["ts_ns"]
                low = 0 if start_ns is None else int(np.searchsorted(ts_ns, start_ns))
                high = len(block) if stop_ns is None else int(np.searchsorted(ts_ns, stop_ns))
                if low < high:
                    yield block[low:high]

    def instrument(self, symbol: str | None = None) -> Instrument:
        """Return an instrument's description; `symbol` may be left out where there is only one."""
        known = self.manifest().instruments
        if symbol is None and len(known) == 1:
            return next(iter(known.values()))
        if symbol not in known:
            raise DataError(f"expected one of the instruments {sorted(known)}, was {symbol}", path=self.root)
        return known[symbol]

    def verify(self) -> tuple[str, ...]:
        """Compare every partition with the manifest, byte by byte; return what is wrong, by file."""
        if not (self.root / MANIFEST_NAME).is_file():
            raise DataError(f"expected a tick store with a {MANIFEST_NAME}", path=self.root)
        damage = []
        for partition in self.partitions():
            path = partition.path(self.root)
            try:
                self._require_whole(partition)
                found = file_sha256(path)
                if found != partition.sha256:
                    damage.append(f"{path}: SHA-256 must be {partition.sha256}, was {found}")
            except DataError as error:
                damage.append(str(error))
        return tuple(damage)

    def _require_same(self, manifest: Manifest, instrument: Instrument) -> None:
        """Refuse to mix two price or size grids under one symbol."""
        known = manifest.instruments.get(instrument.symbol)
        if known is None:
            return
        for name in ("price_increment", "lot_size", "multiplier", "inverse", "instrument_id"):
            if getattr(known, name) != getattr(instrument, name):
                raise ConfigError(
                    f"{instrument.symbol}: {name} must be {getattr(known, name)} as in the store, "
                    f"was {getattr(instrument, name)}"
                )

    def _require_whole(self, partition: Partition) -> Path:
        path = partition.path(self.root)
        size = path.stat().st_size if path.is_file() else None
        if size != partition.bytes:
            found = "no file" if size is None else f"{size:,}"
            raise DataError(f"expected {partition.bytes:,} bytes, was {found}", path=path)
        return path

    def _stage(
        self, key: tuple[str, str, str], blocks: Iterator[NDArray[np.void]], instrument_id: int, venue_id: int
    ) -> tuple[Path, Partition]:
        """Write one partition beside its final place and describe it."""
        final = partition_path(self.root, *key)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        rows, first_ns, last_ns = 0, 0, 0
        with temporary.open("wb") as stream:
            with pq.ParquetWriter(stream, _SCHEMA, **_WRITER_OPTIONS) as writer:
                for events in _regrouped(blocks):
                    if rows == 0:
                        first_ns = int(events["ts_ns"][0])
                    rows, last_ns = rows + len(events), int(events["ts_ns"][-1])
                    writer.write_table(_to_table(events, instrument_id, venue_id))
            stream.flush()
            os.fsync(stream.fileno())
        symbol, venue, day = key
        return temporary, Partition(
            instrument=symbol, venue=venue, day=day, rows=rows, bytes=temporary.stat().st_size,
            first_ts_ns=first_ns, last_ts_ns=last_ns, sha256=file_sha256(temporary),
        )  # fmt: skip

    def _read(self, partition: Partition, block_events: int) -> Iterator[NDArray[np.void]]:
        path = self._require_whole(partition)
        rows = 0
        with library_errors(path, "an undamaged partition"):
            file = pq.ParquetFile(
                path, pre_buffer=False, buffer_size=READ_BUFFER_BYTES, page_checksum_verification=True
            )
        with file:
            if file.schema_arrow.names != list(EVENT_COLUMNS):
                raise DataError(f"expected columns {EVENT_COLUMNS}, was {file.schema_arrow.names}", path=path)
            batches = file.iter_batches(batch_size=block_events, use_threads=False)
            while True:
                with library_errors(path, "an undamaged partition"):
                    batch = next(batches, None)
                if batch is None:
                    break
                events = np.zeros(batch.num_rows, EVENT_DTYPE)
                for place, name in enumerate(EVENT_COLUMNS):
                    events[name] = batch.column(place).to_numpy(zero_copy_only=False)
                rows += len(events)
                yield events
        if rows != partition.rows:
            raise DataError(f"expected {partition.rows} rows, was {rows}", path=path)

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        """Hold the store's lock; the kernel drops it with the process, however that ends."""
        with (self.root / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"{self.root}: another process is writing to this store") from None
            yield


def _to_table(events: NDArray[np.void], instrument_id: int, venue_id: int) -> Any:
    stamps = {"instrument_id": instrument_id, "venue_id": venue_id}
    columns = [
        np.full(len(events), stamps[name], EVENT_DTYPE[name])
        if name in stamps
        else np.ascontiguousarray(events[name])
        for name in EVENT_COLUMNS
    ]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=_SCHEMA)


def _regrouped(blocks: Iterator[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
    """Join small blocks to row groups of a size that compresses and prunes well."""
    held: list[NDArray[np.void]] = []
    for events in blocks:
        held.append(events)
        if sum(map(len, held)) >= _ROW_GROUP_EVENTS:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _by_day(
    blocks: Iterable[NDArray[np.void]], root: Path
) -> Iterator[tuple[str, Iterator[NDArray[np.void]]]]:
    """Cut a stream of blocks where the UTC day changes; each day's iterator must be used up in turn."""
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
        before = np.concatenate(([previous_ns], ts_ns[:-1]))
        if (ts_ns < before).any():
            at = int(np.argmax(ts_ns < before))
            raise DataError(
                f"events must be in order of time: expected at least {before[at]} ns, was {ts_ns[at]}",
                path=root,
                row=row + at,
            )
        row, previous_ns = row + len(block), int(ts_ns[-1])
        days = ts_ns // _DAY_NS
        cuts = np.concatenate(([0], np.flatnonzero(days[1:] != days[:-1]) + 1, [len(block)])).tolist()
        for low, high in pairwise(cuts):
            yield int(days[low]), block[low:high]

"""One partition as a Parquet file: how it is encoded, written, checked and read.

The encodings were chosen by measurement, see docs/adr/0007-store-encodings.md. Every byte of a file
belongs to a row group or to the footer behind the last one; the manifest has a CRC-32C of each, so a
reader checks what it is about to decode, and damage never reaches the Parquet library.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ext.event_columns import interleave, separate
from ext.packed_block import crc32c

from .errors import DataError
from .event_blocks import join_events
from .partition import Partition, RowGroup
from .schema import EVENT_DTYPE
from .table_file import library_errors

EVENT_COLUMNS: Final = tuple(name for name in (EVENT_DTYPE.names or ()) if name != "_reserved")
ROW_GROUP_EVENTS: Final = 1 << 17
SCHEMA: Final = pa.schema(
    [pa.field(name, pa.from_numpy_dtype(EVENT_DTYPE[name]), nullable=False) for name in EVENT_COLUMNS]
)

_HASHED_BYTES: Final = 1 << 20
_ENCODINGS: Final = {
    # Steps between nanosecond stamps are noise: bit-packing takes what there is to gain, zstd only time.
    "ts_ns": "DELTA_BINARY_PACKED",
    "seq": "DELTA_BINARY_PACKED",
    # Ids that come back, as those of cancels do, are what zstd finds. Split by byte they would take as much,
    # but before 2.0 DuckDB reads no integers that are.
    "order_id": "PLAIN",
    "flags": "DELTA_BINARY_PACKED",
}
_COMPRESSIONS: Final = {
    name: "none" if name == "ts_ns" else "lz4" if name == "price_ticks" else "zstd" for name in EVENT_COLUMNS
}
# Receipt is a constant where it is not recorded, which a dictionary makes free, and else noise around ts_ns.
_RECORDED_RECEIPT: Final = {"recv_ns": ("DELTA_BINARY_PACKED", "none")}


class PartitionWriter:
    """Writes one file that nobody sees yet.

    Parameters
    ----------
    path : Path
        Made anew; the caller renames it to its place.
    instrument_id, venue_id : int
        Stamped into every event.
    """

    def __init__(self, path: Path, *, instrument_id: int, venue_id: int) -> None:
        self.path = path
        self.rows, self.first_ts_ns, self.last_ts_ns = 0, 0, 0
        self._stamps = {"instrument_id": instrument_id, "venue_id": venue_id}
        self._groups: list[RowGroup] = []
        self._held: list[NDArray[np.void]] = []
        self._held_rows = 0
        # Arrow writes by itself: a file object of ours would need the interpreter for every page.
        self._file = pa.OSFile(str(path), "wb")
        self._descriptor = os.open(path, os.O_RDONLY)
        self._bytes, self._sha256 = 0, hashlib.sha256()
        self._writer: Any = None

    @property
    def taken(self) -> int:
        """Events so far, written or held."""
        return self.rows + self._held_rows

    def write(self, events: NDArray[np.void]) -> None:
        """Add events, in order of time."""
        self._held.append(events)
        self._held_rows += len(events)
        while self._held_rows >= ROW_GROUP_EVENTS:
            joined = join_events(self._held)
            self._write_group(joined[:ROW_GROUP_EVENTS])
            rest = joined[ROW_GROUP_EVENTS:]
            self._held, self._held_rows = [rest], len(rest)

    def finish(self, *, instrument: str, venue: str, day: str) -> Partition:
        """Close the file and describe it; it is durable once it is synced."""
        if self._held_rows:
            self._write_group(join_events(self._held))
        assert self._writer is not None, "a partition holds at least one event"
        with _named_failure(self.path):
            self._writer.close()
        footer_crc32c = self._taken_crc32c()
        self._close()
        return Partition(
            instrument=instrument, venue=venue, day=day, rows=self.rows, bytes=self._bytes,
            first_ts_ns=self.first_ts_ns, last_ts_ns=self.last_ts_ns, sha256=self._sha256.hexdigest(),
            groups=tuple(self._groups), footer_crc32c=footer_crc32c,
        )  # fmt: skip

    def abandon(self) -> None:
        """Remove what was written."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _write_group(self, events: NDArray[np.void]) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, SCHEMA, **_options(events))
            self.first_ts_ns = int(events["ts_ns"][0])
        begun = self._bytes
        with _named_failure(self.path):
            self._writer.write_table(_to_table(events, self._stamps), row_group_size=ROW_GROUP_EVENTS)
        self.rows, self.last_ts_ns = self.rows + len(events), int(events["ts_ns"][-1])
        crc = self._taken_crc32c()
        self._groups.append(
            RowGroup(
                rows=len(events),
                bytes=self._bytes - begun,
                first_ts_ns=int(events["ts_ns"][0]),
                last_ts_ns=self.last_ts_ns,
                crc32c=crc,
            )
        )

    def _taken_crc32c(self) -> int:
        """Return the checksum of what was written since the last call, and take it into the SHA-256."""
        crc, size = 0, os.fstat(self._descriptor).st_size
        while self._bytes < size:
            content = os.pread(self._descriptor, min(size - self._bytes, _HASHED_BYTES), self._bytes)
            self._sha256.update(content)
            crc = crc32c(content, crc)
            self._bytes += len(content)
        return crc

    def _close(self) -> None:
        self._file.close()
        os.close(self._descriptor)


@contextmanager
def _named_failure(path: Path) -> Iterator[None]:
    """Say which file a full disk left unwritten: Arrow does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, str(error), str(path)) from error


def _options(events: NDArray[np.void]) -> dict[str, Any]:
    encodings, compressions = dict(_ENCODINGS), dict(_COMPRESSIONS)
    if events["recv_ns"].min() != events["recv_ns"].max():
        for name, (encoding, compression) in _RECORDED_RECEIPT.items():
            encodings[name], compressions[name] = encoding, compression
    return {
        "compression": compressions,
        "compression_level": {name: 1 for name, kind in compressions.items() if kind == "zstd"},
        "use_dictionary": [name for name in EVENT_COLUMNS if name not in encodings],
        "column_encoding": encodings,
        "write_statistics": ["ts_ns"],
        # For other readers: ours checks whole row groups.
        "write_page_checksum": True,
    }


def _to_table(events: NDArray[np.void], stamps: dict[str, int]) -> Any:
    columns = dict(zip(EVENT_COLUMNS, separate(events), strict=True))
    for name, stamp in stamps.items():
        columns[name].fill(stamp)
    # By their memory, see `_values`.
    arrays = [
        pa.Array.from_buffers(field.type, len(events), [None, pa.py_buffer(columns[field.name])])
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def require_length(partition: Partition, path: Path) -> Path:
    """Refuse a file that is not there or has another length than the manifest says."""
    try:
        size = path.stat().st_size
    except OSError:
        raise DataError(f"expected {partition.bytes:,} bytes, was no file", path=path) from None
    if size != partition.bytes:
        raise DataError(f"expected {partition.bytes:,} bytes, was {size:,}", path=path)
    return path


def damage_of(partition: Partition, path: Path) -> str | None:
    """Compare every byte with the manifest; return what is wrong, with the rows it touches."""
    try:
        require_length(partition, path)
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found == partition.sha256:
                return None
            row = 0
            for place, group in enumerate(partition.groups):
                try:
                    _checked(stream.fileno(), partition, place, path)
                except DataError as error:
                    return f"{error} (rows {row:,} to {row + group.rows - 1:,})"
                row += group.rows
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{path}: expected a readable file, was {error.strerror}"
    return f"{path}: SHA-256 must be {partition.sha256}, was {found}"


def read_partition(
    partition: Partition,
    path: Path,
    *,
    start_ns: int | None = None,
    stop_ns: int | None = None,
    skip_rows: int = 0,
) -> Iterator[NDArray[np.void]]:
    """Yield the row groups that may hold events with start_ns <= ts_ns < stop_ns, whole.

    Parameters
    ----------
    skip_rows : int
        Leave out that many of the rows that would be yielded.

    Raises
    ------
    DataError
        A byte of what is read differs from what was written.
    """
    require_length(partition, path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _checked(descriptor, partition, len(partition.groups), path)
        with library_errors(path, "an undamaged partition"):
            file = pq.ParquetFile(pa.memory_map(str(path)), pre_buffer=False)
        with file:
            if not file.schema_arrow.equals(SCHEMA):
                found = ", ".join(str(field) for field in file.schema_arrow)
                raise DataError(f"expected the columns of an event, was {found}", path=path)
            for place, group in enumerate(partition.groups):
                if stop_ns is not None and group.first_ts_ns >= stop_ns:
                    break
                if start_ns is not None and group.last_ts_ns < start_ns:
                    continue
                if skip_rows >= group.rows:
                    skip_rows -= group.rows
                    continue
                _checked(descriptor, partition, place, path)
                with library_errors(path, f"an undamaged row group {place}"):
                    table = file.read_row_group(place, use_threads=False)
                if table.num_rows != group.rows:
                    raise DataError(f"expected {group.rows} rows, was {table.num_rows}", path=path)
                yield _to_events(table)[skip_rows:]
                skip_rows = 0
    finally:
        os.close(descriptor)


def _checked(descriptor: int, partition: Partition, place: int, path: Path) -> None:
    """Compare one row group, or the footer behind the last, with its checksum."""
    starts = partition.group_starts()
    begin = starts[place]
    footer = place == len(partition.groups)
    end = partition.bytes if footer else starts[place + 1]
    expected = partition.footer_crc32c if footer else partition.groups[place].crc32c
    found = crc32c(os.pread(descriptor, end - begin, begin))
    if found != expected:
        what = "footer" if footer else f"row group {place}"
        raise DataError(f"CRC-32C of {what} must be {expected}, was {found}", path=path, offset=begin)


def _to_events(table: Any) -> NDArray[np.void]:
    events = np.empty(table.num_rows, EVENT_DTYPE)
    interleave(
        [
            _values(column, EVENT_DTYPE[name])
            for name, column in zip(EVENT_COLUMNS, table.columns, strict=True)
        ],
        events,
    )
    return events


def _values(column: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    # By their memory: to_numpy would import pandas first, where that is installed, for a quarter of a second.
    array = column.combine_chunks()
    return np.frombuffer(array.buffers()[1], dtype, count=len(array), offset=array.offset * dtype.itemsize)


def write_events(
    blocks: Iterable[NDArray[np.void]], path: Path, *, instrument_id: int, venue_id: int
) -> PartitionWriter:
    """Write all blocks and return the open writer, for `finish` or `abandon`."""
    writer = PartitionWriter(path, instrument_id=instrument_id, venue_id=venue_id)
    try:
        for events in blocks:
            writer.write(events)
    except BaseException:
        writer.abandon()
        raise
    return writer

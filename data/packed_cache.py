"""The packed cache: a partition's events in a form that costs little to decode.

::

    header   104 bytes   magic, SHA-256 of the Parquet file it was made from, counts, CRC-32C
    blocks               see ext/packed_block.h, 4,096 events each, checksummed
    index    40 bytes a block: byte, length, events, first and last time; CRC-32C in the header

A cache holds nothing that the Parquet file does not. It may be dropped at any time and is ignored once the
partition it was made from has changed. It is read in pieces of a few blocks, so that memory stays bounded
and nothing stays mapped.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.packed_block import crc32c, pack, unpack

from .errors import DataError
from .event_blocks import join_events
from .manifest import sync_path
from .partition import Partition
from .schema import EVENT_DTYPE

CACHE_FOLDER: Final = ".cache"
BLOCK_EVENTS: Final = 4_096

_MAGIC: Final = b"ANYTPK01"
_HEADER: Final = struct.Struct("<8s 64s Q I I Q I I")  # the last field is the CRC-32C of those before it
_INDEX_DTYPE: Final = np.dtype(
    [("byte", "<u8"), ("bytes", "<u4"), ("events", "<u4"), ("first_ts_ns", "<i8"), ("last_ts_ns", "<i8")]
)
# An event needs at most its 48 bytes and a share of the header, so a longer block is damage.
_BLOCK_BYTES_MAX: Final = 64 * BLOCK_EVENTS


def cache_path(root: Path, partition: Partition) -> Path:
    return cache_path_of(root, partition.name)


def cache_path_of(root: Path, name: str) -> Path:
    return root / CACHE_FOLDER / f"{name}.packed"


def write_cache(blocks: Iterable[NDArray[np.void]], path: Path, partition: Partition) -> int:
    """Write a partition's cache in one step and return its bytes.

    Parameters
    ----------
    blocks : iterable of arrays of EVENT_DTYPE
        All events of the partition, in order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    entries: list[tuple[int, int, int, int, int]] = []
    place = _HEADER.size
    try:
        with temporary.open("wb") as stream:
            stream.write(bytes(_HEADER.size))
            for events in _in_blocks(blocks):
                packed = pack(events)
                stream.write(packed)
                ts_ns = events["ts_ns"]
                entries.append((place, len(packed), len(events), int(ts_ns[0]), int(ts_ns[-1])))
                place += len(packed)
            index = np.array(entries, _INDEX_DTYPE).tobytes()
            stream.write(index)
            counts = (partition.rows, len(entries), BLOCK_EVENTS, place, crc32c(index))
            header = _HEADER.pack(_MAGIC, partition.sha256.encode(), *counts, 0)
            stream.seek(0)
            stream.write(header[:-4] + struct.pack("<I", crc32c(header[:-4])))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_path(path.parent)
    return place + len(index)


def open_cache(path: Path, partition: Partition) -> PackedFile | None:
    """Return the cache of a partition, None where there is none that fits it.

    Raises
    ------
    DataError
        There is one, and it is damaged.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _opened(descriptor, path, partition)
    except BaseException:
        os.close(descriptor)
        raise


def cache_damage_of(partition: Partition, path: Path) -> str | None:
    """Read a whole cache; return what is wrong, None where nothing is or it belongs to another file."""
    try:
        packed = open_cache(path, partition)
        if packed is None:
            return None
        with packed:
            packed.require_whole()
            rows = sum(map(len, packed.blocks()))
    except DataError as error:
        return str(error)
    return None if rows == partition.rows else f"{path}: expected {partition.rows} events, was {rows}"


def _opened(descriptor: int, path: Path, partition: Partition) -> PackedFile | None:
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        raise DataError(f"expected a header of {_HEADER.size} bytes, was {len(header)}", path=path)
    magic, sha256, rows, block_count, block_events, index_byte, index_crc, header_crc = _HEADER.unpack(header)
    if magic != _MAGIC or header_crc != crc32c(header[:-4]):
        raise DataError("expected the header of a packed cache, was damaged", path=path, offset=0)
    if sha256 != partition.sha256.encode() or rows != partition.rows or block_events != BLOCK_EVENTS:
        os.close(descriptor)
        return None
    index_bytes = block_count * _INDEX_DTYPE.itemsize
    if os.fstat(descriptor).st_size != index_byte + index_bytes:
        raise DataError(f"expected {index_byte + index_bytes:,} bytes, was otherwise", path=path)
    stored = os.pread(descriptor, index_bytes, index_byte)
    if crc32c(stored) != index_crc:
        raise DataError("CRC-32C of the index must match, was otherwise", path=path, offset=index_byte)
    return PackedFile(path, descriptor, np.frombuffer(stored, _INDEX_DTYPE), index_byte=index_byte)


class PackedFile:
    """An open cache; close it, or use it as a context manager.

    Parameters
    ----------
    descriptor : int
        Owned.
    index : array, shape (n_blocks,)
    index_byte : int
        Where it stands in the file.
    """

    def __init__(self, path: Path, descriptor: int, index: NDArray[np.void], *, index_byte: int) -> None:
        self.path, self.index, self._descriptor, self._index_byte = path, index, descriptor, index_byte

    def __enter__(self) -> PackedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def require_whole(self) -> None:
        """Refuse an index whose blocks leave a byte of the file between them."""
        ends = self.index["byte"] + self.index["bytes"]
        begins = np.append(self.index["byte"], self._index_byte)
        if int(begins[0]) != _HEADER.size or not np.array_equal(begins[1:], ends):
            raise DataError(
                "expected blocks end to end, was otherwise", path=self.path, offset=self._index_byte
            )

    def blocks(
        self, *, start_ns: int | None = None, stop_ns: int | None = None, block_events: int = 65_536
    ) -> Iterator[NDArray[np.void]]:
        """Yield the events of the blocks that may hold start_ns <= ts_ns < stop_ns, whole blocks.

        Raises
        ------
        DataError
            A block is damaged; names its byte.
        """
        index = self.index
        low = 0 if start_ns is None else int(np.searchsorted(index["last_ts_ns"], start_ns))
        high = len(index) if stop_ns is None else int(np.searchsorted(index["first_ts_ns"], stop_ns))
        step = max(1, block_events // BLOCK_EVENTS)
        buffer = bytearray()
        for first in range(low, high, step):
            rows = index[first : min(first + step, high)]
            yield self._decoded(rows, buffer)

    def _decoded(self, rows: NDArray[np.void], buffer: bytearray) -> NDArray[np.void]:
        begin, length, count = int(rows["byte"][0]), int(rows["bytes"].sum()), int(rows["events"].sum())
        if len(buffer) < length:
            # One buffer for the whole file; it grows to its longest piece.
            buffer.extend(bytes(min(length, _BLOCK_BYTES_MAX * len(rows)) - len(buffer)))
        view = memoryview(buffer)[:length]
        try:
            if os.preadv(self._descriptor, [view], begin) != length:
                raise DataError(f"expected {length} bytes, was the end of the file", path=self.path,
                                offset=begin)  # fmt: skip
            events = np.empty(count, EVENT_DTYPE)
            try:
                found = unpack(view, events)
            except ValueError as error:
                raise DataError(f"from here {error}", path=self.path, offset=begin) from error
        finally:
            view.release()
        if found != count:
            raise DataError(f"expected {count} events, was {found}", path=self.path, offset=begin)
        return events


def _in_blocks(blocks: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
    """Cut and join to BLOCK_EVENTS each."""
    held = np.empty(0, EVENT_DTYPE)
    for block in blocks:
        joined = join_events((held, block)) if len(held) else block
        whole = len(joined) - len(joined) % BLOCK_EVENTS
        for first in range(0, whole, BLOCK_EVENTS):
            yield np.ascontiguousarray(joined[first : first + BLOCK_EVENTS])
        held = joined[whole:].copy()
    if len(held):
        yield held

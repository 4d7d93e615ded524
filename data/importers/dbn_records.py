"""Databento's binary encoding (DBN) as numpy records, in bounded memory.

The metadata is decoded by the official ``databento-dbn``; the records, which it would hand over as one Python
object each, are viewed as arrays by their published layouts. `databento.verify` compares the two record by
record. All integers are little-endian; prices are units of 1e-9.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from .compressed import chunks

PRICE_UNDEFINED: Final = (1 << 63) - 1
TIME_UNDEFINED: Final = (1 << 64) - 1
METADATA_BYTES_MAX: Final = 64 << 20
_READ_BYTES: Final = 2 << 20

_HEADER: Final = [
    ("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8"),
]  # fmt: skip
_LEVEL: Final = np.dtype(
    [("bid_px", "<i8"), ("ask_px", "<i8"), ("bid_sz", "<u4"), ("ask_sz", "<u4"), ("counts", "V8")]
)
_PRICED: Final = [
    *_HEADER, ("price", "<i8"), ("size", "<u4"), ("action", "S1"), ("side", "S1"), ("flags", "u1"),
    ("depth", "u1"), ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4"),
]  # fmt: skip

HEADER_DTYPE: Final = np.dtype(_HEADER)
MBO_DTYPE: Final = np.dtype(
    [
        *_HEADER, ("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("flags", "u1"),
        ("channel_id", "u1"), ("action", "S1"), ("side", "S1"), ("ts_recv", "<u8"), ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
    ]
)  # fmt: skip
TRADE_DTYPE: Final = np.dtype(_PRICED)
MBP1_DTYPE: Final = np.dtype([*_PRICED, ("levels", _LEVEL, (1,))])
MBP10_DTYPE: Final = np.dtype([*_PRICED, ("levels", _LEVEL, (10,))])
BBO_DTYPE: Final = MBP1_DTYPE
"""The action's and the depth's place are unused."""

DTYPES: Final[dict[int, np.dtype[np.void]]] = {
    0x00: TRADE_DTYPE,
    0x01: MBP1_DTYPE,
    0x0A: MBP10_DTYPE,
    0xA0: MBO_DTYPE,
    0xB1: MBP1_DTYPE,
    0xC0: BBO_DTYPE,
    0xC1: BBO_DTYPE,
    0xC2: MBP1_DTYPE,
    0xC3: BBO_DTYPE,
    0xC4: BBO_DTYPE,
}
"""Layout by record type; the others are read as bare headers."""

SAMPLED_QUOTES: Final = (0xC0, 0xC1, 0xC3, 0xC4)


def official() -> Any:
    """Return the module databento_dbn.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        import databento_dbn
    except ImportError as error:
        raise ConfigError("reading DBN needs databento-dbn: pip install 'anytick[databento]'") from error
    return databento_dbn


@contextmanager
def official_errors(path: Path, expected: str, *, row: int | None = None) -> Iterator[None]:
    """Turn what the official decoder raises on bad input into a DataError."""
    try:
        yield
    except (ValueError, official().DBNError) as error:
        raise DataError(f"expected {expected}, was: {error}", path=path, row=row) from error
    except BaseException as error:
        # A record too short for its type makes its Rust code panic, which is no Exception in Python.
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"expected {expected}, was: {error}", path=path, row=row) from error


class Run(NamedTuple):
    """Records of one type and length, one after another.

    Parameters
    ----------
    row : int
        Position of the first in the file.
    records : array of one of the layouts above
    offset, length : int
        Bytes of the file before them, as decompressed, and theirs.
    """

    row: int
    records: NDArray[np.void]
    offset: int
    length: int

    def place(self, at: int) -> dict[str, int]:
        """Return where the record number `at` of the run begins, or the run ends: for `DbnFile.runs`."""
        return {"row": self.row + at, "offset": self.offset + at * (self.length // len(self.records))}


class DbnFile:
    """One DBN file, versions 1 to 3, plain or zstd.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    version : int
    metadata : databento_dbn.Metadata

    Raises
    ------
    DataError
        It is no DBN file, a fragment without metadata, or the older DBZ.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head_bytes, raw = self._read_head(self._pieces())
        self.version = raw[3]
        with official_errors(path, "DBN metadata"):
            self.metadata = official().Metadata.decode(raw)

    def _pieces(self) -> Iterator[bytes]:
        return chunks(self.path)

    def _read_head(self, stream: Iterator[bytes]) -> tuple[int, bytes]:
        """Return the bytes that come before the records and those bytes."""
        head = b""
        wanted = 8
        while len(head) < wanted:
            piece = next(stream, b"")
            if not piece:
                raise DataError("expected a whole DBN header, was cut off", path=self.path, offset=len(head))
            head += piece
            if wanted == 8 and len(head) >= 8:
                if head[:3] != b"DBN" or not 1 <= head[3] <= 3:
                    raise DataError(
                        f"expected DBN version 1 to 3 with metadata, was {head[:4]!r}",
                        path=self.path,
                        offset=0,
                    )
                wanted += int.from_bytes(head[4:8], "little")
                if wanted > METADATA_BYTES_MAX:
                    raise DataError(
                        f"metadata must be at most {METADATA_BYTES_MAX:,} bytes, was {wanted:,}",
                        path=self.path,
                        offset=4,
                    )
        return wanted, head[:wanted]

    def raw(self) -> Iterator[bytes]:
        """Yield the file's bytes, decompressed."""
        return self._pieces()

    def records(self) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield (position of the first, records of one type) in order of the file.

        Records of types without a layout here come as bare headers.
        """
        return ((run.row, run.records) for run in self.runs())

    def runs(self, *, row: int = 0, offset: int | None = None) -> Iterator[Run]:
        """Yield the records from one on, of which the byte offset is known: in runs of one type."""
        begin = self._head_bytes if offset is None else offset
        rest, offset, skipped = b"", 0, 0
        for piece in _joined(self._pieces()):
            rest += piece
            if skipped < begin:
                cut = min(begin - skipped, len(rest))
                rest, skipped, offset = rest[cut:], skipped + cut, offset + cut
                if skipped < begin:
                    continue
            start = 0
            while (found := self._run(rest, start, offset)) is not None:
                records, used = found
                yield Run(row, records, offset, used)
                row += len(records)
                start += used
                offset += used
            rest = rest[start:]
        if rest or skipped < begin:
            raise DataError("expected a whole record, was cut off", path=self.path, row=row, offset=offset)

    def _run(self, data: bytes, start: int, offset: int) -> tuple[NDArray[np.void], int] | None:
        """Return the whole records of one type and length at `start`, and their bytes; None without one."""
        left = len(data) - start
        if left < 2:
            return None
        length, rtype = data[start] * 4, data[start + 1]
        if length < HEADER_DTYPE.itemsize:
            raise DataError(
                f"records must have at least 16 bytes, was {length}", path=self.path, offset=offset
            )
        whole = left // length
        if whole == 0:
            return None
        table = np.frombuffer(data, np.uint8, whole * length, start).reshape(whole, length)
        run, looked = 0, 16
        # Types may alternate record by record: look a little ahead first, then further and further.
        while run < whole:
            ahead = table[run : run + looked]
            same = (ahead[:, 0] == data[start]) & (ahead[:, 1] == rtype)
            if not same.all():
                run += int(np.argmin(same))
                break
            run, looked = min(run + looked, whole), looked * 8
        layout = DTYPES.get(rtype, HEADER_DTYPE)
        # A gateway's send time may follow each record (ts_out).
        if length - layout.itemsize not in (0, 8) and rtype in DTYPES:
            raise DataError(
                f"records of type {rtype:#04x} must have {layout.itemsize} bytes, was {length}",
                path=self.path,
                offset=offset,
            )
        body = np.ascontiguousarray(table[:run, : layout.itemsize])
        records: NDArray[np.void] = body.view(layout).reshape(run)
        return records, run * length


def _joined(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Join pieces until they pay for the work done once for each."""
    held: list[bytes] = []
    for piece in stream:
        held.append(piece)
        if sum(map(len, held)) >= _READ_BYTES:
            yield b"".join(held)
            held = []
    if held:
        yield b"".join(held)

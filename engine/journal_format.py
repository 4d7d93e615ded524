"""The bytes of a journal file: header, records, payloads; read in chunks.

A file is a 64-byte header and 96-byte records (``ext/layout.h``), the first RUN, the last END with the
totals. Reading streams, so memory does not grow with the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BufferedReader
from os import PathLike
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.schema import (
    DECISION_DTYPE,
    JOURNAL_DTYPE,
    ORDER_DTYPE,
    PARENT_DTYPE,
    REPORT_DTYPE,
    REWARD_DTYPE,
    JournalKind,
)
from ext.journal import crc32c

MAGIC: Final = b"ANYTICKJ"
FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = 64
RECORD_BYTES: Final = JOURNAL_DTYPE.itemsize
CHUNK_RECORDS: Final = 1 << 15

# magic, format version, bytes per record, reserved, run id, reserved; a CRC-32C of those ends it.
_HEADER: Final = struct.Struct("<8sHHIQ36s")
_HEADER_CRC: Final = struct.Struct("<I")

RUN_DTYPE: Final = np.dtype(
    [
        ("run_id", "<u8"),
        ("seed", "<i8"),
        ("config_sha256", "u1", (32,)),
        ("layout_version", "<u4"),
        ("_reserved", "u1", (12,)),
    ]
)
"""Payload of the RUN record, 64 bytes."""

COUNTED_KINDS: Final = (
    JournalKind.PARENT,
    JournalKind.DECISION,
    JournalKind.ORDER,
    JournalKind.REFUSAL,
    JournalKind.REPORT,
    JournalKind.REWARD,
    JournalKind.MODEL,
    JournalKind.WINDOW,
)
END_DTYPE: Final = np.dtype([(kind.name.lower(), "<u8") for kind in COUNTED_KINDS])
"""Payload of the END record, 64 bytes: how many records of each other kind stand before it."""

WINDOW_DTYPE: Final = np.dtype(
    [
        ("window", "<u4"),
        ("int8", "u1"),
        ("_padding", "u1", (3,)),
        ("model_ns", "<i8"),
        ("sha256", "u1", (32,)),
        ("_reserved", "u1", (16,)),
    ]
)
"""Payload of WINDOW and MODEL records, 64 bytes: the window that begins; for MODEL also the SHA-256 of the
ONNX file that is live from here, its precision and the latency charged for one use of it."""
PAYLOAD_DTYPES: Final = {
    JournalKind.RUN: RUN_DTYPE,
    JournalKind.PARENT: PARENT_DTYPE,
    JournalKind.DECISION: DECISION_DTYPE,
    JournalKind.ORDER: ORDER_DTYPE,
    JournalKind.REFUSAL: REPORT_DTYPE,
    JournalKind.REPORT: REPORT_DTYPE,
    JournalKind.REWARD: REWARD_DTYPE,
    JournalKind.MODEL: WINDOW_DTYPE,
    JournalKind.WINDOW: WINDOW_DTYPE,
    JournalKind.END: END_DTYPE,
}


def window_payload(window: int, *, sha256: str = "", int8: bool = False, model_ns: int = 0) -> bytes:
    """Return the payload of a WINDOW record, or of a MODEL record where `sha256` names one."""
    record = np.zeros((), dtype=WINDOW_DTYPE)
    record["window"], record["int8"], record["model_ns"] = window, int8, model_ns
    if sha256:
        record["sha256"] = np.frombuffer(bytes.fromhex(sha256), dtype=np.uint8)
    return record.tobytes()


def payloads(records: NDArray[np.void], kind: JournalKind) -> NDArray[np.void]:
    """Return the payloads of records that are all of one kind, typed.

    Parameters
    ----------
    records : array of JOURNAL_DTYPE, shape (n,)

    Returns
    -------
    array of PAYLOAD_DTYPES[kind], shape (n,)
    """
    return np.ascontiguousarray(records["payload"]).view(PAYLOAD_DTYPES[kind]).reshape(-1)


def stream_journal(path: str | PathLike[str]) -> Iterator[tuple[int, NDArray[np.void]]]:
    """Yield (row of the first, records) in chunks; a chunk is valid until the next one is asked for.

    Raises
    ------
    DataError
        Where the file is missing, foreign or truncated.
    """
    with open_journal(path) as stream:
        read_header(stream, path)
        yield from record_chunks(stream)


def pack_header(run_id: int) -> bytes:
    """Return the 64 bytes that begin a journal."""
    packed = _HEADER.pack(MAGIC, FORMAT_VERSION, RECORD_BYTES, 0, run_id, b"")
    return packed + _HEADER_CRC.pack(crc32c(packed))


def open_journal(path: str | PathLike[str]) -> BufferedReader:
    """Open a file for reading; DataError where that fails."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"must be a readable file, was {error.strerror}", path=path) from error


def read_header(stream: BufferedReader, path: str | PathLike[str]) -> int:
    """Check the header and the file's length; return the run id and leave the stream at record 0."""
    header = stream.read(HEADER_BYTES)
    if header[: len(MAGIC)] != MAGIC:
        raise DataError(f"a journal must begin with {MAGIC!r}, was {header[:8]!r}", path=path, offset=0)
    if len(header) < HEADER_BYTES:
        raise DataError(
            f"a journal has a header of {HEADER_BYTES} bytes, was {len(header)}",
            path=path,
            offset=len(header),
        )
    _, version, record_bytes, _, run_id, _ = _HEADER.unpack_from(header)
    if version != FORMAT_VERSION:
        raise DataError(f"the format version must be {FORMAT_VERSION}, was {version}", path=path, offset=8)
    (crc,) = _HEADER_CRC.unpack_from(header, _HEADER.size)
    if crc != crc32c(header[: _HEADER.size]):
        raise DataError(f"the header's checksum must match, was {crc:#010x}", path=path, offset=_HEADER.size)
    if record_bytes != RECORD_BYTES:
        raise DataError(f"records must be {RECORD_BYTES} bytes, was {record_bytes}", path=path, offset=10)
    body_bytes = os.fstat(stream.fileno()).st_size - HEADER_BYTES
    row, left = divmod(body_bytes, RECORD_BYTES)
    if left:
        raise DataError(
            f"a journal must end with a whole record, was truncated after {left} bytes", path=path, row=row
        )
    if row == 0:
        raise DataError("a journal must hold a RUN and an END record, was empty", path=path)
    return int(run_id)


def record_chunks(stream: BufferedReader) -> Iterator[tuple[int, NDArray[np.void]]]:
    """Yield (row of the first, records) from a stream at its first record, into one reused array."""
    chunk = np.empty(CHUNK_RECORDS, dtype=JOURNAL_DTYPE)
    view = chunk.view(np.uint8).data
    row = 0
    while count := stream.readinto(view) // RECORD_BYTES:
        yield row, chunk[:count]
        row += count

"""Arrow files and streams as record batches, whatever a damaged or hostile one claims.

Compressed buffers state the size they unpack to, and the library would allocate what they state. So the
messages are looked at first: a buffer may state at most a thousandfold of its bytes, once past 64 MiB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from .errors import DataError
from .table_file import library_errors

SUFFIXES: Final = (".arrow", ".arrows", ".ipc", ".feather")
RATIO_MAX: Final = 1_000
FREE_BYTES: Final = 64 << 20

_MAGIC: Final = b"ARROW1"
_TAIL_BYTES: Final = 10
_BLOCK_BYTES: Final = 24
# Places in the flatbuffer tables of Arrow's File.fbs and Message.fbs.
_DICTIONARIES, _BATCHES = 2, 3
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_DICTIONARY_DATA, _BUFFERS, _COMPRESSION = 1, 2, 3


def arrow_batches(path: Path) -> Iterator[Any]:
    """Yield the record batches of an Arrow file or stream, checked; words of a dictionary as text.

    Raises
    ------
    DataError
        It is neither, is damaged, or claims to unpack to more than is plausible.
    """
    with library_errors(path, "a whole Arrow file or stream"), pa.memory_map(str(path)) as stored:
        is_file = stored.read(len(_MAGIC)) == _MAGIC
        stored.seek(0)
        try:
            for message in _file_messages(stored) if is_file else pa.ipc.MessageReader.open_stream(stored):
                _require_plausible(message, path)
        except (struct.error, IndexError, ValueError) as error:
            raise DataError("expected undamaged Arrow messages, was others", path=path) from error
        stored.seek(0)
        for batch in _file_batches(stored) if is_file else pa.ipc.open_stream(stored):
            # Offsets that point outside their buffers would otherwise be followed. Metadata is of no use
            # here, and Polars ends in a panic over some that is damaged.
            batch.validate(full=True)
            yield pa.RecordBatch.from_arrays(list(map(_plain, batch.columns)), names=batch.schema.names)


def _file_messages(stored: Any) -> Iterator[Any]:
    """Yield the messages that a file's footer names."""
    size = stored.size()
    length = _at("<i", stored.read_at(_TAIL_BYTES, max(size - _TAIL_BYTES, 0)), 0)
    if not 0 < length <= size - _TAIL_BYTES:
        raise IndexError(length)
    footer = stored.read_at(length, size - _TAIL_BYTES - length)
    root = _at("<I", footer, 0)
    for number in (_DICTIONARIES, _BATCHES):
        if not _field(footer, root, number):
            continue
        blocks = _child(footer, root, number)
        for block in range(_at("<I", footer, blocks)):
            place = _at("<q", footer, blocks + 4 + _BLOCK_BYTES * block)
            if not 0 <= place < size:
                raise IndexError(place)
            stored.seek(place)
            yield pa.ipc.read_message(stored)


def _file_batches(stored: Any) -> Iterator[Any]:
    file = pa.ipc.open_file(stored)
    return (file.get_batch(number) for number in range(file.num_record_batches))


def _plain(column: Any) -> Any:
    if not pa.types.is_dictionary(column.type):
        return column
    words = column.dictionary.cast(pa.string())
    return pa.DictionaryArray.from_arrays(column.indices, words).dictionary_decode()


def _require_plausible(message: Any, path: Path) -> None:
    table, body = message.metadata.to_pybytes(), message.body
    root = _at("<I", table, 0)
    place = _field(table, root, _HEADER_TYPE)
    kind = table[place] if place else 0
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or body is None:
        return
    batch = _child(table, root, _HEADER)
    if kind == _DICTIONARY_BATCH:
        batch = _child(table, batch, _DICTIONARY_DATA)
    if not _field(table, batch, _COMPRESSION):
        return
    buffers = _child(table, batch, _BUFFERS)
    for number in range(_at("<I", table, buffers)):
        offset, length = struct.unpack_from("<qq", table, buffers + 4 + 16 * number)
        if length < 8:
            continue
        (stated,) = struct.unpack_from("<q", body, offset)
        if stated > max(FREE_BYTES, RATIO_MAX * length):
            raise DataError(
                f"expected buffers that unpack to at most {RATIO_MAX} times their bytes, was {stated:,} of "
                f"{length:,}",
                path=path,
            )


def _at(form: str, table: bytes, place: int) -> int:
    if place < 0:
        raise IndexError(place)
    found: int = struct.unpack_from(form, table, place)[0]
    return found


def _field(table: bytes, place: int, number: int) -> int:
    """Return where a field of a flatbuffer table stands, 0 where it is left out."""
    described = place - _at("<i", table, place)
    if 4 + 2 * number >= _at("<H", table, described):
        return 0
    offset = _at("<H", table, described + 4 + 2 * number)
    return place + offset if offset else 0


def _child(table: bytes, place: int, number: int) -> int:
    """Return where the table or vector begins that a field points to."""
    field = _field(table, place, number)
    if not field:
        raise IndexError(number)
    return field + _at("<I", table, field)

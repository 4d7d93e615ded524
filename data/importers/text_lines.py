"""Lines of text files, plain or packed, in bounded memory: a line without an end is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import DataError
from .compressed import chunks

LINE_BYTES_MAX: Final = 16 << 20
"""A snapshot of a whole book is a few hundred kilobytes; more is damage."""

_CHUNK_BYTES: Final = 1 << 18
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (zero-based row, line without its end), leaving out empty lines.

    Raises
    ------
    DataError
        As for `chunks`, or a line is longer than `LINE_BYTES_MAX`.
    """
    row, rest = 0, b""
    is_first = True
    for chunk in chunks(path, chunk_bytes=_CHUNK_BYTES):
        if is_first:
            # Some editors begin a file of UTF-8 so.
            chunk, is_first = chunk.removeprefix(_BYTE_ORDER_MARK), False
        found = (rest + chunk).split(b"\n")
        rest = found.pop()
        if len(rest) > LINE_BYTES_MAX:
            raise DataError(f"lines must be at most {LINE_BYTES_MAX:,} bytes, was more", path=path, row=row)
        for line in found:
            if line := line.rstrip(b"\r"):
                yield row, line
            row += 1
    if rest:
        yield row, rest

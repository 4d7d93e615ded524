"""Lines of text files, plain or compressed, in bounded memory.

Recorded feeds come as ``.gz``, ``.xz``, ``.zst`` or ``.bz2``; the first bytes tell, not the name. A bomb
costs little: output is taken a piece at a time and bounded by a multiple of the file, the window of the
decompressor is capped, and a line without an end is refused.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from ..errors import DataError
from .compressed import RATIO_FREE_BYTES, RATIO_MAX, XZ_MEMORY_MAX

LINE_BYTES_MAX: Final = 16 << 20
"""A snapshot of a whole book is a few hundred kilobytes; more is damage."""

_PIECE_BYTES: Final = 1 << 18


class _Decoder(Protocol):
    """What gz, xz and bz2 have in common; zlib is fitted in below."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...


class _Gzip:
    """zlib keeps the input it did not get to; the others keep it inside."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail


_MAGIC: Final[dict[bytes, Callable[[], _Decoder]]] = {
    b"\x1f\x8b": _Gzip,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_MAX),
    b"BZh": bz2.BZ2Decompressor,
}
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ERRORS: Final = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, MemoryError, pa.ArrowException)


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed, in pieces of at most 256 KiB.

    Raises
    ------
    DataError
        The file cannot be read, is truncated or damaged.
    """
    done = 0
    try:
        packed_bytes = path.stat().st_size
        for piece in _pieces(path):
            done += len(piece)
            if done > max(RATIO_FREE_BYTES, RATIO_MAX * packed_bytes):
                raise DataError(
                    f"expected at most {RATIO_MAX} times the packed bytes, was more", path=path, offset=done
                )
            yield piece
    except _ERRORS as error:
        raise DataError(f"expected an undamaged file, was: {error}", path=path, offset=done) from error


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        head = stream.read(6)
        stream.seek(0)
        if head.startswith(_ZSTD_MAGIC):
            # Arrow's reader keeps zstd's own limit of 128 MiB on the window.
            with pa.CompressedInputStream(stream, "zstd") as inner:
                while piece := inner.read(_PIECE_BYTES):
                    yield piece
            return
        maker = next((maker for magic, maker in _MAGIC.items() if head.startswith(magic)), None)
        if maker is None:
            while piece := stream.read(_PIECE_BYTES):
                yield piece
            return
        decoder, data = maker(), stream.read(_PIECE_BYTES)
        while True:
            piece = decoder.decompress(data, _PIECE_BYTES)
            if piece:
                yield piece
            if decoder.eof:
                # Files may hold several members one after another; padding of zeros ends them.
                data = (decoder.unused_data or stream.read(_PIECE_BYTES)).lstrip(b"\0")
                if not data:
                    return
                decoder = maker()
            else:
                data = stream.read(_PIECE_BYTES) if decoder.needs_input else b""
                if decoder.needs_input and not data:
                    raise EOFError("the compressed data ends early")


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (zero-based row, line without its end), leaving out empty lines.

    Raises
    ------
    DataError
        As for `pieces`, or a line is longer than `LINE_BYTES_MAX`.
    """
    row, rest = 0, b""
    for piece in pieces(path):
        found = (rest + piece).split(b"\n")
        rest = found.pop()
        if len(rest) > LINE_BYTES_MAX:
            raise DataError(f"lines must be at most {LINE_BYTES_MAX:,} bytes, was more", path=path, row=row)
        for line in found:
            if line := line.rstrip(b"\r"):
                yield row, line
            row += 1
    if rest:
        yield row, rest

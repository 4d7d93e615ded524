"""A recording's bytes, whatever it is packed in: raw, gzip, xz, zstd, bzip2, or a zip's only file.

The packing is told from the first bytes, not from the name. Nothing is extracted to disk and nothing is
read whole, so a hostile archive can neither point elsewhere nor fill memory; what it unpacks to is
bounded by `BYTES_MAX` in all and, once past 64 MiB, by a thousandfold of the file, and the windows of the
decompressors are capped.
"""

from __future__ import annotations

import bz2
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, Protocol

import pyarrow as pa

from ..errors import DataError
from ..input_file import require_file

CHUNK_BYTES: Final = 1 << 20
BYTES_MAX: Final = 1 << 40
RATIO_MAX: Final = 1_000
RATIO_FREE_BYTES: Final = 64 << 20
XZ_MEMORY_MAX: Final = 256 << 20
"""xz -9 needs 65 MiB."""

_UNPACK_ERRORS: Final = (
    OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError,
    ValueError, MemoryError, pa.ArrowException,
)  # fmt: skip
"""What the decompressors raise on damaged input; RuntimeError stands for an encrypted member."""


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


_DECODERS: Final[dict[bytes, Callable[[], _Decoder]]] = {
    b"\x1f\x8b": _Gzip,
    # lzma.LZMAFile knows no limit of memory: a header may ask for 4 GiB.
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_MAX),
    b"BZh": bz2.BZ2Decompressor,
}
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZIP_MAGIC: Final = b"PK\x03\x04"


def chunks(path: Path, *, member: str | None = None, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield a file's unpacked bytes.

    Parameters
    ----------
    path : Path
    member : str, optional
        Of a zip; without it the zip must hold one file.
    chunk_bytes : int
        The most that a chunk holds.

    Raises
    ------
    DataError
        Absent, unreadable, damaged, or unpacking to more than is plausible.
    """
    require_file(path)
    done = 0
    try:
        packed_bytes = path.stat().st_size
        with path.open("rb") as raw:
            for chunk in _unpacked(raw, path, member, chunk_bytes):
                done += len(chunk)
                if done > BYTES_MAX or done > max(RATIO_FREE_BYTES, RATIO_MAX * packed_bytes):
                    raise DataError(
                        f"expected at most 1 TiB and {RATIO_MAX} times the packed bytes, was more",
                        path=path,
                        offset=done,
                    )
                yield chunk
    except _UNPACK_ERRORS as error:
        first_line = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"expected an undamaged file, was: {first_line}", path=path, offset=done) from error


def _unpacked(raw: IO[bytes], path: Path, member: str | None, chunk_bytes: int) -> Iterator[bytes]:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(_ZIP_MAGIC):
        with zipfile.ZipFile(raw) as archive, archive.open(member or only_member(archive, path)) as stream:
            yield from _read(stream, chunk_bytes)
    elif head.startswith(_ZSTD_MAGIC):
        # Arrow's reader keeps zstd's own limit of 128 MiB on the window.
        with pa.CompressedInputStream(raw, "zstd") as stream:
            yield from _read(stream, chunk_bytes)
    else:
        maker = next((maker for magic, maker in _DECODERS.items() if head.startswith(magic)), None)
        yield from _read(raw, chunk_bytes) if maker is None else _decoded(raw, maker, chunk_bytes)


def _read(stream: IO[bytes], chunk_bytes: int) -> Iterator[bytes]:
    while chunk := stream.read(chunk_bytes):
        yield chunk


def _decoded(raw: IO[bytes], maker: Callable[[], _Decoder], chunk_bytes: int) -> Iterator[bytes]:
    decoder, data = maker(), raw.read(chunk_bytes)
    while True:
        if chunk := decoder.decompress(data, chunk_bytes):
            yield chunk
        if decoder.eof:
            # Files may hold several members one after another, with padding of zeros between and behind them.
            data = decoder.unused_data.lstrip(b"\0")
            while not data:
                piece = raw.read(chunk_bytes)
                if not piece:
                    return
                data = piece.lstrip(b"\0")
            decoder = maker()
        else:
            data = raw.read(chunk_bytes) if decoder.needs_input else b""
            if decoder.needs_input and not data:
                raise EOFError("the compressed data ends early")


def only_member(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the name of a zip's only file."""
    names = [entry.filename for entry in archive.infolist() if not entry.filename.endswith("/")]
    if len(names) != 1:
        raise DataError(f"expected a zip of one file, was {len(names)}", path=path)
    return names[0]

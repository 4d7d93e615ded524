"""A recording's bytes, whatever it is packed in: raw, gzip, xz, bzip2, or a zip's only file.

The packing is told from the first bytes, not from the name. Nothing is extracted to disk and nothing is
read whole, so a hostile archive can neither point elsewhere nor fill memory; what it unpacks to is
bounded by `BYTES_MAX` in all and, once past 64 MiB, by a thousandfold of the file.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, cast

from ..errors import DataError

CHUNK_BYTES: Final = 1 << 20
BYTES_MAX: Final = 1 << 40
RATIO_MAX: Final = 1_000
RATIO_FREE_BYTES: Final = 64 << 20
XZ_MEMORY_MAX: Final = 256 << 20
"""xz -9 needs 65 MiB."""

_UNPACK_ERRORS: Final = (
    OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError,
    ValueError,
)  # fmt: skip
"""What the decompressors raise on damaged input; RuntimeError stands for an encrypted member."""


def chunks(path: Path, *, member: str | None = None, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield a file's unpacked bytes.

    Parameters
    ----------
    path : Path
    member : str, optional
        Of a zip; without it the zip must hold one file.
    chunk_bytes : int

    Raises
    ------
    DataError
        Absent, unreadable, damaged, or unpacking to more than is plausible.
    """
    if not path.is_file():
        raise DataError("expected an existing file", path=path)
    done, packed_bytes = 0, path.stat().st_size
    with ExitStack() as stack:
        try:
            stream = _opened(path, member, stack)
            while chunk := stream.read(chunk_bytes):
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
            raise DataError(
                f"expected an undamaged file, was: {first_line}", path=path, offset=done
            ) from error


def _opened(path: Path, member: str | None, stack: ExitStack) -> IO[bytes]:
    raw = stack.enter_context(path.open("rb"))
    magic = raw.read(6)
    raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw)))
    if magic == b"\xfd7zXZ\x00":
        return cast(IO[bytes], stack.enter_context(io.BufferedReader(_Xz(raw), CHUNK_BYTES)))
    if magic[:3] == b"BZh":
        return stack.enter_context(bz2.BZ2File(raw))
    if magic[:4] == b"PK\x03\x04":
        archive = stack.enter_context(zipfile.ZipFile(raw))
        return stack.enter_context(archive.open(member or only_member(archive, path)))
    return raw


class _Xz(io.RawIOBase):
    """As lzma.LZMAFile, which knows no limit of memory: a header may ask for 4 GiB."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._inner, self._packed = raw, _xz_decompressor(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._inner.eof:
                # Files may hold several streams one after another; padding of zeros ends them.
                self._packed = (self._inner.unused_data or self._raw.read(CHUNK_BYTES)).lstrip(b"\0")
                if not self._packed:
                    return 0
                self._inner = _xz_decompressor()
            elif self._inner.needs_input and not self._packed:
                self._packed = self._raw.read(CHUNK_BYTES)
                if not self._packed:
                    raise EOFError("the compressed data ends early")
            found = self._inner.decompress(self._packed, len(buffer))
            self._packed = b""
            if found:
                buffer[: len(found)] = found
                return len(found)


def _xz_decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_MAX)


def only_member(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the name of a zip's only file."""
    names = [entry.filename for entry in archive.infolist() if not entry.filename.endswith("/")]
    if len(names) != 1:
        raise DataError(f"expected a zip of one file, was {len(names)}", path=path)
    return names[0]

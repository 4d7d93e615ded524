"""A text file's bytes for a CSV parser, which would refuse the whole file for one wrong byte."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import Final

import pyarrow as pa

HEAD_BYTES: Final = 1 << 16


class TextStream(io.RawIOBase):
    """Valid UTF-8: what is not comes as the escape of its byte.

    Parameters
    ----------
    path : Path
        Compression is told by the suffix.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._source = pa.input_stream(str(path), compression="detect")
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, none at the end."""
        while not self._held:
            data = self._source.read(size if size >= 0 else None)
            self._held = self._decoder.decode(data, not data).encode()
            if not data:
                break
        # Wrong bytes grow, and the caller's buffer does not.
        cut = len(self._held) if size < 0 else size
        found, self._held = self._held[:cut], self._held[cut:]
        return found

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def is_quoted(path: Path) -> bool:
    """Tell whether a CSV puts cells into quotation marks: more of its first lines pair them than do not.

    A mark that damage made would open a cell of all lines up to the next.
    """
    with TextStream(path) as stream:
        lines = stream.read(HEAD_BYTES).split(b"\n")
    marks = [count for line in lines if (count := line.count(b'"'))]
    return 2 * sum(count % 2 == 0 for count in marks) > len(marks)

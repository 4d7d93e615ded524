"""Rows of a CSV that have another number of columns than the others: cut, run together, or no row at all.

pyarrow would refuse the file for one of them. Here each costs itself, and those behind it keep their numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from .errors import DataError
from .importers.damage import SHARE_MAX, Damage

COLUMNS_RULE: Final = "a row must have as many columns as the header"
_FOUND_BYTES_MAX: Final = 8 << 20


class RaggedRows:
    """One reading of a file.

    Parameters
    ----------
    path : Path
    header_lines : int
    reject : callable
        Takes the row, zero-based without the header, and its text.
    share_max : float
        Of the rows that may be so, as for `Damage`.
    first_row : int
        Rows before it were told to another reading, which this one takes up.
    """

    def __init__(
        self,
        path: Path,
        *,
        header_lines: int = 1,
        reject: Callable[[int, str], None] = lambda row, text: None,
        share_max: float = SHARE_MAX,
        first_row: int = 0,
    ) -> None:
        self._path, self._header_lines, self._reject = path, header_lines, reject
        self._damage, self._first_row = Damage(share_max), first_row
        self._found: deque[tuple[int, str]] = deque()
        self._found_bytes = self._row = 0

    def skip(self, row: Any) -> str:
        """Leave a row out; what the parser calls."""
        # The parser counts from 1, the header included, and no empty lines: as rows are counted here.
        self._found.append((row.number - 1 - self._header_lines, row.text))
        self._found_bytes += len(row.text)
        # Before its first good row the parser hands nothing on, however long that takes.
        return "skip" if self._found_bytes <= _FOUND_BYTES_MAX else "error"

    def parts(self, batch: Any) -> Iterator[tuple[int, Any]]:
        """Yield a batch of the good rows in parts that stand together in the file, each with its row."""
        first = 0
        while first < batch.num_rows:
            self._tell(up_to=self._row)
            stop = batch.num_rows
            if self._found:
                stop = min(stop, first + self._found[0][0] - self._row)
            self._damage.lines += stop - first
            self._row += stop - first
            yield self._row - (stop - first), batch.slice(first, stop - first)
            first = stop

    def finish(self) -> None:
        """Tell those at the end, and judge how many there were.

        Raises
        ------
        DataError
            More than are let through.
        """
        while self._found:
            self._tell(up_to=self._found[0][0])
        self._damage.settle()

    def _tell(self, *, up_to: int) -> None:
        while self._found and self._found[0][0] <= up_to:
            row, text = self._found.popleft()
            self._found_bytes -= len(text)
            if row >= self._first_row:
                self._reject(row, text)
            self._damage.lines += 1
            self._damage.take(DataError(f"{COLUMNS_RULE}, was {text[:80]!r}", path=self._path, row=row))
            up_to = self._row = row + 1

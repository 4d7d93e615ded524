"""What the importers of line-based feeds share: the head that fixes the grid, and the loop over lines.

A feed is a decoder: it is given one line at a time and adds groups to `EventColumns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..columns import TS_NS_MAX
from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut, Quarantine
from ..table_file import files_sha256
from .event_columns import EventColumns, TimeOrder, in_blocks
from .grid import SAMPLED_MAX, Grid
from .text_lines import lines

HEAD_LINES_MAX: Final = 20_000
_TAKEN_EVENTS: Final = 8_192

Pairs = Iterable[tuple[str, str]]


class Decoder(Protocol):
    """One feed of one instrument being read."""

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        """Add what a line says to the columns."""

    def finish(self) -> None:
        """Add what was held back until the end."""

    def notes(self) -> tuple[str, ...]:
        """Say what a reader should know, besides what was left out."""


class Observer(Protocol):
    """Says what a line holds: the symbol, what kind of message it is, and its prices and sizes."""

    def __call__(self, line: bytes, *, path: Path, row: int) -> tuple[str, str, Pairs] | None: ...


@dataclass(kw_only=True, slots=True)
class Head:
    """What the first lines say about one symbol."""

    prices: list[str] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)


def read_heads(
    paths: Sequence[Path], observe: Observer, *, wanted: str | None = None, whole: bool = False
) -> dict[str, Head]:
    """Return the head of each symbol, from the first lines of the first file.

    Parameters
    ----------
    wanted : str, optional
        Read on through all files until this symbol was found, and as many lines from there.
    whole : bool
        Read all files to their end, so that no symbol is missed.
    """
    heads: dict[str, Head] = {}
    left = HEAD_LINES_MAX
    for path in paths:
        for row, line in lines(path):
            searching = whole or (wanted is not None and wanted not in heads)
            if left <= 0 and not searching:
                return heads
            left -= 1
            found = observe(line, path=path, row=row)
            if found is None:
                continue
            symbol, kind, pairs = found
            if left <= 0 and symbol == wanted and symbol not in heads:
                left = HEAD_LINES_MAX
            head = heads.setdefault(symbol, Head())
            head.kinds.add(kind)
            if len(head.prices) < SAMPLED_MAX:
                for price, size in pairs:
                    head.prices.append(price)
                    head.sizes.append(size)
        if not whole and (wanted is None or wanted in heads):
            return heads
    return heads


def chosen_symbol(heads: dict[str, Head], symbol: str | None, *, path: Path) -> str:
    """Return the symbol asked for, or the only one.

    Raises
    ------
    DataError
        There is none of that name; or several, and none was asked for.
    """
    known = sorted(heads)
    if symbol is None and len(known) == 1:
        return known[0]
    if symbol is None or symbol not in heads:
        wanted = "one of its symbols, given as --symbol" if symbol is None else f"messages of {symbol}"
        raise DataError(f"expected {wanted}, was {', '.join(known) or 'none'}", path=path)
    return symbol


def in_order_of_name(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files to read one after another; recorders put the date into the name."""
    if not paths:
        raise ValueError("expected at least one file")
    for path in paths:
        if not path.is_file():
            raise DataError("expected an existing file", path=path)
    return tuple(sorted(paths))


def require_time(ts_ns: int, *, path: Path, row: int) -> int:
    """Return a time between 1970 and 2200."""
    if not 0 <= ts_ns <= TS_NS_MAX:
        raise DataError(f"time must lie between 1970 and 2200, was {ts_ns} ns", path=path, row=row)
    return ts_ns


class FeedEvents:
    """The events of one instrument of a line-based feed.

    Parameters
    ----------
    paths : tuple of Path
        In order of time.
    instrument : Instrument
    title : str
        What the recording is.
    decoder : callable
        Makes a fresh decoder that fills the given columns and tells `LeftOut` what becomes no event.

    Attributes
    ----------
    quarantine : Quarantine or None
        Takes the rows that are rejected.
    """

    def __init__(
        self,
        paths: tuple[Path, ...],
        *,
        instrument: Instrument,
        title: str,
        decoder: Callable[[EventColumns, LeftOut], Decoder],
    ) -> None:
        self.paths, self.instrument, self._title, self._decoder = paths, instrument, title, decoder
        self.notes: tuple[str, ...] = ()
        self.quarantine: Quarantine | None = None

    @property
    def source(self) -> str:
        names = ", ".join(path.name for path in self.paths)
        return f"{self._title} {self.instrument.symbol} in {names} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(self.paths)

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield events in order of venue time."""
        return in_blocks(self._pieces(), block_events)

    def _pieces(self) -> Iterator[NDArray[np.void]]:
        left, order = LeftOut(self.quarantine), TimeOrder()
        columns = EventColumns(
            Grid.of(self.instrument), instrument_id=self.instrument.instrument_id, left=left
        )
        decoder = self._decoder(columns, left)
        for path in self.paths:
            columns.path = path
            for row, line in lines(path):
                left.at(path, row, line)
                decoder.line(line, path=path, row=row)
                if len(columns) >= _TAKEN_EVENTS:
                    yield order.push(columns.take())
            yield order.push(columns.take())
        decoder.finish()
        yield order.push(columns.take())
        yield order.flush()
        if order.late:
            left.pass_over(
                "events came later than could be put in order: given the time already reached", order.late
            )
        self.notes = decoder.notes() + left.notes()

    def packets(self) -> Iterator[tuple[Path, int, NDArray[np.void], Decoder]]:
        """Yield (file, row, events, decoder) line by line in order of arrival, for verification."""
        left = LeftOut()
        columns = EventColumns(
            Grid.of(self.instrument), instrument_id=self.instrument.instrument_id, left=left
        )
        decoder = self._decoder(columns, left)
        path, row = self.paths[0], 0
        for path in self.paths:
            columns.path = path
            for row, line in lines(path):
                left.at(path, row, line)
                decoder.line(line, path=path, row=row)
                yield path, row, columns.take(), decoder
        decoder.finish()
        yield path, row, columns.take(), decoder

"""What the importers of line-based feeds share: the head that fixes the grid, and the loop over lines.

A feed is a decoder: it is given one line at a time and adds groups to `EventColumns`. A line that it refuses
costs itself, see `damage`; the decoder is told, since it knows what depended on the line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..columns import TS_NS_MAX
from ..errors import DataError
from ..input_file import require_file
from ..instrument import Instrument
from ..quarantine import LeftOut, Quarantine
from ..table_file import files_sha256
from . import Verification
from .damage import DAMAGED_RULE, SHARE_MAX, TWIN_MESSAGES, Damage, WrongRecording, is_twin
from .event_columns import EventColumns, TimeOrder, in_blocks
from .grid import SAMPLED_MAX, Grid, OffGrid, is_plain
from .stream_clocks import StreamClocks
from .text_lines import lines

HEAD_LINES_MAX: Final = 20_000
HEAD_DAMAGED_MAX: Final = 0.5
"""Share of the first lines; the loop over all of them has the limit that holds."""
_TAKEN_EVENTS: Final = 8_192
_AHEAD_LINES: Final = 64
_AHEAD_TIMES: Final = 4
_TWIN_SHARE: Final = 100

Pairs = Iterable[tuple[str, str]]


class Decoder(Protocol):
    """One feed of one instrument being read."""

    clocks: StreamClocks

    def line(self, line: bytes, *, path: Path, row: int) -> None:
        """Add what a line says to the columns."""

    def time_of(self, line: bytes, *, path: Path, row: int) -> tuple[str, int] | None:
        """Return the stream of the instrument and the venue time that a line tells, changing nothing."""

    def lost(self, line: bytes) -> None:
        """Hear that a line was refused: whatever it said did not happen here."""

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
    messages: int = 0


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

    Raises
    ------
    DataError
        Half of the lines are damaged, or no other holds anything.
    """
    heads: dict[str, Head] = {}
    damage = Damage(HEAD_DAMAGED_MAX)
    _fill_heads(heads, damage, paths, observe, wanted, whole)
    damage.settle()
    for head in heads.values():
        _drop_what_is_no_number(head)
    if damage.first is not None and (not heads or (wanted is not None and wanted not in heads)):
        raise damage.first
    return heads


def _fill_heads(
    heads: dict[str, Head],
    damage: Damage,
    paths: Sequence[Path],
    observe: Observer,
    wanted: str | None,
    whole: bool,
) -> None:
    left = HEAD_LINES_MAX
    for path in paths:
        for row, line in lines(path):
            searching = whole or (wanted is not None and wanted not in heads)
            if left <= 0 and not searching:
                return
            left -= 1
            damage.lines += 1
            try:
                found = observe(line, path=path, row=row)
            except DataError as error:
                damage.take(error)
                continue
            if found is None:
                continue
            symbol, kind, pairs = found
            if left <= 0 and symbol == wanted and symbol not in heads:
                left = HEAD_LINES_MAX
            head = heads.setdefault(symbol, Head())
            head.kinds.add(kind)
            head.messages += 1
            if len(head.prices) < SAMPLED_MAX:
                for price, size in pairs:
                    head.prices.append(price)
                    head.sizes.append(size)
        if not whole and (wanted is None or wanted in heads):
            return


def _drop_what_is_no_number(head: Head) -> None:
    bad = {text for text in {*head.prices, *head.sizes} if not is_plain(text)}
    if bad:
        pairs = [pair for pair in zip(head.prices, head.sizes, strict=True) if bad.isdisjoint(pair)]
        head.prices, head.sizes = [price for price, _ in pairs], [size for _, size in pairs]


def without_twins(heads: dict[str, Head]) -> dict[str, Head]:
    """Leave out what damage makes of a symbol: seen once or twice, a letter away from a frequent one."""

    def is_damaged(name: str, other: str) -> bool:
        return (
            heads[name].messages <= TWIN_MESSAGES
            and heads[name].messages * _TWIN_SHARE <= heads[other].messages
            and is_twin(name, other)
        )

    return {name: head for name, head in heads.items() if not any(is_damaged(name, other) for other in heads)}


def chosen_symbol(heads: dict[str, Head], symbol: str | None, *, path: Path) -> str:
    """Return the symbol asked for, or the only one.

    Raises
    ------
    DataError
        There is none of that name; or several, and none was asked for.
    """
    known = sorted(heads if symbol in heads else without_twins(heads))
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
        require_file(path)
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
        Takes the rows that are rejected, and says how many may be damaged.
    damage : Damage
        Of the latest reading.
    """

    def __init__(
        self,
        paths: tuple[Path, ...],
        *,
        instrument: Instrument,
        title: str,
        decoder: Callable[[EventColumns, LeftOut], Decoder],
        strict: bool = False,
    ) -> None:
        self.paths, self.instrument, self._title, self._decoder = paths, instrument, title, decoder
        self._strict = strict
        self.notes: tuple[str, ...] = ()
        self.quarantine: Quarantine | None = None
        self.damage = Damage()

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
        self.damage = Damage(SHARE_MAX if self.quarantine is None else self.quarantine.damaged_share_max)
        for _ in taken_lines(self.paths, decoder, columns, left, self.damage, strict=self._strict):
            if len(columns) >= _TAKEN_EVENTS:
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
        self.damage = Damage()
        path, row = self.paths[0], 0
        for path, row in taken_lines(self.paths, decoder, columns, left, self.damage):
            yield path, row, columns.take(), decoder
        decoder.finish()
        yield path, row, columns.take(), decoder


def taken_lines(
    paths: Sequence[Path],
    decoder: Decoder,
    columns: EventColumns,
    left: LeftOut,
    damage: Damage,
    *,
    strict: bool = False,
) -> Iterator[tuple[Path, int]]:
    """Hand a decoder all lines and yield the place of each behind it.

    Raises
    ------
    DataError
        A line is damaged and `strict`; more are damaged than are let through.
    OffGrid
        A number needs a finer grid.
    """
    for path in paths:
        columns.path = path
        coming = _LinesAhead(path)
        decoder.clocks.ahead = partial(_times_ahead, decoder, coming, path)
        for row, line in coming:
            damage.lines += 1
            left.at(path, row, line)
            place = columns.place()
            try:
                decoder.line(line, path=path, row=row)
            except (OffGrid, WrongRecording):
                raise
            except DataError as error:
                if strict:
                    raise
                columns.back_to(place)
                left.reject(
                    DAMAGED_RULE, raw={"line": line.decode("utf-8", "backslashreplace"), "why": error.rule}
                )
                damage.take(error)
                decoder.lost(line)
            yield path, row
    damage.settle()


class _LinesAhead:
    """Lines of a file, of which the next can be looked at before their turn."""

    def __init__(self, path: Path) -> None:
        self._source = lines(path)
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._end: DataError | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._end is not None:
                raise self._end
            for line in self._source:
                yield line
                if self._waiting:
                    break
            else:
                return

    def peek(self) -> Iterator[tuple[int, bytes]]:
        """Yield the next lines, which stay where they are."""
        yield from tuple(self._waiting)
        while len(self._waiting) < _AHEAD_LINES and self._end is None:
            try:
                line = next(self._source, None)
            except DataError as error:
                # Not of the line being decoded: it waits for its turn.
                self._end = error
                return
            if line is None:
                return
            self._waiting.append(line)
            yield line


def _times_ahead(decoder: Decoder, coming: _LinesAhead, path: Path, stream: str) -> list[int]:
    """Return the next times of a stream."""
    found: list[int] = []
    for row, line in coming.peek():
        try:
            told = decoder.time_of(line, path=path, row=row)
        except DataError:
            continue
        if told is not None and told[0] == stream:
            found.append(told[1])
            if len(found) == _AHEAD_TIMES:
                break
    return found


def counting_damage(check: Verification, readings: Iterable[Damage]) -> Verification:
    """Count every damaged line as a comparison that failed; symbols of one recording share their lines."""
    worst = max(readings, key=lambda damage: damage.damaged, default=None)
    if worst is None or worst.first is None:
        return check
    return replace(
        check,
        total=check.total + worst.damaged,
        first_mismatch=str(worst.first) if check.first_mismatch is None else check.first_mismatch,
        notes=(*check.notes, f"{worst.damaged:,} of {worst.lines:,} lines are damaged"),
    )

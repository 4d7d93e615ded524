"""Quote recordings: the price path of the main job, from files or from a generator.

`open_quotes` accepts one file, a folder of files, or a tree that holds several data sets. Files are put
in order of time by what they say inside, never by name. Blocks are decoded as they are asked for, so
memory does not grow with the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from . import columns as rule
from .errors import DataError
from .instrument import Instrument
from .quarantine import Quarantine
from .quote_file import METADATA_PREFIX, QuoteColumns, QuoteFile, find_dialect, names_quotes, symbol_in
from .table_file import CSV_SUFFIXES, PARQUET_SUFFIXES, Section, csv_header, files_sha256, open_table

CROSSED_RULE: Final = "bid must not exceed ask"


class QuoteBlock(NamedTuple):
    """Consecutive quotes; every array is C-contiguous, as compiled readers require.

    Parameters
    ----------
    ts_ns : array of int64, shape (n,)
        Never descending, ns since the Unix epoch.
    bid_ticks, ask_ticks : array of int32, shape (n,)
        Grid ticks, positive, bid <= ask.
    pressure : array of int8, shape (n,), or None
        Latent order-flow pressure of a generated market, -127 (selling) to 127 (buying).
    """

    ts_ns: NDArray[np.int64]
    bid_ticks: NDArray[np.int32]
    ask_ticks: NDArray[np.int32]
    pressure: NDArray[np.int8] | None


@runtime_checkable
class QuoteRecording(Protocol):
    """One instrument's best bid and offer over time."""

    @property
    def instrument(self) -> Instrument: ...
    @property
    def source(self) -> str:
        """What this is, for the headline of a report."""

    @property
    def recorded(self) -> bool:
        """True for a recording of a real market, False for a generated one."""

    @property
    def first_ns(self) -> int: ...
    @property
    def last_ns(self) -> int: ...
    @property
    def data_hash(self) -> str:
        """SHA-256 of the files, or of the generator's parameters."""

    def rows(self, until_ns: int | None = None) -> int:
        """Return the number of stored rows before `until_ns`, quarantined ones included."""

    def blocks(
        self, *, start_ns: int | None = None, stop_ns: int | None = None, block_rows: int = 65_536
    ) -> Iterator[QuoteBlock]:
        """Yield blocks of at most `block_rows` quotes with start_ns <= ts_ns < stop_ns."""


def open_quotes(
    path: Path | str, *, strict: bool = False, instrument: Instrument | None = None
) -> QuoteFiles:
    """Open recorded quotes.

    Parameters
    ----------
    path : path
        A Parquet or CSV file, a folder of them, or a tree holding several data sets, of which the one
        with most rows is taken and the others are listed in `notes`.
    strict : bool
        Make a crossed quote (bid > ask) an error instead of leaving it out and counting it.
    instrument : Instrument, optional
        Overrides what names, metadata and prices tell, above all `price_increment`.

    Raises
    ------
    DataError
        Nothing there holds quotes, or a file is damaged, out of order or overlaps another.
    """
    path = Path(path)
    if path.is_dir():
        files, notes = _find_files(path)
    else:
        files, notes = [QuoteFile(path)], []
    return QuoteFiles(files, root=path, notes=notes, strict=strict, instrument=instrument)


class QuoteFiles:
    """Quotes of one instrument in one or more files, in order of time.

    Parameters
    ----------
    files : sequence of QuoteFile
    root : Path
        What the user named.
    """

    def __init__(
        self,
        files: Sequence[QuoteFile],
        *,
        root: Path,
        notes: Sequence[str] = (),
        strict: bool = False,
        instrument: Instrument | None = None,
    ) -> None:
        self.files = tuple(sorted(files, key=lambda file: (file.first_ns, file.last_ns)))
        for early, late in pairwise(self.files):
            if late.first_ns < early.last_ns:
                raise DataError(
                    f"files must not overlap in time: expected to start at or after {_utc(early.last_ns)}, "
                    f"where {early.path.name} ends, was {_utc(late.first_ns)}",
                    path=late.path,
                    row=0,
                )
        self.root, self.strict = root, strict
        self.instrument = self._instrument() if instrument is None else instrument
        self.recorded = all(
            file.table.metadata.get(METADATA_PREFIX + "recorded", "true") == "true" for file in self.files
        )
        self._notes = tuple(notes)
        # Rows already judged, by (file, section): a second pass must not count a quote again.
        self._judged: dict[tuple[int, int], int] = {}
        self.quarantined = 0
        self.unsized = 0
        self.locked = 0
        self.quarantine: Quarantine | None = None

    @property
    def first_ns(self) -> int:
        return self.files[0].first_ns

    @property
    def last_ns(self) -> int:
        return self.files[-1].last_ns

    @property
    def source(self) -> str:
        kind = "recorded" if self.recorded else "generated"
        count = f"{len(self.files)} file{'s' if len(self.files) > 1 else ''}"
        days = f"{_utc(self.first_ns)[:10]} to {_utc(self.last_ns)[:10]}"
        return f"{self.rows():,} {kind} {self.instrument.symbol} quotes, {days}, {count}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report should say about this input; complete once the blocks have been read."""
        found = list(self._notes)
        if self.quarantined:
            found.append(f"{self.quarantined:,} crossed quotes were left out")
        if self.unsized:
            found.append(f"{self.unsized:,} quotes with sizes between lots, or beyond them, were left out")
        if self.locked:
            found.append(f"{self.locked:,} locked quotes (bid = ask) were kept")
        return tuple(found)

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(tuple(file.path for file in self.files))

    def rows(self, until_ns: int | None = None) -> int:
        """Return the number of stored rows before `until_ns`, quarantined ones included."""
        if until_ns is None or until_ns > self.last_ns:
            return sum(file.rows for file in self.files)
        total = 0
        for file in self.files:
            if file.last_ns < until_ns:
                total += file.rows
                continue
            for section, (first_ns, last_ns) in zip(file.sections, file.extents, strict=True):
                if last_ns < until_ns and section.rows is not None:
                    total += section.rows
                elif first_ns < until_ns:
                    total += sum(int(np.count_nonzero(ts_ns < until_ns)) for _, ts_ns in file.times(section))
        return total

    def blocks(
        self, *, start_ns: int | None = None, stop_ns: int | None = None, block_rows: int = 65_536
    ) -> Iterator[QuoteBlock]:
        """Yield blocks of at most `block_rows` quotes with start_ns <= ts_ns < stop_ns."""
        for columns in self.columns(start_ns=start_ns, stop_ns=stop_ns, block_rows=block_rows):
            yield QuoteBlock(
                np.ascontiguousarray(columns.ts_ns),
                np.ascontiguousarray(columns.bid_ticks),
                np.ascontiguousarray(columns.ask_ticks),
                None if columns.pressure is None else np.ascontiguousarray(columns.pressure),
            )

    def columns(
        self,
        *,
        start_ns: int | None = None,
        stop_ns: int | None = None,
        block_rows: int = 65_536,
        sizes: bool = False,
        keep_crossed: bool = False,
    ) -> Iterator[QuoteColumns]:
        """Yield what `blocks` yields, with sizes in lots; `keep_crossed` lets crossed quotes through."""
        previous_ns: int | None = None
        for place, file in enumerate(self.files):
            if (start_ns is not None and file.last_ns < start_ns) or (
                stop_ns is not None and file.first_ns >= stop_ns
            ):
                continue
            for section, (first_ns, last_ns) in zip(file.sections, file.extents, strict=True):
                if (start_ns is not None and last_ns < start_ns) or (
                    stop_ns is not None and first_ns >= stop_ns
                ):
                    continue
                increment = self.instrument.price_increment
                for batch in file.batches(section, increment=increment, batch_rows=block_rows, sizes=sizes):
                    rule.require_ascending(batch.ts_ns, previous_ns, path=file.path, row=batch.row)
                    previous_ns = int(batch.ts_ns[-1])
                    kept = self._judge(batch, place, section, file.path, keep_crossed=keep_crossed)
                    kept = _within(kept, start_ns, stop_ns)
                    if kept.ts_ns.size:
                        yield kept
                    if stop_ns is not None and previous_ns >= stop_ns:
                        return

    def _judge(
        self, batch: QuoteColumns, place: int, section: Section, path: Path, *, keep_crossed: bool
    ) -> QuoteColumns:
        """Count locked quotes; leave out crossed ones and odd sizes, or refuse them when strict."""
        bid, ask = batch.bid_ticks, batch.ask_ticks
        touching = bid >= ask
        judged = self._judged.get((place, section.index), section.first_row)
        self._judged[place, section.index] = max(judged, batch.row + len(bid))
        fresh = slice(max(judged - batch.row, 0), None)
        batch, sized = self._in_lots(batch, fresh.start, path)
        if not touching.any():
            return batch if sized.all() else _rows_of(batch, sized)
        crossed = bid > ask
        if self.strict and crossed.any():
            at = int(np.argmax(crossed))
            raise DataError(
                f"{CROSSED_RULE}, was {bid[at]} over {ask[at]} ticks", path=path, row=batch.row + at
            )
        crossed_count = int(np.count_nonzero(crossed[fresh]))
        self.quarantined += 0 if keep_crossed else crossed_count
        if self.quarantine is not None and not keep_crossed:
            for at in np.flatnonzero(crossed)[max(len(crossed[crossed]) - crossed_count, 0) :].tolist():
                raw = {"ts_ns": batch.ts_ns[at], "bid_ticks": bid[at], "ask_ticks": ask[at]}
                self.quarantine.add(file=path, row=batch.row + at, rule=CROSSED_RULE, raw=raw)
        self.locked += int(np.count_nonzero(touching[fresh])) - crossed_count
        kept = sized if keep_crossed else sized & ~crossed
        return batch if kept.all() else _rows_of(batch, kept)

    def _in_lots(self, batch: QuoteColumns, fresh: int, path: Path) -> tuple[QuoteColumns, NDArray[np.bool_]]:
        """Return the batch with its sizes in lots, and which rows have sizes that are lots."""
        good = np.ones(len(batch.ts_ns), bool)
        if batch.bid_size is None or batch.ask_size is None:
            return batch, good
        found = []
        for name, sizes in (("bid_size", batch.bid_size), ("ask_size", batch.ask_size)):
            lots = rule.JudgedLots(sizes, self.instrument.lot_size, most=rule.SINGLE_LOTS_MAX)
            found.append(lots.lots)
            for at, broken in lots.bad():
                if self.strict:
                    raise DataError(f"{broken}, was {sizes[at]}", path=path, row=batch.row + at)
                if good[at] and at >= fresh:
                    self.unsized += 1
                    if self.quarantine is not None:
                        raw = {"ts_ns": batch.ts_ns[at], name: sizes[at]}
                        self.quarantine.add(file=path, row=batch.row + at, rule=broken, raw=raw)
            good &= lots.good
        return batch._replace(bid_size=found[0], ask_size=found[1]), good

    def _instrument(self) -> Instrument:
        increments = {file.increment() for file in self.files}
        symbol = self.files[0].symbol or self.files[0].path.stem.upper()
        currency = symbol[3:] if symbol_in(symbol) else "USD"
        if len(increments) > 1 and any(file.dialect.integer for file in self.files):
            raise DataError(
                f"files of integer prices must share one price increment, was {sorted(increments)}",
                path=self.files[0].path,
            )
        return Instrument(
            symbol=symbol,
            currency=currency,
            price_increment=min(increments),
            lot_size=min(file.lot_size() for file in self.files),
        )


def _rows_of(batch: QuoteColumns, chosen: NDArray[np.bool_] | slice) -> QuoteColumns:
    return QuoteColumns(
        row=batch.row,
        ts_ns=batch.ts_ns[chosen],
        bid_ticks=batch.bid_ticks[chosen],
        ask_ticks=batch.ask_ticks[chosen],
        pressure=None if batch.pressure is None else batch.pressure[chosen],
        bid_size=None if batch.bid_size is None else batch.bid_size[chosen],
        ask_size=None if batch.ask_size is None else batch.ask_size[chosen],
    )


def _within(batch: QuoteColumns, start_ns: int | None, stop_ns: int | None) -> QuoteColumns:
    """Return the rows with start_ns <= ts_ns < stop_ns of an ascending batch."""
    low = 0 if start_ns is None else int(np.searchsorted(batch.ts_ns, start_ns))
    high = len(batch.ts_ns) if stop_ns is None else int(np.searchsorted(batch.ts_ns, stop_ns))
    return batch if low == 0 and high == len(batch.ts_ns) else _rows_of(batch, slice(low, max(low, high)))


def _find_files(root: Path) -> tuple[list[QuoteFile], list[str]]:
    """Return the quote files of the folder with most rows, and notes on what else was found."""
    groups: dict[tuple[Path, str | None], list[QuoteFile]] = {}
    damaged: dict[Path, DataError] = {}
    ignored = 0
    # CSV files are considered only where the user points at their folder: a tree may hold any amount
    # of text that has nothing to do with quotes.
    paths = [path for path in root.rglob("*") if path.name.lower().endswith(PARQUET_SUFFIXES)]
    paths = paths or [path for path in root.iterdir() if path.name.lower().endswith(CSV_SUFFIXES)]
    for path in sorted(path for path in paths if path.is_file()):
        try:
            if _is_prose(path):
                ignored += 1
                continue
            table = open_table(path)
            if find_dialect(table) is None:
                ignored += 1
                continue
            file = QuoteFile(path, table=table)
        except DataError as error:
            damaged.setdefault(path.parent, error)
            continue
        groups.setdefault((path.parent, symbol_in(path.name)), []).append(file)
    if not groups:
        if damaged:
            raise next(iter(damaged.values()))
        raise DataError(
            "expected Parquet files with a time, bid, and ask or spread, "
            f"was none of {len(paths)} candidate files",
            path=root,
        )
    ranked = sorted(groups.items(), key=lambda item: (-sum(file.rows for file in item[1]), item[0][0]))
    (folder, _), chosen = ranked[0]
    # A damaged file beside the chosen ones would leave a hole in the history.
    if folder in damaged:
        raise damaged[folder]
    notes = [
        f"also found, not used: {sum(file.rows for file in files):,} {symbol or ''} quotes in {place.name}"
        for (place, symbol), files in ranked[1:]
    ]
    if ignored:
        notes.append(f"{ignored} files without quotes were ignored")
    notes += [f"damaged, not used: {error}" for error in damaged.values()]
    return chosen, notes


def _is_prose(path: Path) -> bool:
    """Tell whether a text file is something else than a table of quotes, such as a note on the data."""
    if path.suffix.lower() != ".txt":
        return False
    try:
        return not names_quotes(csv_header(path)[1])
    except DataError:
        return True


def _utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns / 1e9, UTC).isoformat(timespec="seconds")

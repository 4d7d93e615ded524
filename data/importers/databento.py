"""Databento DBN files: MBO, MBP-1, MBP-10, TBBO, trades, BBO and their consolidated kin.

``docs/importers/DATABENTO.md`` says what becomes of each record. Needs the extra ``anytick[databento]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..instrument import Instrument, Session
from ..quarantine import LeftOut, Quarantine
from ..resumable import Marked, PiecewiseSource, Place
from ..schema import EVENT_DTYPE
from ..table_file import files_sha256
from . import Verification
from .databento_events import DbnEvents
from .dbn_records import DTYPES, MBO_DTYPE, PRICE_UNDEFINED, DbnFile, Run, official, official_errors
from .dbn_symbols import SAMPLED_RUNS, SymbolFilter, intervals_of, runs_of_one_id
from .feed_source import in_order_of_name
from .grid import instrument_of

SCHEMAS: Final = (
    "mbo", "mbp-1", "mbp-10", "tbbo", "trades", "bbo-1s", "bbo-1m", "cmbp-1", "cbbo-1s", "cbbo-1m", "tcbbo",
    "None",
)  # fmt: skip
"""Those that become events; a live recording of several schemas names none."""

_NANO: Final = 9
_CLEARS_APART: Final = 4_096
_NOTHING: Final = np.empty(0, EVENT_DTYPE)


class DatabentoEvents(PiecewiseSource):
    """The events of one instrument of DBN files.

    Parameters
    ----------
    files : sequence of DbnFile
        In order of time.
    symbol : str
    filters : dict
        By file: which records are the symbol's.
    instrument : Instrument
    """

    def __init__(
        self,
        files: Sequence[DbnFile],
        *,
        symbol: str,
        filters: Mapping[Path, SymbolFilter],
        instrument: Instrument,
        strict: bool,
    ) -> None:
        self.files, self.symbol, self._filters, self._strict = tuple(files), symbol, filters, strict
        self.instrument = instrument
        self.notes: tuple[str, ...] = ()
        self.quarantine: Quarantine | None = None

    @property
    def source(self) -> str:
        names = ", ".join(file.path.name for file in self.files)
        first = self.files[0].metadata
        return f"Databento {first.dataset} {first.schema} {self.symbol} in {names} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(tuple(file.path for file in self.files))

    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield events in order of venue time."""
        left = LeftOut(self.quarantine)
        events = DbnEvents(self.instrument, left=left, strict=self._strict)
        reading = _Reading(events, left)
        begin: dict[str, Any] = {"file": 0, "record": {}} if place is None else place
        if place is not None:
            reading.go_on(place)
        for number in range(begin["file"], len(self.files)):
            file = self.files[number]
            events.path, quoted = file.path, file.metadata.schema in ("tbbo", "tcbbo")
            for run in file.runs(**(begin["record"] if number == begin["file"] else {})):
                mine = self._filters[file.path].mine(run.records)
                clears = _clears(run.records, mine)
                if clears[:1] == [0]:
                    yield _NOTHING, reading.place(number, run.place(0), is_clear=True)
                for first, last in pairwise((0, *filter(None, clears), len(run.records))):
                    told = reading.read(run, first, last, mine, quoted=quoted)
                    yield told, reading.place(number, run.place(last), is_clear=last in clears)
        yield events.finish(), None
        self.notes = left.notes()


class _Reading:
    """What one reading of a source knows of the records so far; another can take it up.

    Parameters
    ----------
    events : DbnEvents
    left : LeftOut
        Of `events`.
    """

    def __init__(self, events: DbnEvents, left: LeftOut) -> None:
        self._events, self._left = events, left
        self._last_id: int | None = None
        self._has_orders = False

    def read(
        self, run: Run, first: int, last: int, mine: NDArray[np.bool_], *, quoted: bool
    ) -> NDArray[np.void]:
        """Return the events of some records of a run."""
        rtype = int(run.records["rtype"][0])
        if rtype not in DTYPES:
            self._left.pass_over(f"records of type {rtype:#04x}", last - first)
            return _NOTHING
        at = np.flatnonzero(mine[first:last]) + first
        self._left.pass_over("records of other instruments", last - first - len(at))
        rows, records = at + run.row, run.records[at]
        self._has_orders |= records.dtype == MBO_DTYPE and len(records) > 0
        parts = [_NOTHING]
        for part in runs_of_one_id(records):
            number = int(records["instrument_id"][part][0])
            if self._last_id not in (None, number):
                parts += self._events.finish(), self._events.restart(records[part], rows[part])
                self._left.pass_over("changes of the instrument id, the book cleared at each")
            self._last_id = number
            parts.append(self._events.of(records[part], rows[part], quoted=quoted))
        return np.concatenate(parts)

    def place(self, file: int, record: dict[str, int], *, is_clear: bool) -> Place | None:
        """Return where another reading can go on; with orders in the book, only where it is cleared."""
        state = self._events.state()
        if state is None or (self._has_orders and not is_clear):
            return None
        return {
            "file": file, "record": record, "last_id": self._last_id, "events": state,
            "left": self._left.state(),
        }  # fmt: skip

    def go_on(self, place: Place) -> None:
        """Stand where another reading was."""
        self._last_id = place["last_id"]
        self._events.go_on(place["events"])
        self._left.go_on(place["left"])


def _clears(records: NDArray[np.void], mine: NDArray[np.bool_]) -> list[int]:
    """Return where orders of ours are cleared, places far enough apart to be worth one."""
    if records.dtype != MBO_DTYPE:
        return []
    found: list[int] = []
    for at in np.flatnonzero(mine & (records["action"] == b"R")).tolist():
        if not found or at - found[-1] >= _CLEARS_APART:
            found.append(at)
    return found


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> DatabentoEvents:
    """Open one symbol; files of definitions among the paths give its tick size.

    Raises
    ------
    DataError
        No such symbol, or several and none named; or the files hold no market data.
    """
    files = [DbnFile(path) for path in in_order_of_name(paths)]
    definitions = [file for file in files if str(file.metadata.schema) == "definition"]
    files = [file for file in files if file not in definitions]
    for file in files:
        if str(file.metadata.schema) not in SCHEMAS:
            raise DataError(
                f"expected one of the schemas {', '.join(SCHEMAS[:-1])}, was {file.metadata.schema}",
                path=file.path,
            )
    if not files:
        raise DataError("expected market data, was definitions alone", path=paths[0])
    known = sorted(set().union(*(intervals_of(file) for file in files)))
    if symbol is None and len(known) == 1:
        (symbol,) = known
    if symbol is None or symbol not in known:
        wanted = "one of its symbols, given as --symbol" if symbol is None else symbol
        raise DataError(f"expected {wanted}, was {', '.join(known[:20]) or 'none'}", path=files[0].path)
    filters = {file.path: SymbolFilter(file, symbol) for file in files}
    if instrument is None:
        instrument = _instrument(symbol, filters, files, definitions)
    return DatabentoEvents(files, symbol=symbol, filters=filters, instrument=instrument, strict=strict)


def _instrument(
    symbol: str,
    filters: Mapping[Path, SymbolFilter],
    files: Sequence[DbnFile],
    definitions: Sequence[DbnFile],
) -> Instrument:
    prices = _sampled_prices(filters, files)
    ids = frozenset[int]().union(*(chosen.ids for chosen in filters.values()))
    for file in definitions:
        for definition in _official_records(file):
            step = getattr(definition, "min_price_increment", PRICE_UNDEFINED)
            if getattr(definition, "instrument_id", None) in ids and 0 < step < PRICE_UNDEFINED:
                # Fifty multiples are taken for evidence of a tick; nothing finer is traded, spreads aside.
                prices = [_nano_text(step * factor) for factor in range(1, 101)] + prices
                break
    return instrument_of(symbol, prices, ["1"], path=files[0].path, session=Session())


def _sampled_prices(filters: Mapping[Path, SymbolFilter], files: Sequence[DbnFile]) -> list[str]:
    found: set[int] = set()
    for file in files:
        for _, records in islice(file.records(), SAMPLED_RUNS):
            if int(records["rtype"][0]) not in DTYPES:
                continue
            mine = records[filters[file.path].mine(records)]
            found.update(mine["price"].tolist())
            if "levels" in (mine.dtype.names or ()):
                found.update(mine["levels"]["bid_px"].ravel().tolist())
                found.update(mine["levels"]["ask_px"].ravel().tolist())
    return [_nano_text(price) for price in sorted(found - {PRICE_UNDEFINED})]


def _nano_text(price: int) -> str:
    sign, digits = "-" if price < 0 else "", f"{abs(price):010d}"
    return f"{sign}{digits[:-_NANO]}.{digits[-_NANO:]}"


def _official_records(file: DbnFile) -> Iterator[Any]:
    """Yield the records as the official decoder gives them, unchanged by version."""
    dbn = official()
    decoder = dbn.DBNDecoder(upgrade_policy=dbn.VersionUpgradePolicy.AS_IS)
    row = 0
    for piece in file.raw():
        with official_errors(file.path, "records the official decoder takes", row=row):
            decoder.write(piece)
            records = decoder.decode()
        for record in records:
            if not isinstance(record, dbn.Metadata):
                yield record
                row += 1


def verify(paths: Sequence[Path]) -> Verification:
    """Compare every record, field by field, with the official decoder's."""
    matched = total = 0
    first: str | None = None
    for path in in_order_of_name(paths):
        file = DbnFile(path)
        theirs = _official_records(file)
        for row, records in file.records():
            names = [name for name in records.dtype.names or () if name not in ("length", "levels")]
            for place, record in enumerate(records):
                other = next(theirs, None)
                wrong = "a record" if other is None else _difference(record, other, names)
                total += 1
                matched += wrong is None
                if wrong is not None and first is None:
                    first = f"{path}:row {row + place}: differs in {wrong}"
        surplus = sum(1 for _ in theirs)
        total += surplus
        if surplus and first is None:
            first = f"{path}: the official decoder has {surplus} records more"
    return Verification(
        matched=matched, total=total, what="records equal to the official decoder's", first_mismatch=first
    )


# Consolidated and sampled quotes have padding where the others have these.
_PADDED: Final = ("action", "depth", "ts_in_delta", "sequence")


def _difference(record: np.void, other: Any, names: Sequence[str]) -> str | None:
    """Return the first field in which a record differs from the official decoder's, or None."""
    for name in names:
        try:
            theirs = getattr(other, name, None)
        except (official().DBNError, ValueError) as error:
            return f"{name}: {error}"
        if theirs is None:
            if name in _PADDED:
                continue
            return f"{name}: the official decoder has none"
        ours = record[name].item()
        ours = ours.decode("latin-1") if isinstance(ours, bytes) else ours
        theirs = str(theirs) if isinstance(ours, str) else int(theirs)
        if ours != theirs:
            return f"{name}: expected {theirs}, was {ours}"
    if "levels" in (record.dtype.names or ()):
        for place, (level, theirs) in enumerate(zip(record["levels"], other.levels, strict=True)):
            for name in ("bid_px", "ask_px", "bid_sz", "ask_sz"):
                if int(level[name]) != getattr(theirs, name):
                    return f"level {place} {name}: expected {getattr(theirs, name)}, was {level[name]}"
    return None

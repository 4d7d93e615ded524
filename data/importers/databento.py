"""Databento DBN files: MBO, MBP-1, MBP-10, TBBO, trades, BBO and their consolidated kin.

``docs/importers/DATABENTO.md`` says what becomes of each record. Needs the extra ``anytick[databento]``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..instrument import Instrument
from ..table_file import files_sha256
from . import Verification
from .databento_events import DbnEvents
from .dbn_records import DTYPES, PRICE_UNDEFINED, DbnFile, official, official_errors
from .event_columns import in_blocks
from .feed_source import in_order_of_name
from .grid import instrument_of

SCHEMAS: Final = (
    "mbo", "mbp-1", "mbp-10", "tbbo", "trades", "bbo-1s", "bbo-1m", "cmbp-1", "cbbo-1s", "cbbo-1m", "tcbbo",
    "None",
)  # fmt: skip
"""Those that become events; a live recording of several schemas names none."""

_SAMPLED_RUNS: Final = 4
_NANO: Final = 9


class DatabentoEvents:
    """The events of one instrument of DBN files.

    Parameters
    ----------
    files : sequence of DbnFile
        In order of time.
    symbol : str
    ids : frozenset of int
        Its instrument ids.
    instrument : Instrument
    """

    def __init__(
        self,
        files: Sequence[DbnFile],
        *,
        symbol: str,
        ids: frozenset[int],
        instrument: Instrument,
        strict: bool,
    ) -> None:
        self.files, self.symbol, self._ids, self._strict = tuple(files), symbol, ids, strict
        self.instrument = instrument
        self.notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        names = ", ".join(file.path.name for file in self.files)
        first = self.files[0].metadata
        return f"Databento {first.dataset} {first.schema} {self.symbol} in {names} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(tuple(file.path for file in self.files))

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield events in order of venue time."""
        return in_blocks(self._pieces(), block_events)

    def _pieces(self) -> Iterator[NDArray[np.void]]:
        left: Counter[str] = Counter()
        events = DbnEvents(self.instrument, left=left, strict=self._strict)
        for file in self.files:
            events.path, quoted = file.path, file.metadata.schema in ("tbbo", "tcbbo")
            for row, records in file.records():
                if int(records["rtype"][0]) not in DTYPES:
                    left[f"records of type {int(records['rtype'][0]):#04x}"] += len(records)
                    continue
                mine = np.isin(records["instrument_id"], list(self._ids))
                if not mine.all():
                    left["records of other instruments"] += int((~mine).sum())
                yield events.of(records[mine], np.flatnonzero(mine) + row, quoted=quoted)
        yield events.finish()
        self.notes = tuple(f"{count:,} {what}" for what, count in sorted(left.items()) if count)


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
                f"expected one of the schemas {', '.join(SCHEMAS)}, was {file.metadata.schema}",
                path=file.path,
            )
    if not files:
        raise DataError("expected market data, was definitions alone", path=paths[0])
    ids = _ids_by_symbol(files)
    if symbol is None and len(ids) == 1:
        (symbol,) = ids
    if symbol is None or symbol not in ids:
        wanted = "one of its symbols named" if symbol is None else symbol
        raise DataError(f"expected {wanted}, was {', '.join(sorted(ids)[:20]) or 'none'}", path=files[0].path)
    if instrument is None:
        instrument = _instrument(symbol, ids[symbol], files, definitions)
    return DatabentoEvents(files, symbol=symbol, ids=ids[symbol], instrument=instrument, strict=strict)


def _ids_by_symbol(files: Sequence[DbnFile]) -> dict[str, frozenset[int]]:
    """Return the instrument ids of each symbol, as the metadata maps them, else as the records have them."""
    found: dict[str, set[int]] = {}
    for file in files:
        for symbol, intervals in file.metadata.mappings.items():
            ids = {int(entry["symbol"]) for entry in intervals if str(entry["symbol"]).isdigit()}
            found.setdefault(symbol, set()).update(ids)
    if not any(found.values()):
        for file in files:
            for _, records in islice(file.records(), _SAMPLED_RUNS):
                for number in np.unique(records["instrument_id"]).tolist():
                    found.setdefault(str(number), set()).add(number)
    return {symbol: frozenset(ids) for symbol, ids in found.items() if ids}


def _instrument(
    symbol: str, ids: frozenset[int], files: Sequence[DbnFile], definitions: Sequence[DbnFile]
) -> Instrument:
    prices = _sampled_prices(ids, files)
    for file in definitions:
        for definition in _official_records(file):
            step = getattr(definition, "min_price_increment", PRICE_UNDEFINED)
            if getattr(definition, "instrument_id", None) in ids and 0 < step < PRICE_UNDEFINED:
                # Fifty multiples are taken for evidence of a tick; nothing finer is traded, spreads aside.
                prices = [_nano_text(step * factor) for factor in range(1, 101)] + prices
                break
    return instrument_of(symbol, prices, ["1"], path=files[0].path)


def _sampled_prices(ids: frozenset[int], files: Sequence[DbnFile]) -> list[str]:
    found: set[int] = set()
    for file in files:
        for _, records in islice(file.records(), _SAMPLED_RUNS):
            if int(records["rtype"][0]) not in DTYPES:
                continue
            mine = records[np.isin(records["instrument_id"], list(ids))]
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

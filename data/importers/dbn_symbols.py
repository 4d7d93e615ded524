"""Which instrument id a symbol has when: DBN's metadata maps symbols to ids by intervals of days.

An id names another instrument in another file, and within one file a symbol may change its id (a continuous
contract that rolls, daily ids of equities). A record belongs to a symbol only where both id and UTC day fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import islice, pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dbn_records import DTYPES, TIME_UNDEFINED, DbnFile

SAMPLED_RUNS: Final = 4
_DAY_NS: Final = 86_400 * 10**9


class Interval(NamedTuple):
    """An id of a symbol, from one instant until before another."""

    start_ns: int
    stop_ns: int
    instrument_id: int


Intervals = dict[str, tuple[Interval, ...]]


def intervals_of(file: DbnFile) -> Intervals:
    """Return each symbol's ids and when it had them; by the records where the metadata maps nothing."""
    found: dict[str, set[Interval]] = {}
    for key, entries in file.metadata.mappings.items():
        for entry in entries:
            name, number = key, str(entry["symbol"])
            # The other way round: asked for by id, answered with symbols.
            if not number.isdigit() and key.isdigit():
                name, number = number, key
            if number.isdigit():
                span = _midnight_ns(entry["start_date"]), _midnight_ns(entry["end_date"])
                found.setdefault(name, set()).add(Interval(*span, int(number)))
    if not found:
        for _, records in islice(file.records(), SAMPLED_RUNS):
            for number in np.unique(records["instrument_id"]).tolist():
                found.setdefault(str(number), set()).add(Interval(0, TIME_UNDEFINED, number))
    return {name: tuple(sorted(spans)) for name, spans in found.items()}


class SymbolFilter:
    """Finds one symbol's records in one file.

    Parameters
    ----------
    file : DbnFile
    symbol : str

    Raises
    ------
    DataError
        The metadata gives the symbol two ids at a time.
    """

    def __init__(self, file: DbnFile, symbol: str) -> None:
        known = intervals_of(file)
        self.spans = known.get(symbol, ())
        for early, late in pairwise(self.spans):
            if early.instrument_id != late.instrument_id and late.start_ns < early.stop_ns:
                raise DataError(
                    f"expected one instrument id of {symbol} at a time, was {early.instrument_id} and "
                    f"{late.instrument_id}",
                    path=file.path,
                )
        mine = {span.instrument_id for span in self.spans}
        others = {span.instrument_id for name, spans in known.items() if name != symbol for span in spans}
        # An id that never meant anything else needs no look at the day.
        self._always = len(mine) == 1 and not mine & others

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(span.instrument_id for span in self.spans)

    def mine(self, records: NDArray[np.void]) -> NDArray[np.bool_]:
        """Return which records are the symbol's."""
        ids = records["instrument_id"]
        if self._always:
            return np.asarray(ids == self.spans[0].instrument_id)
        ts_ns = _index_times(records)
        found = np.zeros(len(records), bool)
        for start_ns, stop_ns, number in self.spans:
            found |= (ids == number) & (ts_ns >= start_ns) & (ts_ns < stop_ns)
        return found


def runs_of_one_id(records: NDArray[np.void]) -> Iterator[slice]:
    """Yield the parts of an array whose records have one instrument id."""
    edges = np.flatnonzero(np.diff(records["instrument_id"])) + 1
    bounds: Sequence[int] = [0, *edges.tolist(), len(records)]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield slice(start, stop)


def _index_times(records: NDArray[np.void]) -> NDArray[np.uint64]:
    """Return the times that Databento files records by: of capture, else of the event."""
    if int(records["rtype"][0]) not in DTYPES:
        return np.asarray(records["ts_event"])
    received = records["ts_recv"]
    return np.where(received == TIME_UNDEFINED, records["ts_event"], received)


def _midnight_ns(day: date) -> int:
    return max(int(datetime.combine(day, datetime.min.time(), UTC).timestamp()) // 86_400, 0) * _DAY_NS

"""hftbacktest's ``.npz`` event files, both ways, so that its users can move and come back.

``docs/MIGRATE_HFTBACKTEST.md`` lists what corresponds to what. Rows are 64 bytes: flags and kind, exchange
and local time in ns, price and quantity as doubles, order id. A row may be for the exchange's order of
events, for the local one, or both; events are the exchange's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..columns import PRICE_TICKS_MAX, TS_NS_MAX, infer_increment, infer_lot_size, on_grid
from ..errors import DataError
from ..instrument import Instrument
from ..quarantine import LeftOut
from ..resumable import Marked, PiecewiseSource, Place
from ..schema import EVENT_DTYPE, EventFlag, EventKind
from ..table_file import files_sha256
from . import Verification
from .event_columns import QUOTE_SIZE_LOTS_MAX, SEQ_MASK
from .feed_source import in_order_of_name
from .grid import OffGrid, on_a_fitting_grid, stored_symbol
from .hftbacktest_rows import (
    ADD_ORDER,
    BUY,
    CANCEL_ORDER,
    DEPTH,
    DEPTH_BBO,
    DEPTH_CLEAR,
    DEPTH_SNAPSHOT,
    EXCHANGE,
    FILL,
    KIND_MASK,
    MODIFY_ORDER,
    ROW_DTYPE,
    SELL,
    TRADE,
    RowWriter,
    read_rows,
)  # fmt: skip

_SIZE_LOTS_MAX: Final = 1 << 53
_STATE_MAX: Final = 1 << 14
"""Orders and levels that a mark of a running import holds; a few dozen marks are held at once."""

# Beyond every limit, and still finite when divided by a unit.
_FAR: Final = 1e200
_KINDS: Final = {
    DEPTH: EventKind.LEVEL,
    DEPTH_SNAPSHOT: EventKind.LEVEL,
    TRADE: EventKind.TRADE,
    ADD_ORDER: EventKind.ADD,
    CANCEL_ORDER: EventKind.CANCEL,
}


class HftbacktestEvents(PiecewiseSource):
    """The events of one instrument's files."""

    def __init__(self, paths: tuple[Path, ...], *, instrument: Instrument, strict: bool) -> None:
        self.paths, self.instrument, self._strict = paths, instrument, strict
        self.notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        names = ", ".join(path.name for path in self.paths)
        return f"hftbacktest events of {self.instrument.symbol} in {names} (recorded)"

    @cached_property
    def data_hash(self) -> str:
        return files_sha256(self.paths)

    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield events in the exchange's order."""
        left = LeftOut()
        reader = _Reader(self.instrument, left=left, strict=self._strict)
        entered = place or {"file": 0, "row": 0}
        if place is not None:
            left.go_on(place["left"])
            reader.go_on(place["reader"])
        for number in range(entered["file"], len(self.paths)):
            path = reader.path = self.paths[number]
            first_row = entered["row"] if number == entered["file"] else 0
            for row, rows in read_rows(path, first_row=first_row):
                events = reader.events(rows, row)
                state = reader.state()
                yield events, None if state is None else {
                    "file": number, "row": row + len(rows), "left": left.state(), "reader": state,
                }  # fmt: skip
        self.notes = left.notes()


class _Reader:
    """Turns rows into events; knows the levels, since a clear names a range of prices."""

    def __init__(self, instrument: Instrument, *, left: LeftOut, strict: bool) -> None:
        self._instrument, self._left, self._strict = instrument, left, strict
        self._levels: dict[int, set[int]] = {1: set(), -1: set()}
        self._orders: dict[int, tuple[int, int, int]] = {}
        self._touch: dict[int, tuple[int, int]] = {1: (0, 0), -1: (0, 0)}
        self._reached_ns = 0
        self.path = Path()

    def state(self) -> dict[str, Any] | None:
        """Return what rows to come must know of those before, as JSON; None where that is too much."""
        if len(self._orders) + sum(map(len, self._levels.values())) > _STATE_MAX:
            return None
        return {
            "reached_ns": self._reached_ns,
            "levels": [sorted(self._levels[side]) for side in (1, -1)],
            "touch": [self._touch[side] for side in (1, -1)],
            "orders": [(order_id, *order) for order_id, order in self._orders.items()],
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Stand where another reader was."""
        self._reached_ns = state["reached_ns"]
        for side, levels, (price, size) in zip((1, -1), state["levels"], state["touch"], strict=True):
            self._levels[side], self._touch[side] = set(levels), (price, size)
        self._orders = {order_id: (side, price, size) for order_id, side, price, size in state["orders"]}

    def events(self, rows: NDArray[np.void], first_row: int) -> NDArray[np.void]:
        mine = rows["ev"] & EXCHANGE != 0
        self._left.pass_over("rows for the local order alone", int((~mine).sum()))
        row = np.flatnonzero(mine) + first_row
        rows = rows[mine]
        ts_ns = self._times(rows, row)
        ticks, lots = self._units(rows, row)
        side = np.where(rows["ev"] & BUY != 0, 1, np.where(rows["ev"] & SELL != 0, -1, 0)).tolist()
        found: list[tuple[int, int, int, int, int, int]] = []
        columns = zip(
            (rows["ev"] & KIND_MASK).tolist(), side, ticks.tolist(), lots.tolist(), rows["order_id"].tolist(),
            strict=True,
        )  # fmt: skip
        for place, (kind, one_side, price, size, order_id) in enumerate(columns):
            self._one(found, place, kind, one_side, price, size, order_id, row)
        events = np.zeros(len(found), EVENT_DTYPE)
        if not found:
            return events
        source, kinds, sides, prices, sizes, orders = zip(*found, strict=True)
        place_of = np.array(source)
        events["kind"], events["side"], events["price_ticks"], events["size_lots"] = (
            kinds,
            sides,
            prices,
            sizes,
        )
        events["order_id"] = np.array(orders, np.uint64)
        events["ts_ns"], events["recv_ns"] = ts_ns[place_of], rows["local_ts"][place_of]
        events["seq"] = row[place_of] & SEQ_MASK
        events["instrument_id"] = self._instrument.instrument_id
        snapshot = (rows["ev"] & KIND_MASK)[place_of] == DEPTH_SNAPSHOT
        events["flags"][snapshot] = EventFlag.SNAPSHOT
        # Rows of one moment belong together: the format does not say where a message ends.
        moment = np.stack((ts_ns[place_of], rows["local_ts"][place_of]))
        ends = np.append((moment[:, 1:] != moment[:, :-1]).any(axis=0), True)
        events["flags"][ends] |= np.uint8(EventFlag.LAST_IN_PACKET)
        return events

    def _one(
        self,
        found: list[tuple[int, int, int, int, int, int]],
        place: int,
        kind: int,
        side: int,
        price: int,
        size: int,
        order_id: int,
        row: NDArray[np.intp],
    ) -> None:
        if kind in (DEPTH, DEPTH_SNAPSHOT) and side:
            (self._levels[side].add if size else self._levels[side].discard)(price)
        if kind == ADD_ORDER:
            self._orders[order_id] = (side, price, size)
        elif kind == CANCEL_ORDER:
            self._orders.pop(order_id, None)
        if kind in _KINDS:
            found.append((place, _KINDS[kind], side, price, size, order_id))
        elif kind == DEPTH_CLEAR and side == 0:
            for levels in self._levels.values():
                levels.clear()
            found.append((place, EventKind.CLEAR, 0, 0, 0, 0))
        elif kind == DEPTH_CLEAR:
            # Bids from the best down to the price, asks from the best up to it.
            gone = sorted(level for level in self._levels[side] if (level - price) * side >= 0)
            self._levels[side].difference_update(gone)
            found.extend((place, EventKind.LEVEL, side, level, 0, 0) for level in gone)
        elif kind == DEPTH_BBO and side:
            self._touch[side] = (price, size)
            (bid, bid_size), (ask, ask_size) = self._touch[1], self._touch[-1]
            packed = (ask & 0xFFFFFFFF) | min(ask_size, QUOTE_SIZE_LOTS_MAX) << 32
            found.append((place, EventKind.QUOTE, 0, bid, bid_size, packed))
        elif kind == MODIFY_ORDER:
            known = self._orders.get(order_id)
            self._orders[order_id] = (side, price, size)
            if known is not None and known[:2] == (side, price) and size <= known[2]:
                # Fewer lots at the same price keep their place in the queue.
                if size < known[2]:
                    found.append((place, EventKind.REDUCE, side, price, known[2] - size, order_id))
                return
            if known is not None:
                found.append((place, EventKind.CANCEL, *known, order_id))
            found.append((place, EventKind.ADD, side, price, size, order_id))
        elif kind == FILL:
            self._left.pass_over("fills: the cancellation or modification behind each changes the book")
        else:
            raise DataError(
                f"expected a known kind of row with its side, was {kind}", path=self.path, row=int(row[place])
            )

    def _times(self, rows: NDArray[np.void], row: NDArray[np.intp]) -> NDArray[np.int64]:
        bad = (rows["exch_ts"] < 0) | (rows["exch_ts"] > TS_NS_MAX)
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"time must lie between 1970 and 2200 in ns, was {rows['exch_ts'][at]}",
                path=self.path,
                row=int(row[at]),
            )
        reached = np.maximum.accumulate(np.concatenate(([self._reached_ns], rows["exch_ts"])))
        late = rows["exch_ts"] < reached[:-1]
        if late.any():
            at = int(np.argmax(late))
            if self._strict:
                raise DataError(
                    f"time must not run backwards: expected at least {reached[at]} ns, "
                    f"was {rows['exch_ts'][at]}",
                    path=self.path,
                    row=int(row[at]),
                )
            self._left.pass_over("times that ran backwards, raised to the time before", int(late.sum()))
        self._reached_ns = int(reached[-1])
        return reached[1:]

    def _units(
        self, rows: NDArray[np.void], row: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ticks and lots; doubles end here, and none may lie between two units."""
        found = []
        for name, unit, limit, least in (
            ("px", self._instrument.price_increment, PRICE_TICKS_MAX, -PRICE_TICKS_MAX),
            ("qty", self._instrument.lot_size, _SIZE_LOTS_MAX, 0),
        ):
            # A clear of everything has no price: 0 or NaN.
            absent = np.isnan(rows[name]) & (rows["ev"] & KIND_MASK == DEPTH_CLEAR)
            values = np.clip(np.where(absent, 0.0, rows[name]), -_FAR, _FAR)
            whole, exact = on_grid(values, unit)
            bad = ~(exact & (whole <= limit) & (whole >= least))
            if bad.any():
                at = int(np.argmax(bad))
                told = rows[name][at]
                rule = f"{name} must be a multiple of {unit:g} from {least} to {limit} of it, was {told}"
                if least <= whole[at] <= limit and np.isfinite(told):
                    what, text = "price" if name == "px" else "size", f"{told:.9f}"
                    raise OffGrid(rule, name=what, text=text, path=self.path, row=int(row[at]))
                raise DataError(rule, path=self.path, row=int(row[at]))
            found.append(whole.astype(np.int64))
        return found[0], found[1]


def open_source(
    paths: Sequence[Path],
    *,
    symbol: str | None = None,
    instrument: Instrument | None = None,
    strict: bool = False,
) -> HftbacktestEvents:
    """Open files of consecutive times; they name no symbol and no tick size, so both may be given."""
    files = in_order_of_name(paths)
    if instrument is None:
        _, rows = next(read_rows(files[0]), (0, np.empty(0, ROW_DTYPE)))
        prices = rows["px"][np.isfinite(rows["px"]) & (rows["px"] != 0)]
        if len(prices) == 0:
            raise DataError("expected at least one row with a price, was none", path=files[0])
        instrument = Instrument(
            symbol=stored_symbol(symbol or files[0].name.partition(".")[0].upper()),
            price_increment=infer_increment(prices, path=files[0]),
            lot_size=infer_lot_size(rows["qty"][np.isfinite(rows["qty"])], most=_SIZE_LOTS_MAX),
        )
    return HftbacktestEvents(files, instrument=instrument, strict=strict)


def write_npz(
    blocks: Iterable[NDArray[np.void]], path: Path, *, instrument: Instrument, latency_ns: int = 0
) -> int:
    """Write events as an hftbacktest file and return its rows.

    All rows are held in memory, as hftbacktest itself does: write a day at a time. The file appears whole.

    Parameters
    ----------
    blocks : iterable of arrays of EVENT_DTYPE
    path : Path
        Name ending in ``.npz``.
    instrument : Instrument
    latency_ns : int
        Given to events whose receipt was not recorded.
    """
    writer = RowWriter(instrument, latency_ns=latency_ns)
    rows = writer.in_both_orders(np.concatenate([np.empty(0, ROW_DTYPE), *map(writer.rows, blocks)]))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, data=rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows)


def verify(paths: Sequence[Path]) -> Verification:
    """Compare prices and quantities of every depth and trade row with those of its events, as doubles."""
    return on_a_fitting_grid(lambda instrument: open_source(paths, instrument=instrument), _compare)[1]


def _compare(source: HftbacktestEvents) -> Verification:
    reader = _Reader(source.instrument, left=LeftOut(), strict=False)
    matched = total = 0
    first: str | None = None
    for path in source.paths:
        reader.path = path
        for row, rows in read_rows(path):
            events = reader.events(rows, row)
            kinds = rows["ev"] & KIND_MASK
            told = np.isin(kinds, list(_KINDS)) & (rows["ev"] & EXCHANGE != 0)
            mine = events[np.isin(events["seq"], (np.flatnonzero(told) + row) & SEQ_MASK)]
            theirs = rows[told]
            same = np.isclose(
                mine["price_ticks"] * source.instrument.price_increment, theirs["px"], rtol=1e-12
            )
            same &= np.isclose(mine["size_lots"] * source.instrument.lot_size, theirs["qty"], rtol=1e-9)
            total += len(same)
            matched += int(same.sum())
            if not same.all() and first is None:
                at = int(np.argmin(same))
                first = (
                    f"{path}:row {int(mine['seq'][at])}: expected {theirs['px'][at]} x {theirs['qty'][at]}"
                )
    return Verification(matched=matched, total=total, what="rows", first_mismatch=first)

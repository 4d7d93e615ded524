"""Fold a journal into the state it ends in, checking what must hold at every step.

Open orders, working parents and decisions without a reward are kept, finished ones only counted, so
memory follows what is open, not the length of the journal.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Final

from data.errors import DataError
from data.schema import JournalKind, OrderAction, ParentState, ReportKind

from .journal_format import payloads, stream_journal
from .order_ids import PARENT_BITS, unpack_order_id

_PARENT_MASK: Final = (1 << PARENT_BITS) - 1
_VERSION_HALF: Final = 1 << 15


@dataclass(kw_only=True, slots=True)
class OpenOrder:
    """An order that was journaled and may still fill."""

    venue_id: int
    instrument_id: int
    side: int
    open_lots: int
    replaced: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentOrder:
    """A working parent as it was last journaled."""

    state: int
    side: int
    version: int
    size_lots: int
    filled_lots: int
    open_lots: int
    cancelled_lots: int


@dataclass(kw_only=True, slots=True)
class JournalState:
    """What a journal adds up to.

    Parameters
    ----------
    positions : counter of (venue_id, instrument_id) to lots
    open_orders : dict of client_order_id to OpenOrder
    bought_lots, sold_lots : counter of instrument_id to lots
    fees_nano : counter of instrument_id to 1e-9 of its currency
    parents : dict of parent_id to ParentOrder
        Those still working.
    parents_ended : counter of ParentState name to count
    decisions_pending : set of decision_id
        Those without a reward yet.
    records : counter of JournalKind name to count
    """

    positions: Counter[tuple[int, int]] = field(default_factory=Counter)
    open_orders: dict[int, OpenOrder] = field(default_factory=dict)
    bought_lots: Counter[int] = field(default_factory=Counter)
    sold_lots: Counter[int] = field(default_factory=Counter)
    fees_nano: Counter[int] = field(default_factory=Counter)
    parents: dict[int, ParentOrder] = field(default_factory=dict)
    parents_ended: Counter[str] = field(default_factory=Counter)
    decisions_pending: set[int] = field(default_factory=set)
    records: Counter[str] = field(default_factory=Counter)

    @property
    def state_hash(self) -> str:
        """SHA-256 of the state in one canonical form; equal states hash the same on every machine."""
        canonical = {
            "positions": sorted([*key, lots] for key, lots in self.positions.items() if lots),
            "open_orders": sorted(
                [key, order.venue_id, order.instrument_id, order.side, order.open_lots]
                for key, order in self.open_orders.items()
            ),
            "bought_lots": sorted(self.bought_lots.items()),
            "sold_lots": sorted(self.sold_lots.items()),
            "fees_nano": sorted(self.fees_nano.items()),
            "parents": sorted(
                [key, each.state, each.side, each.version, each.size_lots, each.filled_lots, each.open_lots]
                for key, each in self.parents.items()
            ),
            "parents_ended": sorted(self.parents_ended.items()),
            "decisions_pending": sorted(self.decisions_pending),
            "records": sorted(self.records.items()),
        }
        return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).hexdigest()


def replay_state(path: str | PathLike[str]) -> JournalState:
    """Return the state a journal ends in.

    A NEW opens its whole size; every report sets what is open to its ``leaves_lots``. Verify the file
    first: this reads payloads and trusts their checksums.

    Raises
    ------
    DataError
        Where a fill names no open journaled order or more than is open, a parent's parts do not add
        up to its size or to its fills, a parent's version does not grow, or a reward has no decision.
    """
    replay = _Replay(path)
    for row, records in stream_journal(path):
        replay.apply(row, records)
    return replay.state


class _Replay:
    """The fold: one method per kind of record that changes the state."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.state = JournalState()
        self._path = path
        self._row = 0
        self._opened_row = -1
        self._parent_fills: Counter[int] = Counter()
        # Columns as each method takes them; python tuples are far quicker than numpy scalars.
        self._steps: dict[JournalKind, tuple[list[str], Callable[..., None]]] = {
            JournalKind.ORDER: (
                ["client_order_id", "action", "size_lots", "venue_id", "instrument_id", "side"],
                self._order,
            ),
            JournalKind.REFUSAL: (["client_order_id"], self._refusal),
            JournalKind.REPORT: (
                [
                    "client_order_id",
                    "kind",
                    "size_lots",
                    "leaves_lots",
                    "fee_nano",
                    "venue_id",
                    "instrument_id",
                    "side",
                ],
                self._report,
            ),
            JournalKind.PARENT: (
                [
                    "parent_id",
                    "state",
                    "side",
                    "version",
                    "size_lots",
                    "filled_lots",
                    "open_lots",
                    "cancelled_lots",
                ],
                self._parent,
            ),
            JournalKind.DECISION: (["decision_id"], self._decision),
            JournalKind.REWARD: (["decision_id"], self._reward),
        }

    def apply(self, row: int, records: Any) -> None:
        kinds = records["kind"]
        columns: dict[int, Iterator[tuple[Any, ...]]] = {}
        steps: dict[int, Callable[..., None]] = {}
        for kind, (names, step) in self._steps.items():
            columns[kind] = iter(payloads(records[kinds == kind], kind)[names].tolist())
            steps[kind] = step
        for self._row, kind in enumerate(kinds.tolist(), start=row):
            if kind in steps:
                steps[kind](*next(columns[kind]))
        for kind in JournalKind:
            if count := int((kinds == kind).sum()):
                self.state.records[kind.name] += count

    def _fail(self, rule: str) -> DataError:
        return DataError(rule, path=self._path, row=self._row)

    def _order(self, key: int, action: int, size: int, venue_id: int, instrument_id: int, side: int) -> None:
        known = self.state.open_orders.get(key)
        # A resend repeats the id and adds nothing.
        if action == OrderAction.NEW and known is None:
            self.state.open_orders[key] = OpenOrder(
                venue_id=venue_id, instrument_id=instrument_id, side=side, open_lots=size
            )
            self._opened_row = self._row
        elif action == OrderAction.REPLACE and known is not None:
            known.replaced = True

    def _refusal(self, key: int) -> None:
        # Usually of an order that was never journaled, or of a cancel or replace whose order stays.
        # Only one right after the order it names takes that back: it never left.
        if self._opened_row == self._row - 1:
            self.state.open_orders.pop(key, None)

    def _leave(self, key: int, leaves: int) -> None:
        known = self.state.open_orders.get(key)
        if known is None:
            return
        known.open_lots = leaves
        if leaves == 0:
            del self.state.open_orders[key]

    def _report(
        self,
        key: int,
        kind: int,
        size: int,
        leaves: int,
        fee_nano: int,
        venue_id: int,
        instrument_id: int,
        side: int,
    ) -> None:
        if kind == ReportKind.FILL:
            self._check_fill(key, size, (venue_id, instrument_id, side))
            self.state.positions[venue_id, instrument_id] += side * size
            lots = self.state.bought_lots if side > 0 else self.state.sold_lots
            lots[instrument_id] += size
            self.state.fees_nano[instrument_id] += fee_nano
            self._parent_fills[unpack_order_id(key).parent] += size
        self._leave(key, leaves)

    def _check_fill(self, key: int, size: int, place: tuple[int, int, int]) -> None:
        known = self.state.open_orders.get(key)
        if known is None:
            raise self._fail(f"a fill must name an open journaled order, was {key:#x}")
        if place != (known.venue_id, known.instrument_id, known.side):
            raise self._fail(
                f"a fill has its order's venue, instrument and side "
                f"{(known.venue_id, known.instrument_id, known.side)}, was {place}"
            )
        # How far a replace had come at the venue is not on record, so it lifts the upper bound.
        if size < 1 or (size > known.open_lots and not known.replaced):
            raise self._fail(f"a fill takes from 1 to the {known.open_lots} open lots, was {size}")

    def _parent(
        self,
        key: int,
        state: int,
        side: int,
        version: int,
        size: int,
        filled: int,
        opened: int,
        cancelled: int,
    ) -> None:
        if filled + opened + cancelled != size or min(filled, opened, cancelled) < 0:
            raise self._fail(
                f"filled + open + cancelled of parent {key} must be its size {size}, "
                f"was {filled} + {opened} + {cancelled}"
            )
        before = self.state.parents.get(key)
        if before is not None and not 0 < (version - before.version) % (2 * _VERSION_HALF) < _VERSION_HALF:
            raise self._fail(f"the version of parent {key} must grow beyond {before.version}, was {version}")
        fills = self._parent_fills[key & _PARENT_MASK]
        if filled != fills:
            raise self._fail(f"parent {key} must count its {fills} journaled fill lots, was {filled}")
        if state == ParentState.WORKING:
            self.state.parents[key] = ParentOrder(
                state=state,
                side=side,
                version=version,
                size_lots=size,
                filled_lots=filled,
                open_lots=opened,
                cancelled_lots=cancelled,
            )
            return
        if opened:
            raise self._fail(f"an ended parent has nothing open, was {opened} lots of parent {key}")
        self.state.parents.pop(key, None)
        self._parent_fills.pop(key & _PARENT_MASK, None)
        self.state.parents_ended[ParentState(state).name] += 1

    def _decision(self, decision_id: int) -> None:
        if decision_id in self.state.decisions_pending:
            raise self._fail(f"a decision id is used once, was {decision_id} again")
        self.state.decisions_pending.add(decision_id)

    def _reward(self, decision_id: int) -> None:
        if decision_id not in self.state.decisions_pending:
            raise self._fail(f"a reward must name a decision without one, was {decision_id}")
        self.state.decisions_pending.remove(decision_id)

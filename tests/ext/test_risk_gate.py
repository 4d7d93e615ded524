"""The compiled risk gate and a slow reference agree on every order, report and total."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.schema import (
    ORDER_DTYPE,
    REPORT_DTYPE,
    OrderAction,
    OrderType,
    Reason,
    ReportKind,
)
from ext.risk_gate import RiskGate

SECOND_NS = 1_000_000_000
INT64 = np.iinfo(np.int64)
INT32 = np.iinfo(np.int32)

SIZE_MAX, BAND, POSITION_MAX, RATE, CAPACITY = 20, 10, 30, 5, 4
NOTIONAL = {1: 1_500, 2: 15}
INVERSE = {1: False, 2: True}

CANCELS = (OrderAction.CANCEL, OrderAction.MASS_CANCEL)


def gate_of(**changed: int) -> RiskGate:
    limits = {
        "order_size_lots_max": SIZE_MAX,
        "price_band_ticks": BAND,
        "position_lots_max": POSITION_MAX,
        "messages_per_second_max": RATE,
        "order_capacity": CAPACITY,
    }
    gate = RiskGate(**(limits | changed))
    for instrument_id, notional in NOTIONAL.items():
        gate.add_instrument(instrument_id, notional_lot_ticks_max=notional, inverse=INVERSE[instrument_id])
    return gate


def order_of(**fields: int) -> np.void:
    order = np.zeros((), dtype=ORDER_DTYPE)
    defaults = {
        "client_order_id": 2**63 + 1,
        "size_lots": 1,
        "price_ticks": 100,
        "instrument_id": 1,
        "action": OrderAction.NEW,
        "side": 1,
        "order_type": OrderType.LIMIT,
    }
    for name, value in (defaults | fields).items():
        order[name] = value
    return order[()]


def report_of(**fields: int) -> np.void:
    report = np.zeros((), dtype=REPORT_DTYPE)
    for name, value in ({"client_order_id": 2**63 + 1, "instrument_id": 1, "side": 1} | fields).items():
        report[name] = value
    return report[()]


@dataclass
class Open:
    instrument_id: int
    side: int
    leaves: int
    targets: list[int] = field(default_factory=list)
    accepted: bool = False

    @property
    def exposure(self) -> int:
        return max([self.leaves, *self.targets])


@dataclass
class ReferenceGate:
    """The rules of the gate in unbounded integers and plain containers."""

    sent: list[int] = field(default_factory=list)
    orders: dict[int, Open] = field(default_factory=dict)
    position: Counter[int] = field(default_factory=Counter)
    refusals: Counter[int] = field(default_factory=Counter)
    unknown: int = 0
    killed: bool = False

    def open_lots(self, instrument_id: int, side: int) -> int:
        return sum(
            order.exposure
            for order in self.orders.values()
            if (order.instrument_id, order.side) == (instrument_id, side)
        )

    def check(self, order: np.void, mid_x2: int | None, now_ns: int) -> int:
        now_ns = max([now_ns, *self.sent[-1:]])
        reason = Reason.NONE
        if order["action"] not in CANCELS:
            reason = self.judge({name: int(order[name]) for name in ORDER_DTYPE.names}, mid_x2, now_ns)
        if reason == Reason.NONE:
            self.sent.append(now_ns)
        else:
            self.refusals[int(reason)] += 1
        return int(reason)

    def judge(self, order: dict[str, int], mid_x2: int | None, now_ns: int) -> Reason:
        if self.killed:
            return Reason.RISK_KILLED
        size, price, kind = order["size_lots"], order["price_ticks"], order["order_type"]
        if size < 1 or size > SIZE_MAX:
            return Reason.RISK_ORDER_SIZE
        if mid_x2 is None or abs(mid_x2) > 2**32 or kind not in list(OrderType):
            return Reason.RISK_PRICE_COLLAR
        away, value = {
            OrderType.LIMIT: (abs(2 * price - mid_x2), 2 * abs(price)),
            OrderType.STOP_LIMIT: (2 * abs(price - order["stop_price_ticks"]), 2 * abs(price)),
            OrderType.MARKET: (0, abs(mid_x2) + 2 * abs(order["peg_offset_ticks"])),
            OrderType.STOP: (0, max(2 * abs(order["stop_price_ticks"]), abs(mid_x2))),
            OrderType.PEG_MID: (
                2 * abs(order["peg_offset_ticks"]),
                abs(mid_x2) + 2 * abs(order["peg_offset_ticks"]),
            ),
        }[OrderType.PEG_MID if kind == OrderType.PEG_PRIMARY else OrderType(kind)]
        if away > 2 * BAND:
            return Reason.RISK_PRICE_COLLAR
        instrument_id, side = order["instrument_id"], order["side"]
        if instrument_id not in NOTIONAL:
            return Reason.RISK_NOTIONAL
        if size * (2 if INVERSE[instrument_id] else value) > 2 * NOTIONAL[instrument_id]:
            return Reason.RISK_NOTIONAL
        if side not in (1, -1):
            return Reason.RISK_POSITION
        known = self.orders.get(order["client_order_id"])
        if known is not None:
            if (known.instrument_id, known.side) != (instrument_id, side):
                return Reason.UNKNOWN_ORDER
        elif order["action"] == OrderAction.REPLACE or order["client_order_id"] == 0:
            return Reason.UNKNOWN_ORDER
        elif len(self.orders) == CAPACITY:
            return Reason.CAPACITY
        added = max(0, size - (known.exposure if known else 0))
        worst = side * self.position[instrument_id] + self.open_lots(instrument_id, side) + added
        if added and worst > POSITION_MAX:
            return Reason.RISK_POSITION
        if sum(now_ns - at < SECOND_NS for at in self.sent) >= RATE:
            return Reason.RISK_MESSAGE_RATE
        return Reason.NONE

    def on_sent(self, order: np.void) -> None:
        key, size = int(order["client_order_id"]), int(order["size_lots"])
        if order["action"] in CANCELS:
            return
        if key not in self.orders:
            self.orders[key] = Open(int(order["instrument_id"]), int(order["side"]), size)
        elif order["action"] == OrderAction.REPLACE:
            self.orders[key].targets.append(size)

    def on_report(self, report: np.void, pending: Counter[int]) -> None:
        key = int(report["client_order_id"])
        if report["kind"] == ReportKind.FILL and int(report["instrument_id"]) in NOTIONAL:
            self.position[int(report["instrument_id"])] += int(report["side"]) * int(report["size_lots"])
        known = self.orders.get(key)
        if known is None:
            self.unknown += 1
            return
        leaves = min(max(int(report["leaves_lots"]), 0), known.exposure)
        if report["kind"] == ReportKind.ACCEPTED:
            if known.accepted and pending[key] and report["reason"] != Reason.DUPLICATE_ID:
                pending[key] -= 1
                if not pending[key]:
                    known.targets.clear()
            known.accepted = True
        known.leaves = leaves
        if leaves == 0:
            del self.orders[key]
            del pending[key]


IDS = st.sampled_from([0, *(2**63 + index for index in range(1, 7))])
ORDERS = st.builds(
    order_of,
    client_order_id=IDS,
    size_lots=st.one_of(st.integers(1, 12), st.sampled_from([INT64.min, -1, 0, 20, 21, INT64.max])),
    price_ticks=st.one_of(st.integers(88, 112), st.sampled_from([INT32.min, -100, 0, INT32.max])),
    stop_price_ticks=st.one_of(st.integers(80, 120), st.sampled_from([INT32.min, INT32.max])),
    peg_offset_ticks=st.one_of(st.integers(-12, 12), st.sampled_from([INT32.min, INT32.max])),
    instrument_id=st.sampled_from([1, 1, 1, 2, 3]),
    venue_id=st.integers(0, 15),
    action=st.sampled_from([*OrderAction, OrderAction.NEW, OrderAction.NEW]),
    side=st.sampled_from([1, 1, -1, -1, 0]),
    order_type=st.sampled_from([OrderType.LIMIT, OrderType.LIMIT, *OrderType, 0, 7]),
)
REPORTS = st.builds(
    report_of,
    client_order_id=IDS,
    kind=st.sampled_from([*ReportKind, ReportKind.ACCEPTED]),
    reason=st.sampled_from([Reason.NONE, Reason.NONE, Reason.DUPLICATE_ID]),
    size_lots=st.integers(0, 12),
    leaves_lots=st.one_of(st.integers(0, 12), st.sampled_from([-1, 1_000])),
    instrument_id=st.sampled_from([1, 1, 2, 3]),
    side=st.sampled_from([1, -1]),
)
MIDS = st.one_of(
    st.integers(195, 205), st.none(), st.sampled_from([INT64.min, INT64.max, -(2**32), 2**32 + 1, 0])
)
STEPS = st.one_of(
    st.tuples(st.just("order"), ORDERS, MIDS, st.integers(-10, SECOND_NS // 3)),
    st.tuples(st.just("report"), REPORTS),
    st.tuples(st.sampled_from(["kill", "revive", "revive"])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_gate_and_reference_agree_after_every_step(steps: list[tuple]) -> None:
    gate, reference, replaces, now_ns = gate_of(), ReferenceGate(), Counter(), 0
    for name, *values in steps:
        if name == "order":
            order, mid_x2, elapsed_ns = values
            now_ns += elapsed_ns
            reason = reference.check(order, mid_x2, now_ns)
            assert gate.check(order, reference_mid_x2=mid_x2, now_ns=now_ns).tolist() == [reason]
            if reason == Reason.NONE:
                if order["action"] == OrderAction.REPLACE:
                    replaces[int(order["client_order_id"])] += 1
                gate.on_sent(order)
                reference.on_sent(order)
        elif name == "report":
            gate.on_report(values[0])
            reference.on_report(values[0], replaces)
        else:
            getattr(gate, name)()
            reference.killed = name == "kill"
        assert gate.killed == reference.killed
        assert gate.refusals == dict(reference.refusals)
        assert gate.unknown_reports == reference.unknown
        assert gate.open_orders == len(reference.orders)
        for instrument_id in NOTIONAL:
            assert gate.position(instrument_id) == reference.position[instrument_id]
            assert gate.open_buy(instrument_id) == reference.open_lots(instrument_id, 1)
            assert gate.open_sell(instrument_id) == reference.open_lots(instrument_id, -1)


@pytest.mark.parametrize(
    ("fields", "mid_x2", "reason"),
    [
        ({"size_lots": SIZE_MAX + 1}, 200, Reason.RISK_ORDER_SIZE),
        ({"size_lots": 0}, 200, Reason.RISK_ORDER_SIZE),
        ({"size_lots": INT64.max}, 200, Reason.RISK_ORDER_SIZE),
        ({"price_ticks": 100 + BAND}, 200, Reason.NONE),
        ({"price_ticks": 100 + BAND}, 199, Reason.RISK_PRICE_COLLAR),
        ({"price_ticks": 100 - BAND - 1}, 200, Reason.RISK_PRICE_COLLAR),
        ({}, None, Reason.RISK_PRICE_COLLAR),
        ({"order_type": OrderType.MARKET}, None, Reason.RISK_PRICE_COLLAR),
        ({"size_lots": 15}, 200, Reason.NONE),
        ({"size_lots": 16}, 200, Reason.RISK_NOTIONAL),
        ({"size_lots": 16, "order_type": OrderType.MARKET}, 200, Reason.RISK_NOTIONAL),
        ({"price_ticks": -100, "size_lots": 16}, -200, Reason.RISK_NOTIONAL),
        ({"instrument_id": 2, "size_lots": 15}, 200, Reason.NONE),
        ({"instrument_id": 2, "size_lots": 16}, 200, Reason.RISK_NOTIONAL),
        ({"instrument_id": 9}, 200, Reason.RISK_NOTIONAL),
        ({"action": OrderAction.REPLACE}, 200, Reason.UNKNOWN_ORDER),
    ],
)
def test_each_limit_passes_at_its_edge_and_refuses_beyond(
    fields: dict[str, int], mid_x2: int | None, reason: Reason
) -> None:
    gate = gate_of()
    assert gate.check(order_of(**fields), reference_mid_x2=mid_x2, now_ns=0).tolist() == [reason]
    assert gate.refusals == ({} if reason == Reason.NONE else {int(reason): 1})


def test_extreme_limits_and_orders_refuse_rather_than_wrap() -> None:
    gate = RiskGate(
        order_size_lots_max=2**61, price_band_ticks=2**32, position_lots_max=2**61, messages_per_second_max=1
    )
    gate.add_instrument(1, notional_lot_ticks_max=2**61)
    huge = order_of(size_lots=2**61, price_ticks=INT32.min)
    assert gate.check(huge, reference_mid_x2=-(2**32), now_ns=0).tolist() == [Reason.RISK_NOTIONAL]
    gate.on_report(np.array([report_of(kind=ReportKind.FILL, size_lots=INT64.max)] * 3))
    assert gate.position(1) == 2**61
    fits_by_value = order_of(price_ticks=1)
    assert gate.check(fits_by_value, reference_mid_x2=2, now_ns=0).tolist() == [Reason.RISK_POSITION]


def test_position_spans_venues_and_counts_every_open_order_as_filled() -> None:
    gate = gate_of(messages_per_second_max=100)
    for venue_id, reason in enumerate([Reason.NONE, Reason.NONE, Reason.RISK_POSITION]):
        order = order_of(client_order_id=2**63 + venue_id, size_lots=15, venue_id=venue_id)
        assert gate.check(order, reference_mid_x2=200, now_ns=0).tolist() == [reason]
        if reason == Reason.NONE:
            gate.on_sent(order)
    assert gate.open_buy(1) == POSITION_MAX
    sell = order_of(client_order_id=2**63 + 9, side=-1, size_lots=15)
    assert gate.check(sell, reference_mid_x2=200, now_ns=0).tolist() == [Reason.NONE]


def test_a_fill_moves_lots_from_open_to_position_and_an_end_frees_the_rest() -> None:
    gate = gate_of()
    gate.on_sent(order_of(size_lots=10))
    gate.on_report(report_of(kind=ReportKind.ACCEPTED, leaves_lots=10))
    gate.on_report(report_of(kind=ReportKind.FILL, size_lots=4, leaves_lots=6))
    assert (gate.position(1), gate.open_buy(1), gate.open_orders) == (4, 6, 1)
    gate.on_report(report_of(kind=ReportKind.CANCELLED, size_lots=6, leaves_lots=0))
    assert (gate.position(1), gate.open_buy(1), gate.open_orders) == (4, 0, 0)


def test_a_replace_is_counted_at_the_larger_size_until_it_is_acknowledged() -> None:
    gate = gate_of()
    gate.on_sent(order_of(size_lots=10))
    gate.on_report(report_of(kind=ReportKind.ACCEPTED, leaves_lots=10))
    gate.on_sent(order_of(size_lots=15, action=OrderAction.REPLACE))
    gate.on_report(report_of(kind=ReportKind.FILL, size_lots=3, leaves_lots=7))
    # The answer to a resend says nothing about the replace.
    gate.on_report(report_of(kind=ReportKind.ACCEPTED, leaves_lots=7, reason=Reason.DUPLICATE_ID))
    assert gate.open_buy(1) == 15
    gate.on_report(report_of(kind=ReportKind.ACCEPTED, leaves_lots=12))
    assert (gate.position(1), gate.open_buy(1)) == (3, 12)


def test_any_second_holds_at_most_the_allowed_messages_and_cancels_charge() -> None:
    gate = gate_of()
    cancels = np.array([order_of(action=OrderAction.CANCEL)] * (RATE + 3))
    assert not gate.check(cancels, now_ns=0).any()
    fresh = order_of()
    assert gate.check(fresh, reference_mid_x2=200, now_ns=SECOND_NS - 1).tolist() == [
        Reason.RISK_MESSAGE_RATE
    ]
    assert gate.check(fresh, reference_mid_x2=200, now_ns=SECOND_NS).tolist() == [Reason.NONE]
    assert gate.message_count == RATE + 4


def test_a_clock_that_runs_back_frees_no_message() -> None:
    gate = gate_of(messages_per_second_max=2)
    for now_ns in (10 * SECOND_NS, 9 * SECOND_NS, 10 * SECOND_NS):
        gate.check(order_of(action=OrderAction.CANCEL), now_ns=now_ns)
    for now_ns, reason in ((10.5, Reason.RISK_MESSAGE_RATE), (11, Reason.NONE)):
        assert gate.check(order_of(), reference_mid_x2=200, now_ns=int(now_ns * SECOND_NS)) == [reason]


def test_a_killed_gate_lets_cancels_out_and_nothing_else() -> None:
    gate = gate_of()
    gate.kill()
    orders = np.array([order_of(action=action) for action in OrderAction])
    assert gate.check(orders, reference_mid_x2=200, now_ns=0).tolist() == [
        Reason.NONE if action in CANCELS else Reason.RISK_KILLED for action in OrderAction
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=600), st.integers(1, 200))
def test_the_order_table_keeps_every_order_through_removals(keys: list[int], capacity: int) -> None:
    gate = gate_of(order_capacity=capacity)
    alive: set[int] = set()
    for key in keys:
        if key in alive:
            gate.on_report(report_of(client_order_id=2**63 + key, kind=ReportKind.CANCELLED))
            alive.remove(key)
        elif len(alive) < capacity:
            gate.on_sent(order_of(client_order_id=2**63 + key))
            alive.add(key)
        assert gate.open_orders == gate.open_buy(1) == len(alive)
    for key in alive:
        gate.on_report(report_of(client_order_id=2**63 + key, kind=ReportKind.CANCELLED))
    assert (gate.open_orders, gate.unknown_reports) == (0, 0)


def test_records_of_another_kind_are_refused() -> None:
    gate = gate_of()
    with pytest.raises(TypeError, match="dtype"):
        gate.check(np.zeros(1, dtype=REPORT_DTYPE), now_ns=0)
    with pytest.raises(TypeError, match="dtype"):
        gate.on_report(np.zeros(1, dtype=ORDER_DTYPE))
    with pytest.raises(KeyError, match="never added"):
        gate.position(7)


@pytest.mark.parametrize(
    "changed",
    [
        {"order_size_lots_max": 0},
        {"price_band_ticks": 2**33},
        {"position_lots_max": 2**62},
        {"messages_per_second_max": 0},
        {"order_capacity": 0},
    ],
)
def test_limits_out_of_range_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(changed))):
        gate_of(**changed)

"""Compiled strategies: the same decisions as in Python, the view field by field, wrong ones stopped."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from data.errors import ConfigError
from data.schema import ORDER_DTYPE, OrderAction, OrderType, ReportKind, TimeInForce
from engine.strategy import Context, Report, Strategy
from ext.compiled_agent import COMMANDS_MAX, VIEW_DTYPE, CompiledAgent
from tests.markets import SECOND_NS, START_NS, add, joined, play, quote, random_flow

numba = pytest.importorskip("numba")

from engine.compiled import CallKind, CompiledStrategy  # noqa: E402

NEW, CANCEL, MASS_CANCEL = int(OrderAction.NEW), int(OrderAction.CANCEL), int(OrderAction.MASS_CANCEL)
LIMIT, GTC = int(OrderType.LIMIT), int(TimeInForce.GTC)
EVENT, TIMER, REPORT = int(CallKind.EVENT), int(CallKind.TIMER), int(CallKind.REPORT)
FILL, CANCELLED = int(ReportKind.FILL), int(ReportKind.CANCELLED)
WARM_NS = START_NS + 2 * SECOND_NS

STATE = np.dtype([("open", "<i8"), ("seen", "<i8"), ("fills", "<i8")])


def quoting(view: Any, commands: Any, state: Any) -> int:
    """Keep a bid of two lots one tick below the touch; cancel it every seventh packet."""
    memory = state[0]
    if view["call"] == REPORT:
        if view["report_kind"] == FILL:
            memory["fills"] += view["report_size_lots"]
        if view["report_leaves_lots"] == 0 and (
            view["report_kind"] == FILL or view["report_kind"] == CANCELLED
        ):
            memory["open"] = 0
        return 0
    if view["ts_ns"] < WARM_NS or view["two_sided"] == 0:
        return 0
    memory["seen"] += 1
    order = commands[0]
    if memory["open"] == 0:
        order["action"], order["order_type"], order["time_in_force"] = NEW, LIMIT, GTC
        order["side"], order["size_lots"], order["price_ticks"] = 1, 2, view["best_bid_ticks"] - 1
        memory["open"] = view["orders"] + 1
        return 1
    if memory["seen"] % 7 == 0:
        order["action"], order["client_order_id"] = CANCEL, memory["open"]
        return 1
    return 0


class Quoting(Strategy):
    """The same in Python."""

    batch_events = 1

    def __init__(self) -> None:
        self._open, self._seen, self.filled = 0, 0, 0

    def on_batch(self, ctx: Context) -> None:
        if ctx.now_ns < WARM_NS or not ctx.two_sided:
            return
        self._seen += 1
        if not self._open:
            self._open = ctx.buy(2, ctx.bid_price_ticks - 1)
        elif self._seen % 7 == 0:
            ctx.cancel(self._open)

    def on_report(self, ctx: Context, report: Report) -> None:
        if report.kind == ReportKind.FILL:
            self.filled += report.size_lots
        if report.leaves_lots == 0 and report.kind in (ReportKind.FILL, ReportKind.CANCELLED):
            self._open = 0


@pytest.mark.parametrize("seed", [1, 2])
def test_compiled_and_python_send_the_same_orders(seed: int) -> None:
    events = random_flow(seed)
    compiled, python = CompiledStrategy(quoting, state=np.zeros(1, STATE)), Quoting()
    ours, theirs = play(compiled, events), play(python, events)
    assert theirs.orders == ours.orders > 5
    assert len(theirs.fills) > 0
    for name in ("ts_ns", "size_lots", "price_ticks", "liquidity", "leaves_lots"):
        assert ours.fills[name].tolist() == theirs.fills[name].tolist()
    assert int(compiled.state["fills"][0]) == python.filled


def test_a_run_repeats_although_the_state_was_written() -> None:
    strategy = CompiledStrategy(quoting, state=np.zeros(1, STATE))
    events = random_flow(3)
    first, second = play(strategy, events), play(strategy, events)
    assert first.journal_hash == second.journal_hash
    assert first.config_hash == second.config_hash


def test_a_timer_calls_on_its_grid() -> None:
    def ticking(view: Any, commands: Any, state: Any) -> int:
        if view["call"] == TIMER and state[0] < 8:
            state[int(state[0]) + 1] = view["now_ns"] - START_NS
            state[0] += 1
        return 0

    strategy = CompiledStrategy(ticking, state=np.zeros(9, np.int64), packets=False, timer_ns=SECOND_NS)
    play(strategy, joined(*(quote(0.25 + second, 99, 101) for second in range(5))))
    assert strategy.state.tolist() == [4, *(second * SECOND_NS for second in (1, 2, 3, 4)), 0, 0, 0, 0]


def test_mass_cancel_ends_what_rests() -> None:
    def thrice(view: Any, commands: Any, state: Any) -> int:
        if view["call"] == REPORT and view["report_kind"] == CANCELLED:
            state[1] += view["report_size_lots"]
        if view["call"] != EVENT:
            return 0
        state[0] += 1
        if state[0] == 2:
            for place in range(3):
                commands[place]["action"], commands[place]["side"] = NEW, 1 if place < 2 else -1
                commands[place]["order_type"], commands[place]["time_in_force"] = LIMIT, GTC
                commands[place]["size_lots"] = 1 + place
                commands[place]["price_ticks"] = 95 if place < 2 else 105
            return 3
        if state[0] == 4:
            commands[0]["action"], commands[0]["side"] = MASS_CANCEL, 1
            return 1
        if state[0] == 6:
            state[2] = state[1]
        return 0

    strategy = CompiledStrategy(thrice, state=np.zeros(3, np.int64))
    play(strategy, joined(*(quote(second, 99, 101) for second in range(8))), queue="flow")
    # The two buys at once; the sell of three lots rests until the data end.
    assert strategy.state[2] == 3
    assert strategy.state[1] == 6


def test_the_view_carries_what_the_loop_knows() -> None:
    calls: list[dict[str, Any]] = []
    signature = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)

    @signature
    def note(view: int, commands: int, state: int) -> int:
        record = np.frombuffer((ctypes.c_char * VIEW_DTYPE.itemsize).from_address(view), VIEW_DTYPE)[0].copy()
        calls.append({name: record[name].tolist() for name in VIEW_DTYPE.names or ()})
        written = np.frombuffer(
            (ctypes.c_char * (ORDER_DTYPE.itemsize * COMMANDS_MAX)).from_address(commands), ORDER_DTYPE
        )
        assert not written.view(np.uint8).any()
        if len(calls) == 2:
            written["action"][0], written["side"][0], written["size_lots"][0] = NEW, 1, 4
            written["order_type"][0], written["price_ticks"][0] = LIMIT, 102
            written["time_in_force"][0] = int(TimeInForce.IOC)
            return 1
        return 0

    class ByAddress(Strategy):
        def compiled_agent(self, *, instrument: Any, run_id: int) -> CompiledAgent:
            address = ctypes.cast(note, ctypes.c_void_p).value or 0
            return CompiledAgent(address=address, owner=note, state=np.zeros(1), run_id=run_id, features=True)

    flow = joined(add(0, 1, 1, 100, 10), add(1, 2, -1, 102, 10), add(2, 3, 1, 99, 7))
    result = play(ByAddress(), flow, queue="pessimistic")
    assert result.orders == 1
    assert [call["call"] for call in calls] == [EVENT, EVENT, REPORT, EVENT]
    start, sent, filled, after = calls
    assert (start["two_sided"], start["event_price_ticks"], start["event_side"]) == (0, 100, 1)
    assert (sent["best_bid_ticks"], sent["best_ask_ticks"], sent["mid_x2"]) == (100, 102, 202)
    assert (sent["event_kind"], sent["event_size_lots"], sent["orders"]) == (1, 10, 0)
    assert len(sent["features"]) == 16
    assert (filled["order"], filled["report_kind"], filled["report_size_lots"]) == (1, FILL, 4)
    assert (filled["report_price_ticks"], filled["report_leaves_lots"], filled["report_side"]) == (102, 0, 1)
    assert (after["position_lots"], after["cash_ticklots"], after["orders"]) == (4, -408, 1)
    assert after["now_ns"] >= after["ts_ns"] == START_NS + 2 * SECOND_NS


@pytest.mark.parametrize("code", [-3, COMMANDS_MAX + 1])
def test_a_wrong_answer_stops_the_run(code: int) -> None:
    def wrong(view: Any, commands: Any, state: Any) -> int:
        return int(state[0])

    with pytest.raises(Exception, match=f"failed with code {code}"):
        play(CompiledStrategy(wrong, state=np.full(1, code)), random_flow(1))


def test_an_unknown_action_stops_the_run() -> None:
    def wrong(view: Any, commands: Any, state: Any) -> int:
        return 1

    with pytest.raises(Exception, match="failed with code 0"):
        play(CompiledStrategy(wrong), random_flow(1))


def test_what_cannot_be_compiled_is_a_configuration_error() -> None:
    def wrong(view: Any, commands: Any, state: Any) -> Any:
        return view.no_such_thing

    with pytest.raises(ConfigError, match="could not compile"):
        CompiledStrategy(wrong)
    with pytest.raises(ConfigError, match="filled one-dimensional"):
        CompiledStrategy(quoting, state=np.zeros(0))
    with pytest.raises(ConfigError, match="packets or by a timer"):
        CompiledStrategy(quoting, packets=False)
    with pytest.raises(ConfigError, match="timer_ns"):
        CompiledStrategy(quoting, timer_ns=0)

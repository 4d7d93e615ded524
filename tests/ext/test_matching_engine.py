"""The compiled matching engine against the reference: every report, every hash, snapshots on the way."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from matching_flow import Calls, assert_same, flow, orders, rows

from data.schema import ORDER_DTYPE, REPORT_DTYPE, OrderAction, OrderFlag, Reason, ReportKind, TimeInForce
from ext import matching_engine
from ext.matching_engine import SELF_TRADE_MODES, MatchingEngine
from tests.reference.matching import ReferenceEngine
from tests.reference.matching_orders import INT32_MAX, INT32_MIN, INT64_MAX, Command

# Of each run a fifth is the core alone, and a fifth goes to each mode of self-trade prevention: 10^5 commands
# in all, and 10^7 in the nightly runs.
RUNS = [(0, 20_000), *(pytest.param(seed, 100_000, marks=pytest.mark.nightly) for seed in range(1, 21))]

PRICES = st.one_of(st.integers(95, 105), st.sampled_from([INT32_MIN, INT32_MAX, 0, -1]))
SIZES = st.one_of(st.integers(1, 12), st.sampled_from([0, -1, 2**48, 2**48 + 1]))


class EngineAgainstReference(RuleBasedStateMachine):
    """The compiled engine and the reference give the same reports and hashes after every command."""

    @initialize(mode=st.sampled_from(SELF_TRADE_MODES), tick=st.sampled_from([1, 1, 3]))
    def begin(self, mode: str, tick: int) -> None:
        self.engine = MatchingEngine(1, 1, self_trade=mode, tick_size_ticks=tick)
        self.reference = ReferenceEngine(mode, tick)
        self.now_ns = 0
        self.batch: list[Command] = []

    def give(self, command: Command, *, more: bool) -> None:
        """Submit what came since the last batch ended, unless more is to come."""
        self.batch.append(command)
        if not more:
            self.end_batch()

    def end_batch(self) -> None:
        wanted = [row for command in self.batch for row in self.reference.submit(command)]
        assert rows(self.engine.submit(orders(*self.batch))) == wanted
        self.batch.clear()

    @rule(
        action=st.sampled_from([1, 1, 1, 1, 1, 2, 3, 3, 0]), order_id=st.integers(0, 15), size=SIZES,
        price=PRICES, stop=PRICES, display=st.sampled_from([0, 0, 0, 1, 3]),
        minimum=st.sampled_from([0, 0, 0, 2, 9]),
        owner=st.sampled_from([0, 0, 1, 2]), side=st.sampled_from([+1, -1, +1, -1, 0]),
        order_type=st.sampled_from([1, 1, 1, 1, 2, 3, 4, 5, 6, 0, 7]), offset=st.integers(-2, 2),
        tif=st.sampled_from([1, 1, 1, 2, 3, 4, 5, 0]), flags=st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
        expire=st.integers(-1, 5), passed=st.integers(0, 2), more=st.booleans(),
    )  # fmt: skip
    def command(self, *, expire: int, passed: int, more: bool, **fields: int) -> None:
        self.now_ns += passed
        self.give(Command(ts_ns=self.now_ns, expire_ns=self.now_ns + expire, **fields), more=more)

    @rule(owner=st.integers(0, 2), side=st.sampled_from([+1, -1, 0]), more=st.booleans())
    def mass_cancel(self, owner: int, side: int, *, more: bool) -> None:
        self.give(Command(action=OrderAction.MASS_CANCEL, owner=owner, side=side), more=more)

    @rule(passed=st.integers(0, 6))
    def time_passes(self, passed: int) -> None:
        self.end_batch()
        self.now_ns += passed
        assert rows(self.engine.advance(self.now_ns)) == self.reference.advance(self.now_ns)

    @rule()
    def day_ends(self) -> None:
        self.end_batch()
        assert rows(self.engine.end_day()) == self.reference.end_day()

    @rule(low=st.integers(90, 103), width=st.integers(0, 12))
    def band(self, low: int, width: int) -> None:
        self.end_batch()
        self.engine.set_price_band(low, low + width)
        self.reference.set_price_band(low, low + width)

    @rule(halted=st.booleans())
    def halt_or_resume(self, halted: bool) -> None:
        self.end_batch()
        if halted and self.reference.phase == "continuous":
            self.engine.halt()
            self.reference.halt()
        elif self.reference.phase == "halted" and not self.reference.crossed():
            assert rows(self.engine.resume()) == self.reference.resume()

    @rule()
    def call_an_auction(self) -> None:
        self.end_batch()
        self.engine.open_auction()
        self.reference.open_auction()

    @precondition(lambda self: self.reference.phase == "auction")
    @rule(reference=st.integers(94, 106), closing=st.booleans())
    def uncross(self, reference: int, closing: bool) -> None:
        self.end_batch()
        reference -= reference % self.reference.tick_size
        assert self.engine.indicative(reference) == self.reference.indicative(reference)
        reports = rows(self.engine.uncross(reference, then_halt=closing))
        assert reports == self.reference.uncross(reference, then_halt=closing)

    @rule()
    def restart_from_a_snapshot(self) -> None:
        self.end_batch()
        block = self.engine.snapshot()
        fresh = MatchingEngine(1, 1)
        fresh.restore(block)
        assert fresh.snapshot() == block
        self.engine = fresh

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.end_batch()
            assert_same(self.engine, self.reference, "")

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "engine") and not self.batch:
            assert_same(self.engine, self.reference, "")


TestEngineAgainstReference = EngineAgainstReference.TestCase
TestEngineAgainstReference.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)


def differ(seed: int, count: int, mode: str, *, core_only: bool) -> MatchingEngine:
    engine, reference = MatchingEngine(4, 4, self_trade=mode), ReferenceEngine(mode)
    calls = Calls(engine, reference, seed)
    batch: list[Command] = []
    for number, command in enumerate(flow(seed, count, core_only=core_only)):
        # Batches of random lengths, so that nothing depends on where one ends.
        batch.append(command)
        if number % 7 and number + 1 < count:
            continue
        wanted = [row for each in batch for row in reference.submit(each)]
        assert rows(engine.submit(orders(*batch))) == wanted, f"seed {seed}, command {number}"
        batch.clear()
        if not core_only and calls.draw.random() < 0.1:
            calls.any()
        if number % 1_001 == 0:
            assert_same(engine, reference, f"seed {seed}, command {number}")
    assert_same(engine, reference, f"seed {seed}, end")
    return engine


@pytest.mark.parametrize(("seed", "count"), RUNS)
def test_random_core_commands_agree_with_the_reference(seed: int, count: int) -> None:
    engine = differ(seed, count, "cancel_newest", core_only=True)
    assert engine.fill_count > count // 5


@pytest.mark.parametrize("mode", SELF_TRADE_MODES)
@pytest.mark.parametrize(("seed", "count"), RUNS)
def test_random_commands_of_every_kind_agree_with_the_reference(seed: int, count: int, mode: str) -> None:
    engine = differ(seed, count, mode, core_only=False)
    assert engine.fill_count > count // 8


def test_a_hundred_seeds_give_the_same_bytes_twice() -> None:
    for seed in range(100):
        commands = orders(*flow(seed, 300, core_only=False))
        whole, pieces = MatchingEngine(), MatchingEngine(1, 1)
        reports = whole.submit(commands)
        cut = random.Random(seed).randrange(1, 299)
        halves = [pieces.submit(commands[:cut]), pieces.submit(commands[cut:])]
        assert reports.tobytes() == np.concatenate(halves).tobytes(), f"seed {seed}"
        assert whole.snapshot() == pieces.snapshot(), f"seed {seed}"
        assert whole.fill_hash == pieces.fill_hash


def test_a_large_book_with_fetching_ahead_gives_what_a_small_step_gives() -> None:
    draw = np.random.default_rng(5)
    count = 60_000
    commands = np.zeros(count, ORDER_DTYPE)
    commands["action"], commands["order_type"], commands["time_in_force"] = 1, 1, 1
    commands["client_order_id"] = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    commands["side"] = draw.choice((-1, 1), count)
    commands["size_lots"] = draw.integers(1, 50, count)
    commands["price_ticks"] = 1_000_000 - commands["side"] * draw.integers(-2, 3_000, count)
    later = np.arange(40_000, count, 2)
    commands["action"][later] = OrderAction.CANCEL
    commands["client_order_id"][later] = commands["client_order_id"][draw.integers(0, 40_000, len(later))]
    whole, steps = MatchingEngine(65_536), MatchingEngine(1, 1)
    got = whole.submit(commands)
    # Too few at a time for anything to be fetched ahead; not one by one, since debug builds check all the
    # books after each batch.
    wanted = np.concatenate([steps.submit(commands[row : row + 24]) for row in range(0, count, 24)])
    assert got.tobytes() == wanted.tobytes()
    assert whole.state_hash() == steps.state_hash()
    assert whole.live_orders > 16_384
    whole.verify()


RUNS_OF_IDS = {
    "counted": [1],
    "every other": [2, 1 << 40],
    "at both ends of the range": [1, 2**64 - 4_000],
    "on the way past the window": [1, 2**31, 2**31 + 2**30 + 1, 2**33, 2**63],
    "with places in common": [64 * 1_000, 64 * 1_000 + 4_096, 64 * 1_000 + 65_536, 1 << 50],
    "from two counters": [5, 2**63 + 5],
}


@pytest.mark.parametrize("name", RUNS_OF_IDS)
def test_ids_that_follow_one_another_are_found_among_others(name: str) -> None:
    draw = random.Random(name)
    engine, live = MatchingEngine(2, 2), dict[int, int]()
    for first in RUNS_OF_IDS[name]:
        for step in range(1_500):
            number = first + step * (2 if name == "every other" else 1)
            if name == "from two counters" and step % 2:
                number = first ^ 2**63
            if step % 10 == 0:
                number = draw.getrandbits(64) | 1
            if number not in live:
                live[number] = size = draw.randint(1, 9)
                assert engine.limit(number, +1, 100 - number % 7, size) == (0, size, 0)
            if step % 3:  # one of the oldest or of the newest; twice, since it is gone the second time
                gone = draw.choice((list(live)[:30], list(live)[-30:])[step % 2])
                assert engine.cancel(gone) == live.pop(gone)
                assert engine.cancel(gone) == 0
            other = (number + 4_096) % 2**64
            assert (engine.order(other) is not None) == (other in live)
        if draw.random() < 0.5:
            engine.restore(engine.snapshot())
    for number, size in live.items():
        order = engine.order(number)
        assert order is not None
        assert order["leaves_lots"] == size
    engine.verify()
    assert engine.live_orders == len(live)


def test_counted_ids_are_found_while_their_window_moves_with_them() -> None:
    engine, live = MatchingEngine(16, 16), list[int]()
    for first in (1, 2**32, 2**33, 10_007, 2**63, 2**64 - 5_000):
        for number in range(first, first + 4_000):  # far more than the window stays for
            engine.limit(number, +1, 100, 1)
            if number % 1_000:
                assert engine.cancel(number) == 1
                assert engine.cancel(number) == 0
            else:
                live.append(number)
        assert [number for number in live if engine.order(number) is None] == []
        assert engine.live_orders == len(live)
    assert [engine.cancel(number) for number in live] == [1] * len(live)
    engine.verify()


def test_reports_may_go_into_an_array_of_the_callers() -> None:
    commands = orders(*flow(3, 400, core_only=False))
    wanted = MatchingEngine().submit(commands)
    out = np.zeros(5_000, REPORT_DTYPE)
    engine = MatchingEngine()
    got = engine.submit(commands, out)
    assert got.base is out
    assert got.tobytes() == wanted.tobytes()
    tight = np.zeros(600, REPORT_DTYPE)  # large enough to begin with, not to end with
    grown = MatchingEngine().submit(commands, tight)
    assert len(wanted) > 600
    assert grown.base is not tight
    assert grown.tobytes() == wanted.tobytes()
    assert MatchingEngine().submit(commands, np.zeros(3, REPORT_DTYPE)).tobytes() == wanted.tobytes()
    assert engine.submit(commands[:0], out).tobytes() == b""


def test_single_calls_do_what_submit_does() -> None:
    draw = random.Random(8)
    single, batch = MatchingEngine(1, 1), MatchingEngine(1, 1)
    for order_id in range(1, 2_000):
        size, price, owner = draw.choice((0, 3, 9, 20)), 100 + draw.randint(-4, 4), draw.choice((0, 0, 5))
        tif, flags = draw.choice((1, 1, 1, 2, 3, 5, 9)), draw.choice((0, 0, 0, 1, 2))
        side, number = draw.choice((+1, -1, 7)), order_id - draw.choice((0, 0, 0, 1))
        new = Command(
            number, order_id, 0, size, price, owner=owner, side=side if side < 2 else 0, tif=tif, flags=flags
        )
        wanted = rows(batch.submit(orders(new)))
        own = [row for row in wanted if row[0] == number]
        traded = sum(row[4] for row in own if row[1] == ReportKind.FILL)
        reasons = [row[2] for row in own if row[2]]
        found = single.limit(
            number, side, price, size, owner=owner, time_in_force=tif, flags=flags, ts_ns=order_id
        )
        assert found == (traded, own[-1][5], reasons[-1] if reasons else 0)
        assert rows(single.last_reports()) == wanted
        gone = draw.randint(max(1, order_id - 20), order_id)
        ended = rows(batch.submit(orders(Command(gone, action=OrderAction.CANCEL))))[0]
        assert single.cancel(gone) == (ended[4] if ended[2] == Reason.USER else 0)
    assert single.snapshot() == batch.snapshot()
    assert single.fill_count > 100


def test_timed_commands_do_what_commands_do() -> None:
    commands = orders(*flow(4, 500, core_only=False))
    plain, timed = MatchingEngine(), MatchingEngine()
    plain.submit(commands)
    nanoseconds = timed.time_commands(commands)
    assert (nanoseconds.shape, nanoseconds.dtype) == ((500,), np.float64)
    assert nanoseconds.min() >= 0
    assert timed.snapshot() == plain.snapshot()


def test_the_dtypes_are_the_schemas() -> None:
    assert matching_engine.ORDER_DTYPE == ORDER_DTYPE
    assert matching_engine.REPORT_DTYPE == REPORT_DTYPE


def test_bad_arguments_are_refused_by_rule() -> None:
    engine = MatchingEngine()
    good = orders(Command(order_id=1, side=1, size=1), Command(order_id=2, side=1, size=1))
    with pytest.raises(TypeError, match="ORDER_DTYPE"):
        engine.submit(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="REPORT_DTYPE"):
        engine.submit(good, good)
    with pytest.raises(ValueError, match="contiguous"):
        engine.submit(good.repeat(2)[::2])
    with pytest.raises(ValueError, match="multiple of 8"):
        engine.submit(np.frombuffer(b"\0" * 65, np.uint8)[1:].view(ORDER_DTYPE))
    with pytest.raises(ValueError, match="writeable"):
        engine.submit(good, np.frombuffer(bytes(640), REPORT_DTYPE))
    with pytest.raises(ValueError, match="self_trade"):
        MatchingEngine(self_trade="never")
    with pytest.raises(ValueError, match="tick_size"):
        MatchingEngine(tick_size_ticks=0)
    with pytest.raises(ValueError, match="order_capacity"):
        MatchingEngine(0)
    with pytest.raises(ValueError, match="side must be"):
        engine.depth_array(0, 1)
    with pytest.raises(ValueError, match="band"):
        engine.set_price_band(2, 1)
    with pytest.raises(ValueError, match="halted"):
        engine.resume()
    assert engine.live_orders == 0


def test_a_damaged_snapshot_is_refused_and_changes_nothing() -> None:
    engine = MatchingEngine()
    engine.submit(orders(*flow(9, 300, core_only=False)))
    block, before = engine.snapshot(), engine.state_hash()
    for place in range(0, len(block), 5):
        damaged = bytearray(block)
        damaged[place] ^= 0x10
        with pytest.raises(ValueError, match="snapshot: expected that"):
            engine.restore(bytes(damaged))
    for length in (0, 50, len(block) - 1, len(block) - 88):
        with pytest.raises(ValueError, match="snapshot"):
            engine.restore(block[:length])
    assert (engine.state_hash(), engine.snapshot()) == (before, block)
    engine.restore(block)
    assert engine.snapshot() == block


def test_time_at_the_end_of_its_range_ends_orders_and_nothing_else() -> None:
    engine = MatchingEngine()
    command = Command(order_id=1, side=1, size=1, price=5, tif=TimeInForce.GTD, expire_ns=INT64_MAX - 1)
    engine.submit(orders(command))
    command = Command(order_id=2, side=1, size=1, price=5, tif=TimeInForce.GTD, expire_ns=INT64_MAX)
    engine.submit(orders(command))
    assert [row[:3] for row in rows(engine.advance(INT64_MAX))] == [(1, 5, Reason.TIME)]
    assert engine.now_ns == INT64_MAX
    assert engine.order(2) is not None
    engine.submit(orders(Command(order_id=3, side=1, size=1, price=5, ts_ns=-(2**63))))
    assert engine.now_ns == INT64_MAX


def test_order_types_and_flags_beyond_the_known_are_refused() -> None:
    for fields in ({"order_type": 7}, {"flags": 4}, {"tif": 6}, {"side": 0}):
        command = Command(**{"order_id": 1, "side": 1, "size": 1, "price": 1, **fields})
        assert rows(MatchingEngine().submit(orders(command)))[0][1:3] == (4, Reason.BAD_ORDER)
    hidden_iceberg = Command(order_id=1, side=1, size=5, display=1, flags=OrderFlag.HIDDEN)
    assert rows(MatchingEngine().submit(orders(hidden_iceberg)))[0][2] == Reason.BAD_ORDER

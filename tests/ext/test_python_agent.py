"""What a strategy is told, when, and what becomes of what it asks for."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import numpy as np
import pytest

from backtest.venue_config import VenueConfig
from data.schema import Reason, ReportKind
from engine.order_ids import unpack_order_id
from engine.risk import RiskLimits
from engine.strategy import Context, Strategy, StrategyError
from ext.feature_set import FeatureSet
from ext.features import FEATURE_NAMES
from ext.python_agent import PythonAgent
from tests.markets import (
    AT_ONCE,
    INSTRUMENT,
    SECOND_NS,
    START_NS,
    Script,
    add,
    execute,
    joined,
    play,
    quote,
    random_quotes,
    trade,
)  # fmt: skip

QUOTES = joined(*(quote(second, 1_000, 1_004) for second in range(1, 20)))


def test_the_context_shows_the_market_of_every_venue():
    seen = {}

    class Look(Strategy):
        def on_stop(self, ctx):
            seen.update(
                count=ctx.venue_count, mid=ctx.mid_ticks, spread=ctx.spread_ticks, first=ctx.touch(0),
                second=ctx.touch(1), bid=(ctx.bid_price_ticks, ctx.bid_size_lots),
                ask=(ctx.ask_price_ticks, ctx.ask_size_lots), now=ctx.now_ns, two_sided=ctx.two_sided,
            )  # fmt: skip

    play(Look(), joined(
        quote(0, 100, 104, bid_size=3), quote(1, 101, 105, bid_size=5, venue=1),
        quote(2, 101, 104, bid_size=7, ask_size=2),
    ), venue=[VenueConfig(feed_latency_ns=0)] * 2)  # fmt: skip
    assert seen["count"] == 2
    assert seen["first"] == (101, 7, 104, 2)
    assert seen["second"] == (101, 5, 105, 10)
    assert (seen["mid"], seen["spread"], seen["two_sided"]) == (102.5, 3, True)
    assert seen["bid"] == (101, 12)
    assert seen["ask"] == (104, 2)
    assert seen["now"] >= START_NS + 2 * SECOND_NS


def test_features_are_one_read_only_array():
    class Look(Strategy):
        def on_stop(self, ctx):
            self.features = ctx.features
            self.again = ctx.features

    look = Look()
    play(look, QUOTES)
    assert look.features.dtype == np.float32
    assert look.features.shape == (len(FEATURE_NAMES),)
    assert np.shares_memory(look.features, look.again)
    with pytest.raises(ValueError, match="read-only"):
        look.features[0] = 1.0


def test_without_a_market_there_is_no_mid():
    class Look(Strategy):
        def on_start(self, ctx):
            self.seen = (ctx.mid_ticks, ctx.spread_ticks, ctx.two_sided, ctx.bid_size_lots)

    look = Look()
    play(look, joined(quote(0, 100, 0, ask_size=0), quote(1, 100, 102)))
    assert np.isnan(look.seen[0])
    assert look.seen[1:] == (0, False, 0)


def test_the_timer_ticks_on_its_grid_from_the_first_packet_on():
    class Clock(Strategy):
        timer_ns = 5 * SECOND_NS

        def __init__(self):
            self._ticks = []

        def on_timer(self, ctx):
            self._ticks.append((ctx.now_ns - START_NS) / SECOND_NS)

    clock = Clock()
    play(clock, QUOTES)
    assert clock._ticks == [5, 10, 15]


def test_the_timer_rests_while_the_market_is_silent():
    class Clock(Strategy):
        timer_ns = 60 * SECOND_NS

        def __init__(self):
            self._ticks = []

        def on_timer(self, ctx):
            self._ticks.append(round((ctx.now_ns - START_NS) / SECOND_NS))

    clock = Clock()
    night = 50_000
    play(clock, joined(quote(1, 10, 12), quote(night, 10, 12), quote(night + 130, 10, 12)))
    assert clock._ticks[:10] == list(range(60, 601, 60))
    assert len(clock._ticks) == 10 + 2
    assert all(tick >= night for tick in clock._ticks[10:])


def test_batches_count_events_not_what_the_ring_held():
    class Batches(Strategy):
        batch_events = 7

        def __init__(self):
            self._seen = []

        def on_batch(self, ctx):
            self._seen.append((ctx.now_ns - START_NS) // SECOND_NS)

    batches = Batches()
    play(batches, QUOTES)
    assert batches._seen == [7, 14]


@pytest.mark.parametrize(("sizes", "expected"), [(False, [3, 5]), (True, [2, 3, 5])])
def test_touch_is_told_when_it_changed(sizes, expected):
    class Touch(Strategy):
        touch_sizes = sizes

        def __init__(self):
            self._seen = []

        def on_touch(self, ctx):
            self._seen.append((ctx.now_ns - START_NS) // SECOND_NS)

    touch = Touch()
    play(touch, joined(
        quote(0, 100, 102), quote(1, 100, 102), quote(2, 100, 102, bid_size=3),
        quote(3, 101, 102, bid_size=3),
        quote(4, 101, 102, bid_size=3), quote(5, 101, 102, bid_size=0),
    ))  # fmt: skip
    assert touch._seen == expected


def test_touch_is_told_at_most_so_often_and_a_waiting_change_is_not_lost():
    class Touch(Strategy):
        touch_every_ns = 4 * SECOND_NS

        def __init__(self):
            self._seen = []

        def on_touch(self, ctx):
            self._seen.append(((ctx.now_ns - START_NS) // SECOND_NS, ctx.bid_price_ticks))

    touch = Touch()
    play(touch, joined(*(quote(second, 100 + min(second, 7), 120) for second in range(30))))
    assert touch._seen == [(1, 101), (5, 105), (9, 107)]


def test_only_overridden_hooks_are_called():
    class Quiet(Strategy):
        def on_stop(self, ctx):
            self.position = ctx.position_lots

    quiet = Quiet()
    play(quiet, QUOTES)
    assert quiet.position == 0


def test_order_ids_count_up_and_carry_the_run():
    ids = []

    def send(ctx):
        ids.extend((ctx.buy(1), ctx.sell(1)))

    play(Script(t2=send, t4=send), QUOTES)
    parts = [unpack_order_id(one) for one in ids]
    assert [(part.parent, part.leg, part.attempt) for part in parts] == [(n, 0, 0) for n in (1, 2, 3, 4)]
    assert len({part.run for part in parts}) == 1


def test_open_orders_follow_the_reports():
    seen = []

    def look(ctx):
        seen.append(
            [(order.side, order.leaves_lots, order.accepted, order.cancelling) for order in ctx.open_orders]
        )

    def send(ctx):
        ctx.buy(4, 990, post_only=True)
        ctx.sell(25, 1_000)
        look(ctx)

    script = Script(t2=send, t4=look, t6=lambda ctx: ctx.cancel_all() and look(ctx), t8=look)
    result = play(script, QUOTES)
    assert seen == [
        [(1, 4, False, False), (-1, 25, False, False)],
        # Ten lots of each of two quotes: one on arrival, one when the next quote met what rested.
        [(1, 4, True, False), (-1, 5, True, False)],
        [(1, 4, True, True)],
        [],
    ]
    assert script.filled_lots == 25
    assert result.position_lots[-1] == -25


def test_a_replace_moves_price_and_size():
    held = {}

    def send(ctx):
        held["id"] = ctx.buy(4, 990)

    def move(ctx):
        assert ctx.replace(held["id"], price_ticks=995, size_lots=9)

    script = Script(t2=send, t4=move, t6=lambda ctx: held.update(order=ctx.order(held["id"])))
    flow = joined(QUOTES[:8], quote(9.5, 990, 994, ask_size=20))
    play(script, flow)
    assert (held["order"].price_ticks, held["order"].size_lots, held["order"].leaves_lots) == (995, 9, 9)
    assert script.fills == [(9, 995)]


def test_risk_refusals_are_reports_with_a_reason():
    limits = RiskLimits(order_size_lots_max=10, position_lots_max=15, price_band_ticks=50)

    def send(ctx):
        ctx.buy(11)
        ctx.buy(1, 900)
        ctx.buy(10)
        ctx.buy(10)

    script = Script(t2=send)
    result = play(script, QUOTES, limits=limits)
    assert script.rejects == [Reason.RISK_ORDER_SIZE, Reason.RISK_PRICE_COLLAR, Reason.RISK_POSITION]
    assert result.rejections == {"RISK_ORDER_SIZE": 1, "RISK_PRICE_COLLAR": 1, "RISK_POSITION": 1}
    assert result.orders == 1


def test_sending_again_what_was_refused_ends_in_a_clear_error():
    class Stubborn(Strategy):
        def on_start(self, ctx):
            ctx.buy(10**9)

        def on_reject(self, ctx, report):
            ctx.buy(10**9)

    with pytest.raises(StrategyError, match="refused order sent again") as caught:
        play(Stubborn(), QUOTES)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (lambda ctx: ctx.buy(0), "size_lots must be positive, was 0"),
        (lambda ctx: ctx.sell(1, venue=3), "venue must be below 1, was 3"),
        (lambda ctx: ctx.buy(1, post_only=True), "post_only needs a limit"),
        (lambda ctx: ctx.buy(1, 99, ttl_ns=0), "ttl_ns must be positive"),
        (lambda ctx: ctx.buy(1, 99, ttl_ns=2**63 - 1), "ttl_ns must end within 64 bits"),
        (lambda ctx: ctx.buy(1, 99, ttl_ns=2**80), "ttl_ns must end within 64 bits"),
        (lambda ctx: ctx.schedule(0, 0), "tag must be"),
        (lambda ctx: ctx.touch(1), "venue must be below 1"),
    ],
)
def test_a_bad_argument_is_an_error_of_the_strategy(bad, rule):
    with pytest.raises(StrategyError, match=rule) as caught:
        play(Script(t2=bad), QUOTES)
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_a_strategy_raises_stops_the_run_with_its_traceback_and_sends_nothing():
    calls = []

    class Broken(Strategy):
        timer_ns = SECOND_NS

        def on_timer(self, ctx):
            calls.append(ctx.buy(1))
            raise ZeroDivisionError("in the strategy")

    with pytest.raises(StrategyError, match="in the strategy") as caught:
        play(Broken(), QUOTES)
    assert len(calls) == 1
    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    frames = [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    assert "on_timer" in frames


def test_nothing_is_sent_after_the_data_have_ended():
    class Late(Strategy):
        def on_start(self, ctx):
            ctx.buy(1, 900)

        def on_report(self, ctx, report):
            if report.reason == Reason.END_OF_DATA:
                self.sent = ctx.buy(1)

        def on_stop(self, ctx):
            self.at_stop = ctx.buy(1)

    late = Late()
    result = play(late, QUOTES)
    assert (late.sent, late.at_stop, result.orders) == (0, 0, 1)


def test_reports_tell_what_happened_in_order():
    class Listen(Strategy):
        def __init__(self):
            self._heard = []

        def on_start(self, ctx):
            ctx.buy(15, 1_004, ttl_ns=SECOND_NS // 2)

        def on_report(self, ctx, report):
            self._heard.append((ReportKind(report.kind), report.size_lots, report.leaves_lots))
            assert report.recv_ns <= ctx.now_ns
            assert "Report(" in repr(report)

    listen = Listen()
    play(listen, QUOTES, instrument=INSTRUMENT)
    assert listen._heard == [
        (ReportKind.FILL, 10, 5), (ReportKind.ACCEPTED, 0, 5), (ReportKind.EXPIRED, 5, 0),
    ]  # fmt: skip


def test_many_commands_in_one_batch_do_not_lose_a_journal_record(tmp_path):
    from engine.journal import verify_journal

    class Busy(Strategy):
        touch_sizes = True

        def on_touch(self, ctx):
            for _ in range(200):
                ctx.buy(1, ctx.bid_price_ticks - 3)
            ctx.cancel_all()

    limits = RiskLimits(messages_per_second_max=1 << 20)
    result = play(Busy(), random_quotes(3, count=1_500), limits=limits, journal=tmp_path / "busy.journal")
    summary = verify_journal(result.journal_path)
    assert summary.records_by_kind["ORDER"] > 100_000
    assert summary.sha256 == result.journal_hash


def test_trades_alone_call_no_touch_before_a_market(tmp_path):
    script = Script(t2=lambda ctx: ctx.buy(3))
    play(script, joined(trade(0, 1, 100, 5), trade(3, -1, 99, 5)))
    assert script.fills == [(3, 100)]


def test_bad_subscriptions_are_refused():
    with pytest.raises(ValueError, match="hooks must be of"):
        PythonAgent({"on_moon": print}, run_id=1, tick_value=1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        PythonAgent({}, run_id=1, tick_value=1.0, timer_ns=-1)
    with pytest.raises(TypeError, match="made by its agent"):
        Context()


def test_a_mass_cancel_ends_one_side_of_one_venue_in_one_message() -> None:
    open_after: dict[str, list[int]] = {}

    def note(name: str) -> Callable[[Context], None]:
        def look(ctx: Context) -> None:
            open_after[name] = [order.price_ticks for order in ctx.open_orders]

        return look

    def enter(ctx: Context) -> None:
        ctx.buy(1, 95)
        ctx.buy(1, 96)
        ctx.sell(1, 105)
        ctx.buy(1, 94, venue=1)

    told: list[int] = []
    script = Script(
        t1=enter,
        t2=lambda ctx: told.append(ctx.mass_cancel(0, side=1)),
        t3=note("one side"),
        t4=lambda ctx: told.append(ctx.mass_cancel(0)),
        t5=note("one venue"),
        t6=lambda ctx: told.append(ctx.mass_cancel(1, side=-1)),
        t7=note("nothing"),
    )
    flow = joined(*(quote(0.5 * second, 99, 101, venue=second % 2) for second in range(18)))
    result = play(script, flow, venue=(AT_ONCE, AT_ONCE))
    assert told == [2, 1, 0]
    assert open_after == {"one side": [105, 94], "one venue": [94], "nothing": [94]}
    assert result.orders == 4
    with pytest.raises(StrategyError, match="side -1, 0 or 1"):
        play(Script(t1=lambda ctx: ctx.mass_cancel(0, side=2)), flow, venue=(AT_ONCE, AT_ONCE))


def test_a_strategy_fills_its_models_input_with_chosen_features() -> None:
    chosen = FeatureSet(["queue_ahead_bid", "microprice", "queue_ahead_ask", "imbalance_5"])
    seen: list[list[float]] = []

    def look(ctx: Context) -> None:
        row = np.zeros(4, np.float32)
        ctx.fill_features(chosen, row)
        seen.append(row.tolist())

    script = Script(t1=look, t2=lambda ctx: ctx.buy(5, 100, post_only=True), t3=look, t5=look)
    flow = joined(
        add(0, 1, 1, 100, 10), add(0, 2, -1, 102, 30), add(0.5, 3, 1, 99, 20),
        add(2.5, 4, 1, 100, 10), execute(4, 1, 1, 100, 5), add(6, 9, 1, 90, 1),
    )  # fmt: skip
    play(script, flow, queue="pessimistic")
    before, joined_queue, served = seen
    assert [before[0], before[2]] == [1.0, 1.0], "nothing of ours rests"
    assert before[3] == 0.0, "30 lots on either side"
    assert joined_queue[0] == pytest.approx(10 / 20)
    assert served[0] == pytest.approx(5 / 15)
    assert served[2] == 1.0
    assert served[3] == pytest.approx((15 + 20 - 30) / 65)

"""The executor: a parent's life on small markets, by its journal and by hand."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engine import (
    DAY_NS,
    FIRST_DAY,
    LIMITS,
    PROMPT,
    RUN_ID,
    SECOND_NS,
    START_NS,
    Outcome,
    Quote,
    execute,
    parents,
    steady,
)

from data.schema import JournalKind, OrderType, ParentState, Reason, ReportKind, TimeInForce
from engine.order_ids import unpack_order_ids
from engine.risk import RiskLimits
from ext.executor import CONTEXT_NAMES, DAY_STATS_DTYPE, PLAN_DTYPE, ParentExecutor
from ext.routing import (
    ArmProbeRouter,
    EpsilonGreedyRouter,
    LinUcbRouter,
    ProRataRouter,
    RoundRobinRouter,
    Router,
    SingleBestRouter,
    SweepRouter,
)

BPS = 1e-4


class Forecast:
    """A session that always says the same."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.calls = 0

    def signal(self, features: object) -> float:
        self.calls += 1
        return self.value


# Laws of every run, on markets drawn at random.

MS = 1_000_000
SILENCE = 601.0
"""More seconds than a market may be silent and still count as open."""


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[Quote]]:
    venue_count = draw(st.integers(1, 3))
    venues = [
        {
            "order_latency_ns": draw(st.sampled_from([0, MS, 700 * MS])),
            "order_jitter_ns": draw(st.sampled_from([0, 5 * MS])),
            "ack_latency_ns": draw(st.sampled_from([0, 300 * MS])),
            "feed_latency_ns": draw(st.sampled_from([0, 2 * MS])),
            "taker_fee_bps": 0.3,
            "maker_fee_bps": -0.1,
            "last_look": draw(st.sampled_from([0.0, 0.3, 1.0])),
            "flow": draw(st.sampled_from([0.0, 0.2, 0.9])),
            "depth_levels": draw(st.integers(0, 2)),
            "depth_step": 0.4,
            "depth_size": 0.7,
            "queue_mode": "flow",
        }
        for _ in range(venue_count)
    ]
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    second, mid, quotes = 0.0, 5_000, []
    for _ in range(draw(st.integers(2, 150))):
        second += float(random.choice([0.0, 0.3, 2.0, 9.0, SILENCE], p=[0.2, 0.4, 0.3, 0.08, 0.02]))
        mid += int(random.integers(-4, 5))
        half = int(random.integers(1, 6))
        bid_size, ask_size = (
            int(size) for size in random.choice([0, 3, 20, 400], 2, p=[0.05, 0.25, 0.4, 0.3])
        )
        quotes.append((second, int(random.integers(venue_count)), mid - half, bid_size, mid + half, ask_size))
    return venues, quotes


@st.composite
def plans(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    arrivals = sorted(draw(st.lists(st.integers(0, 400), min_size=1, max_size=12)))
    return parents(
        *(
            (
                arrival,
                arrival + draw(st.integers(1, 300)),
                draw(st.sampled_from([-1, 1])),
                draw(st.integers(1, 500)),
                draw(st.integers(1, 7)),
            )
            for arrival in arrivals
        )
    )


ROUTERS: dict[str, Callable[[int], Router]] = {
    "linucb": lambda venues: LinUcbRouter(venues),
    "epsilon": lambda venues: EpsilonGreedyRouter(venues, epsilon=0.5, seed=2),
    "single": lambda venues: SingleBestRouter(),
    "sweep": lambda venues: SweepRouter(),
    "pro_rata": lambda venues: ProRataRouter(),
    "round_robin": lambda venues: RoundRobinRouter(),
    "probe": lambda venues: ArmProbeRouter(),
}


@settings(max_examples=60)
@given(market=markets(), plan=plans(), router=st.sampled_from(sorted(ROUTERS)), tight=st.booleans())
def test_laws_of_every_run(
    market: tuple[list[dict[str, Any]], list[Quote]], plan: np.ndarray[Any, Any], router: str, tight: bool
) -> None:
    venues, quotes = market
    limits = RiskLimits(order_size_lots_max=60, messages_per_second_max=3) if tight else LIMITS
    with tempfile.TemporaryDirectory() as folder:
        # Replaying checks at every record that filled + open + cancelled is the size, that a parent
        # counts its fills and that each fill takes from an open journaled order.
        out = execute(
            Path(folder), ROUTERS[router](len(venues)), plan, quotes, venues=venues, limits=limits,
            post_ns=20 * SECOND_NS, use_signal=False,
        )  # fmt: skip
        assert_orders_belong_to_decisions(out, plan)
        assert_every_decision_is_rewarded_or_censored(out, plan)
        assert_deadlines_hold(out, plan, venues)
        assert_statistics_agree_with_the_journal(out)
    assert not out.state.open_orders


def assert_orders_belong_to_decisions(out: Outcome, plan: np.ndarray[Any, Any]) -> None:
    orders = out.journal.orders()
    assert len(set(orders["client_order_id"].tolist())) == len(orders)
    parts = unpack_order_ids(orders["client_order_id"])
    assert parts["ours"].all()
    assert (parts["run"] == RUN_ID).all()
    decided = set(out.journal.decisions()["parent_id"].tolist())
    assert set(parts["parent"].tolist()) <= decided
    np.testing.assert_array_equal(orders["side"], plan["side"][parts["parent"]])
    fills = out.journal.reports()
    fills = fills[fills["kind"] == ReportKind.FILL]
    assert set(fills["client_order_id"].tolist()) <= set(orders["client_order_id"].tolist())
    limit = dict(zip(orders["client_order_id"].tolist(), orders["price_ticks"].tolist(), strict=True))
    kinds = dict(zip(orders["client_order_id"].tolist(), orders["order_type"].tolist(), strict=True))
    for fill in fills:
        key = int(fill["client_order_id"])
        if kinds[key] == OrderType.LIMIT:
            assert fill["side"] * (int(fill["price_ticks"]) - limit[key]) <= 0


def assert_every_decision_is_rewarded_or_censored(out: Outcome, plan: np.ndarray[Any, Any]) -> None:
    decisions, rewards = out.journal.decisions(), out.journal.rewards()
    assert not out.state.decisions_pending
    assert len(decisions) == len(rewards) == out.agent.decisions
    assert rewards["censored"].sum() == out.agent.censored
    assert np.isfinite(rewards["reward"]).all()
    assert (np.abs(rewards["reward"]) <= 8.0).all()
    # One per slice, and one more for the close-out.
    for parent, count in Counter(decisions["parent_id"].tolist()).items():
        assert count <= plan["slices"][parent] + 1


def assert_deadlines_hold(out: Outcome, plan: np.ndarray[Any, Any], venues: list[dict[str, Any]]) -> None:
    orders = out.journal.orders()
    deadline = plan["deadline_ns"][unpack_order_ids(orders["client_order_id"])["parent"]]
    resting = orders["time_in_force"] == TimeInForce.GTD
    assert (orders["expire_ns"][resting] <= deadline[resting]).all()
    # Two sweeps and the closing round may still have to be answered.
    round_trip = max(
        venue["order_latency_ns"] + venue["order_jitter_ns"] + venue["ack_latency_ns"] for venue in venues
    ) + 2 * max(venue["feed_latency_ns"] for venue in venues)
    assert (orders["ts_ns"] <= deadline + 4 * round_trip).all()
    taken_late = (orders["ts_ns"] > deadline + round_trip) & ~resting
    assert (orders["order_type"][taken_late] == OrderType.MARKET).all()


def assert_statistics_agree_with_the_journal(out: Outcome) -> None:
    (stats,) = out.stats
    last: dict[int, Any] = {int(row["parent_id"]): row for row in out.journal.parents()}
    ended = [row for row in last.values() if row["state"] != ParentState.WORKING]
    assert stats["parents"] == len(ended) == sum(out.state.parents_ended.values())
    assert len(last) + out.agent.skipped <= out.agent.plan_count
    assert stats["lots"] == sum(int(row["filled_lots"]) for row in ended)
    assert stats["cancelled_lots"] == sum(int(row["cancelled_lots"]) for row in ended)
    for row in ended:
        assert (row["state"] == ParentState.DONE) == (row["cancelled_lots"] == 0)
    assert stats["decisions"] + out.agent.censored == out.agent.decisions
    reports = out.journal.reports()
    fills = reports[reports["kind"] == ReportKind.FILL]
    by_venue = np.bincount(fills["venue_id"], fills["size_lots"], minlength=out.loop.venue_count)
    np.testing.assert_array_equal(out.agent.lots_by_venue().sum(axis=0), by_venue)
    for name in ("cost_ticklots", "fee_ticklots", "notional_ticklots", "child_cost_ticklots"):
        assert np.isfinite(stats[name]), name
    # Prices stay within a few hundred ticks of the mid, so must costs; a sentinel price would not.
    assert abs(stats["cost_ticklots"]) <= 1_000 * max(1, stats["lots"] + stats["cancelled_lots"])


# Costs by hand.


@pytest.mark.parametrize("side", [1, -1])
def test_taking_costs_half_the_spread_and_the_fee(tmp_path: Path, side: int) -> None:
    out = execute(
        tmp_path,
        SweepRouter(),
        parents((1, 31, side, 600, 6)),
        steady(40),
        venues=[PROMPT | {"taker_fee_bps": 2.0}],
    )
    (stats,) = out.stats
    fee = 600 * (1_010 if side > 0 else 1_000) * 2.0 * BPS
    assert stats["fee_ticklots"] == pytest.approx(fee, rel=1e-12)
    assert stats["cost_ticklots"] == pytest.approx(600 * 5 + fee, rel=1e-12)
    assert stats["child_cost_ticklots"] == pytest.approx(600 * 5 + fee, rel=1e-12)
    assert stats["notional_ticklots"] == 600 * 1_005
    assert (stats["parents"], stats["lots"], stats["taker_lots"], stats["decisions"]) == (1, 600, 600, 6)
    assert stats["reward"] == pytest.approx(-6 * (5 + fee / 600) / 10)
    assert out.state.positions == {(0, 0): side * 600}


def test_a_fee_per_lot_is_turned_into_ticks(tmp_path: Path) -> None:
    out = execute(
        tmp_path,
        SweepRouter(),
        parents((1, 2, 1, 50, 1)),
        steady(10),
        venues=[PROMPT | {"taker_fee_per_lot": 0.03}],
    )
    (stats,) = out.stats
    assert stats["fee_ticklots"] == pytest.approx(50 * 0.03 / 0.01)
    assert stats["cost_ticklots"] == pytest.approx(50 * 5 + 50 * 3)


@pytest.mark.parametrize("side", [1, -1])
def test_posting_earns_half_the_spread_and_the_rebate(tmp_path: Path, side: int) -> None:
    plan = parents((1, 31, side, 10, 1), (1, 31, side, 10, 1))
    venue = PROMPT | {"flow": 1.0, "maker_fee_bps": -1.0, "taker_fee_bps": 1.0}
    out = execute(tmp_path, ArmProbeRouter(), plan, steady(400, size=1), venues=[venue], groups=2)
    posted = out.stats[1]
    assert posted["taker_lots"] == 0
    assert posted["cost_ticklots"] == pytest.approx(
        -10 * 5 - 10 * (1_000 if side > 0 else 1_010) * BPS, rel=1e-12
    )


def test_drift_counts_from_arrival_for_the_parent_and_from_the_decision_for_the_child(tmp_path: Path) -> None:
    # Two slices; between them the market moves up by 20 ticks.
    quotes = [*steady(9), *[(10.0 + second, 0, 1_020, 10_000, 1_030, 10_000) for second in range(30)]]
    out = execute(tmp_path, SweepRouter(), parents((1, 21, 1, 200, 2)), quotes)
    (stats,) = out.stats
    assert stats["cost_ticklots"] == 100 * 5 + 100 * 25
    assert stats["child_cost_ticklots"] == 100 * 5 + 100 * 5
    costs = out.journal.rewards()["cost_ticks"]
    np.testing.assert_array_equal(costs, [5.0, 5.0])


def test_lots_that_nobody_sells_cost_what_buying_them_would(tmp_path: Path) -> None:
    out = execute(
        tmp_path, SweepRouter(), parents((1, 11, 1, 40, 2)), steady(30), venues=[PROMPT | {"last_look": 1.0}]
    )
    (stats,) = out.stats
    assert (stats["lots"], stats["cancelled_lots"], stats["cost_ticklots"]) == (0, 40, 40 * 5)
    assert out.state.parents_ended == {"CANCELLED": 1}
    # Two slices and the close-out, declined each time with two sweeps; the close-out is not swept.
    assert out.loop.refusals == {int(Reason.LAST_LOOK): 3 + 3 + 1}


@pytest.mark.parametrize("side", [1, -1])
def test_a_side_that_vanished_is_priced_by_the_last_market_there_was(tmp_path: Path, side: int) -> None:
    gone = (0, 10_000) if side < 0 else (10_000, 0)
    quotes = [*steady(5), *[(6.0 + second, 0, 1_000, gone[0], 1_010, gone[1]) for second in range(30)]]
    out = execute(tmp_path, SweepRouter(), parents((1, 21, side, 200, 2)), quotes)
    (stats,) = out.stats
    assert (stats["lots"], stats["cancelled_lots"]) == (100, 100)
    assert stats["cost_ticklots"] == 200 * 5


def test_what_one_venue_does_not_show_is_swept_from_the_next_cheapest(tmp_path: Path) -> None:
    quotes = [(second * 0.5, second % 2, 1_000, 30, 1_010 + 2 * (second % 2), 30) for second in range(60)]
    out = execute(tmp_path, SweepRouter(), parents((2, 3, 1, 50, 1)), quotes, venues=[PROMPT, PROMPT])
    np.testing.assert_array_equal(out.agent.lots_by_venue(), [[30, 20]])
    assert out.stats[0]["cost_ticklots"] == 30 * 5 + 20 * 7


def test_the_close_out_is_scaled_like_a_slice_where_venues_cross(tmp_path: Path) -> None:
    # The one venue bids 20 above the other's offer all day; both decline.
    sides = [(1_020, 1_030), (990, 1_000)]
    quotes = [
        (index * 0.1, index % 2, sides[index % 2][0], 50, sides[index % 2][1], 50) for index in range(8_000)
    ]
    venues = [PROMPT | {"last_look": 1.0}] * 2
    out = execute(tmp_path, SweepRouter(), parents((700, 720, 1, 40, 1)), quotes, venues=venues)
    rewards = out.journal.rewards()
    assert rewards["cost_ticks"].tolist() == [-10.0, -10.0]
    assert rewards["reward"].tolist() == [8.0, 8.0]


def test_latency_is_paid_for_when_the_market_moves_meanwhile(tmp_path: Path) -> None:
    # Decided at 2 s on 1000/1010, arrives at 3.5 s on 1004/1014: within the protection of one spread.
    quotes = [*steady(2), *[(3.0 + second, 0, 1_004, 10_000, 1_014, 10_000) for second in range(20)]]
    venue = PROMPT | {"order_latency_ns": 1_500 * MS}
    out = execute(tmp_path, SweepRouter(), parents((2, 12, 1, 10, 1)), quotes, venues=[venue])
    assert out.stats[0]["cost_ticklots"] == 10 * 9
    strict = execute(
        tmp_path, SweepRouter(), parents((2, 12, 1, 10, 1)), quotes, venues=[venue], protection=0.0
    )
    assert strict.loop.refusals == {}
    assert strict.state.parents_ended == {"DONE": 1}
    orders = strict.journal.orders()
    assert orders["price_ticks"].tolist() == [1_010, 1_014]


# Time.


def test_slices_come_on_schedule_and_share_what_is_left(tmp_path: Path) -> None:
    out = execute(tmp_path, SweepRouter(), parents((3, 33, 1, 100, 3)), steady(60))
    orders = out.journal.orders()
    assert ((orders["ts_ns"] - START_NS) // SECOND_NS).tolist() == [3, 13, 23]
    assert orders["size_lots"].tolist() == [34, 33, 33]


def test_a_closed_market_skips_parents_and_joins_slices(tmp_path: Path) -> None:
    open_again = SILENCE + 2_000.0
    quotes = [*steady(10), *[(open_again + second, 0, 1_000, 10_000, 1_010, 10_000) for second in range(900)]]
    plan = parents(
        (5, open_again + 800, 1, 100, 2),  # its second slice comes when the market is open again
        (5, open_again - 100, 1, 100, 100),  # all but its first slices fall into the pause, as does its end
        (1_500, open_again + 50, 1, 100, 2),  # arrives while the market is closed
    )
    out = execute(tmp_path, SweepRouter(), plan, quotes)
    assert out.agent.skipped == 1
    assert 2 not in out.journal.parents()["parent_id"].tolist()
    parts = unpack_order_ids(out.journal.orders()["client_order_id"])["parent"].tolist()
    late = out.journal.orders()["ts_ns"][np.array(parts) == 1]
    assert late.max() <= START_NS + (10 + 600) * SECOND_NS
    assert out.state.parents_ended == {"DONE": 1, "CANCELLED": 1}


def test_a_parent_that_arrives_before_the_market_is_skipped(tmp_path: Path) -> None:
    out = execute(tmp_path, SweepRouter(), parents((-5, 20, 1, 10, 1)), steady(30))
    assert (out.agent.skipped, out.agent.decisions, out.stats[0]["parents"]) == (1, 0, 0)


def test_a_posted_leg_does_not_outlive_its_parent(tmp_path: Path) -> None:
    plan = parents((1, 11, 1, 10, 1), (1, 11, 1, 10, 1))
    out = execute(tmp_path, ArmProbeRouter(), plan, steady(200), groups=2, post_ns=60 * SECOND_NS)
    orders = out.journal.orders()
    posted = orders[orders["time_in_force"] == TimeInForce.GTD]
    assert ((posted["expire_ns"] - START_NS) // SECOND_NS).tolist() == [11]
    assert ((orders["ts_ns"] - START_NS) // SECOND_NS).tolist() == [1, 1, 11]
    assert out.state.parents_ended == {"DONE": 2}


def test_decisions_that_the_end_leaves_open_are_censored_and_teach_nothing(tmp_path: Path) -> None:
    # The last order is still on its way to the venue, the answer never comes back before the data ends;
    # the venue answers at the end of the run, so nothing stays open.
    out = execute(tmp_path, LinUcbRouter(1), parents((5, 300, 1, 100, 2)), steady(8))
    assert out.stats[0]["parents"] == 0
    assert len(out.state.parents) == 1
    assert not out.state.decisions_pending


# What the router is told, and what it learns.


@pytest.mark.parametrize("use_signal", [True, False])
def test_the_forecast_reaches_the_router_only_if_asked_for(tmp_path: Path, use_signal: bool) -> None:
    session = Forecast(0.25)
    plan = parents((1, 11, 1, 40, 2), (2, 12, -1, 40, 2))
    out = execute(
        tmp_path,
        LinUcbRouter(1),
        plan,
        steady(30),
        session=session,
        use_signal=use_signal,
        model_ns=3 * SECOND_NS,
    )
    decisions = out.journal.decisions()
    taught = decisions[decisions["arm"] != 255]
    expected = 0.25 if use_signal else 0.0
    np.testing.assert_array_equal(decisions["signal"], np.float32(expected))
    np.testing.assert_array_equal(
        taught["context"][:, CONTEXT_NAMES.index("signal")],
        np.float32(expected) * plan["side"][taught["parent_id"]],
    )
    assert (out.loop.signals > 0) == (session.calls > 0) == use_signal
    # The model's own time is charged to the order it spoke for.
    orders, reports = out.journal.orders(), out.journal.reports()
    sent = int(orders["ts_ns"][0])
    (answer,) = reports[reports["client_order_id"] == orders["client_order_id"][0]][:1]
    assert answer["ts_ns"] - sent == (3 * SECOND_NS if use_signal else 0)


def test_a_model_that_fails_stops_asking_and_is_reported(tmp_path: Path) -> None:
    class Broken:
        def signal(self, features: object) -> float:
            raise ArithmeticError("no forecast")

    out = execute(tmp_path, LinUcbRouter(1), parents((1, 11, 1, 40, 2)), steady(30), session=Broken())
    assert isinstance(out.loop.signal_error, ArithmeticError)


def test_the_context_says_what_the_market_shows(tmp_path: Path) -> None:
    out = execute(
        tmp_path, ArmProbeRouter(), parents((20, 60, 1, 40, 4), (20, 60, 1, 40, 4)), steady(80, size=60),
        venues=[PROMPT | {"taker_fee_bps": 10.0, "maker_fee_bps": -10.0}], groups=2,
    )  # fmt: skip
    decisions = out.journal.decisions()
    first = {name: index for index, name in enumerate(CONTEXT_NAMES)}
    take, post = (decisions[decisions["arm"] == arm][0]["context"] for arm in (0, 1))
    assert take[first["one"]] == post[first["one"]] == 1.0
    # Half the spread and the fee, in spreads.
    assert take[first["gap"]] == pytest.approx((5 + 1.010) / 10)
    assert post[first["gap"]] == pytest.approx((-5 - 1.000) / 10)
    # Ten lots of sixty: beyond four times, so the bound.
    assert take[first["available"]] == 1.0
    assert take[first["urgency"]] == 0.25
    assert take[first["age"]] <= 1.0 / 8.0 + 1e-6


def test_only_the_arm_that_was_played_learns(tmp_path: Path) -> None:
    router = LinUcbRouter(2)
    quotes = [(index * 0.5, index % 2, 1_000, 500, 1_010, 500) for index in range(200)]
    out = execute(tmp_path, router, parents((1, 91, 1, 400, 30)), quotes, venues=[PROMPT | {"flow": 0.5}] * 2)
    decisions, rewards = out.journal.decisions(), out.journal.rewards()
    played = decisions["arm"] != 255
    assert router.bandit.updates == played.sum()
    reward = dict(zip(rewards["decision_id"].tolist(), rewards["reward"].tolist(), strict=True))
    for arm in range(4):
        own = decisions[decisions["arm"] == arm]
        rows = own["context"].astype(np.float64)
        target = np.array([reward[int(key)] for key in own["decision_id"]])
        expected = np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ target)
        # The journal keeps contexts as float32.
        np.testing.assert_allclose(router.bandit.coefficients(arm), expected, rtol=1e-3, atol=1e-5)


def test_the_probe_plays_one_arm_per_parent_and_keeps_them_apart(tmp_path: Path) -> None:
    arms = 4
    plan = np.repeat(parents((1, 21, 1, 60, 3), (30, 50, -1, 40, 2)), arms)
    quotes = [(index * 0.25, index % 2, 1_000, 900, 1_010 + 4 * (index % 2), 900) for index in range(400)]
    out = execute(
        tmp_path,
        ArmProbeRouter(),
        plan,
        quotes,
        venues=[PROMPT, PROMPT | {"taker_fee_bps": 5.0}],
        groups=arms,
    )
    decisions = out.journal.decisions()
    routed = decisions[decisions["arm"] != 255]
    np.testing.assert_array_equal(routed["arm"], routed["parent_id"] % arms)
    stats = out.stats
    assert stats.shape == (arms,)
    assert stats["parents"].tolist() == [2] * arms
    assert (stats["lots"] + stats["cancelled_lots"]).tolist() == [100] * arms
    # Taking at the plain venue: half spreads; at the other, which is dearer to buy from, fees as well.
    assert stats["cost_ticklots"][0] == 60 * 5 + 40 * 5
    assert stats["cost_ticklots"][2] > stats["cost_ticklots"][0]


def test_windows_name_the_model_and_split_the_venue_mix(tmp_path: Path) -> None:
    agent = ParentExecutor(
        SweepRouter(), parents(), first_day=FIRST_DAY, day_count=1, tick_value=1.0, run_id=1, window_max=3
    )
    agent.begin_window(7)
    agent.begin_window()
    assert agent.window == 2
    with pytest.raises(ValueError, match="at most 3 windows"):
        agent.begin_window()


def test_days_are_days_of_arrival(tmp_path: Path) -> None:
    midnight = (DAY_NS - (START_NS - FIRST_DAY * DAY_NS)) / SECOND_NS
    quotes = [(midnight - 60 + second, 0, 1_000, 10_000, 1_010, 10_000) for second in range(200)]
    plan = parents((midnight - 30, midnight + 30, 1, 60, 2), (midnight + 1, midnight + 11, 1, 10, 1))
    days = execute(tmp_path, SweepRouter(), plan, quotes).agent.day_stats()
    assert days.dtype == DAY_STATS_DTYPE
    assert days["lots"][0, :3].tolist() == [60, 10, 0]


def test_the_batches_that_events_come_in_change_nothing(tmp_path: Path) -> None:
    plan = parents((1, 50, 1, 100, 5), (3, 60, -1, 70, 4))
    hashes = {
        execute(
            tmp_path,
            LinUcbRouter(1),
            plan,
            steady(100, every=0.1),
            venues=[PROMPT | {"flow": 0.3}],
            batch=batch,
        ).sha256
        for batch in (1, 7, 512)
    }
    assert len(hashes) == 1


def test_orders_are_journaled_before_any_report_of_them(tmp_path: Path) -> None:
    out = execute(tmp_path, SweepRouter(), parents((1, 31, 1, 600, 6)), steady(40))
    seen: set[int] = set()
    for record in out.journal.records:
        key = int(record["payload"][:8].view("<u8")[0])
        if record["kind"] == JournalKind.ORDER:
            seen.add(key)
        elif record["kind"] == JournalKind.REPORT:
            assert key in seen


# Arguments.


@pytest.mark.parametrize(
    ("field", "value"),
    [("size_lots", 0), ("slices", 0), ("side", 0), ("side", 2), ("deadline_ns", 0), ("arrival_ns", 2**62)],
)
def test_impossible_plans_are_refused(field: str, value: int) -> None:
    plan = parents((1, 2, 1, 5, 1), (2, 3, 1, 5, 1))
    plan[field][0] = value
    with pytest.raises(ValueError, match="ascending arrivals"):
        ParentExecutor(SweepRouter(), plan, first_day=0, day_count=1, tick_value=1.0, run_id=1)


def test_plans_have_their_own_dtype_and_a_bound() -> None:
    with pytest.raises(TypeError, match="PLAN_DTYPE"):
        ParentExecutor(
            SweepRouter(),
            np.zeros(3, [("size_lots", "<i8")]),
            first_day=0,
            day_count=1,
            tick_value=1.0,
            run_id=1,
        )
    with pytest.raises(ValueError, match="fewer than"):
        ParentExecutor(
            SweepRouter(), np.broadcast_to(np.zeros(1, PLAN_DTYPE), 1 << 24).copy(), first_day=0, day_count=1,
            tick_value=1.0, run_id=1,
        )  # fmt: skip


@pytest.mark.parametrize("option", ["day_count", "groups", "window_max"])
def test_counts_must_be_positive(option: str) -> None:
    options: dict[str, Any] = {"first_day": 0, "day_count": 1, "tick_value": 1.0, "run_id": 1} | {option: 0}
    with pytest.raises(ValueError, match="must be positive"):
        ParentExecutor(SweepRouter(), parents(), **options)

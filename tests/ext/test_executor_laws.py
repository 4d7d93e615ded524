"""What holds of every parent order, whatever the market: laws, on markets drawn at random."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_engine import (
    LIMITS,
    RUN_ID,
    SECOND_NS,
    Outcome,
    Quote,
    execute,
    parents,
)

from data.schema import OrderType, ParentState, ReportKind, TimeInForce
from engine.order_ids import unpack_order_ids
from engine.risk import RiskLimits
from ext.executor import PLAN_DTYPE
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


# A venue whose bid has vanished: without a spread there are no modelled levels at shares of it.
BID_GONE = (
    [
        {
            "order_latency_ns": 0,
            "order_jitter_ns": 0,
            "ack_latency_ns": 0,
            "feed_latency_ns": 0,
            "taker_fee_bps": 0.3,
            "maker_fee_bps": -0.1,
            "last_look": 0.0,
            "flow": 0.0,
            "depth_levels": 2,
            "depth_step": 0.4,
            "depth_size": 0.7,
            "queue_mode": "flow",
        }
    ],
    [(0.3, 0, 4_999, 3, 5_001, 3), (2.3, 0, 4_996, 0, 4_998, 20), (11.3, 0, 4_992, 0, 5_002, 3)],
)
ONE_BUY = np.array(
    [(1_555_232_401_000_000_000, 1_555_232_403_000_000_000, 45, 1, 1, (0, 0, 0))], dtype=PLAN_DTYPE
)


@settings(max_examples=60)
@given(market=markets(), plan=plans(), router=st.sampled_from(sorted(ROUTERS)), tight=st.booleans())
@example(market=BID_GONE, plan=ONE_BUY, router="epsilon", tight=False)
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

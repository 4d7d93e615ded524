"""The executor: when it acts, what it tells its router, what it writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_engine import (
    DAY_NS,
    FIRST_DAY,
    PROMPT,
    SECOND_NS,
    START_NS,
    execute,
    parents,
    steady,
)

from data.schema import JournalKind, TimeInForce
from engine.order_ids import unpack_order_ids
from ext.arm_costs import CONTEXT_NAMES
from ext.execution_stats import DAY_STATS_DTYPE
from ext.executor import PLAN_DTYPE, ParentExecutor
from ext.features import FEATURE_NAMES
from ext.routing import (
    ArmProbeRouter,
    LinUcbRouter,
    SweepRouter,
)

MS = 1_000_000
SILENCE = 601.0
"""More seconds than a market may be silent and still count as open."""


class Forecast:
    """A session that always says the same."""

    row_shape = (len(FEATURE_NAMES),)

    def __init__(self, value: float) -> None:
        self.value = value
        self.calls = 0

    def signal(self, features: object) -> float:
        self.calls += 1
        return self.value


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
        row_shape = (len(FEATURE_NAMES),)

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

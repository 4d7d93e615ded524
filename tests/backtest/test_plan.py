"""The stream of parent orders: drawn by seed and date alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backtest.config import ParentConfig
from backtest.plan import draw_plan, repeat_per_arm
from backtest.splits import DAY_NS
from ext.executor import PLAN_DTYPE, ParentExecutor
from ext.routing import SweepRouter

MONDAY = 18_001  # 1970-01-01 was a Thursday
configs = st.builds(
    ParentConfig,
    per_day=st.integers(1, 30),
    duration_minutes=st.sampled_from([1.0, 30.0, 0.5]),
    slices=st.integers(1, 9),
    size_lots_min=st.integers(1, 50),
    size_lots_max=st.integers(50, 900),
)


@given(config=configs, seed=st.integers(0, 2**40), days=st.integers(1, 20))
def test_a_plan_keeps_to_its_configuration(config: ParentConfig, seed: int, days: int) -> None:
    plan = draw_plan(config, first_ns=MONDAY * DAY_NS, last_ns=(MONDAY + days) * DAY_NS - 1, seed=seed)
    weekdays = sum(day % 7 < 5 for day in range(days))
    assert plan.dtype == PLAN_DTYPE
    assert len(plan) == weekdays * config.per_day
    assert (np.diff(plan["arrival_ns"]) >= 0).all()
    assert (plan["size_lots"] >= config.size_lots_min).all()
    assert (plan["size_lots"] <= config.size_lots_max).all()
    assert set(plan["side"].tolist()) <= {-1, 1}
    assert (plan["slices"] == config.slices).all()
    assert set((plan["deadline_ns"] - plan["arrival_ns"]).tolist()) == {round(config.duration_minutes * 60e9)}
    assert ((plan["arrival_ns"] // DAY_NS - MONDAY) % 7 < 5).all()
    # An executor takes it as it is.
    ParentExecutor(SweepRouter(), plan, first_day=MONDAY, day_count=days, tick_value=1.0, run_id=1)


@given(first=st.integers(0, 9), last=st.integers(10, 20))
def test_a_shorter_history_has_the_same_orders_on_the_days_it_shares(first: int, last: int) -> None:
    whole = draw_plan(ParentConfig(), first_ns=MONDAY * DAY_NS, last_ns=(MONDAY + 30) * DAY_NS, seed=4)
    part = draw_plan(
        ParentConfig(), first_ns=(MONDAY + first) * DAY_NS + 5, last_ns=(MONDAY + last) * DAY_NS, seed=4
    )
    day = whole["arrival_ns"] // DAY_NS - MONDAY
    np.testing.assert_array_equal(part, whole[(day >= first) & (day <= last)])


def test_another_seed_draws_other_orders_of_the_same_kind() -> None:
    span = {"first_ns": MONDAY * DAY_NS, "last_ns": (MONDAY + 400) * DAY_NS}
    one, other = (draw_plan(ParentConfig(), seed=seed, **span) for seed in (1, 2))
    assert (one != other).mean() > 0.99
    assert abs(one["side"].mean()) < 0.05


def test_a_weekend_has_no_orders() -> None:
    plan = draw_plan(
        ParentConfig(), first_ns=(MONDAY + 5) * DAY_NS, last_ns=(MONDAY + 7) * DAY_NS - 1, seed=1
    )
    assert len(plan) == 0
    assert plan.dtype == PLAN_DTYPE


def test_arms_take_turns_in_a_repeated_plan() -> None:
    plan = draw_plan(ParentConfig(per_day=3), first_ns=MONDAY * DAY_NS, last_ns=MONDAY * DAY_NS, seed=1)
    repeated = repeat_per_arm(plan, 4)
    for arm in range(4):
        np.testing.assert_array_equal(repeated[arm::4], plan)

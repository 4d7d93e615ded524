"""The executor's costs against hand computation on deterministic markets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_engine import (
    PROMPT,
    execute,
    parents,
    steady,
)

from data.schema import Reason, ReportKind
from engine.risk import RiskLimits
from ext.features import FEATURE_NAMES
from ext.routing import (
    ArmProbeRouter,
    LinUcbRouter,
    SweepRouter,
)

BPS = 1e-4
MS = 1_000_000


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
def test_cancelled_lots_cost_the_fee_of_taking_them(tmp_path: Path, side: int) -> None:
    venue = PROMPT | {"last_look": 1.0, "taker_fee_bps": 2.0, "taker_fee_per_lot": 0.01}
    out = execute(tmp_path, SweepRouter(), parents((1, 11, side, 40, 1)), steady(30), venues=[venue])
    (stats,) = out.stats
    fee = (1_010 if side > 0 else 1_000) * 2.0 * BPS + 0.01 / 0.01
    assert (stats["lots"], stats["cancelled_lots"], stats["fee_ticklots"]) == (0, 40, 0.0)
    assert stats["cost_ticklots"] == pytest.approx(40 * (5 + fee), rel=1e-12)
    np.testing.assert_allclose(out.journal.rewards()["cost_ticks"], 5 + fee, rtol=1e-12)


@pytest.mark.parametrize("side", [1, -1])
def test_cancelled_lots_walk_the_venues_by_price_with_fee_and_the_depth_behind(
    tmp_path: Path, side: int
) -> None:
    # Both decline everything. Venue 0 shows 30 at 5 from the mid; venue 1 30 at 4, but its fee of 25 bps is
    # 2.5 ticks. Behind each touch one modelled level of half the size, half the venue's spread away.
    depth = {"last_look": 1.0, "depth_levels": 1, "depth_step": 0.5, "depth_size": 0.5}
    venues = [PROMPT | depth, PROMPT | depth | {"taker_fee_per_lot": 0.025}]
    sides = [(1_000, 1_010), (1_001, 1_009)]
    quotes = [
        (index * 0.5, venue, sides[venue][0], 30, sides[venue][1], 30)
        for index, venue in enumerate([1, 0] * 30)
    ]
    levels = [5.0] * 30 + [4.0 + 2.5] * 30 + [10.0] * 15 + [8.0 + 2.5] * 15
    for lots in (1, 30, 31, 75, 90, 100):
        out = execute(tmp_path, SweepRouter(), parents((5, 6, side, lots, 1)), quotes, venues=venues)
        spread = 8.0  # of the best bid and offer
        beyond = [10.5 + spread] * max(0, lots - len(levels))
        assert out.stats[0]["cancelled_lots"] == lots
        assert out.stats[0]["cost_ticklots"] == pytest.approx(sum(levels[:lots]) + sum(beyond), rel=1e-12)


def test_what_we_had_of_a_quote_is_not_offered_again(tmp_path: Path) -> None:
    # 30 of 50 lots are shown and bought; the quote is not renewed before the rest is given up.
    quotes = [*steady(5, size=30), (400.0, 0, 1_000, 30, 1_010, 30)]
    out = execute(tmp_path, SweepRouter(), parents((6, 8, 1, 50, 1)), quotes)
    (stats,) = out.stats
    assert (stats["lots"], stats["cancelled_lots"]) == (30, 20)
    assert stats["cost_ticklots"] == 30 * 5 + 20 * (5 + 10)


@pytest.mark.parametrize("side", [1, -1])
def test_a_side_that_vanished_is_priced_a_spread_past_the_last_market_there_was(
    tmp_path: Path, side: int
) -> None:
    gone = (0, 10_000) if side < 0 else (10_000, 0)
    quotes = [*steady(5), *[(6.0 + second, 0, 1_000, gone[0], 1_010, gone[1]) for second in range(30)]]
    out = execute(tmp_path, SweepRouter(), parents((1, 21, side, 200, 2)), quotes)
    (stats,) = out.stats
    assert (stats["lots"], stats["cancelled_lots"]) == (100, 100)
    assert stats["cost_ticklots"] == 100 * 5 + 100 * (5 + 10)


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


@pytest.mark.parametrize("side", [1, -1])
def test_a_protection_beyond_all_prices_is_the_last_price_there_is(tmp_path: Path, side: int) -> None:
    limits = RiskLimits(order_size_lots_max=100, notional_max=1e15, price_band_ticks=2**31 - 1)
    out = execute(
        tmp_path, SweepRouter(), parents((1, 2, side, 10, 1)), steady(10), protection=1e300, limits=limits
    )
    assert out.journal.orders()["price_ticks"].tolist() == [2**31 - 1 if side > 0 else 1_000 - (2**31 - 1)]


def test_sweeps_neither_ask_the_model_nor_wait_for_it(tmp_path: Path) -> None:
    class Forecast:
        row_shape = (len(FEATURE_NAMES),)

        def signal(self, features: object) -> float:
            return 0.5

    # Every leg is declined: a slice, two sweeps, the close-out.
    out = execute(
        tmp_path, LinUcbRouter(1), parents((1, 11, 1, 40, 1)), steady(40, every=0.2),
        venues=[PROMPT | {"last_look": 1.0}], session=Forecast(), model_ns=400 * MS,
    )  # fmt: skip
    assert out.loop.signals == 1
    decisions = out.journal.decisions()
    assert decisions["signal"][decisions["arm"] == 255].tolist() == [0.0]
    sent = dict(zip(out.journal.orders()["client_order_id"], out.journal.orders()["ts_ns"], strict=True))
    reports = out.journal.reports()
    waits = [int(row["ts_ns"]) - int(sent[row["client_order_id"]]) for row in reports if row["kind"] != 1]
    assert waits.count(0) == len(waits) - waits.count(400 * MS)
    assert len(waits) - waits.count(0) <= 1


@pytest.mark.parametrize(
    "options", [{"protection": math.nan}, {"protection": -1.0}, {"post_ns": -1}, {"protection": math.inf}]
)
def test_a_protection_is_a_number(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be finite and not negative"):
        execute(tmp_path, SweepRouter(), parents((1, 2, 1, 10, 1)), steady(3), **options)


def test_modelled_levels_end_where_prices_end(tmp_path: Path) -> None:
    top = 2**31 - 1
    out = execute(
        tmp_path, SweepRouter(), parents((1, 2, 1, 50, 1)), steady(10, bid=top - 12, ask=top - 10, size=2),
        venues=[PROMPT | {"depth_levels": 64, "depth_step": 1.0, "depth_size": 1.0}], protection=1e300,
        limits=RiskLimits(notional_max=1e15, price_band_ticks=100, order_size_lots_max=100),
    )  # fmt: skip
    reports = out.journal.reports()
    prices = reports["price_ticks"][reports["kind"] == ReportKind.FILL].tolist()
    assert prices[:6] == [top - 10, top - 8, top - 6, top - 4, top - 2, top]
    assert all(top - 10 <= price <= top for price in prices)

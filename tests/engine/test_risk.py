"""Limits in people's units become the gate's integers, exactly."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConfigError
from data.instrument import Instrument
from data.schema import ORDER_DTYPE, OrderAction, OrderType, Reason
from engine.risk import LOTS_BOUND, RiskLimits, make_gate, notional_lot_ticks_max

SILVER = Instrument(symbol="XAGUSD", instrument_id=5, price_increment=0.001, lot_size=50.0)


@given(
    st.decimals("0.01", "1e9", places=2),
    st.decimals("0.00001", "10", places=5),
    st.decimals("0.001", "1000", places=3),
)
def test_the_notional_limit_is_exact_in_the_decimals_as_written(
    notional: Decimal, increment: Decimal, lot: Decimal
) -> None:
    instrument = replace(SILVER, price_increment=float(increment), lot_size=float(lot))
    if notional < increment * lot:
        with pytest.raises(ConfigError, match="one lot at one tick"):
            notional_lot_ticks_max(float(notional), instrument)
    else:
        assert notional_lot_ticks_max(float(notional), instrument) == notional // (increment * lot)


def test_an_inverse_contract_is_worth_its_face_whatever_its_price() -> None:
    perpetual = replace(SILVER, inverse=True, lot_size=1.0, multiplier=100.0, price_increment=0.5)
    assert notional_lot_ticks_max(1_050.0, perpetual) == 10


def test_the_notional_limit_saturates_where_it_could_not_bind() -> None:
    assert notional_lot_ticks_max(1e300, SILVER) == LOTS_BOUND


def test_the_gate_holds_the_limits_of_its_instrument() -> None:
    # 15 lots of 50 ounces at 20 dollars are 15,000 dollars.
    gate = make_gate(RiskLimits(notional_max=15_000.0, order_size_lots_max=99), SILVER)
    orders = np.zeros(3, dtype=ORDER_DTYPE)
    orders["client_order_id"] = 2**63 + 1
    orders["action"], orders["order_type"], orders["side"] = OrderAction.NEW, OrderType.LIMIT, 1
    orders["instrument_id"], orders["price_ticks"] = 5, 20_000
    orders["size_lots"] = (15, 16, 100)
    assert gate.check(orders, reference_mid_x2=40_000, now_ns=0).tolist() == [
        Reason.NONE,
        Reason.RISK_NOTIONAL,
        Reason.RISK_ORDER_SIZE,
    ]
    assert gate.position(5) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"order_size_lots_max": 0},
        {"order_size_lots_max": 2.5},
        {"price_band_ticks": -1},
        {"position_lots_max": 2**62},
        {"messages_per_second_max": True},
        {"notional_max": 0.0},
        {"notional_max": float("nan")},
        {"notional_max": float("inf")},
    ],
)
def test_a_limit_that_is_no_limit_is_refused(changed: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changed))):
        RiskLimits(**changed)

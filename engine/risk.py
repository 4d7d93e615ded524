"""Risk limits in the units people state them in, and the compiled gate made from them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Final

from data.errors import ConfigError
from data.instrument import Instrument
from ext.risk_gate import RiskGate

LOTS_BOUND: Final = 1 << 61
MESSAGES_BOUND: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskLimits:
    """What one run may do at most, per instrument.

    Parameters
    ----------
    order_size_lots_max : int
        Of one order.
    notional_max : float
        Value of one order, in the instrument's currency.
    price_band_ticks : int
        Farthest a limit may lie from the reference mid, either way.
    position_lots_max : int
        Long or short, over all venues, if every open order of that side filled.
    messages_per_second_max : int
        New orders, replaces and cancels in any window of one second.
    """

    order_size_lots_max: int = 1_000
    notional_max: float = 10_000_000.0
    price_band_ticks: int = 500
    position_lots_max: int = 10_000
    messages_per_second_max: int = 1_000

    def __post_init__(self) -> None:
        for name, largest in (
            ("order_size_lots_max", LOTS_BOUND),
            ("price_band_ticks", 1 << 32),
            ("position_lots_max", LOTS_BOUND),
            ("messages_per_second_max", MESSAGES_BOUND),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
                raise ConfigError(f"{name} must be a whole number from 1 to {largest}, was {value!r}")
        if not (isfinite(self.notional_max) and self.notional_max > 0):
            raise ConfigError(f"notional_max must be positive and finite, was {self.notional_max}")


def notional_lot_ticks_max(notional_max: float, instrument: Instrument) -> int:
    """Return the largest size x |price| of one order, in lots x ticks (lots where inverse).

    Computed in exact fractions of the decimals as written (0.1 is a tenth), rounded down.

    Raises
    ------
    ConfigError
        Where not even one lot at one tick fits.
    """
    unit = _exact(instrument.lot_size) * _exact(instrument.multiplier)
    if not instrument.inverse:
        unit *= _exact(instrument.price_increment)
    units = _exact(notional_max) // unit
    if units < 1:
        raise ConfigError(
            f"{instrument.symbol}: notional_max must allow one lot at one tick, {float(unit)}, "
            f"was {notional_max}"
        )
    return min(units, LOTS_BOUND)


def make_gate(limits: RiskLimits, instrument: Instrument, *, order_capacity: int = 4_096) -> RiskGate:
    """Return a gate that admits orders of one instrument on any venue within the limits.

    Parameters
    ----------
    limits : RiskLimits
    instrument : Instrument
    order_capacity : int
        Open orders at once.
    """
    gate = RiskGate(
        order_size_lots_max=limits.order_size_lots_max,
        price_band_ticks=limits.price_band_ticks,
        position_lots_max=limits.position_lots_max,
        messages_per_second_max=limits.messages_per_second_max,
        order_capacity=order_capacity,
    )
    gate.add_instrument(
        instrument.instrument_id,
        notional_lot_ticks_max=notional_lot_ticks_max(limits.notional_max, instrument),
        inverse=instrument.inverse,
    )
    return gate


def _exact(value: float) -> Fraction:
    return Fraction(repr(float(value)))

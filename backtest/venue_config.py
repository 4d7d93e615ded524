"""What a simulated venue costs and how long it takes, in the words of a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from data.errors import ConfigError

QUEUES: Final = ("auto", "optimistic", "pessimistic", "flow")

_LONGEST_NS: Final = 3_600 * 10**9
# A fee above the whole notional is a slip of the unit.
_FEE_MOST: Final = {
    "taker_fee_bps": 10_000.0,
    "maker_fee_bps": 10_000.0,
    "taker_fee_per_lot": 1e9,
    "maker_fee_per_lot": 1e9,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class VenueConfig:
    """One venue of a backtest.

    Parameters
    ----------
    feed_latency_ns : int
        From the venue's book to our strategy.
    order_latency_ns, order_jitter_ns : int
        From our decision to the venue, and what is drawn by seed on top of it, uniformly.
    ack_latency_ns : int
        From the venue's answer to us.
    taker_fee_bps, maker_fee_bps : float
        Of notional; negative is a rebate.
    taker_fee_per_lot, maker_fee_per_lot : float
        In the instrument's currency; negative is a rebate.
    queue : str
        When a resting order fills. ``optimistic`` and ``pessimistic`` bound it for recorded order flow
        and for trades; ``flow`` is for quotes; ``auto`` takes pessimistic or flow as the data are.
    flow : float
        With queue ``flow``: chance per quote and side that an aggressor reaches the touch. At 0 a
        resting order fills only when the other side's quote comes to its price.
    depth_levels : int
        Modelled levels behind a quoted touch, for orders larger than it; 0 for none.
    depth_step, depth_size : float
        Their distance as a share of the spread and their size as a share of the touch.
    """

    feed_latency_ns: int = 500_000
    order_latency_ns: int = 500_000
    order_jitter_ns: int = 0
    ack_latency_ns: int = 500_000
    taker_fee_bps: float = 0.0
    maker_fee_bps: float = 0.0
    taker_fee_per_lot: float = 0.0
    maker_fee_per_lot: float = 0.0
    queue: str = "auto"
    flow: float = 0.0
    depth_levels: int = 0
    depth_step: float = 0.5
    depth_size: float = 1.0

    def __post_init__(self) -> None:
        if self.queue not in QUEUES:
            raise ConfigError(f"queue must be one of {', '.join(QUEUES)}, was {self.queue!r}")
        for name in ("feed_latency_ns", "order_latency_ns", "order_jitter_ns", "ack_latency_ns"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LONGEST_NS:
                raise ConfigError(f"{name} must be a whole number from 0 to an hour, was {value!r}")
        for name, most in _FEE_MOST.items():
            if not -most <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be {-most:,.0f} to {most:,.0f}, was {getattr(self, name)}")
        if not 0.0 <= self.flow < 1.0:
            raise ConfigError(f"flow must be at least 0 and below 1, was {self.flow}")
        if not 0 <= self.depth_levels <= 64:
            raise ConfigError(f"depth_levels must be 0 to 64, was {self.depth_levels}")
        for name in ("depth_step", "depth_size"):
            if not 0.0 <= getattr(self, name) <= 1_000.0:
                raise ConfigError(f"{name} must be 0 to 1000, was {getattr(self, name)}")

    def rules(self, *, queue: str, tick_size_ticks: int) -> dict[str, Any]:
        """Return what `ext.sim_venue.SimulatedVenue` takes, `auto` settled as `queue`."""
        return {
            "feed_latency_ns": self.feed_latency_ns,
            "order_latency_ns": self.order_latency_ns,
            "order_jitter_ns": self.order_jitter_ns,
            "ack_latency_ns": self.ack_latency_ns,
            "taker_fee_bps": self.taker_fee_bps,
            "maker_fee_bps": self.maker_fee_bps,
            "taker_fee_per_lot": self.taker_fee_per_lot,
            "maker_fee_per_lot": self.maker_fee_per_lot,
            "queue_mode": queue if self.queue == "auto" else self.queue,
            "flow": self.flow,
            "depth_levels": self.depth_levels,
            "depth_step": self.depth_step,
            "depth_size": self.depth_size,
            "tick_size_ticks": tick_size_ticks,
        }

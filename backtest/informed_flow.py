"""Generated order flow in which somebody knows something: the market that models are trained on.

In `GeneratedFlow` arrivals do not depend on the past, so the book now says all there is to say. Here three
kinds of trader leave traces in the past that the book now hardly shows:

- **Explorers** probe one side with small trades at an even pace, then buy or sell in a burst (Clark-Joseph
  2014, "Exploratory trading"). While they probe, the price has not moved yet.
- **Decoys** send as many probes of the same size at an uneven pace, and nothing follows.
- **Icebergs** show a small size at the touch and refill as they are hit, so that the price does not move
  although the queue looks thin.

Whoever wants to know what comes must tell even from uneven pace over dozens of rows. How much of it can be
learnt is an outcome, not a setting: docs/MODELS.md has the figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import numpy as np

from .order_flow import FlowMarket, GeneratedFlow

INFORMED_VERSION: Final = 1

_EXPLORER_CHANCE: Final = 0.03
_DECOY_SHARE: Final = 0.5
_PROBES: Final = 16
_PROBE_LOTS: Final = 300
_PACES: Final = (3, 4)
_BURST_SLICES: Final = 20
_BURST_LOTS: Final = 400
_BURST_PACE: Final = 2

_ICEBERG_CHANCE: Final = 0.02
_ICEBERG_SHOWN_LOTS: Final = 200
_ICEBERG_REFILLS: Final = 8
_LEVELS_MIN: Final = 12

Plan = list[tuple[int, int]]
"""(arrivals to wait, lots to trade) of each trade to come."""


class InformedFlow(GeneratedFlow):
    """A day of `GeneratedFlow` with explorers, decoys and icebergs; a pure function of seed and steps."""

    @property
    def source(self) -> str:
        return f"{self.steps:,} arrivals of generated order flow with explorers, seed {self.seed}"

    @property
    def data_hash(self) -> str:
        text = f"informed flow {INFORMED_VERSION} {super().data_hash}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _market(self, draw: np.random.Generator) -> FlowMarket:
        return _InformedMarket(draw, self.steps)


class _Trader:
    """Somebody with a plan on one side of the book."""

    __slots__ = ("_plan", "lots", "side", "wait")

    def __init__(self, side: int, plan: Plan) -> None:
        self.side = side
        self._plan: Iterator[tuple[int, int]] = iter(plan)
        self.wait, self.lots = next(self._plan)

    def next_trade(self) -> bool:
        """Turn to the plan's next trade; False when there is none."""
        self.wait, self.lots = next(self._plan, (0, 0))
        return self.lots > 0


class _InformedMarket(FlowMarket):
    live_max = 110
    nearness = 0.16

    def __init__(self, draw: np.random.Generator, steps: int) -> None:
        self._trader: _Trader | None = None
        self._icebergs: dict[int, tuple[int, int]] = {}  # side → (price, refills left)
        self._chances = draw.random((steps, 5)).tolist()
        self._uneven = draw.integers(1, 2 * max(_PACES), (steps, _PROBES)).tolist()
        super().__init__(draw, steps)

    def arrive(self, what: float, place: float, side: int, distance: int, lots: int) -> None:
        self._enter(self.step - 1)
        trader = self._trader
        if trader is not None:
            trader.wait -= 1
            # Nobody sweeps a book that is nearly empty.
            if trader.wait <= 0 and self._level_count(-trader.side) > _LEVELS_MIN // 2:
                self.trade(-trader.side, trader.lots)
                self.end_packet()
                if not trader.next_trade():
                    self._trader = None
                return
        thin = next((s for s in (side, -side) if self._level_count(s) < _LEVELS_MIN), None)
        # Liquidity providers return to a side that thins out; else a long burst empties it.
        super().arrive(what if thin is None else 0.0, place, thin or side, distance, lots)

    def trade(self, side: int, lots: int) -> None:
        super().trade(side, lots)
        price, refills = self._icebergs.get(side, (0, 0))
        best = self.best(side)
        if not refills or (best is not None and (best - price) * side > 0):
            return
        if self.size_at(side, price) >= _ICEBERG_SHOWN_LOTS:
            return
        other = self.best(-side)
        if other is None or (other - price) * side <= 0:
            del self._icebergs[side]
            return
        self._icebergs[side] = (price, refills - 1)
        self.add(side, price, _ICEBERG_SHOWN_LOTS)

    def _enter(self, step: int) -> None:
        trader, decoy, pace, iceberg, coin = self._chances[step]
        side = 1 if coin < 0.5 else -1
        if self._trader is None and trader < _EXPLORER_CHANCE:
            if decoy < _DECOY_SHARE:
                plan = [(gap, _PROBE_LOTS) for gap in self._uneven[step]]
            else:
                even = _PACES[int(pace * len(_PACES))]
                plan = [(even, _PROBE_LOTS)] * _PROBES + [(_BURST_PACE, _BURST_LOTS)] * _BURST_SLICES
            self._trader = _Trader(side, plan)
        if iceberg < _ICEBERG_CHANCE:
            its_side = -side
            best = self.best(its_side)
            if best is not None:
                self._icebergs[its_side] = (best, _ICEBERG_REFILLS)

    def _level_count(self, side: int) -> int:
        return len(self._queues[side]) + len(self._unknown[side])

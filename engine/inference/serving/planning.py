"""Which variant runs next, and with how many requests: the decision that this package exists for.

A queue of deadlines is a budget of time. A variant is *affordable* when the head of the queue, run at it,
leaves time to run all behind it one rung lower on the efficient frontier (value against time): the head's
run at its tail forecast, those behind it at the pace. The best affordable variant runs the head. Nothing
needs to be known about future arrivals: when they come faster, the queue grows and affords less, and it
comes to rest where the time per request equals the time between requests. That rest is a mix of two
neighbours on the frontier, which is the optimum of the linear program that a clairvoyant would solve for a
steady load (see `oracle.py`). The rungs below the two are what catches a surprise.

The cascade bends this per request. The slope of the frontier at the affordable variant is the price of
time. A request whose first answer was unsure gains more than average from a larger variant, and buys it
when the gain exceeds the price and the queue behind it still fits; one whose first answer was sure keeps to
a smaller one.

Stepping up needs slack to spare, stepping down needs none: that is the hysteresis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan

from data.errors import ConfigError

from .forecast import LatencyForecast

_EPSILON_NS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanLimits:
    """How close to the deadlines the planner goes.

    Parameters
    ----------
    guard_ns : int
        Kept free before every deadline, for the way back and for whatever forecasts do not know.
    utilisation_max : float
        Share of the time to a deadline that the queue before it may fill.
    step_up_share : float
        Spare share of time that a step up needs.
    batch_max : int
        Requests in one run.
    """

    guard_ns: int = 2_000_000
    utilisation_max: float = 0.85
    step_up_share: float = 0.08
    batch_max: int = 64

    def __post_init__(self) -> None:
        if self.guard_ns < 0 or not 0.0 < self.utilisation_max <= 1.0:
            raise ConfigError(f"a plan needs guard_ns >= 0 and 0 < utilisation_max <= 1, was {self}")
        if not (0.0 <= self.step_up_share < 1.0 and 1 <= self.batch_max <= 64):
            raise ConfigError(f"a plan needs 0 <= step_up_share < 1 and 1 <= batch_max <= 64, was {self}")


class ValueTable:
    """What an on-time answer of each variant is worth, by how sure the first answer was.

    Parameters
    ----------
    values : sequence of float, shape (variants,)
        (score − no-skill score) / (largest model's score − no-skill score).
    margin_edges : sequence of float
        Ascending; part the margins of first answers into bins.
    by_margin : sequence of sequence of float, shape (variants, len(margin_edges) + 1)
        The value within each bin; without it every bin has the average and the cascade has nothing to gain.
    """

    def __init__(
        self,
        values: Sequence[float],
        *,
        margin_edges: Sequence[float] = (),
        by_margin: Sequence[Sequence[float]] | None = None,
    ) -> None:
        bins = len(margin_edges) + 1
        rows = [[value] * bins for value in values] if by_margin is None else by_margin
        if not values or len(rows) != len(values) or any(len(row) != bins for row in rows):
            raise ConfigError(f"a value table needs {bins} values for each variant, was {rows}")
        if list(margin_edges) != sorted(margin_edges):
            raise ConfigError(f"margin edges must ascend, was {margin_edges}")
        self.values = tuple(float(value) for value in values)
        self.margin_edges = tuple(margin_edges)
        self.by_margin = tuple(tuple(float(value) for value in row) for row in rows)
        self.cascades = by_margin is not None

    def value(self, variant: int, margin: float) -> float:
        """Return the worth of one answer."""
        if not self.cascades or isnan(margin):
            return self.values[variant]
        return self.by_margin[variant][sum(margin >= edge for edge in self.margin_edges)]


def efficient_frontier(costs: Sequence[float], values: Sequence[float]) -> tuple[int, ...]:
    """Return the variants on the upper hull of value against cost, cheapest first.

    Only these are worth mixing: any other is beaten by a mix of two of them. The hull starts at "no answer",
    cost 0 and value 0; variants without positive value are not on it.

    Examples
    --------
    >>> efficient_frontier((1.0, 2.0, 3.0, 4.0), (0.5, 0.6, 0.9, 0.8))
    (0, 2)
    """
    hull: list[int] = []
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -values[index])):
        if values[index] <= (values[hull[-1]] if hull else 0.0):
            continue
        while hull:
            before = hull[-2] if len(hull) > 1 else None
            base_cost, base_value = (0.0, 0.0) if before is None else (costs[before], values[before])
            old_slope = (values[hull[-1]] - base_value) * (costs[index] - base_cost)
            new_slope = (values[index] - base_value) * (costs[hull[-1]] - base_cost)
            if old_slope > new_slope:
                break
            hull.pop()
        hull.append(index)
    return tuple(hull)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The next run: the first `count` requests in deadline order, on `variant`.

    `tail_ns` is its forecast, which ends before the tightest of their deadlines; `typical_ns` its median.
    """

    variant: int
    count: int
    tail_ns: float
    typical_ns: float


class Planner:
    """Chooses plans for one worker. State: what the variant used last costs, and the frontier.

    Parameters
    ----------
    allowed : callable
        Tells of a variant's index whether its breaker lets it run.
    """

    def __init__(
        self,
        forecast: LatencyForecast,
        values: ValueTable,
        *,
        limits: PlanLimits | None = None,
        allowed: Callable[[int], bool] = lambda variant: True,
    ) -> None:
        self.forecast, self.values = forecast, values
        self.limits = limits or PlanLimits()
        self.guard_ns = self.limits.guard_ns
        self._allowed = allowed
        # Cost of the variant used last, in table time: stepping above it needs slack to spare.
        self._last_item_ns = float("inf")
        self.frontier: tuple[int, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Draw the frontier anew, after breakers or forecasts moved."""
        usable = [index for index in range(len(self.values.values)) if self._allowed(index)]
        costs = [self._item_ns(index) for index in usable]
        values = [self.values.values[index] for index in usable]
        self.frontier = tuple(usable[place] for place in efficient_frontier(costs, values))

    def _item_ns(self, variant: int) -> float:
        count = self.forecast.costs.efficient[variant]
        return self.forecast.typical_ns(variant, count, 1.0) / count

    def cheapest_ns(self, slowdown: float) -> float:
        """Return the tail forecast of one request on the cheapest variant; infinite when none may run."""
        if not self.frontier:
            return float("inf")
        return self.forecast.tail_ns(self.frontier[0], 1, slowdown)

    def affords_all(self, deadlines: Sequence[int], now_ns: int, slowdown: float) -> bool:
        """Return whether the cheapest variant meets every deadline of a queue."""
        cheapest = self.frontier[0] if self.frontier else None
        return cheapest is not None and self._affordable(cheapest, cheapest, deadlines, now_ns, slowdown, 1.0)

    def choose(
        self, deadlines: Sequence[int], margins: Sequence[float], now_ns: int, slowdown: float
    ) -> Plan | None:
        """Return the next run, None when not even the head can be met.

        Parameters
        ----------
        deadlines : sequence of int
            Ascending, not empty.
        margins : sequence of float
            Of the same requests' first answers.
        """
        place = self._best_affordable(deadlines, now_ns, slowdown, self.limits.utilisation_max)
        if place is None:
            # Somebody is already inside the margin; that is what it is for.
            place = self._best_affordable(deadlines, now_ns, slowdown, 1.0)
        if place is None:
            # Nothing fits the whole queue: the cheapest for as many of the head as its deadline allows.
            return (
                self._plan(self.frontier[0], deadlines, margins, now_ns, slowdown) if self.frontier else None
            )
        if self.values.cascades:
            place = self._bent(place, deadlines, margins, now_ns, slowdown)
        return self._plan(self.frontier[place], deadlines, margins, now_ns, slowdown)

    def _best_affordable(
        self, deadlines: Sequence[int], now_ns: int, slowdown: float, usable: float
    ) -> int | None:
        for place in range(len(self.frontier) - 1, -1, -1):
            variant, below = self.frontier[place], self.frontier[max(place - 1, 0)]
            steps_up = self.forecast.costs.item_ns(variant) > self._last_item_ns
            share = usable * (1.0 - self.limits.step_up_share) if steps_up else usable
            if self._affordable(variant, below, deadlines, now_ns, slowdown, share):
                return place
        return None

    def _batch(self, variant: int, waiting: int) -> int:
        return min(waiting, self.forecast.costs.efficient[variant], self.limits.batch_max)

    def _affordable(
        self, variant: int, below: int, deadlines: Sequence[int], now_ns: int, slowdown: float, usable: float
    ) -> bool:
        """Whether a run at `variant` leaves time for all others at `below`, within `usable` of the time."""
        waiting = len(deadlines)
        batch = self._batch(variant, waiting)
        # A run begins with the tightest of its deadlines.
        ready_ns = self.forecast.tail_ns(variant, batch, slowdown)
        if ready_ns > usable * (deadlines[0] - self.guard_ns - now_ns):
            return False
        step = self._batch(below, waiting)
        step_ns = self.forecast.typical_ns(below, step, slowdown)
        for first in range(batch, waiting, step):
            ready_ns += step_ns
            if ready_ns > usable * (deadlines[first] - self.guard_ns - now_ns):
                return False
        return True

    def _bent(
        self, place: int, deadlines: Sequence[int], margins: Sequence[float], now_ns: int, slowdown: float
    ) -> int:
        """Return the place on the frontier that the head is worth at the present price of time."""
        own, below = self.frontier[place], self.frontier[max(place - 1, 0)]
        usable = self.limits.utilisation_max
        if own == below or (
            place == len(self.frontier) - 1
            and self._affordable(own, own, deadlines, now_ns, slowdown, usable)
        ):
            # Time has no price where there is enough, or where nothing cheaper is left.
            return place
        rise = self.values.values[own] - self.values.values[below]
        price = rise / max(self._item_ns(own) - self._item_ns(below), _EPSILON_NS)
        gains = [
            self.values.value(variant, margins[0]) - price * self._item_ns(variant)
            for variant in self.frontier
        ]
        wanted = max(range(len(gains)), key=gains.__getitem__)
        while wanted > place and not self._head_fits(wanted, place, deadlines, now_ns, slowdown):
            wanted -= 1
        return wanted

    def _head_fits(
        self, wanted: int, place: int, deadlines: Sequence[int], now_ns: int, slowdown: float
    ) -> bool:
        """Whether one request at `wanted` leaves the rest in time one rung below `place`."""
        head_ns = self.forecast.tail_ns(self.frontier[wanted], 1, slowdown)
        if now_ns + head_ns > deadlines[0] - self.guard_ns:
            return False
        rest = deadlines[1:]
        below = self.frontier[max(place - 1, 0)]
        return not rest or self._affordable(below, below, rest, now_ns + int(head_ns), slowdown, 1.0)

    def _plan(
        self, variant: int, deadlines: Sequence[int], margins: Sequence[float], now_ns: int, slowdown: float
    ) -> Plan | None:
        """Return the largest efficient batch whose forecast meets the head's deadline."""
        room_ns = deadlines[0] - self.guard_ns - now_ns
        count = self._batch(variant, len(deadlines))
        if self.values.cascades and count > 1:
            # Requests of one run share its variant, so only those that want the same may share the run.
            wish = self.values.value(variant, margins[0])
            alike = 1
            while alike < count and self.values.value(variant, margins[alike]) == wish:
                alike += 1
            count = alike
        tail_ns = self.forecast.tail_ns(variant, count, slowdown)
        while count > 1 and tail_ns > room_ns:
            count //= 2
            tail_ns = self.forecast.tail_ns(variant, count, slowdown)
        if tail_ns > room_ns:
            if variant == self.frontier[0]:
                return None
            return self._plan(self.frontier[0], deadlines, margins, now_ns, slowdown)
        self._last_item_ns = self.forecast.costs.item_ns(variant)
        typical_ns = self.forecast.typical_ns(variant, count, slowdown)
        return Plan(variant=variant, count=count, tail_ns=tail_ns, typical_ns=typical_ns)

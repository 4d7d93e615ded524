"""Which variant runs next, and with how many requests: the decision that this package exists for.

A queue of deadlines is a budget of time. A variant is *affordable* when the head of the queue, run at it,
leaves time to run all behind it one rung lower on the efficient frontier (value against time): the head's
run at its tail forecast, those behind it at the pace. The best affordable variant runs the head. Nothing
needs to be known about future arrivals: when they come faster, the queue grows and affords less, and it
comes to rest where the time per request equals the time between requests. That rest is a mix of two
neighbours on the frontier, which is the optimum of the linear program that a clairvoyant would solve for a
steady load (see `oracle.py`). The rungs below the two are what catches a surprise.

The cascade needs no other rule. Where first answers tell how sure they are, a rung assigns a variant to each
bin of that margin, and the next rung exchanges one bin's variant: the exchange that gains most value for its
time. So every rung has one price of time, at which unsure requests buy larger models and sure ones keep to
small ones, and without margins a rung is a variant.

Stepping up needs slack to spare, stepping down needs none: that is the hysteresis.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from data.errors import ConfigError

from .forecast import LatencyForecast
from .line import BINS_MAX, Line


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
    shares : sequence of float, shape (len(margin_edges) + 1,)
        How often each bin occurs; equally often when empty.
    first : int, optional
        The variant whose margins these are.
    """

    def __init__(
        self,
        values: Sequence[float],
        *,
        margin_edges: Sequence[float] = (),
        by_margin: Sequence[Sequence[float]] | None = None,
        shares: Sequence[float] = (),
        first: int | None = None,
    ) -> None:
        bins = len(margin_edges) + 1
        rows = [[value] * bins for value in values] if by_margin is None else by_margin
        if not values or len(rows) != len(values) or any(len(row) != bins for row in rows):
            raise ConfigError(f"a value table needs {bins} values for each variant, was {rows}")
        if not all(isfinite(value) for row in (values, *rows) for value in row):
            raise ConfigError(f"values must be finite, was {values} and {rows}")
        if list(margin_edges) != sorted(margin_edges) or len(margin_edges) > BINS_MAX - 2:
            raise ConfigError(f"at most {BINS_MAX - 2} margin edges must ascend, was {margin_edges}")
        self.shares = tuple(shares) or (1.0 / bins,) * bins
        if len(self.shares) != bins or min(self.shares) < 0.0 or abs(sum(self.shares) - 1.0) > 1e-3:
            raise ConfigError(f"shares must be {bins} that add up to 1, was {shares}")
        self.values = tuple(float(value) for value in values)
        self.margin_edges = tuple(margin_edges)
        self.by_margin = tuple(tuple(float(value) for value in row) for row in rows)
        self.cascades = by_margin is not None
        self.first = first

    def bin_of(self, margin: float) -> int:
        """Return the bin of a first answer's margin; the one behind the last where there is no answer."""
        if isnan(margin):
            return len(self.shares)
        return bisect_right(self.margin_edges, margin)

    def value(self, variant: int, margin: float) -> float:
        """Return the worth of one answer."""
        if not self.cascades or isnan(margin):
            return self.values[variant]
        return self.by_margin[variant][self.bin_of(margin)]


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
class Rung:
    """Which variant each bin of margins gets, the last entry being for requests without a first answer.

    `item_ns` is what a request costs on average, by the table.
    """

    variants: tuple[int, ...]
    item_ns: float


def ladder_of(
    frontier: Sequence[int], costs: Sequence[float], values: ValueTable, usable: Sequence[int]
) -> tuple[Rung, ...]:
    """Return rungs from the cheapest variant for all to the best for each, by falling value per time.

    Parameters
    ----------
    frontier, usable : sequence of int
        The efficient frontier of the average values, and all variants that may run.
    costs : sequence of float, shape (variants,)
        Time per request.

    Notes
    -----
    Greedy exchange is optimal at every rung: each bin's gain is concave in its time.
    """
    if not frontier:
        return ()
    base = frontier[0]
    columns = list(zip(*values.by_margin, strict=True)) if values.cascades else []
    columns.append(values.values)
    shares = (*values.shares, 0.0) if values.cascades else (1.0,)
    steps: list[tuple[float, int, int, int]] = []
    for place, column in enumerate(columns):
        dearer = [index for index in usable if costs[index] > costs[base]]
        spare = [costs[index] - costs[base] for index in dearer]
        above = [column[index] - column[base] for index in dearer]
        last_cost, last_gain = 0.0, 0.0
        for rank, chosen in enumerate(efficient_frontier(spare, above)):
            slope = (above[chosen] - last_gain) / (spare[chosen] - last_cost)
            last_cost, last_gain = spare[chosen], above[chosen]
            steps.append((-slope, place, rank, dearer[chosen]))
    current = [base] * len(columns)
    mean_ns = costs[base]
    rungs = [Rung(variants=tuple(current), item_ns=mean_ns)]
    for _, place, _, variant in sorted(steps):
        mean_ns += shares[place] * (costs[variant] - costs[current[place]])
        current[place] = variant
        rungs.append(Rung(variants=tuple(current), item_ns=mean_ns))
    return tuple(rungs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The next run: the requests at `places` in deadline order, the head among them, on `variant`.

    `tail_ns` is its forecast, which ends before the tightest of their deadlines; `typical_ns` its median.
    """

    variant: int
    places: Sequence[int]
    tail_ns: float
    typical_ns: float

    @property
    def count(self) -> int:
        """How many requests."""
        return len(self.places)


class Planner:
    """Chooses plans for one worker. State: what the rung used last costs, and the rungs.

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
        # Cost of the rung used last, in table time: stepping above it needs slack to spare.
        self._last_item_ns = float("inf")
        self.frontier: tuple[int, ...] = ()
        self.rungs: tuple[Rung, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Draw the rungs anew, after breakers or forecasts moved."""
        usable = [index for index in range(len(self.values.values)) if self._allowed(index)]
        costs = [self._item_ns(index) for index in range(len(self.values.values))]
        values = [self.values.values[index] for index in usable]
        frontier = efficient_frontier([costs[index] for index in usable], values)
        self.frontier = tuple(usable[place] for place in frontier)
        self.rungs = ladder_of(self.frontier, costs, self.values, usable)

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
        if not self.rungs:
            return False
        cheapest = self.rungs[0].variants
        return self._affordable(cheapest, cheapest, self._line(deadlines, b"", now_ns, slowdown), 1.0)

    def choose(
        self, deadlines: Sequence[int], bins: bytes | bytearray, now_ns: int, slowdown: float
    ) -> Plan | None:
        """Return the next run, None when not even the head can be met.

        Parameters
        ----------
        deadlines : sequence of int
            Ascending, not empty.
        bins : bytes
            `ValueTable.bin_of` the same requests' first answers; not looked at where values do not depend on
            them.
        """
        if not self.rungs:
            return None
        line = self._line(deadlines, bins if self.values.cascades else b"", now_ns, slowdown)
        place = self._best_affordable(line, self.limits.utilisation_max)
        if place is None:
            # Somebody is already inside the margin; that is what it is for.
            place = self._best_affordable(line, 1.0)
        # Where nothing fits the whole queue: the cheapest for as many of the head as its deadline allows.
        return self._plan(self.rungs[place or 0], line)

    def _line(self, deadlines: Sequence[int], bins: bytes | bytearray, now_ns: int, slowdown: float) -> Line:
        return Line(
            deadlines,
            bins,
            bin_count=len(self.values.shares) + 1,
            now_ns=now_ns,
            guard_ns=self.guard_ns,
            slowdown=slowdown,
            least_of=self.forecast.least_ns,
        )

    def _best_affordable(self, line: Line, usable: float) -> int | None:
        for place in range(len(self.rungs) - 1, -1, -1):
            rung, below = self.rungs[place], self.rungs[max(place - 1, 0)]
            steps_up = rung.item_ns > self._last_item_ns
            share = usable * (1.0 - self.limits.step_up_share) if steps_up else usable
            if self._affordable(rung.variants, below.variants, line, share):
                return place
        return None

    def _batch(self, variant: int, waiting: int) -> int:
        return min(waiting, self.forecast.costs.efficient[variant], self.limits.batch_max)

    def _affordable(
        self, variants: tuple[int, ...], below: tuple[int, ...], line: Line, usable: float
    ) -> bool:
        """Whether the head's run at `variants` leaves time for all others at `below`.

        A run begins with the tightest of its deadlines; all within `usable` of the time.
        """
        variant, slowdown = line.head_variant(variants), line.slowdown
        count = self._batch(variant, line.count(variants, variant))
        ready_ns = self.forecast.tail_ns(variant, count, slowdown)
        if ready_ns > usable * line.room_ns(0):
            return False

        def batch_of(variant: int, waiting: int) -> tuple[int, float]:
            size = self._batch(variant, waiting)
            return size, self.forecast.typical_ns(variant, size, slowdown)

        if not line.bins:
            size, run_ns = batch_of(below[-1], len(line))
            for first in range(count, len(line), size):
                ready_ns += run_ns
                if ready_ns > usable * line.room_ns(first):
                    return False
            return True
        if count == len(line):
            return True
        if not line.is_short:
            # Most rungs are refused by what their requests take at the least, which costs no look at each.
            spared_ns = count * max(
                line.least_ns[lower] for own, lower in zip(variants, below, strict=True) if own == variant
            )
            for place, time_ns in line.at_least(below):
                if ready_ns + time_ns - spared_ns > usable * line.room_ns(place):
                    return False
        head = line.places(variants, variant, count)
        return line.ends_in_time(below, head, ready_ns, usable, batch_of)

    def _plan(self, rung: Rung, line: Line) -> Plan | None:
        """Return the largest efficient batch whose forecast meets the head's deadline."""
        room_ns, slowdown = line.room_ns(0), line.slowdown
        variant = line.head_variant(rung.variants)
        count = self._batch(variant, line.count(rung.variants, variant))
        tail_ns = self.forecast.tail_ns(variant, count, slowdown)
        while count > 1 and tail_ns > room_ns:
            count //= 2
            tail_ns = self.forecast.tail_ns(variant, count, slowdown)
        if tail_ns > room_ns:
            if variant == self.frontier[0]:
                return None
            return self._plan(self.rungs[0], line)
        self._last_item_ns = rung.item_ns
        return Plan(
            variant=variant,
            places=line.places(rung.variants, variant, count),
            tail_ns=tail_ns,
            typical_ns=self.forecast.typical_ns(variant, count, slowdown),
        )

"""How long a batch will take: an online quantile per variant and load, never the mean.

A quantile is followed in the log domain: a time above it multiplies it by exp(gain · τ), any other by
exp(−gain · (1 − τ)). This is Robbins and Monro's stochastic approximation of the pinball loss's root
(Ann. Math. Stat. 22, 1951) with the constant step of adaptive conformal inference (Gibbs and Candès,
NeurIPS 2021, proposition 4.1). Their bound needs no assumption about the times: after T of them, all within
[low, high], the share above the estimate differs from 1 − τ by at most (log(high / low) + gain) / (gain · T).
A constant step keeps following a machine that changes; P² (Jain and Chlamtac, 1985) averages over its whole
past.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite
from typing import Final

from data.errors import ConfigError

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
LEVEL_EDGES: Final = (1.3, 1.9, 3.5)
"""Slowdowns that part quiet, shared, loaded and starved."""
TYPICAL: Final = 0.5
TAIL: Final = 0.95
_GAIN: Final = 0.08
_TAIL_START: Final = 1.2
# A time beyond this says that the process was stopped, not what the machine does.
_RATIO_MAX: Final = 50.0
_PACE_NS: Final = 500_000_000.0


class QuantileTracker:
    """The τ-quantile of a stream of positive times, in constant memory.

    Parameters
    ----------
    share : float
        τ, between 0 and 1.
    start : float
        First estimate.
    gain : float
        Step in the log domain: larger follows faster and wavers more.
    """

    __slots__ = ("_down", "_up", "value")

    def __init__(self, share: float, *, start: float, gain: float = _GAIN) -> None:
        if not (0.0 < share < 1.0 and start > 0.0 and gain > 0.0):
            raise ConfigError(
                f"a quantile needs 0 < share < 1, start > 0, gain > 0, was {share}, {start}, {gain}"
            )
        self.value = start
        self._up, self._down = exp(gain * share), exp(-gain * (1.0 - share))

    def update(self, time: float) -> None:
        """Take one time in."""
        self.value *= self._up if time > self.value else self._down


class CostTable:
    """Quiet-machine time of every variant by batch size, between measured sizes by interpolation.

    Parameters
    ----------
    times_ns : sequence of sequence of float, shape (variants, len(BATCHES))
        Medians of a whole batch.
    """

    def __init__(self, times_ns: Sequence[Sequence[float]]) -> None:
        if not times_ns or any(len(row) != len(BATCHES) for row in times_ns):
            raise ConfigError(f"a cost table must have a time for each batch of {BATCHES}, was {times_ns}")
        if any(not (isfinite(time) and time > 0) for row in times_ns for time in row):
            raise ConfigError(f"times must be positive, was {times_ns}")
        self.times_ns = tuple(tuple(float(time) for time in row) for row in times_ns)
        # Every size, so that asking is one look-up.
        self._by_size = tuple(_interpolated(row) for row in self.times_ns)
        self.efficient = tuple(_efficient_batch(row) for row in self._by_size)
        # A rounding less, so that no sum of batches is below a sum of these.
        self.least_item_ns = tuple(
            (1.0 - 1e-9) * min(time / size for size, time in enumerate(row) if size) for row in self._by_size
        )

    def __len__(self) -> int:
        return len(self.times_ns)

    def plus(self, overhead_ns: float) -> CostTable:
        """Return a table whose every batch takes so much longer."""
        return CostTable([[time + overhead_ns for time in row] for row in self.times_ns])

    def batch_ns(self, variant: int, count: int) -> float:
        """Return the time of one batch of `count` items, up to the largest size."""
        return self._by_size[variant][count]

    def item_ns(self, variant: int) -> float:
        """Return the time of one item at the efficient batch."""
        count = self.efficient[variant]
        return self._by_size[variant][count] / count


def _interpolated(row: Sequence[float]) -> tuple[float, ...]:
    times = [0.0, row[0]]
    for index in range(1, len(BATCHES)):
        low, high = BATCHES[index - 1], BATCHES[index]
        step = (row[index] - row[index - 1]) / (high - low)
        times += [row[index - 1] + step * (size - low) for size in range(low + 1, high + 1)]
    return tuple(times)


def _efficient_batch(times: Sequence[float]) -> int:
    """Return the smallest batch whose time per item is within a tenth of the best."""
    per_item = [times[size] / size for size in BATCHES]
    best = min(per_item)
    return next(size for size, time in zip(BATCHES, per_item, strict=True) if time <= 1.1 * best)


class LatencyForecast:
    """Forecasts batches from the table, the present slowdown and what batches really took.

    A variant's table is corrected by the median of what its batches took while the machine was quiet. A
    single batch is forecast by the tail of (its time over corrected table × slowdown), per variant and
    level of load. A queue of batches is forecast by the pace: what a long run of batches took over
    corrected table × slowdown, per level. A median would promise too much there, since under a hog half of
    the batches run undisturbed.
    """

    def __init__(self, costs: CostTable) -> None:
        self.costs = costs
        levels = range(len(LEVEL_EDGES) + 1)
        # Time spent and time forecast, forgotten exponentially: their ratio is the pace at that level.
        self._pace = [[_PACE_NS, _PACE_NS] for _ in levels]
        self._correction = [QuantileTracker(TYPICAL, start=1.0) for _ in range(len(costs))]
        self._tail = [[QuantileTracker(TAIL, start=_TAIL_START) for _ in levels] for _ in range(len(costs))]

    def table_ns(self, variant: int, count: int) -> float:
        """Return the time of a batch on a quiet machine."""
        return self.costs.batch_ns(variant, count) * self._correction[variant].value

    def typical_ns(self, variant: int, count: int, slowdown: float) -> float:
        """Return the time that a batch takes on average over many."""
        return self.table_ns(variant, count) * self.pace(slowdown)

    def least_ns(self, slowdown: float) -> list[float]:
        """Return per variant what an item takes on average in batches of the best size."""
        pace = self.pace(slowdown)
        return [
            least * correction.value * pace
            for least, correction in zip(self.costs.least_item_ns, self._correction, strict=True)
        ]

    def pace(self, slowdown: float) -> float:
        """Return how much longer than the table work takes, over many batches at this slowdown."""
        spent_ns, forecast_ns = self._pace[level_of(slowdown)]
        return slowdown * spent_ns / forecast_ns

    def tail_ns(self, variant: int, count: int, slowdown: float) -> float:
        """Return the time that a batch exceeds once in twenty."""
        ratio = max(self._tail[variant][level_of(slowdown)].value, 1.0)
        return self.table_ns(variant, count) * slowdown * ratio

    def observe(self, variant: int, count: int, slowdown: float, took_ns: float) -> None:
        """Take a finished batch in, with the slowdown it was forecast under."""
        level = level_of(slowdown)
        table_ns = self.costs.batch_ns(variant, count)
        ratio = min(max(took_ns / table_ns, 1.0 / _RATIO_MAX), _RATIO_MAX)
        self._tail[variant][level].update(ratio / (self._correction[variant].value * slowdown))
        pace, forecast_ns = self._pace[level], table_ns * self._correction[variant].value * slowdown
        keep = exp(-forecast_ns / _PACE_NS)
        pace[0] = pace[0] * keep + min(took_ns, _RATIO_MAX * table_ns)
        pace[1] = pace[1] * keep + forecast_ns
        if level == 0:
            self._correction[variant].update(ratio)


def level_of(slowdown: float) -> int:
    """Return the level of load, 0 for quiet."""
    low, middle, high = LEVEL_EDGES
    if slowdown < middle:
        return 0 if slowdown < low else 1
    return 2 if slowdown < high else 3

"""Loads times policies: what each policy makes of each trace, beside the clairvoyant's bound.

The ladder is a reference one, so that a change of policy is told from a change of models: times are medians
of the shipped shapes on one 2-core machine, values are assumed, falling as models get smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.inference.serving.forecast import CostTable
from engine.inference.serving.planning import ValueTable
from engine.inference.serving.policies import (
    ClockworkPolicy,
    FixedPolicy,
    InfaasPolicy,
    LadderPolicy,
    Policy,
)
from engine.inference.serving.simulate import clairvoyant, requests_of, simulate
from engine.inference.serving.traces import Trace, standard_traces

WORKERS: Final = 2
DEADLINE_NS: Final = 50_000_000
NAMES: Final = (
    "mlp-tiny",
    "tcn-small.int8",
    "tcn-medium.int8",
    "tcn-large.int8",
    "encoder.int8",
    "encoder.fp32",
)
SMALL, INT8, LARGE = 0, 4, 5
_TIMES_US: Final = (
    (10, 11, 11, 11, 13, 15, 20),
    (35, 51, 85, 149, 277, 542, 1_056),
    (61, 96, 172, 329, 659, 1_284, 2_560),
    (126, 241, 446, 879, 1_732, 3_460, 6_920),
    (847, 1_679, 3_360, 6_720, 13_440, 26_900, 53_800),
    (1_662, 3_300, 6_600, 13_200, 26_400, 52_800, 105_600),
)
REFERENCE_COSTS: Final = CostTable([[time * 1e3 for time in row] for row in _TIMES_US])
REFERENCE_VALUES: Final = ValueTable((0.22, 0.51, 0.70, 0.85, 0.985, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All policies on all traces, as means per request.

    Parameters
    ----------
    policies, traces : tuple of str
    value, hit_rate : array of float64, shape (policies, traces)
    bound : array of float64, shape (traces,)
    """

    policies: tuple[str, ...]
    traces: tuple[str, ...]
    value: NDArray[np.float64]
    hit_rate: NDArray[np.float64]
    bound: NDArray[np.float64]

    def of(self, policy: str) -> NDArray[np.float64]:
        """Return one policy's values, per trace."""
        found: NDArray[np.float64] = self.value[self.policies.index(policy)]
        return found

    def best_of(self, policies: Sequence[str]) -> str:
        """Return the policy of the highest mean value among some."""
        return max(policies, key=lambda policy: float(self.of(policy).mean()))


def policies() -> tuple[Callable[[], Policy], ...]:
    """Return makers of every policy that is compared; ours first, then every fixed choice."""
    costs, values = REFERENCE_COSTS, REFERENCE_VALUES

    def fixed(variant: int) -> Callable[[], Policy]:
        return lambda: FixedPolicy(costs, variant, workers=WORKERS, name=f"always {NAMES[variant]}")

    def clockwork(variant: int) -> Callable[[], Policy]:
        return lambda: ClockworkPolicy(
            costs, variant, workers=WORKERS, name=f"Clockwork-style {NAMES[variant]}"
        )

    return (
        lambda: LadderPolicy(costs, values, workers=WORKERS),
        *(fixed(variant) for variant in range(len(costs))),
        *(clockwork(variant) for variant in (3, INT8, LARGE)),
        lambda: InfaasPolicy(costs, values, workers=WORKERS),
    )


def compare_days(*, seconds: float, seed: int) -> Comparison:
    """Run every policy over every standard trace."""
    unit = WORKERS * 1e9 / REFERENCE_COSTS.item_ns(LARGE)
    traces = standard_traces(unit, seconds=seconds, seed=seed)
    makers = policies()
    names = tuple(maker().name for maker in makers)
    value, hits = np.zeros((2, len(makers), len(traces)))
    bound = np.zeros(len(traces))
    for column, trace in enumerate(traces):
        requests = requests_of(trace, deadline_ns=DEADLINE_NS, seed=seed)
        count = max(len(requests), 1)
        bound[column] = _bound(trace, seed) / count
        for row, maker in enumerate(makers):
            day = simulate(
                maker(), trace, requests, REFERENCE_COSTS, REFERENCE_VALUES, workers=WORKERS, seed=seed
            )
            value[row, column], hits[row, column] = day.value / count, day.on_time / count
    return Comparison(
        policies=names,
        traces=tuple(trace.name for trace in traces),
        value=value,
        hit_rate=hits,
        bound=bound,
    )


def _bound(trace: Trace, seed: int) -> float:
    requests = requests_of(trace, deadline_ns=DEADLINE_NS, seed=seed)
    return clairvoyant(trace, requests, REFERENCE_COSTS, REFERENCE_VALUES, workers=WORKERS)


def ratio_interval(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], *, seed: int, draws: int = 4_000
) -> tuple[float, float, float]:
    """Return mean(ours) / mean(theirs) over paired traces, with a 95 % bootstrap interval over traces."""
    random = np.random.default_rng((seed, 13))
    picks = random.integers(0, len(ours), (draws, len(ours)))
    ratios = ours[picks].mean(axis=1) / theirs[picks].mean(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(ours.mean() / theirs.mean()), float(low), float(high)

"""Loads times policies: what each policy makes of each load, beside the clairvoyant's bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.inference.serving.oracle import closed_loop_bound
from engine.inference.serving.planning import ValueTable
from engine.inference.serving.policies import (
    ClockworkPolicy,
    FixedPolicy,
    InfaasPolicy,
    LadderPolicy,
    Policy,
)
from engine.inference.serving.simulate import (
    SimulatedDay,
    clairvoyant,
    requests_of,
    simulate,
    simulate_users,
)
from engine.inference.serving.traces import standard_traces

from .router_ladders import RouterLadder

WORKERS: Final = 2
OURS: Final = "anytick"
NO_CASCADE: Final = "anytick without its cascade"


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


def policies(ladder: RouterLadder) -> tuple[Callable[[], Policy], ...]:
    """Return makers of every policy that is compared; ours first, then every fixed choice."""
    costs, values = ladder.costs, ladder.values

    def fixed(variant: int) -> Callable[[], Policy]:
        return lambda: FixedPolicy(costs, variant, workers=WORKERS, name=f"always {ladder.names[variant]}")

    def clockwork(variant: int) -> Callable[[], Policy]:
        return lambda: ClockworkPolicy(
            costs, variant, workers=WORKERS, name=f"Clockwork-style {ladder.names[variant]}"
        )

    return (
        lambda: LadderPolicy(costs, values, workers=WORKERS, name=OURS),
        *(fixed(variant) for variant in range(len(costs))),
        *(clockwork(variant) for variant in (ladder.middle, ladder.int8, ladder.large)),
        lambda: InfaasPolicy(costs, values, workers=WORKERS),
    )


def with_and_without_cascade(ladder: RouterLadder) -> tuple[Callable[[], Policy], ...]:
    """Return makers of our policy, and of the same that knows no margins."""
    plain = ValueTable(ladder.values.values)
    return (
        lambda: LadderPolicy(ladder.costs, ladder.values, workers=WORKERS, name=OURS),
        lambda: LadderPolicy(ladder.costs, plain, workers=WORKERS, name=NO_CASCADE),
    )


def compare_days(
    ladder: RouterLadder, makers: Sequence[Callable[[], Policy]], *, seconds: float, seed: int
) -> Comparison:
    """Run every policy over every standard trace."""
    unit = WORKERS * 1e9 / ladder.costs.item_ns(ladder.large)
    traces = standard_traces(ladder.load * unit, seconds=seconds, seed=seed)
    names = tuple(maker().name for maker in makers)
    value, hits = np.zeros((2, len(makers), len(traces)))
    bound = np.zeros(len(traces))
    for column, trace in enumerate(traces):
        requests = requests_of(trace, deadline_ns=ladder.deadline_ns, seed=seed, margins=ladder.margins)
        count = max(len(requests), 1)
        bound[column] = clairvoyant(trace, requests, ladder.costs, ladder.worth, workers=WORKERS) / count
        for row, maker in enumerate(makers):
            day = simulate(maker(), trace, requests, ladder.costs, ladder.worth, workers=WORKERS, seed=seed)
            value[row, column], hits[row, column] = day.value / count, day.on_time / count
    return Comparison(
        policies=names,
        traces=tuple(trace.name for trace in traces),
        value=value,
        hit_rate=hits,
        bound=bound,
    )


def compare_users(
    ladder: RouterLadder, users: int, *, seconds: float, seed: int
) -> tuple[SimulatedDay, float]:
    """Return our day with users who ask again at once, and the bound on its mean value."""
    day = simulate_users(
        LadderPolicy(ladder.costs, ladder.values, workers=WORKERS, name=OURS),
        users,
        ladder.costs,
        ladder.worth,
        seconds=seconds,
        deadline_ns=ladder.deadline_ns,
        workers=WORKERS,
        seed=seed,
        margins=ladder.margins,
    )
    bound = closed_loop_bound(
        ladder.costs, ladder.worth, users=users, deadline_ns=ladder.deadline_ns, workers=WORKERS
    )
    return day, bound


def ratio_interval(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], *, seed: int, draws: int = 4_000
) -> tuple[float, float, float]:
    """Return mean(ours) / mean(theirs) over paired traces, with a 95 % bootstrap interval over traces."""
    random = np.random.default_rng((seed, 13))
    picks = random.integers(0, len(ours), (draws, len(ours)))
    ratios = ours[picks].mean(axis=1) / theirs[picks].mean(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(ours.mean() / theirs.mean()), float(low), float(high)

"""Loads times policies: what each policy makes of each load, beside the clairvoyant's bound.

    python -m benchmarks.router_days [--ladder shipped] [--deadlines 80] [--deadline-ms 50] [--seed 1]

prints the tables of docs/INFERENCE.md. `anytick bench router-days` verifies the same, shorter.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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

from .router_ladders import REFERENCE, RouterLadder, shipped_ladder

WORKERS: Final = 2
OURS: Final = "anytick"
CLOCKWORK: Final = "Clockwork-style"
INFAAS: Final = "INFaaS-style"
_ALWAYS: Final = "always"
# Its authors look once a second; this is twenty times as often and serves it better.
_MONITOR_DEADLINES: Final = 1
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

    def named(self, start: str) -> list[str]:
        """Return the policies whose names start so."""
        return [policy for policy in self.policies if policy.startswith(start)]


def policies(ladder: RouterLadder) -> tuple[Callable[[], Policy], ...]:
    """Return makers of every policy that is compared; ours first, then every fixed choice."""
    costs, values = ladder.costs, ladder.values

    def fixed(variant: int) -> Callable[[], Policy]:
        return lambda: FixedPolicy(costs, variant, workers=WORKERS, name=always(ladder, variant))

    def clockwork(variant: int) -> Callable[[], Policy]:
        return lambda: ClockworkPolicy(
            costs, variant, workers=WORKERS, name=f"{CLOCKWORK} {ladder.names[variant]}"
        )

    return (
        lambda: LadderPolicy(costs, values, workers=WORKERS, name=OURS),
        *(fixed(variant) for variant in ladder.fixed),
        *(clockwork(variant) for variant in (ladder.middle, ladder.int8, ladder.large)),
        lambda: InfaasPolicy(
            costs, values, workers=WORKERS, window_ns=_MONITOR_DEADLINES * ladder.deadline_ns, name=INFAAS
        ),
    )


def always(ladder: RouterLadder, variant: int) -> str:
    """Return the name of the policy that stays with one variant."""
    return f"{_ALWAYS} {ladder.names[variant]}"


def rivals(ladder: RouterLadder, found: Comparison) -> dict[str, str]:
    """Return the policies that ours is held against, by what they are."""
    goals = [always(ladder, variant) for variant in (ladder.small, ladder.int8, ladder.large)]
    return {
        "best of small, INT8, large": found.best_of(goals),
        "best fixed choice in hindsight": found.best_of(found.named(_ALWAYS)),
        "best Clockwork-style in hindsight": found.best_of(found.named(CLOCKWORK)),
        INFAAS: INFAAS,
    }


def with_and_without_cascade(ladder: RouterLadder) -> tuple[Callable[[], Policy], ...]:
    """Return makers of our policy, and of the same that knows no margins."""
    plain = ValueTable(ladder.values.values)
    return (
        lambda: LadderPolicy(ladder.costs, ladder.values, workers=WORKERS, name=OURS),
        lambda: LadderPolicy(ladder.costs, plain, workers=WORKERS, name=NO_CASCADE),
    )


def compare_days(
    ladder: RouterLadder, makers: Sequence[Callable[[], Policy]], *, deadlines: float, seed: int
) -> Comparison:
    """Run every policy over every standard trace, each so many deadlines long."""
    unit = WORKERS * 1e9 / ladder.costs.item_ns(ladder.large)
    seconds = deadlines * ladder.deadline_ns / 1e9
    traces = standard_traces(unit, seconds=seconds, seed=seed, deadline_ns=ladder.deadline_ns)
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


def table_of(found: Comparison, *, seed: int) -> Iterator[str]:
    """Yield a Markdown table: value, share of the bound, in time, and our gain with its paired interval."""
    yield f"| Policy | value | of the bound | in time | {OURS}'s gain, 95 % over paired loads |"
    yield "|---|---|---|---|---|"
    for row, policy in enumerate(found.policies):
        value, hits = found.value[row], found.hit_rate[row].mean()
        gain, low, high = ratio_interval(found.of(OURS), value, seed=seed)
        share = f"{value.sum() / found.bound.sum():.1%}"
        told = f"{gain:.3f} ({low:.3f} to {high:.3f})"
        if policy == OURS:
            share, told = f"{share}, at least {(value / found.bound).min():.1%}", ""
        yield f"| {policy} | {value.mean():.3f} | {share} | {hits:.2%} | {told} |"


def main(arguments: Sequence[str]) -> int:
    """Print one ladder's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ladder", choices=("reference", "shipped"), default="reference")
    parser.add_argument("--deadlines", type=float, default=80.0, help="length of a load")
    parser.add_argument("--deadline-ms", type=float)
    parser.add_argument("--windows", type=int, default=12_000, help="judged, of the shipped ladder")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    ladder = REFERENCE
    if args.ladder == "shipped":
        ladder = shipped_ladder(rows=args.windows, seed=args.seed)
    if args.deadline_ms is not None:
        ladder = replace(ladder, deadline_ns=int(args.deadline_ms * 1e6))
    found = compare_days(ladder, policies(ladder), deadlines=args.deadlines, seed=args.seed)
    print("\n".join(table_of(found, seed=args.seed)))
    print(*(f"{what}: {rival}" for what, rival in rivals(ladder, found).items()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

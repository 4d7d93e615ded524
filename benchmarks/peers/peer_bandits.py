"""LinUCB libraries beside ours: one decision and one update, the same contexts, arms and rewards for all.

Every learner is asked for its arm and then told the outcome of an arm that was drawn beforehand, so that all
of them learn from the same data and their decisions can be compared one by one. Ties, which only arms without
data have, are left out of the comparison: libraries break them at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ext.linucb import LinUcb

from ..bench_linucb import NumpyLinUcb
from ..harness import Bench, peer_scenario

ALPHA: Final = 0.5
SHAPES: Final = ((4, 8), (8, 16), (16, 64))

Floats = NDArray[np.float64]
Decisions = list[int]
CONDITIONS: Final = (
    "one context at a time from Python, BLAS on one thread, float64, ridge 1, alpha 0.5; choose, then learn "
    "from the drawn arm."
)


class Logged:
    """Contexts, and arms with rewards that were drawn before anybody learnt.

    Parameters
    ----------
    arms, size, count, seed : int
    """

    def __init__(self, arms: int, size: int, count: int, *, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.arms, self.size = arms, size
        self.contexts = draw.standard_normal((count, size)) / math.sqrt(size)
        self.played = draw.integers(0, arms, count)
        means = draw.standard_normal((arms, size))
        self.rewards = np.einsum("ij,ij->i", self.contexts, means[self.played]) + draw.standard_normal(count)
        # River takes dictionaries; they are made outside the clock.
        self.dictionaries = [dict(enumerate(row)) for row in self.contexts.tolist()]
        self.all_seen = int(max(np.flatnonzero(self.played == arm)[0] for arm in range(arms))) + 1

    def __len__(self) -> int:
        return len(self.contexts)


def ours(log: Logged) -> Decisions:
    bandit = LinUcb(log.arms, log.size, alpha=ALPHA)
    chosen = []
    for context, arm, reward in _rows(log):
        chosen.append(bandit.pull(context))
        bandit.update(arm, context, reward)
    return chosen


def mabwiser(log: Logged) -> Decisions:
    from mabwiser.mab import MAB, LearningPolicy

    bandit = MAB(list(range(log.arms)), LearningPolicy.LinUCB(alpha=ALPHA, l2_lambda=1.0))
    # It wants to be fitted before it decides; a context of zeros teaches nothing.
    bandit.fit([0], [0.0], np.zeros((1, log.size)))
    chosen = []
    for context, arm, reward in _rows(log):
        chosen.append(int(bandit.predict(context[None])))
        bandit.partial_fit([arm], [reward], context[None])
    return chosen


def contextualbandits(log: Logged) -> Decisions:
    from contextualbandits.online import LinUCB

    bandit = LinUCB(
        nchoices=log.arms, alpha=ALPHA, lambda_=1.0, fit_intercept=False, use_float=False,
        method="sm", beta_prior=None, ucb_from_empty=True, random_state=1,
    )  # fmt: skip
    chosen = []
    for context, arm, reward in _rows(log):
        chosen.append(int(bandit.predict(context[None])[0]))
        bandit.partial_fit(context[None], np.array([arm]), np.array([reward]))
    return chosen


def river(log: Logged) -> Decisions:
    from river.bandit import LinUCBDisjoint

    bandit = LinUCBDisjoint(alpha=1.0, beta=1.0, seed=1)
    arms = list(range(log.arms))
    chosen = []
    for context, arm, reward in zip(log.dictionaries, log.played.tolist(), log.rewards.tolist(), strict=True):
        chosen.append(int(bandit.pull(arms, context=context)))
        bandit.update(arm, context, reward)
    return chosen


def _rows(log: Logged) -> Any:
    return zip(log.contexts, log.played.tolist(), log.rewards.tolist(), strict=True)


def _river_in_numpy(log: Logged) -> Decisions:
    """Decide by River's rule: its bonus has no alpha, and holds the noise of the next reward."""
    bandit = NumpyLinUcb(log.arms, log.size)
    chosen = []
    for context, arm, reward in _rows(log):
        spread = np.einsum("i,kij,j->k", context, bandit.inverse, context, optimize=False)
        chosen.append(int(np.argmax(bandit.theta @ context + np.sqrt(1.0 + spread))))
        bandit.update(arm, context, reward)
    return chosen


def _measure(
    bench: Bench,
    name: str,
    peer: Callable[[Logged], Decisions],
    *,
    full: int,
    rule: Callable[[Logged], Decisions] = ours,
) -> None:
    count = bench.parameter("decisions", smoke=60, full=full)
    # Matrices of this size gain nothing from BLAS threads, which spin on after each call and take the
    # cores from whoever is measured next.
    with threadpool_limits(1):
        _alternate(bench, name, peer, rule, count)


def _alternate(
    bench: Bench,
    name: str,
    peer: Callable[[Logged], Decisions],
    rule: Callable[[Logged], Decisions],
    count: int,
) -> None:
    for arms, size in SHAPES[:1] if bench.smoke else SHAPES:
        log = Logged(arms, size, count, seed=bench.seed)
        found: list[Decisions] = [[]]

        def decide(log: Logged = log, found: list[Decisions] = found) -> None:
            found[0] = peer(log)

        bench.throughput(
            f"decision, {arms} arms, {size} numbers",
            lambda log=log: ours(log),  # type: ignore[misc]
            count=count,
            peer=decide,
            peer_name=name,
        )
        wanted = rule(log)
        same = found[0][log.all_seen :] == wanted[log.all_seen :]
        bench.verify(same, f"{name} decides as its rule says once every arm has data, at {arms} x {size}")


@peer_scenario(
    "bandits-mabwiser",
    "LinUCB beside MABWiser",
    conditions=f"{CONDITIONS} Decisions are equal to ours.",
    needs=("mabwiser",),
)
def bandits_mabwiser(bench: Bench) -> None:
    _measure(bench, "MABWiser", mabwiser, full=400)


@peer_scenario(
    "bandits-contextualbandits",
    "LinUCB beside contextualbandits",
    conditions=f"{CONDITIONS} Sherman-Morrison, its faster method here; decisions are equal to ours.",
    needs=("contextualbandits",),
)
def bandits_contextualbandits(bench: Bench) -> None:
    _measure(bench, "contextualbandits", contextualbandits, full=400)


@peer_scenario(
    "bandits-river",
    "LinUCB beside River",
    conditions=f"{CONDITIONS} River's bonus differs (no alpha, noise added): its decisions equal its own "
    "rule recomputed in numpy. The dictionaries it takes are made outside the clock.",
    needs=("river",),
)
def bandits_river(bench: Bench) -> None:
    _measure(bench, "River", river, full=400, rule=_river_in_numpy)

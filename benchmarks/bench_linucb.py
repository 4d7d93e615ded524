"""LinUCB: choose among K arms with d numbers of context, then learn, as in one routing decision.

Peer: the same algorithm in numpy (Sherman-Morrison, all arms in one einsum). Floor: the reads that the
quadratic forms cannot avoid, K d x d matrices times one vector, by the BLAS that numpy was built with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ext.linucb import LinUcb

from .harness import Bench, scenario

SHAPES = tuple((arms, size) for arms in (4, 8, 16) for size in (8, 16, 64))
ALPHA = 0.5

Floats = NDArray[np.float64]


class NumpyLinUcb:
    """The peer: disjoint LinUCB with Sherman-Morrison updates."""

    def __init__(self, arm_count: int, context_size: int) -> None:
        self.inverse = np.tile(np.eye(context_size), (arm_count, 1, 1))
        self.theta = np.zeros((arm_count, context_size))

    def pull(self, context: Floats) -> int:
        spread = np.einsum("i,kij,j->k", context, self.inverse, context, optimize=False)
        return int(np.argmax(self.theta @ context + ALPHA * np.sqrt(np.maximum(spread, 0.0))))

    def update(self, arm: int, context: Floats, reward: float) -> None:
        v = self.inverse[arm] @ context
        shrink = 1.0 / (1.0 + float(context @ v))
        self.theta[arm] += v * ((reward - float(self.theta[arm] @ context)) * shrink)
        self.inverse[arm] -= np.outer(v, v) * shrink


@scenario(
    "linucb",
    "LinUCB: one decision and one update, by arms x context",
    conditions="calls from Python, float64; peer: the same algorithm in numpy; floor: one matrix-vector "
    "product over all arms.",
)
def linucb(bench: Bench) -> None:
    count = bench.parameter("decisions", smoke=40, full=4_000)
    random = np.random.default_rng(bench.seed)
    for arms, size in SHAPES[:2] if bench.smoke else SHAPES:
        contexts = random.standard_normal((count, size)) / np.sqrt(size)
        rewards = random.standard_normal((count, arms)) + contexts[:, :1] * np.arange(arms)
        _measure(bench, arms, size, contexts, rewards)


def _measure(bench: Bench, arms: int, size: int, contexts: Floats, rewards: Floats) -> None:
    count = len(contexts)
    ours, theirs = LinUcb(arms, size, alpha=ALPHA), NumpyLinUcb(arms, size)
    our_arms, their_arms = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def decide() -> None:
        nonlocal ours
        ours = LinUcb(arms, size, alpha=ALPHA)
        _play(ours, contexts, rewards, our_arms)

    def decide_in_numpy() -> None:
        nonlocal theirs
        theirs = NumpyLinUcb(arms, size)
        _play(theirs, contexts, rewards, their_arms)

    matrices, products = np.tile(np.eye(size), (arms, 1)), np.empty(arms * size)

    def read() -> None:
        for row in range(count):
            np.dot(matrices, contexts[row], out=products)

    bench.throughput(f"decision {arms}x{size}", decide, count=count, floor=read, peer=decide_in_numpy)
    bench.verify(bool((our_arms == their_arms).all()), f"both played the same arms at {arms}x{size}")
    same = all(np.allclose(ours.coefficients(arm), theirs.theta[arm], atol=1e-8) for arm in range(arms))
    bench.verify(same, f"both learnt the same coefficients at {arms}x{size}")


def _play(bandit: LinUcb | NumpyLinUcb, contexts: Floats, rewards: Floats, played: NDArray[np.int64]) -> None:
    for row in range(len(contexts)):
        context = contexts[row]
        arm = bandit.pull(context)
        bandit.update(arm, context, rewards[row, arm])
        played[row] = arm

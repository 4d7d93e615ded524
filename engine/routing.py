"""Routing policies: how a child order is split over venues, and by whom that may be written.

A policy sees one arm per venue and style, in the order (venue 0 take, venue 0 post, venue 1 take, ...),
and answers with legs. The compiled policies of `ext.routing` satisfy `RoutingPolicy` as they are; any
Python object that does can be routed with through `as_router`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from ext.python_router import PythonRouter
from ext.routing import (
    EpsilonGreedyRouter,
    LinUcbRouter,
    ProRataRouter,
    RoundRobinRouter,
    Router,
    SingleBestRouter,
    SweepRouter,
)

VENUE_COUNT_MAX: Final = 16


class Style(IntEnum):
    """How a leg is executed."""

    TAKE = 0
    """Immediate-or-cancel at the displayed price."""
    POST = 1
    """Rest at our own touch; what is left when its time is over is taken."""


Leg = tuple[int, int, int]
"""(venue, style, size_lots)"""


@runtime_checkable
class RoutingPolicy(Protocol):
    """Splits child orders and may learn from what they cost."""

    @property
    def name(self) -> str: ...

    def decide(
        self,
        contexts: NDArray[np.float64],
        quoted_cost_ticks: NDArray[np.float64],
        available_lots: NDArray[np.int64],
        *,
        size_lots: int,
        side: int = 1,
        decision_id: int = 0,
    ) -> tuple[int, list[Leg]]:
        """Route one child order.

        Parameters
        ----------
        contexts : array, shape (2 * venues, 8)
            One row an arm, columns as in `ext.arm_costs.CONTEXT_NAMES`.
        quoted_cost_ticks : array, shape (2 * venues,)
            Per lot against the mid, fees included.
        available_lots : array, shape (2 * venues,)
            Displayed at that price; 0 where there is no such side.
        size_lots : int
        side : int
            +1 buys, -1 sells.
        decision_id : int
            Names the decision; the only source of randomness a policy should draw from, with its seed.

        Returns
        -------
        tuple of int and list of Leg
            The arm that was played, -1 for a split over several; legs of positive size that add up to
            `size_lots`, or none to let this slice join the next.
        """

    def learn(self, arm: int, context: NDArray[np.float64], value: float) -> None:
        """Take the reward of an arm played at `context`; higher is better."""

    def begin(self) -> None:
        """Note that a training window ended: choices fixed per window are made now."""


_PLAIN: Final[Mapping[str, type[Router]]] = {
    "sweep": SweepRouter,
    "pro_rata": ProRataRouter,
    "round_robin": RoundRobinRouter,
}

ROUTER_NAMES: Final = ("linucb", "epsilon_greedy", "single_best", "single_post", *_PLAIN)


def make_router(
    name: str,
    venue_count: int,
    *,
    seed: int = 1,
    alpha: float = 1.0,
    ridge: float = 1.0,
    epsilon: float = 0.05,
) -> Router:
    """Return a fresh compiled policy.

    Parameters
    ----------
    name : str
        One of ROUTER_NAMES.
    venue_count : int
    seed : int
        Of the policies that draw.
    alpha : float
        LinUCB: width of the confidence bound; small values may freeze on a bad arm (ADR 0005).
    ridge : float
        LinUCB: prior weight of zero.
    epsilon : float
        Epsilon-greedy: share of random choices.
    """
    if name not in ROUTER_NAMES:
        raise ConfigError(f"a routing policy must be one of {', '.join(ROUTER_NAMES)}, was {name!r}")
    if not 1 <= venue_count <= VENUE_COUNT_MAX:
        raise ConfigError(f"venue_count must be 1 to {VENUE_COUNT_MAX}, was {venue_count}")
    if not 0.0 <= epsilon <= 1.0 or not alpha >= 0.0 or not ridge > 0.0:
        raise ConfigError(
            "alpha must not be negative, ridge positive, epsilon within 0 to 1, "
            f"were {alpha}, {ridge} and {epsilon}"
        )
    if name == "linucb":
        return LinUcbRouter(venue_count, alpha=alpha, ridge=ridge)
    if name == "epsilon_greedy":
        return EpsilonGreedyRouter(venue_count, epsilon=epsilon, seed=seed)
    if name in ("single_best", "single_post"):
        return SingleBestRouter(post=name == "single_post")
    return _PLAIN[name]()


def as_router(policy: RoutingPolicy) -> Router:
    """Return what the engine routes with: a compiled policy as it is, one in Python behind its door.

    Raises
    ------
    ConfigError
        The object lacks a part of `RoutingPolicy`.
    """
    if isinstance(policy, Router):
        return policy
    if not isinstance(policy, RoutingPolicy):
        wanted = ("name", "decide", "learn", "begin")
        missing = [part for part in wanted if not hasattr(policy, part)]
        raise ConfigError(f"a routing policy needs {', '.join(wanted)}, lacked {', '.join(missing)}")
    return PythonRouter(policy)

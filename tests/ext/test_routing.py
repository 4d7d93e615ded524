"""The routers' door to Python: nothing that comes through it reaches memory that is not theirs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_engine import FIRST_DAY, INSTRUMENT, LIMITS, PROMPT, parents

from engine.risk import make_gate
from ext.event_loop import EventLoop
from ext.executor import ParentExecutor
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.routing import (
    ArmProbeRouter,
    EpsilonGreedyRouter,
    LinUcbRouter,
    ProRataRouter,
    RoundRobinRouter,
    Router,
    SingleBestRouter,
    SweepRouter,
)
from ext.sim_venue import SimulatedVenue

SIZED: dict[str, Callable[[int], Router]] = {"linucb": LinUcbRouter, "epsilon": EpsilonGreedyRouter}
ANY: dict[str, Callable[[], Router]] = {
    "single_best": SingleBestRouter,
    "single_post": lambda: SingleBestRouter(post=True),
    "sweep": SweepRouter,
    "pro_rata": ProRataRouter,
    "round_robin": RoundRobinRouter,
    "probe": ArmProbeRouter,
}


def ask(router: Router, arms: int, **other: Any) -> tuple[int, list[tuple[int, int, int]]]:
    given_values: dict[str, Any] = {
        "contexts": np.zeros((arms, 8)), "quoted_cost_ticks": np.ones(arms),
        "available_lots": np.full(arms, 5), "size_lots": 3,
    } | other  # fmt: skip
    return router.decide(**given_values)


@pytest.mark.parametrize("name", sorted(SIZED))
@given(venues=st.integers(1, 16), arms=st.integers(-3, 40), arm=st.integers(-(10**7), 10**7))
def test_routers_of_a_size_serve_that_size_only(name: str, venues: int, arms: int, arm: int) -> None:
    router = SIZED[name](venues)
    assert router.arm_count == 2 * venues
    if arms == 2 * venues:
        _, legs = ask(router, arms)
        assert sum(lots for _, _, lots in legs) == 3
    else:
        with pytest.raises(ValueError, match="contexts must have shape"):
            ask(router, max(arms, 0))
    if 0 <= arm < 2 * venues:
        router.learn(arm, np.ones(8), 0.5)
    else:
        with pytest.raises(ValueError, match="arm must be"):
            router.learn(arm, np.ones(8), 0.5)


@pytest.mark.parametrize("name", sorted(ANY))
@given(
    turns=st.lists(
        st.tuples(st.integers(0, 40), st.integers(-2, 10**12), st.integers(0, 2**64 - 1), st.booleans()),
        max_size=12,
    )
)
def test_other_routers_serve_every_number_of_venues(
    name: str, turns: list[tuple[int, int, int, bool]]
) -> None:
    router = ANY[name]()
    assert router.arm_count == 0
    for arms, size, decision, begins in turns:
        if begins:
            router.begin()
        if arms % 2 or not 2 <= arms <= 32:
            with pytest.raises(ValueError, match="contexts must have shape"):
                ask(router, arms)
        elif size <= 0:
            with pytest.raises(ValueError, match="size_lots must be positive"):
                ask(router, arms, size_lots=size)
        else:
            chosen, legs = ask(router, arms, size_lots=size, decision_id=decision)
            assert -1 <= chosen < arms
            assert sum(lots for _, _, lots in legs) == size
            assert all(0 <= venue < arms // 2 and lots > 0 for venue, _, lots in legs)


@pytest.mark.parametrize("make", [*(lambda make=make: make(1) for make in SIZED.values()), *ANY.values()])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quoted_cost_ticks": [1.0]}, "one number per arm"),
        ({"available_lots": [1, 2, 3]}, "one number per arm"),
        ({"available_lots": [1, -2]}, "negative"),
        ({"contexts": np.full((2, 8), math.nan)}, "finite"),
        ({"size_lots": 0}, "size_lots must be positive"),
        ({"side": 2}, "side must be"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    make: Callable[[], Router], wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(make(), 2, **wrong)


@pytest.mark.parametrize("make", [lambda: LinUcbRouter(1), lambda: EpsilonGreedyRouter(1), SweepRouter])
def test_a_lesson_that_makes_no_sense_is_refused(make: Callable[[], Router]) -> None:
    router = make()
    with pytest.raises(ValueError, match="arm must be"):
        router.learn(1_000_000, np.zeros(8), 1.0)
    with pytest.raises(ValueError, match="arm must be"):
        router.learn(-1, np.zeros(8), 1.0)
    with pytest.raises(ValueError, match="8 numbers"):
        router.learn(0, np.zeros(7), 1.0)
    with pytest.raises(ValueError, match="finite"):
        router.learn(0, np.zeros(8), math.inf)


@pytest.mark.parametrize("name", sorted(SIZED))
@pytest.mark.parametrize("venues", [-1, 0, 17, 2**30])
def test_a_router_has_1_to_16_venues(name: str, venues: int) -> None:
    with pytest.raises(ValueError, match="venue_count must be 1 to 16"):
        SIZED[name](venues)


@pytest.mark.parametrize("name", sorted(SIZED))
@pytest.mark.parametrize("venues", [1, 3])
def test_a_router_of_another_size_than_its_loop_is_refused(name: str, venues: int) -> None:
    def bind(router: Router) -> EventLoop:
        agent = ParentExecutor(router, parents(), first_day=FIRST_DAY, day_count=1, tick_value=0.01, run_id=1)
        sims = [
            SimulatedVenue(PROMPT, venue_id=index, tick_value=0.01, seed=1, book=OrderBook(64, 64))
            for index in range(2)
        ]
        return EventLoop(
            ring=SpscRing(64), venues=sims, agent=agent, gate=make_gate(LIMITS, INSTRUMENT),
            journal=JournalBuffer(1 << 14, run_id=1),
        )  # fmt: skip

    with pytest.raises(ValueError, match="2 venues"):
        bind(SIZED[name](venues))
    assert bind(SIZED[name](2)).venue_count == 2


def test_a_venue_that_shows_nothing_now_and_then_is_not_dear_for_it() -> None:
    # Venue 1 is the cheaper one whenever it quotes.
    router = SingleBestRouter()
    for turn in range(10):
        absent = turn == 3
        ask(
            router, 4, quoted_cost_ticks=[2.0, 9.0, 1e9 if absent else 1.0, 9.0],
            available_lots=[5, 5, 0 if absent else 5, 5],
        )  # fmt: skip
    router.begin()
    assert ask(router, 4) == (2, [(1, 0, 3)])

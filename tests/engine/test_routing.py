"""One suite over every routing policy, compiled or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConfigError
from engine.routing import ROUTER_NAMES, RoutingPolicy, Style, as_router, make_router
from ext.python_router import PythonRouter
from ext.routing import Router

VENUES = 3


class Cheapest:
    """Takes everything at the cheapest venue: a policy in Python."""

    name = "cheapest"

    def __init__(self):
        self.learned = []
        self.windows = 0

    def decide(self, contexts, quoted_cost_ticks, available_lots, *, size_lots, side=1, decision_id=0):
        arm = 2 * int(np.argmin(quoted_cost_ticks[::2]))
        return arm, [(arm // 2, Style.TAKE, size_lots)]

    def learn(self, arm, context, value):
        self.learned.append((arm, tuple(context), value))

    def begin(self):
        self.windows += 1


def fresh(name) -> Router:
    return as_router(Cheapest()) if name == "python" else make_router(name, VENUES, seed=5)


every_policy = pytest.mark.parametrize("name", [*ROUTER_NAMES, "python"])


def requests(count, *, seed=1):
    """Yield child orders as the executor would describe them."""
    draw = np.random.default_rng(seed)
    for decision_id in range(count):
        contexts = draw.normal(size=(2 * VENUES, 8))
        contexts[:, 0] = 1.0
        costs = draw.uniform(-3, 6, 2 * VENUES)
        shown = draw.integers(0, 40, 2 * VENUES)
        yield contexts, costs, shown, {
            "size_lots": int(draw.integers(1, 100)), "side": int(draw.choice((1, -1))),
            "decision_id": decision_id,
        }  # fmt: skip


@every_policy
def test_legs_are_known_and_add_up(name):
    router = fresh(name)
    for contexts, costs, shown, request in requests(300):
        if not shown[::2].any():
            continue
        arm, legs = router.decide(contexts, costs, shown, **request)
        assert -1 <= arm < 2 * VENUES
        assert sum(size for *_, size in legs) == request["size_lots"]
        for venue, style, size in legs:
            assert 0 <= venue < VENUES
            assert style in tuple(Style)
            assert size > 0
        if arm >= 0:
            assert [(venue, style) for venue, style, _ in legs] == [(arm // 2, arm % 2)]
            router.learn(arm, contexts[arm], float(-costs[arm]))


@every_policy
def test_equal_histories_give_equal_choices(name):
    answers = []
    for _ in range(2):
        router, seen = fresh(name), []
        for index, (contexts, costs, shown, request) in enumerate(requests(120)):
            arm, legs = router.decide(contexts, costs, shown, **request)
            seen.append((arm, legs))
            if arm >= 0:
                router.learn(arm, contexts[arm], float(-costs[arm]))
            if index % 40 == 39:
                router.begin()
        answers.append(seen)
    assert answers[0] == answers[1]


@every_policy
def test_a_policy_has_a_name_and_satisfies_the_protocol(name):
    router = fresh(name)
    assert router.name
    assert isinstance(router, RoutingPolicy)
    assert as_router(router) is router


@every_policy
def test_an_empty_market_routes_nothing_or_everything(name):
    contexts = np.ones((2 * VENUES, 8))
    _, legs = fresh(name).decide(contexts, np.full(6, 1e9), np.zeros(6, int), size_lots=9)
    assert sum(size for *_, size in legs) in (0, 9)


@pytest.mark.parametrize("name", ["linucb", "epsilon_greedy"])
def test_learners_find_the_cheapest_arm(name):
    router = make_router(name, VENUES, seed=3, epsilon=0.1)
    contexts = np.zeros((2 * VENUES, 8))
    contexts[:, 0] = 1.0
    best, plays = 3, []
    for decision_id in range(600):
        arm, _ = router.decide(contexts, np.zeros(6), np.full(6, 50), size_lots=5, decision_id=decision_id)
        plays.append(arm)
        router.learn(arm, contexts[arm], 1.0 if arm == best else -1.0)
    assert np.mean(np.array(plays[300:]) == best) > 0.8


def test_sweep_takes_what_is_shown_cheapest_first():
    costs = np.array([3.0, 0, 1.0, 0, 2.0, 0])
    shown = np.array([10, 99, 4, 99, 5, 99])
    _, legs = make_router("sweep", VENUES).decide(np.zeros((6, 8)), costs, shown, size_lots=12)
    assert legs == [(1, Style.TAKE, 4), (2, Style.TAKE, 5), (0, Style.TAKE, 3)]


@given(size=st.integers(1, 10_000), shown=st.lists(st.integers(0, 1_000), min_size=VENUES, max_size=VENUES))
def test_pro_rata_is_within_a_lot_of_its_share(size, shown):
    available = np.repeat(shown, 2)
    if not available.any():
        return
    _, legs = make_router("pro_rata", VENUES).decide(np.zeros((6, 8)), np.zeros(6), available, size_lots=size)
    got = {venue: lots for venue, _, lots in legs}
    for venue in range(VENUES):
        assert abs(got.get(venue, 0) - size * shown[venue] / sum(shown)) < VENUES


def test_round_robin_takes_turns():
    router = make_router("round_robin", VENUES)
    arms = [router.decide(np.zeros((6, 8)), np.zeros(6), np.ones(6, int), size_lots=1)[0] for _ in range(6)]
    assert arms == [0, 2, 4, 0, 2, 4]


# Policies in Python.


def test_a_python_policy_learns_what_it_is_told():
    policy = Cheapest()
    router = as_router(policy)
    router.learn(2, np.arange(8.0), 0.5)
    router.begin()
    assert policy.learned == [(2, tuple(range(8)), 0.5)]
    assert policy.windows == 1


@pytest.mark.parametrize(
    ("legs", "rule"),
    [
        ([(0, 0, 4)], "legs must add up to 9 lots, was 4"),
        ([(7, 0, 9)], "leg 0 is not a known venue"),
        ([(0, 5, 9)], "leg 0 is not a known venue"),
        ([(0, 0, 10), (1, 0, -1)], "leg 1 is not a known venue and style of positive size"),
        ([(0, 0, 1)] * 40, "at most 16 legs"),
    ],
)
def test_an_answer_that_does_not_add_up_is_kept_as_an_error_and_sends_nothing(legs, rule):
    class Wrong(Cheapest):
        def decide(self, *args, **options):
            return -1, legs

    router = as_router(Wrong())
    assert isinstance(router, PythonRouter)
    _, sent = router.decide(np.zeros((6, 8)), np.zeros(6), np.ones(6, int), size_lots=9)
    assert sent == []
    assert rule in str(router.error)


def test_what_lacks_a_part_is_refused():
    class Half:
        name = "half"

        def decide(self):
            pass

    with pytest.raises(ConfigError, match="lacked learn, begin"):
        as_router(Half())


@pytest.mark.parametrize(
    ("name", "venues", "options"),
    [
        ("magic", 3, {}),
        ("linucb", 0, {}),
        ("linucb", 17, {}),
        ("linucb", 3, {"ridge": 0.0}),
        ("linucb", 3, {"alpha": float("nan")}),
        ("epsilon_greedy", 3, {"epsilon": 2.0}),
    ],
)
def test_bad_requests_for_a_policy_are_refused(name, venues, options):
    with pytest.raises(ConfigError):
        make_router(name, venues, **options)

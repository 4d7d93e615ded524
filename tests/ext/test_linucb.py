"""LinUCB against ridge regression in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ext.linucb import LinUcb

ARMS, SIZE = 3, 4
Floats = NDArray[np.float64]

numbers = st.floats(-8.0, 8.0, width=32)
contexts = arrays(np.float64, SIZE, elements=numbers)
plays = st.lists(st.tuples(st.integers(0, ARMS - 1), contexts, numbers), max_size=80)
Plays = list[tuple[int, Floats, float]]


def learnt(plays: Plays, *, alpha: float = 0.5, ridge: float = 1.0) -> LinUcb:
    bandit = LinUcb(ARMS, SIZE, alpha=alpha, ridge=ridge)
    for arm, context, reward in plays:
        bandit.update(arm, context, reward)
    return bandit


def regression(plays: Plays, arm: int, ridge: float) -> tuple[Floats, Floats]:
    """A and b of one arm; theta solves A theta = b."""
    rows = np.array([context for played, context, _ in plays if played == arm]).reshape(-1, SIZE)
    rewards = np.array([reward for played, _, reward in plays if played == arm])
    return rows.T @ rows + ridge * np.eye(SIZE), rows.T @ rewards


@given(plays=plays, ridge=st.sampled_from([0.5, 1.0, 10.0]))
def test_theta_is_the_ridge_regression_of_each_arm(plays: Plays, ridge: float) -> None:
    bandit = learnt(plays, ridge=ridge)
    assert bandit.updates == len(plays)
    for arm in range(ARMS):
        expected = np.linalg.solve(*regression(plays, arm, ridge))
        np.testing.assert_allclose(bandit.coefficients(arm), expected, rtol=1e-9, atol=1e-9)


@given(plays=plays, data=st.data())
def test_the_order_of_updates_changes_nothing_but_rounding(plays: Plays, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(plays))
    one, other = learnt(plays), learnt(list(shuffled))
    for arm in range(ARMS):
        np.testing.assert_allclose(one.coefficients(arm), other.coefficients(arm), rtol=1e-9, atol=1e-9)


@given(
    plays=plays,
    shown=arrays(np.float64, (ARMS, SIZE), elements=numbers),
    alpha=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_the_score_is_the_mean_plus_alpha_times_the_spread(plays: Plays, shown: Floats, alpha: float) -> None:
    bandit = learnt(plays, alpha=alpha)
    for arm, score in enumerate(bandit.scores(shown)):
        matrix, vector = regression(plays, arm, 1.0)
        mean = shown[arm] @ np.linalg.solve(matrix, vector)
        spread = np.sqrt(shown[arm] @ np.linalg.solve(matrix, shown[arm]))
        assert score == pytest.approx(mean + alpha * spread, rel=1e-8, abs=1e-7)


@given(plays=plays, shown=arrays(np.float64, (ARMS, SIZE), elements=numbers))
def test_pull_plays_the_highest_score_and_the_lowest_index_of_a_tie(plays: Plays, shown: Floats) -> None:
    bandit = learnt(plays)
    assert bandit.pull(shown) == int(np.argmax(bandit.scores(shown)))


def test_ties_go_to_the_lowest_index() -> None:
    bandit = LinUcb(5, 2)
    assert bandit.pull([1.0, 2.0]) == 0
    bandit.update(0, [1.0, 2.0], -1.0)
    assert bandit.pull([1.0, 2.0]) == 1


def test_a_long_run_stays_close_to_the_regression() -> None:
    random = np.random.default_rng(5)
    truth = random.normal(size=SIZE)
    rows = random.normal(size=(20_000, SIZE))
    rewards = rows @ truth + random.normal(size=len(rows))
    bandit = LinUcb(1, SIZE)
    for row, reward in zip(rows, rewards.tolist(), strict=True):
        bandit.update(0, row, reward)
    expected = np.linalg.solve(rows.T @ rows + np.eye(SIZE), rows.T @ rewards)
    np.testing.assert_allclose(bandit.coefficients(0), expected, rtol=1e-9, atol=1e-9)


def test_an_unplayed_arm_knows_nothing_and_asks_the_most() -> None:
    bandit = LinUcb(2, 3, alpha=2.0, ridge=4.0)
    assert not bandit.coefficients(1).any()
    np.testing.assert_allclose(bandit.scores([3.0, 0.0, 4.0]), [2.0 * 5.0 / 2.0] * 2)


def test_one_context_may_serve_all_arms() -> None:
    bandit = LinUcb(ARMS, SIZE)
    row = np.arange(SIZE, dtype=np.float64)
    np.testing.assert_array_equal(bandit.scores(row), bandit.scores(np.tile(row, (ARMS, 1))))


def test_learning_copies_what_it_is_given() -> None:
    bandit, row = LinUcb(1, 2), np.array([1.0, 0.0])
    bandit.update(0, row, 1.0)
    before = bandit.coefficients(0)
    row[:] = 99.0
    np.testing.assert_array_equal(bandit.coefficients(0), before)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((0, 1), {}, "arm_count must be 1 to 4096, was 0"),
        ((4097, 1), {}, "arm_count must be 1 to 4096, was 4097"),
        ((1, 0), {}, "context_size must be 1 to 256, was 0"),
        ((1, 257), {}, "context_size must be 1 to 256, was 257"),
        ((1, 1), {"alpha": -0.1}, "alpha must be"),
        ((1, 1), {"alpha": float("nan")}, "alpha must be"),
        ((1, 1), {"alpha": float("inf")}, "alpha must be"),
        ((1, 1), {"ridge": 0.0}, "ridge must be"),
        ((1, 1), {"ridge": float("nan")}, "ridge must be"),
        ((1, 1), {"ridge": 5e-324}, "ridge must be"),
        ((1, 1), {"ridge": float("inf")}, "ridge must be"),
    ],
)
def test_parameters_out_of_range_are_refused(
    arguments: tuple[int, int], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        LinUcb(*arguments, **options)


@pytest.mark.parametrize(
    ("arm", "context", "reward", "said"),
    [
        (-1, [1.0, 1.0], 0.0, "arm must be below 2, was -1"),
        (2, [1.0, 1.0], 0.0, "arm must be below 2, was 2"),
        (0, [1.0], 0.0, "context must have 2 numbers, had 1"),
        (0, [1.0, float("nan")], 0.0, "finite"),
        (0, [1.0, 1.0], float("inf"), "finite"),
    ],
)
def test_bad_rewards_are_refused_and_leave_no_trace(arm: int, context: Any, reward: float, said: str) -> None:
    bandit = LinUcb(2, 2)
    with pytest.raises(ValueError, match=said):
        bandit.update(arm, context, reward)
    assert bandit.updates == 0
    assert not bandit.coefficients(0).any()


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (3,), (2, 2, 2)])
def test_contexts_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have shape"):
        LinUcb(2, 2).scores(np.zeros(shape))


def test_unknown_arms_have_no_coefficients() -> None:
    with pytest.raises(ValueError, match="arm must be below 1, was 1"):
        LinUcb(1, 1).coefficients(1)

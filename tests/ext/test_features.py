"""The features against a reference that keeps the whole history."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.features import FEATURE_NAMES, FeatureTracker
from tests.reference.features import ReferenceFeatures, Touch

NS = 10**9
VENUES = 3

# Narrow ranges, so that equal prices, absent sides, crossed venues and pauses all happen often.
touches = st.builds(
    Touch,
    bid=st.integers(95, 103),
    bid_size=st.sampled_from([0, 0, 1, 7, 300]),
    ask=st.integers(99, 108),
    ask_size=st.sampled_from([0, 0, 1, 9, 250]),
)
gaps = st.sampled_from([0, 1, 1_000_000, 5 * NS, 59 * NS, 61 * NS, 200_000 * NS])
steps = st.lists(st.tuples(st.integers(0, VENUES - 1), touches, gaps, st.integers(-1, 1)), max_size=120)


def feed(tracker: FeatureTracker, venue: int, touch: Touch, ts_ns: int) -> None:
    tracker.update(venue, touch.bid, touch.bid_size, touch.ask, touch.ask_size, ts_ns)


def assert_same(tracker: FeatureTracker, reference: ReferenceFeatures) -> None:
    found, expected = tracker.values(), reference.values()
    assert np.isfinite(found).all()
    if not expected:
        assert not found.any()
        return
    assert list(expected) == list(FEATURE_NAMES)
    np.testing.assert_allclose(found, np.array(list(expected.values())), rtol=2e-6, atol=2e-6)


@given(steps=steps)
def test_every_feature_equals_its_definition_after_every_update(
    steps: list[tuple[int, Touch, int, int]],
) -> None:
    tracker, reference, now = FeatureTracker(VENUES), ReferenceFeatures(VENUES), 1_600_000_000 * NS
    for venue, touch, gap, side in steps:
        now += gap
        feed(tracker, venue, touch, now)
        reference.update(venue, touch, now)
        if side:
            tracker.trade(side)
            reference.trade(side)
        assert_same(tracker, reference)


@pytest.mark.parametrize("seed", range(3))
def test_long_histories_stay_with_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    tracker, reference, now, mid = FeatureTracker(VENUES), ReferenceFeatures(VENUES), 0, 50_000
    for _ in range(4_000):
        mid += int(random.integers(-3, 4))
        now += int(random.exponential(1e9))
        half = int(random.integers(1, 30))
        touch = Touch(mid - half, int(random.integers(0, 500)), mid + half, int(random.integers(0, 500)))
        venue = int(random.integers(VENUES))
        feed(tracker, venue, touch, now)
        reference.update(venue, touch, now)
    assert_same(tracker, reference)


# Far out but inside what importers let through: half the range of a price, 2^40 lots.
extreme = st.builds(
    Touch,
    bid=st.integers(-(2**29), 2**29),
    bid_size=st.sampled_from([0, 1, 2**32 - 1, 2**40]),
    ask=st.integers(-(2**29), 2**29),
    ask_size=st.sampled_from([0, 1, 2**32 - 1, 2**40]),
)


@given(steps=st.lists(st.tuples(st.integers(0, 15), extreme, gaps), max_size=60))
def test_features_are_finite_and_bounded_whatever_comes(steps: list[tuple[int, Touch, int]]) -> None:
    tracker, now = FeatureTracker(16), 0
    for venue, touch, gap in steps:
        now += gap
        feed(tracker, venue, touch, now)
        assert np.isfinite(tracker.values()).all()
        assert (np.abs(tracker.values()) <= 128).all()


@settings(max_examples=20)
@given(count=st.integers(1, 20_000), size=st.sampled_from([0, 1]))
def test_a_market_that_never_moves_nor_ages_divides_by_nothing_small(count: int, size: int) -> None:
    # Averages decay towards zero: the other venue's sides are absent and no time passes.
    tracker = FeatureTracker(2)
    tracker.update(0, 100, 5, 102, 5, 0)
    for _ in range(count):
        tracker.update(1, 0, size, 200, 0, 0)
    assert np.isfinite(tracker.values()).all()


def test_nothing_is_known_before_a_two_sided_market() -> None:
    tracker = FeatureTracker(2)
    assert not tracker.values().any()
    tracker.update(0, 100, 5, 0, 0, 0)
    tracker.update(1, 101, 5, 0, 0, 10)
    assert not tracker.values().any()


def test_the_first_market_is_its_own_average() -> None:
    tracker = FeatureTracker(1)
    tracker.update(0, 100, 30, 104, 10, 5 * NS)
    found = dict(zip(FEATURE_NAMES, tracker.values().tolist(), strict=True))
    assert tracker.mid_x2 == 204
    assert found["imbalance_all"] == found["imbalance_best"] == 0.5
    assert found["spread_ratio"] == 1.0
    assert found["microprice"] == pytest.approx(0.5 * 0.5)
    for name in ("flow_fast", "flow_slow", "reversion_fast", "reversion_medium", "reversion_slow"):
        assert found[name] == 0.0, name
    assert found["last_move"] == found["still_time"] == found["dispersion"] == found["trade_sign"] == 0.0


def test_two_one_sided_venues_make_a_market_without_imbalance() -> None:
    tracker = FeatureTracker(2)
    tracker.update(0, 100, 5, 0, 0, 0)
    tracker.update(1, 0, 0, 102, 7, 1)
    found = dict(zip(FEATURE_NAMES, tracker.values().tolist(), strict=True))
    assert tracker.mid_x2 == 202
    assert found["spread_ratio"] == 1.0
    assert found["imbalance_all"] == found["imbalance_best"] == found["dispersion"] == 0.0


def test_a_market_that_loses_a_side_says_nothing_and_keeps_its_averages() -> None:
    tracker, reference = FeatureTracker(1), ReferenceFeatures(1)
    for index, touch in enumerate([Touch(100, 5, 102, 5), Touch(101, 5, 103, 5), Touch(101, 5, 0, 0)]):
        feed(tracker, 0, touch, index * NS)
        reference.update(0, touch, index * NS)
    assert not tracker.values().any()
    feed(tracker, 0, Touch(101, 5, 104, 5), 4 * NS)
    reference.update(0, Touch(101, 5, 104, 5), 4 * NS)
    assert_same(tracker, reference)


def test_a_weekend_weighs_like_a_minute() -> None:
    long, short = FeatureTracker(1), FeatureTracker(1)
    for tracker, pause in ((long, 200_000 * NS), (short, 60 * NS)):
        tracker.update(0, 100, 5, 102, 5, 0)
        tracker.update(0, 100, 5, 102, 5, pause)
    names = [name for name in FEATURE_NAMES if name != "still_time"]
    kept = [FEATURE_NAMES.index(name) for name in names]
    np.testing.assert_array_equal(long.values()[kept], short.values()[kept])


def test_a_side_that_comes_and_goes_is_flow_on_either_side_alike() -> None:
    # A book says price 0 where a side is absent; that is no price.
    whole, half = (100, 40, 102, 40), {1: (0, 0, 102, 40), -1: (100, 40, 0, 0)}
    flows = []
    for side in (1, -1):
        tracker = FeatureTracker(2)
        tracker.update(0, 90, 10, 110, 10, 0)
        tracker.update(1, *whole, 1)
        tracker.update(1, *half[side], 2)
        gone = tracker.values()[FEATURE_NAMES.index("flow_fast")]
        tracker.update(1, *whole, 3)
        back = tracker.values()[FEATURE_NAMES.index("flow_fast")]
        assert gone * side < 0
        assert back * side > gone * side
        flows.append((gone * side, back * side))
    assert flows[0] == flows[1]


@pytest.mark.parametrize("venue_count", [0, -1, 17])
def test_venue_counts_have_a_bound(venue_count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 16, was {venue_count}"):
        FeatureTracker(venue_count)


@pytest.mark.parametrize("venue", [-1, 2])
def test_unknown_venues_are_refused(venue: int) -> None:
    with pytest.raises(ValueError, match=f"below 2, was {venue}"):
        FeatureTracker(2).update(venue, 1, 1, 2, 1, 0)

"""The modelled venues' quotes: what they may depend on, and that they look as they were asked to."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from ext.quote_market import SIZE_TABLE_STEPS, QuoteMarket

MS = 1_000_000
Path = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int8] | None]
SIZES = np.arange(10, 10 + SIZE_TABLE_STEPS, dtype=np.int64)


def venue(**changed: Any) -> dict[str, Any]:
    return {
        "spread": 1.0, "spread_noise": 0.0, "skew": 0.0, "stale": 0.0, "lag_ns": 0, "lag_jitter_ns": 0,
        "pressure": 0.0, "size_quantiles": SIZES,
    } | changed  # fmt: skip


LIVELY = [
    venue(spread=0.8, spread_noise=0.5, skew=0.6, stale=0.1, lag_ns=MS, lag_jitter_ns=5 * MS, pressure=0.5),
    venue(spread=0.0, skew=0.9, stale=0.3, lag_jitter_ns=MS),
    venue(spread=1.3, spread_noise=0.2, lag_ns=20 * MS, pressure=1.0),
]


def walk(rows: int, *, seed: int = 0, gap_ns: int = 3 * MS) -> Path:
    random = np.random.default_rng(seed)
    bid = (50_000 + np.cumsum(random.integers(-5, 6, rows))).astype(np.int32)
    ask = (bid + random.integers(0, 30, rows)).astype(np.int32)
    ts_ns = np.cumsum(random.integers(0, 2 * gap_ns, rows)).astype(np.int64)
    return ts_ns, bid, ask, random.integers(-127, 128, rows).astype(np.int8)


def moving(rows: int) -> Path:
    """Each row elsewhere than the one before, so that a repeated price can only be a stale one."""
    bid = (50_000 + 100 * (np.arange(rows) % 2)).astype(np.int32)
    return np.arange(rows, dtype=np.int64) * MS, bid, (bid + 20).astype(np.int32), None


def quoted(
    venues: list[dict[str, Any]], path: Path, *, cuts: list[int] | None = None, seed: int = 9
) -> NDArray[np.void]:
    market = QuoteMarket(venues, seed=seed, instrument_id=3)
    rows = len(path[0])
    bounds = [0, *sorted(min(cut, rows) for cut in cuts or []), rows]
    blocks = []
    for low, high in itertools.pairwise(bounds):
        out = np.zeros((high - low) * len(venues), dtype=EVENT_DTYPE)
        ts_ns, bid, ask, pressure = (None if column is None else column[low:high].copy() for column in path)
        assert market.events(ts_ns, bid, ask, pressure, out) == len(out)  # type: ignore[arg-type]
        blocks.append(out)
    assert market.rows == rows
    events: NDArray[np.void] = np.concatenate(blocks).view(QUOTE_DTYPE)
    return events


def of_venue(events: NDArray[np.void], index: int) -> NDArray[np.void]:
    chosen: NDArray[np.void] = events[events["venue_id"] == index]
    return chosen


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_events_do_not_depend_on_how_the_path_is_cut(cuts: list[int]) -> None:
    path = walk(400)
    np.testing.assert_array_equal(quoted(LIVELY, path, cuts=cuts), quoted(LIVELY, path))


@given(seed=st.integers(0, 2**64 - 1), gap_ns=st.sampled_from([1, 1_000, MS, 50 * MS]))
def test_quotes_are_two_sided_in_order_and_complete(seed: int, gap_ns: int) -> None:
    path = walk(300, seed=seed % 1_000, gap_ns=gap_ns)
    events = quoted(LIVELY, path, seed=seed)
    assert (events["bid_price_ticks"] < events["ask_price_ticks"]).all()
    assert (np.diff(events["ts_ns"]) >= 0).all()
    assert (events["kind"] == EventKind.QUOTE).all()
    assert (events["flags"] == EventFlag.LAST_IN_PACKET).all()
    assert (events["recv_ns"] == RECV_NOT_RECORDED).all()
    assert (events["instrument_id"] == 3).all()
    for index in range(len(LIVELY)):
        own = of_venue(events, index)
        np.testing.assert_array_equal(own["seq"], np.arange(300))
        assert (own["ts_ns"] >= path[0] + LIVELY[index]["lag_ns"]).all()
    for name in ("bid_size_lots", "ask_size_lots"):
        assert (events[name] >= SIZES[0]).all()
        assert (events[name] <= SIZES[-1]).all()


@given(keep=st.integers(0, 199), seed=st.integers(1, 1_000))
def test_the_future_changes_nothing_that_was_published(keep: int, seed: int) -> None:
    path, other = walk(200), walk(200, seed=seed)
    # The same first rows; what follows is later by a second and differs in everything.
    mixed: list[Any] = [
        np.concatenate((mine[:keep], theirs[keep:]))  # type: ignore[index]
        for mine, theirs in zip(path, other, strict=True)
    ]
    mixed[0][keep:] = path[0][keep - 1] + 1_000 * MS + np.arange(200 - keep) if keep else np.arange(200)
    events, changed = quoted(LIVELY, path), quoted(LIVELY, tuple(mixed))
    np.testing.assert_array_equal(events[: keep * 3], changed[: keep * 3])


def test_another_seed_draws_other_quotes_around_the_same_path() -> None:
    path = walk(200)
    assert (quoted(LIVELY, path, seed=1) != quoted(LIVELY, path, seed=2)).any()


def test_a_plain_venue_repeats_the_path() -> None:
    path = walk(500)
    events = quoted([venue()], path)
    np.testing.assert_array_equal(events["bid_price_ticks"], path[1])
    # A locked path is quoted one tick wide.
    np.testing.assert_array_equal(events["ask_price_ticks"], np.maximum(path[2], path[1] + 1))
    np.testing.assert_array_equal(events["ts_ns"], path[0])


def test_spread_is_the_share_of_the_path_s_that_was_asked_for() -> None:
    path = moving(2_000)
    for share in (0.5, 1.0, 1.5):
        events = quoted([venue(spread=share)], path)
        assert set((events["ask_price_ticks"] - events["bid_price_ticks"]).tolist()) == {int(20 * share)}
    noisy = quoted([venue(spread_noise=0.5)], path)
    spread = noisy["ask_price_ticks"] - noisy["bid_price_ticks"]
    assert spread.min() >= 20
    assert spread.max() <= 31
    assert spread.mean() == pytest.approx(25, abs=1)


def test_skew_moves_both_prices_and_averages_out() -> None:
    events = quoted([venue(skew=1.0)], moving(50_000))
    mid_x2 = events["bid_price_ticks"].astype(int) + events["ask_price_ticks"]
    off = mid_x2 - (2 * moving(50_000)[1].astype(int) + 20)
    assert off.std() > 1.0
    assert abs(off.mean()) < 0.5
    assert np.abs(off).max() <= 20 * 4


@pytest.mark.parametrize("stale", [0.0, 0.05, 0.4, 1.0])
def test_venues_are_as_stale_as_asked(stale: float) -> None:
    rows = 40_000
    events = quoted([venue(stale=stale)], moving(rows))
    repeats = np.diff(events["bid_price_ticks"]) == 0
    # A repeat is seen where row and repeated row differ: after an odd number of stale rows in a row the
    # path stands elsewhere, after an even one it is back. The first stale row always shows.
    fresh = events["bid_price_ticks"] == moving(rows)[1]
    expected = stale / (1.0 + stale)
    assert (~fresh).mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(rows) + (stale == 1.0) * 0.01)
    if stale == 0.0:
        assert not repeats.any()
    if stale == 1.0:
        assert repeats.all()


def test_a_stale_quote_repeats_prices_only() -> None:
    events = quoted([venue(stale=1.0)], moving(100))
    assert len(set(events["bid_price_ticks"].tolist())) == len(set(events["ask_price_ticks"].tolist())) == 1
    assert len(set(events["bid_size_lots"].tolist())) > 1


@pytest.mark.parametrize("pressure", [-127, -40, 40, 127])
def test_pressure_shows_on_the_side_it_comes_from(pressure: int) -> None:
    ts_ns, bid, ask, _ = moving(4_000)
    pressed = np.full(len(bid), pressure, dtype=np.int8)
    leaning = quoted([venue(pressure=0.5)], (ts_ns, bid, ask, pressed))
    calm = quoted([venue(pressure=0.5)], (ts_ns, bid, ask, np.zeros_like(pressed)))
    indifferent = quoted([venue(pressure=0.0)], (ts_ns, bid, ask, pressed))
    for side, sign in (("bid_size_lots", 1), ("ask_size_lots", -1)):
        moved = leaning[side].astype(int) - calm[side].astype(int)
        assert (np.sign(moved) * sign * np.sign(pressure) >= 0).all()
        assert abs(moved).mean() == pytest.approx(abs(pressure) / 2, rel=0.35)
        np.testing.assert_array_equal(indifferent[side], calm[side])


def test_sizes_follow_their_table() -> None:
    events = quoted([venue()], moving(50_000))
    for side in ("bid_size_lots", "ask_size_lots"):
        counts = np.bincount(events[side] - SIZES[0], minlength=SIZE_TABLE_STEPS)
        assert counts.min() > 0
        assert abs(counts - counts.mean()).max() < 6 * np.sqrt(counts.mean())


def test_a_lagging_venue_is_held_back_and_holds_others_back() -> None:
    slow = [venue(lag_ns=10 * MS), venue()]
    ts_ns, bid, ask, _ = moving(5)
    events = quoted(slow, (ts_ns, bid, ask, None))
    # Row 0: the quick venue at 0 ms, the slow one at 10 ms; all later rows wait for that.
    assert (events["ts_ns"] // MS).tolist() == [0, 10, 10, 11, 11, 12, 12, 13, 13, 14]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size_quantiles": SIZES[:-1]}, "256 sizes"),
        ({"size_quantiles": np.zeros(256, np.int64)}, "at least one lot"),
        ({"size_quantiles": np.full(256, 2**31)}, "256 sizes"),
        ({"lag_ns": -1}, "lags must not be negative"),
        ({"lag_jitter_ns": -1}, "lags must not be negative"),
    ],
)
def test_impossible_venues_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        QuoteMarket([venue(**changed)], seed=1)


@pytest.mark.parametrize("count", [0, 17])
def test_a_market_has_one_to_sixteen_venues(count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 16 venues, was {count}"):
        QuoteMarket([venue()] * count, seed=1)


def test_columns_and_room_must_fit() -> None:
    market = QuoteMarket([venue(), venue()], seed=1)
    ts_ns, bid, ask, _ = moving(10)
    with pytest.raises(ValueError, match="one length"):
        market.events(ts_ns, bid[:9], ask, None, np.zeros(20, EVENT_DTYPE))
    with pytest.raises(ValueError, match="must hold 20 events, was 19"):
        market.events(ts_ns, bid, ask, None, np.zeros(19, EVENT_DTYPE))
    with pytest.raises(ValueError, match="EVENT_DTYPE"):
        market.events(ts_ns, bid, ask, None, np.zeros(20, np.int64))
    assert market.rows == 0

"""Venues drawn from ranges, and the feed made of them."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import small_quotes

from backtest.market import LARGEST, SCENARIOS, MarketFeed, Scenario, draw_venues, size_quantiles
from data.errors import ConfigError
from data.schema import EventKind
from ext.order_book import OrderBook
from ext.sim_venue import SimulatedVenue

COMMITTED = files("backtest").joinpath("venue_ranges.toml").read_text(encoding="utf-8")
RANGES: list[dict[str, Any]] = tomllib.loads(COMMITTED)["venue"]


@given(seed=st.integers(0, 2**63))
def test_every_number_lies_in_its_committed_range(seed: int) -> None:
    venues = draw_venues("default", seed=seed)
    assert [venue.name for venue in venues] == [entry["name"] for entry in RANGES]
    for venue, entry in zip(venues, RANGES, strict=True):
        for name, value in venue.drawn.items():
            low, high = entry[name]
            assert low <= value <= high, (venue.name, name)
        assert venue.depth_levels == entry["depth_levels"]


def test_every_range_states_its_basis() -> None:
    basis = tomllib.loads(COMMITTED)["basis"]
    assert all(len(reason) > 20 for reason in basis.values())


def test_draws_repeat_and_differ_by_seed_and_venue() -> None:
    assert draw_venues("default", seed=3) == draw_venues("default", seed=3)
    assert draw_venues("default", seed=3) != draw_venues("default", seed=4)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_moves_its_factors_and_nothing_else(scenario: Scenario) -> None:
    plain, moved = draw_venues("default", seed=5), draw_venues("default", seed=5, scenario=scenario)
    assert set(scenario.factors) <= set(plain[0].drawn)
    for before, after in zip(plain, moved, strict=True):
        for name, value in before.drawn.items():
            assert after.drawn[name] == value * scenario.factors.get(name, 1.0)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("seed", range(5))
def test_what_was_drawn_makes_venues(scenario: Scenario, seed: int) -> None:
    for index, venue in enumerate(draw_venues("default", seed=seed, scenario=scenario)):
        rules = venue.rules()
        assert 0.0 <= rules["last_look"] + rules["last_look_stale"] <= 1.0
        assert 0.0 <= venue.quoting()["stale"] <= 1.0
        SimulatedVenue(rules, venue_id=index, tick_value=0.01, seed=1, book=OrderBook(64, 64))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_largest_ranges_make_venues(tmp_path: Path, scenario: Scenario) -> None:
    largest = {name: LARGEST.get(name, 100.0) for name in RANGES[0] if isinstance(RANGES[0][name], list)}
    place = written(tmp_path, {name: [value, value] for name, value in largest.items()})
    (venue,) = draw_venues(place, seed=1, scenario=scenario)
    SimulatedVenue(venue.rules(), venue_id=0, tick_value=0.01, seed=1, book=OrderBook(64, 64))
    quotes = small_quotes(rows_per_day=64)
    feed = MarketFeed(quotes, (venue,), seed=1)
    assert sum(len(events) for events in feed.events(quotes.first_ns, quotes.last_ns + 1)) > 0


def test_sizes_are_the_quantiles_of_a_log_normal() -> None:
    sizes = size_quantiles(60.0, 0.8)
    assert (np.diff(sizes) >= 0).all()
    assert np.median(sizes) == pytest.approx(60, abs=1)
    assert np.log(sizes).std() == pytest.approx(0.8, abs=0.02)
    assert size_quantiles(0.1, 1.0).min() == 1


# Ranges of one's own.


def written(folder: Path, changed: str | dict[str, Any]) -> str:
    text = changed if isinstance(changed, str) else toml_of(RANGES[0] | changed)
    path = folder / "ranges.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def toml_of(entry: dict[str, Any]) -> str:
    lines = [f"{name} = {value!r}".replace("'", '"') for name, value in entry.items() if value is not None]
    return "\n".join(["[[venue]]", *lines])


def test_ranges_come_from_a_file_of_the_same_form(tmp_path: Path) -> None:
    (venue,) = draw_venues(written(tmp_path, {"name": "mine", "spread": [2, 2.0]}), seed=1)
    assert (venue.name, venue.drawn["spread"]) == ("mine", 2.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("", "needs 1 to 16 .*venue.* tables, was 0"),
        ("[[venue", "not a TOML file"),
        ({"spred": [1, 2]}, "venue 0: unknown or missing key 'spred'"),
        ({"spread": None}, "venue 0: unknown or missing key 'spread'"),
        ({"spread": [2, 1]}, r"venue 0: spread must be \[low, high\]"),
        ({"spread": 1.0}, r"venue 0: spread must be \[low, high\]"),
        ({"spread": [1.0]}, r"venue 0: spread must be \[low, high\]"),
        ({"spread": ["a", "b"]}, r"venue 0: spread must be \[low, high\]"),
        ({"depth_levels": "many"}, "venue 0: depth_levels must be"),
        ({"depth_levels": -1}, "venue 0: depth_levels must be"),
        ({"spread": [-1.0, 1.0]}, "venue 0: spread must"),
        ({"lag_ms": [-1.0, 1.0]}, "venue 0: lag_ms must"),
        ({"lag_ms": [0.0, 1e300]}, "venue 0: lag_ms must be at most 1000"),
        ({"order_latency_ms": [0, 10**400]}, "venue 0: order_latency_ms must be at most 60000"),
        ({"taker_fee_bps": [-1e300, 0]}, "venue 0: taker_fee_bps must be at most 1000"),
        ({"flow": [0, 1.5]}, "venue 0: flow must be at most 1,"),
        ({"size_median": [1e9, 1e9]}, "venue 0: size_median must be at most 100000"),
        ({"depth_size": [1, 1e9]}, "venue 0: depth_size must be at most 100"),
    ],
)
def test_unusable_ranges_are_refused_with_their_place(
    tmp_path: Path, changed: str | dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        draw_venues(written(tmp_path, changed), seed=1)
    assert "ranges.toml" in str(caught.value)


def test_a_missing_file_of_ranges_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: venue ranges cannot be read"):
        draw_venues(str(tmp_path / "absent.toml"), seed=1)


# The feed.


def test_the_feed_quotes_every_row_at_every_venue_in_order() -> None:
    recording = small_quotes()
    feed = MarketFeed(recording, draw_venues("default", seed=1), seed=1)
    middle = recording.first_ns + 5 * 86_400 * 10**9
    blocks = [
        block.copy()
        for span in ((recording.first_ns, middle), (middle, recording.last_ns + 1))
        for block in feed.events(*span)
    ]
    events = np.concatenate(blocks)
    assert feed.rows == recording.rows()
    assert len(events) == 3 * feed.rows
    assert (events["kind"] == EventKind.QUOTE).all()
    assert (np.diff(events["ts_ns"]) >= 0).all()
    for venue in range(3):
        np.testing.assert_array_equal(events["seq"][events["venue_id"] == venue], np.arange(feed.rows))

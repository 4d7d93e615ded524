"""Venues drawn by seed from committed ranges, and the shifts of the sensitivity table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from data.errors import ConfigError
from data.quotes import QuoteBlock, QuoteRecording
from data.schema import EVENT_DTYPE
from ext.quote_market import SIZE_TABLE_STEPS, QuoteMarket

from .config import read_ranges

_RANGES: Final = (
    "spread", "spread_noise", "skew", "stale", "lag_ms", "lag_jitter_ms", "pressure", "size_median",
    "size_sigma", "order_latency_ms", "order_jitter_ms", "feed_latency_ms", "taker_fee_bps",
    "maker_fee_bps", "last_look", "last_look_stale", "flow", "depth_step", "depth_size",
)  # fmt: skip

_SIGNED: Final = ("taker_fee_bps", "maker_fee_bps")
"""Only a fee can be below zero: a rebate."""

LARGEST: Final[Mapping[str, float]] = {
    "stale": 1.0, "pressure": 1.0, "last_look": 1.0, "last_look_stale": 1.0, "flow": 1.0,
    "lag_ms": 1_000.0, "lag_jitter_ms": 1_000.0, "order_latency_ms": 60_000.0,
    "order_jitter_ms": 60_000.0, "feed_latency_ms": 60_000.0,
    "taker_fee_bps": 1_000.0, "maker_fee_bps": 1_000.0,
    "size_median": 100_000.0, "size_sigma": 3.0,
}  # fmt: skip
"""Size of what a range may hold, either way; 100 for what is not named, all of them multiples."""

_DEPTH_LEVELS_MAX: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """One row of the sensitivity table: factors on groups of the modelled ranges."""

    name: str
    factors: Mapping[str, float]


SCENARIOS: Final = (
    Scenario(name="as committed", factors={}),
    Scenario(name="latency x 4", factors={"order_latency_ms": 4, "order_jitter_ms": 4, "feed_latency_ms": 4}),
    Scenario(name="fees x 0", factors={"taker_fee_bps": 0, "maker_fee_bps": 0}),
    Scenario(name="fees x 3", factors={"taker_fee_bps": 3, "maker_fee_bps": 3}),
    Scenario(name="displayed size x 0.5", factors={"size_median": 0.5}),
    Scenario(name="fills of posted orders x 0.25", factors={"flow": 0.25}),
    Scenario(name="declines x 3, stale x 2", factors={"last_look": 3, "last_look_stale": 1.5, "stale": 2}),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VenueModel:
    """One venue as drawn: how it quotes and how it treats our orders."""

    name: str
    drawn: Mapping[str, float]
    depth_levels: int

    def quoting(self) -> dict[str, Any]:
        """Return the parameters of `ext.quote_market.QuoteMarket`."""
        drawn = self.drawn
        return {
            "spread": drawn["spread"],
            "spread_noise": drawn["spread_noise"],
            "skew": drawn["skew"],
            "stale": min(drawn["stale"], 1.0),
            "lag_ns": round(drawn["lag_ms"] * 1e6),
            "lag_jitter_ns": round(drawn["lag_jitter_ms"] * 1e6),
            "pressure": drawn["pressure"],
            "size_quantiles": size_quantiles(drawn["size_median"], drawn["size_sigma"]),
        }

    def rules(self) -> dict[str, Any]:
        """Return the parameters of `ext.sim_venue.SimulatedVenue`."""
        drawn = self.drawn
        order_ns = round(drawn["order_latency_ms"] * 1e6)
        return {
            "order_latency_ns": order_ns,
            "order_jitter_ns": round(drawn["order_jitter_ms"] * 1e6),
            "ack_latency_ns": order_ns,
            "feed_latency_ns": round(drawn["feed_latency_ms"] * 1e6),
            "taker_fee_bps": drawn["taker_fee_bps"],
            "maker_fee_bps": drawn["maker_fee_bps"],
            "last_look": min(drawn["last_look"], 1.0),
            "last_look_stale": min(drawn["last_look_stale"], 1.0 - min(drawn["last_look"], 1.0)),
            "flow": min(drawn["flow"], 1.0),
            "depth_levels": self.depth_levels,
            "depth_step": drawn["depth_step"],
            "depth_size": drawn["depth_size"],
            "queue_mode": "flow",
        }


def size_quantiles(median: float, sigma: float) -> NDArray[np.int64]:
    """Return the displayed size at 256 equally likely steps of a log-normal, in lots, at least 1."""
    steps = (np.arange(SIZE_TABLE_STEPS) + 0.5) / SIZE_TABLE_STEPS
    sizes: NDArray[np.int64] = np.maximum(1, np.rint(median * np.exp(sigma * ndtri(steps)))).astype(np.int64)
    return sizes


def draw_venues(ranges: str, *, seed: int, scenario: Scenario = SCENARIOS[0]) -> tuple[VenueModel, ...]:
    """Draw each venue's numbers from the ranges.

    Parameters
    ----------
    ranges : str
        ``"default"`` or the path of a TOML file of the same form as ``venue_ranges.toml``.
    seed : int
        The draw depends on the seed and the venue's position only, so scenarios share their draws.
    """
    table, place = _read_table(ranges)
    found = table.get("venue", [])
    if not 1 <= len(found) <= 16:
        raise ConfigError(f"{place}: needs 1 to 16 [[venue]] tables, was {len(found)}")
    return tuple(
        _draw_venue(entry, place=f"{place}: venue {index}", seed=(seed, index), scenario=scenario)
        for index, entry in enumerate(found)
    )


def _read_table(ranges: str) -> tuple[dict[str, Any], str]:
    place = "venue_ranges.toml" if ranges == "default" else ranges
    try:
        return tomllib.loads(read_ranges(ranges)), place
    except ValueError as error:
        raise ConfigError(f"{place}: not a TOML file: {error}") from error


def _draw_venue(
    entry: dict[str, Any], *, place: str, seed: tuple[int, int], scenario: Scenario
) -> VenueModel:
    expected = {"name", "depth_levels", *_RANGES}
    if set(entry) != expected:
        wrong = sorted(set(entry) ^ expected)
        raise ConfigError(f"{place}: unknown or missing key {wrong[0]!r}")
    uniform = np.random.default_rng(seed).random(len(_RANGES))
    drawn = {}
    for name, share in zip(_RANGES, uniform, strict=True):
        low, high = _limits(entry[name], name, place=place)
        value = low + (high - low) * float(share)
        drawn[name] = value * scenario.factors.get(name, 1.0)
    levels = entry["depth_levels"]
    if not (isinstance(levels, int) and 0 <= levels <= _DEPTH_LEVELS_MAX):
        raise ConfigError(f"{place}: depth_levels must be 0 to {_DEPTH_LEVELS_MAX}, was {levels!r}")
    return VenueModel(name=str(entry["name"]), drawn=drawn, depth_levels=levels)


def _limits(given: Any, name: str, *, place: str) -> tuple[float, float]:
    pair = isinstance(given, list) and len(given) == 2 and all(isinstance(n, (int, float)) for n in given)
    if not (pair and -inf < given[0] <= given[1] < inf):
        raise ConfigError(f"{place}: {name} must be [low, high], was {given!r}")
    largest = LARGEST.get(name, 100.0)
    if given[1] > largest or given[0] < -largest:
        raise ConfigError(f"{place}: {name} must be at most {largest:g}, was {given!r}")
    if given[0] < 0 and name not in _SIGNED:
        raise ConfigError(f"{place}: {name} must not be negative, was {given!r}")
    return given[0], given[1]


class MarketFeed:
    """The market events of a recording: made once, read by every engine.

    Parameters
    ----------
    recording : QuoteRecording
    venues : sequence of VenueModel
    seed : int
    """

    block_rows: Final = 8_192

    def __init__(self, recording: QuoteRecording, venues: tuple[VenueModel, ...], *, seed: int) -> None:
        self.recording = recording
        self.market = QuoteMarket(
            [venue.quoting() for venue in venues],
            seed=seed,
            instrument_id=recording.instrument.instrument_id,
        )
        self._events = np.zeros(self.block_rows * len(venues), dtype=EVENT_DTYPE)

    @property
    def rows(self) -> int:
        """Rows of the path quoted so far."""
        return self.market.rows

    def events(self, start_ns: int, stop_ns: int) -> Iterator[NDArray[np.void]]:
        """Yield the events of rows with start_ns <= ts_ns < stop_ns; each array is reused for the next."""
        for block in self.recording.blocks(start_ns=start_ns, stop_ns=stop_ns, block_rows=self.block_rows):
            yield self._quote(block)

    def _quote(self, block: QuoteBlock) -> NDArray[np.void]:
        count = self.market.events(
            block.ts_ns, block.bid_ticks, block.ask_ticks, block.pressure, self._events
        )
        return self._events[:count]

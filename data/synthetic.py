"""The built-in market: years of quotes from a seed, one day at a time.

A chain over days gives each day its opening price, volatility and number of quotes. Within a day the
price is a random walk whose variance follows a chain of its own and whose drift follows a latent
order-flow pressure. The walk is bent to end where the next day's chain begins, weighted by variance:
for a Brownian path a bridge with a random end of the right variance is the path itself, so days join
without a jump while each can be generated alone.

No transcendental function is evaluated on arrays: numpy's SIMD forms differ in the last bit between
processors, and these quotes must be the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .instrument import Instrument
from .quotes import QuoteBlock

GENERATOR_VERSION: Final = 1
"""Part of the data hash; raised by any change that alters a quote."""

TRADING_DAYS_PER_YEAR: Final = 260
PRESSURE_SCALE: Final = 40.0
"""Units of the int8 pressure per standard deviation of the latent one."""

_DAY_NS: Final = 86_400 * 10**9
_OPENS_NS: Final = 7 * 3_600 * 10**9
_OPEN_FOR_NS: Final = 13 * 3_600 * 10**9

_START_TICKS: Final = 25_000.0
_FLOOR_TICKS: Final = 400.0
_DAILY_VOLATILITY: Final = 0.013
_LEVEL_REVERSION: Final = 1.0 / 500.0
_VOLATILITY_PERSISTENCE: Final = 0.97
_VOLATILITY_SHOCK: Final = 0.10
_ACTIVITY_SWING: Final = 0.15
_JUMPS_PER_DAY: Final = 0.25

# Pressure halves in 30 rows and explains about 4 % of the variance of the next 45 rows' move.
_PRESSURE_DECAY: Final = 0.977
_PRESSURE_PULL: Final = 0.058
# Variance inflation of a long move by the persistent drift: 1 + pull^2 (1 + decay) / (1 - decay).
_DRIFT_VARIANCE: Final = 1.0 + _PRESSURE_PULL**2 * (1.0 + _PRESSURE_DECAY) / (1.0 - _PRESSURE_DECAY)

_CHUNK_ROWS: Final = 256
_CHUNK_PERSISTENCE: Final = 0.9
_SPREAD_TICKS: Final = 22.0
_SPREAD_TICKS_MIN: Final = 4
_INTENSITY_KNOTS: Final = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class _Days:
    """The chain over days; row k does not depend on how many days follow."""

    midnight_ns: NDArray[np.int64]
    open_ticks: NDArray[np.float64]
    close_ticks: NDArray[np.float64]
    volatility: NDArray[np.float64]
    rows: NDArray[np.int64]


class SyntheticQuotes:
    """A seeded market that looks like any other `QuoteRecording`.

    Parameters
    ----------
    seed : int
        From 0 up. The same seed gives the same day whatever `years` and the block size.
    years : float
        Of 260 trading days, Monday to Friday.
    rows_per_day : int
        On average; a day's own count follows its volatility within 15 %.
    first_day : str
        ISO date; moved to the next weekday.
    """

    recorded = False

    def __init__(
        self, *, seed: int, years: float = 5.0, rows_per_day: int = 34_500, first_day: str = "2019-01-02"
    ) -> None:
        if seed < 0:
            raise ConfigError(f"seed must be 0 or more, was {seed}")
        if not 0.0 < years <= 100.0:
            raise ConfigError(f"years must be above 0 and at most 100, was {years}")
        if not 64 <= rows_per_day <= 10_000_000:
            raise ConfigError(f"rows_per_day must be between 64 and 10,000,000, was {rows_per_day}")
        try:
            self._first_day = np.busday_offset(np.datetime64(first_day, "D"), 0, roll="forward")
        except ValueError as error:
            raise ConfigError(f"first_day must be an ISO date, was {first_day!r}") from error
        self.seed, self.years, self.rows_per_day = seed, years, rows_per_day
        self.days = max(1, round(TRADING_DAYS_PER_YEAR * years))
        self.instrument = Instrument(symbol="SYNTH", price_increment=0.001)
        self.notes: tuple[str, ...] = ()
        self.quarantined = 0
        self.locked = 0

    @property
    def source(self) -> str:
        return f"{self.rows():,} quotes of the built-in synthetic market, seed {self.seed}, {self.days} days"

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """Everything the quotes depend on."""
        return {
            "generator": GENERATOR_VERSION,
            "seed": self.seed,
            "years": self.years,
            "rows_per_day": self.rows_per_day,
            "first_day": str(self._first_day),
        }

    @property
    def data_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.parameters, sort_keys=True).encode()).hexdigest()

    @cached_property
    def first_ns(self) -> int:
        return int(self.day(0).ts_ns[0])

    @cached_property
    def last_ns(self) -> int:
        return int(self.day(self.days - 1).ts_ns[-1])

    def rows(self, until_ns: int | None = None) -> int:
        """Return the number of quotes before `until_ns`."""
        if until_ns is None:
            return int(self._chain.rows.sum())
        whole = int(np.searchsorted(self._chain.midnight_ns + _DAY_NS, until_ns, side="right"))
        total = int(self._chain.rows[:whole].sum())
        if whole < self.days and self._chain.midnight_ns[whole] < until_ns:
            total += int(np.searchsorted(self.day(whole).ts_ns, until_ns))
        return total

    def blocks(
        self, *, start_ns: int | None = None, stop_ns: int | None = None, block_rows: int = 65_536
    ) -> Iterator[QuoteBlock]:
        """Yield blocks of at most `block_rows` quotes, none crossing a day, with start <= ts < stop."""
        for index in range(self.days):
            midnight_ns = int(self._chain.midnight_ns[index])
            if start_ns is not None and midnight_ns + _DAY_NS <= start_ns:
                continue
            if stop_ns is not None and midnight_ns >= stop_ns:
                return
            day = self.day(index)
            low = 0 if start_ns is None else int(np.searchsorted(day.ts_ns, start_ns))
            high = len(day.ts_ns) if stop_ns is None else int(np.searchsorted(day.ts_ns, stop_ns))
            for first in range(low, high, block_rows):
                rows = slice(first, min(first + block_rows, high))
                pressure = None if day.pressure is None else day.pressure[rows]
                yield QuoteBlock(day.ts_ns[rows], day.bid_ticks[rows], day.ask_ticks[rows], pressure)

    def day(self, index: int) -> QuoteBlock:
        """Return one whole day.

        Parameters
        ----------
        index : int
            Zero-based trading day.
        """
        chain = self._chain
        row_count = int(chain.rows[index])
        # One independent stream per purpose and day, so that drawing more of one shifts no other.
        noise, flow, clock, shape = (
            np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, 1 + index, purpose])))
            for purpose in range(4)
        )
        pressure = _autoregression(
            flow.standard_normal(row_count, dtype=np.float32), _PRESSURE_DECAY, float(flow.standard_normal())
        )
        unit_volatility = _chunk_volatility(row_count, shape)
        mid = _walk(
            noise.standard_normal(row_count, dtype=np.float32),
            pressure,
            unit_volatility,
            open_ticks=float(chain.open_ticks[index]),
            close_ticks=float(chain.close_ticks[index]),
            volatility=float(chain.volatility[index]),
        )
        spread = _spreads(row_count, unit_volatility, float(chain.volatility[index]), shape)
        _add_jumps(mid, spread, shape)
        np.maximum(mid, _FLOOR_TICKS, out=mid)
        bid = (mid - 0.5 * spread).astype(np.int32)
        return QuoteBlock(
            int(chain.midnight_ns[index]) + _arrivals(row_count, clock),
            bid,
            bid + spread,
            np.clip(pressure * PRESSURE_SCALE, -127.0, 127.0).astype(np.int8),
        )

    @cached_property
    def _chain(self) -> _Days:
        # Row-major draws: the first days are the same however many follow.
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, 0])))
        shocks = stream.standard_normal((self.days + 1, 2)).tolist()
        stationary = _VOLATILITY_SHOCK / math.sqrt(1.0 - _VOLATILITY_PERSISTENCE**2)
        level, log_volatility = 0.0, stationary * shocks[0][1]
        levels, volatilities, rows = [_START_TICKS], [], []
        for move, shock in shocks[1:]:
            daily = _DAILY_VOLATILITY * math.exp(log_volatility)
            volatilities.append(daily)
            swing = _ACTIVITY_SWING * math.tanh(log_volatility / stationary)
            rows.append(round(self.rows_per_day * (1.0 + swing)))
            level += daily * move - _LEVEL_REVERSION * level
            levels.append(max(_START_TICKS * math.exp(level), 4.0 * _FLOOR_TICKS))
            log_volatility = _VOLATILITY_PERSISTENCE * log_volatility + _VOLATILITY_SHOCK * shock
        weekdays = np.busday_offset(self._first_day, np.arange(self.days), roll="forward")
        return _Days(
            midnight_ns=weekdays.astype("datetime64[ns]").astype(np.int64),
            open_ticks=np.array(levels[:-1]),
            close_ticks=np.array(levels[1:]),
            volatility=np.array(volatilities) * np.array(levels[:-1]),
            rows=np.array(rows, np.int64),
        )


def _autoregression(shocks: NDArray[np.float32], decay: float, first: float) -> NDArray[np.float64]:
    """Return a unit-variance AR(1) path that starts from `first`.

    Within a chunk x_j = decay^j (carry + sum of shocks_i / decay^i), which is one cumulative sum; only
    the carry runs through Python, once per chunk.
    """
    chunk_count = -(-len(shocks) // _CHUNK_ROWS)
    padded = np.zeros(chunk_count * _CHUNK_ROWS)
    padded[: len(shocks)] = shocks
    powers = np.array([decay ** (place + 1) for place in range(_CHUNK_ROWS)])
    scaled = padded.reshape(chunk_count, _CHUNK_ROWS)
    scaled *= math.sqrt(1.0 - decay * decay) / powers
    np.cumsum(scaled, axis=1, out=scaled)
    carry, carries = first, []
    for last in scaled[:, -1].tolist():
        carries.append(carry)
        carry = float(powers[-1]) * (carry + last)
    scaled += np.array(carries)[:, None]
    scaled *= powers
    return padded[: len(shocks)]


def _chunk_volatility(row_count: int, stream: np.random.Generator) -> NDArray[np.float64]:
    """Return a volatility factor per row, mean square about 1, constant within a chunk."""
    chunk_count = -(-row_count // _CHUNK_ROWS)
    shock = math.sqrt(1.0 - _CHUNK_PERSISTENCE**2)
    state, factors = 0.0, []
    for innovation in stream.standard_normal(chunk_count).tolist():
        state = _CHUNK_PERSISTENCE * state + shock * innovation
        # Squares of a normal: always positive, occasionally large; E[(0.6 + 0.32 z^2)^2] = 1.05.
        factors.append(0.6 + 0.32 * state * state)
    return np.repeat(np.array(factors), _CHUNK_ROWS)[:row_count]


def _walk(
    shocks: NDArray[np.float32],
    pressure: NDArray[np.float64],
    unit_volatility: NDArray[np.float64],
    *,
    open_ticks: float,
    close_ticks: float,
    volatility: float,
) -> NDArray[np.float64]:
    """Return the day's mid in ticks, from `open_ticks` to `close_ticks`; row i's drift is pressure i-1."""
    row_count = len(shocks)
    steps = shocks.astype(np.float64)
    steps[1:] += _PRESSURE_PULL * pressure[:-1]
    steps *= unit_volatility
    steps *= volatility / math.sqrt(row_count * _DRIFT_VARIANCE)
    mid = np.cumsum(steps, out=steps)
    share = np.cumsum(unit_volatility * unit_volatility)
    share *= (close_ticks - open_ticks - float(mid[-1])) / float(share[-1])
    mid += share
    mid += open_ticks
    return mid


def _spreads(
    row_count: int, unit_volatility: NDArray[np.float64], volatility: float, stream: np.random.Generator
) -> NDArray[np.int32]:
    """Return ask minus bid in ticks, wider when the day and the chunk are volatile."""
    calm = volatility / (_START_TICKS * _DAILY_VOLATILITY)
    base = _SPREAD_TICKS * (0.5 + 0.5 * math.sqrt(calm))
    spread = (unit_volatility * (0.4 * base) + 0.6 * base).astype(np.int32)
    flicker = np.frombuffer(stream.bytes(row_count), np.uint8)
    spread += flicker >> 5
    return np.maximum(spread, _SPREAD_TICKS_MIN, out=spread)


def _add_jumps(mid: NDArray[np.float64], spread: NDArray[np.int32], stream: np.random.Generator) -> None:
    """Add the day's rare jumps in place; spreads widen for a while after each."""
    for _ in range(int(stream.poisson(_JUMPS_PER_DAY))):
        at = int(stream.integers(0, len(mid)))
        size = float(mid[at]) * float(stream.uniform(0.002, 0.008)) * float(stream.choice((-1.0, 1.0)))
        # The jump fades to nothing at the close, where the next day takes over.
        mid[at:] += size * np.linspace(1.0, 0.0, len(mid) - at)
        spread[at : at + 200] *= 3


def _arrivals(row_count: int, stream: np.random.Generator) -> NDArray[np.int64]:
    """Return ascending arrival times after midnight, ns, dense at the open and the close.

    Normalised sums of exponential gaps are ordered uniforms; the inverse of the cumulative intensity
    maps them to a Poisson process of that intensity, given its number of points.
    """
    gaps = stream.standard_exponential(row_count + 1)
    uniform = np.cumsum(gaps)
    uniform *= _INTENSITY_KNOTS / float(uniform[-1])
    uniform = uniform[:-1]
    knot = uniform.astype(np.intp)
    np.minimum(knot, _INTENSITY_KNOTS - 1, out=knot)
    uniform -= knot
    offset_ns = _KNOT_NS[knot] + uniform * _KNOT_STEP_NS[knot]
    return offset_ns.astype(np.int64) // 1_000 * 1_000


def _intensity_inverse() -> NDArray[np.float64]:
    """Return the times after midnight, ns, at which equal shares of the day's quotes have arrived."""
    fine = 16 * _INTENSITY_KNOTS
    # Twice as dense at both ends as at noon: 0.75 + 0.75 x^2 on [-1, 1], integrated by hand.
    place = [2.0 * index / fine - 1.0 for index in range(fine + 1)]
    total = np.array([0.75 * x + 0.25 * x**3 + 1.0 for x in place]) / 2.0
    shares = np.array([index / _INTENSITY_KNOTS for index in range(_INTENSITY_KNOTS + 1)])
    middle, half = _OPENS_NS + _OPEN_FOR_NS / 2, _OPEN_FOR_NS / 2
    inverse: NDArray[np.float64] = np.interp(shares, total, np.array(place)) * half + middle
    return inverse


_KNOT_EDGES: Final = _intensity_inverse()
_KNOT_NS: Final = _KNOT_EDGES[:-1]
_KNOT_STEP_NS: Final = _KNOT_EDGES[1:] - _KNOT_EDGES[:-1]

"""The built-in market: the same quotes however they are asked for, and a market worth trading."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from data.errors import ConfigError
from data.quote_writer import write_quotes
from data.quotes import QuoteRecording, open_quotes
from data.synthetic import SyntheticQuotes


def rows_of(quotes: QuoteRecording, **window: int) -> np.ndarray:
    blocks = list(quotes.blocks(**window))
    return np.concatenate([np.column_stack([part.astype(np.int64) for part in block]) for block in blocks])  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def quarter() -> SyntheticQuotes:
    return SyntheticQuotes(seed=11, years=0.1, rows_per_day=3_000)


def test_a_day_depends_on_neither_years_nor_block_size(quarter: SyntheticQuotes) -> None:
    longer = SyntheticQuotes(seed=11, years=5.0, rows_per_day=3_000)
    for index in (0, 13, 25):
        for ours, theirs in zip(quarter.day(index), longer.day(index), strict=True):
            assert np.array_equal(ours, theirs)
    assert np.array_equal(rows_of(quarter), rows_of(quarter, block_rows=777))


def test_windows_and_row_counts_agree_with_the_whole(quarter: SyntheticQuotes) -> None:
    every = rows_of(quarter)
    assert quarter.rows() == len(every)
    assert (quarter.first_ns, quarter.last_ns) == (every[0, 0], every[-1, 0])
    for cut in (0, 1, 2_999, 3_000, 40_000, len(every) - 1):
        ts_ns = int(every[cut, 0])
        assert quarter.rows(ts_ns) == np.count_nonzero(every[:, 0] < ts_ns)
        assert np.array_equal(rows_of(quarter, start_ns=ts_ns), every[every[:, 0] >= ts_ns])
    assert quarter.rows(quarter.last_ns + 1) == len(every)


def test_quotes_keep_the_rules_of_a_recording(quarter: SyntheticQuotes) -> None:
    every = rows_of(quarter)
    assert isinstance(quarter, QuoteRecording)
    assert (np.diff(every[:, 0]) >= 0).all()
    assert (every[:, 1] > 0).all()
    assert (every[:, 2] > every[:, 1]).all()
    assert np.abs(every[:, 3]).max() <= 127
    weekdays = every[:, 0].astype("datetime64[ns]").astype("datetime64[D]")
    assert np.is_busday(weekdays).all()


@pytest.mark.parametrize("seed", range(5))
def test_five_years_are_over_a_hundred_million_events_on_three_venues(seed: int) -> None:
    assert 3 * SyntheticQuotes(seed=seed).rows() >= 100_000_000


def test_pressure_predicts_the_next_moves_a_little() -> None:
    market = SyntheticQuotes(seed=5, years=0.05)
    correlations = []
    for index in range(market.days):
        day = market.day(index)
        assert day.pressure is not None
        mid = day.bid_ticks + day.ask_ticks
        correlations.append(np.corrcoef(day.pressure[:-45], mid[45:] - mid[:-45])[0, 1])
    assert 0.02 < np.mean(np.square(correlations)) < 0.08
    assert min(correlations) > 0


def test_volatility_persists_from_day_to_day() -> None:
    market = SyntheticQuotes(seed=5, years=1.0, rows_per_day=500)
    spans = []
    for index in range(market.days):
        day = market.day(index)
        spans.append(np.log(np.diff(day.bid_ticks).std() / day.bid_ticks[0]))
    assert np.corrcoef(spans[:-1], spans[1:])[0, 1] > 0.5


def test_days_join_without_a_gap(quarter: SyntheticQuotes) -> None:
    for index in range(5):
        close, reopen = quarter.day(index), quarter.day(index + 1)
        moved = abs(int(close.bid_ticks[-1]) - int(reopen.bid_ticks[0]))
        assert moved < 40 * max(1.0, float(np.diff(close.bid_ticks).std()))


def test_the_first_day_of_seed_one_never_changes() -> None:
    """A change here changes every result on the built-in market: raise GENERATOR_VERSION with it."""
    day = SyntheticQuotes(seed=1, years=0.01, rows_per_day=1_000).day(0)
    digest = hashlib.sha256(
        b"".join(np.ascontiguousarray(part).tobytes() for part in day if part is not None)
    )
    assert digest.hexdigest()[:16] == "ac6af8d0c7f4434e"


def test_the_hash_tells_parameters_apart() -> None:
    hashes = {SyntheticQuotes(seed=seed, years=years).data_hash for seed in (1, 2) for years in (1.0, 2.0)}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    "bad",
    [{"seed": -1}, {"seed": 1, "years": 0.0}, {"seed": 1, "rows_per_day": 1}, {"seed": 1, "first_day": "x"}],
)
def test_bad_parameters_are_refused(bad: dict) -> None:
    with pytest.raises(ConfigError):
        SyntheticQuotes(**bad)


def test_written_quotes_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    market = SyntheticQuotes(seed=3, years=0.05, rows_per_day=2_000, first_day="2019-12-27")
    paths = write_quotes(market, tmp_path)
    assert [path.name for path in paths] == ["synth_quotes_2019.parquet", "synth_quotes_2020.parquet"]
    again = open_quotes(tmp_path)
    assert np.array_equal(rows_of(again), rows_of(market))
    assert not again.recorded
    assert again.instrument == market.instrument
    with pytest.raises(ConfigError, match="is there already"):
        write_quotes(market, tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name for path in paths]

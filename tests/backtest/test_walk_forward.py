"""Walk-forward: windows follow each other, choices look back only, every try is counted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from backtest.api import backtest
from backtest.cli.main import main
from backtest.splits import DAY_NS
from backtest.trials import TrialRegistry, record_backtests
from backtest.walkforward import span_of, walk_forward
from data.errors import ConfigError
from engine.strategy import Strategy
from tests.markets import joined, quote, write_quotes

HOUR_SECONDS = 3_600


def drifting_days(days, *, seed=1):
    """Return hourly quotes that rise in the first half and fall in the second."""
    draw = np.random.default_rng(seed)
    count = days * 24
    steps = np.where(np.arange(count) < count // 2, 3, -3) + draw.integers(-5, 6, count)
    mids = 5_000 + np.cumsum(steps)
    return joined(*(quote(hour * HOUR_SECONDS, int(mid) - 1, int(mid) + 1) for hour, mid in enumerate(mids)))


class Hold(Strategy):
    def __init__(self, side=1):
        self.side = side

    def on_start(self, ctx):
        (ctx.buy if self.side > 0 else ctx.sell)(1)


@pytest.fixture
def registry(tmp_path):
    return TrialRegistry(tmp_path / "trials.sqlite")


def test_test_windows_tile_the_time_after_the_first_training(registry):
    found = walk_forward(Hold, drifting_days(40), train_days=10, test_days=10, registry=registry)
    assert [window.test_from for window in found.windows[1:]] == [
        window.test_until for window in found.windows[:-1]
    ]
    assert found.name == "Hold"
    assert found.pnl == pytest.approx(sum(window.pnl for window in found.windows))
    assert found.pnl == pytest.approx(found.daily_profit.sum())
    assert all(np.isnan(window.train_sharpe) for window in found.windows)
    assert found.trials == 1
    assert found.deflated_sharpe == found.probabilistic_sharpe


def test_a_window_equals_a_backtest_of_its_days(registry):
    events = drifting_days(30)
    found = walk_forward(Hold, events, train_days=10, test_days=10, registry=registry)
    start_ns = np.datetime64(found.windows[0].test_from, "ns").astype(np.int64)
    alone = backtest(Hold(), events, start_ns=int(start_ns), stop_ns=int(start_ns) + 10 * DAY_NS)
    assert found.windows[0].journal_hash == alone.journal_hash
    assert found.windows[0].pnl == alone.pnl


def test_the_choice_looks_back_only(registry):
    candidates = {"long": lambda: Hold(1), "short": lambda: Hold(-1)}
    found = walk_forward(candidates, drifting_days(60), train_days=10, test_days=10, registry=registry)
    chosen = [window.chosen for window in found.windows]
    assert chosen[0] == "long"
    assert chosen[-1] == "short"
    turning = next(window for window in found.windows if window.chosen == "long" and window.pnl < 0)
    assert turning.train_sharpe > 0
    # Two candidates on training days and the walk itself.
    assert found.trials == 3
    assert found.deflated_sharpe <= found.probabilistic_sharpe


def test_running_again_changes_nothing(registry):
    results = [
        walk_forward(Hold, drifting_days(30), train_days=10, test_days=10, registry=registry)
        for _ in range(2)
    ]
    assert results[0].journal_hash == results[1].journal_hash
    assert results[0].trials == results[1].trials == 1
    assert results[0].sharpe == results[1].sharpe


def test_another_try_on_the_same_data_is_counted(registry):
    for side in (1, -1):
        found = walk_forward(
            {"hold": lambda side=side: Hold(side)},
            drifting_days(30),
            train_days=10,
            test_days=10,
            registry=registry,
        )
    assert found.trials == 2


def test_backtests_count_among_the_tries(registry):
    events = drifting_days(40)
    first, second = (
        record_backtests([backtest(Hold(side), events, name="hold")], registry) for side in (1, -1)
    )
    assert [judged.trials for judged in (*first, *second)] == [1, 2]
    # Neither class nor parameters told the two apart: their journals did.
    (again,) = record_backtests([backtest(Hold(1), events, name="hold")], registry)
    assert again.trials == 2
    walked = walk_forward(Hold, events, train_days=10, test_days=10, registry=registry)
    assert walked.trials == 3


def test_a_changed_source_is_another_try(registry):
    class Held(Hold):
        pass

    options = {"train_days": 10, "test_days": 10, "registry": registry}
    assert walk_forward({"mine": Held}, drifting_days(40), **options).trials == 1
    Held.on_start = lambda self, ctx: ctx.sell(2)
    assert walk_forward({"mine": Held}, drifting_days(40), **options).trials == 2
    assert walk_forward({"mine": Held}, drifting_days(40), **options).trials == 2


def test_a_short_history_is_refused_with_the_days_needed(registry):
    with pytest.raises(ConfigError, match="needs at least"):
        walk_forward(Hold, drifting_days(12), train_days=10, test_days=10, registry=registry)
    with pytest.raises(ConfigError, match="at least one strategy"):
        walk_forward({}, drifting_days(30), train_days=10, test_days=10, registry=registry)


def test_the_span_is_the_first_and_last_event():
    from backtest.sources import ArraySource

    events = drifting_days(3)
    assert span_of(ArraySource(events)) == (events["ts_ns"][0], events["ts_ns"][-1])


def test_the_command_prints_a_row_a_window(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_quotes(tmp_path / "ticks.parquet", drifting_days(40))
    arguments = [
        "walkforward",
        "ticks.parquet",
        "--train-days",
        "10",
        "--test-days",
        "10",
        "--quiet",
        "--json",
    ]
    assert main([*arguments, "--strategy", "signal_taker"]) == 2
    assert "signal_taker trades on a forecast" in capsys.readouterr().err
    assert main([*arguments, "--strategy", "market_maker", "--strategy", "twap"]) == 0
    out = capsys.readouterr().out
    summary = json.loads(out.strip().splitlines()[-1])
    assert len(summary["windows"]) == 3
    assert summary["trials"] == 3
    assert (tmp_path / "var/trials.sqlite").exists()
    assert "probability of a true ratio above 0" in out


def test_the_command_refuses_a_history_too_short(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_quotes(tmp_path / "ticks.csv", drifting_days(5))
    assert main(["walkforward", "ticks.csv", "--quiet"]) == 2
    assert "needs at least" in capsys.readouterr().err

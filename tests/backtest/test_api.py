"""`backtest`: what goes in, what comes out, and that equal arguments give equal results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest.api import backtest
from backtest.equity import interval_ns, max_drawdown, period_profits, sharpe_of, shortfall_bps
from backtest.sources import trade_sides
from backtest.venue_config import VenueConfig
from data.errors import ConfigError, DataError
from data.instrument import Instrument
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, REPORT_DTYPE, EventFlag, Reason
from data.store import TickStore
from engine.journal import JournalReader, verify_journal
from engine.strategies import MarketMaker, SignalTaker
from engine.strategy import Strategy, StrategyError
from tests.markets import SECOND_NS, START_NS, Script, joined, play, quote, random_quotes, trade, write_quotes

ROOT = Path(__file__).parents[2]


class Alternate(Strategy):
    """Buys and sells in turn."""

    timer_ns = 30 * SECOND_NS

    def on_timer(self, ctx):
        if ctx.position_lots <= 0:
            ctx.buy(2)
        else:
            ctx.sell(3)


@pytest.mark.parametrize("name", ["ticks.parquet", "ticks.csv"])
def test_a_users_own_quotes_are_enough(tmp_path, name):
    path = write_quotes(tmp_path / name, random_quotes(1))
    result = backtest(Alternate(), path)
    assert result.events == 2_000
    assert len(result.fills) > 50
    assert result.equity[-1] == result.pnl
    assert result.report(tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_profit_is_the_cash_of_the_fills_plus_the_position_at_mid():
    venue = VenueConfig(taker_fee_bps=0.5, taker_fee_per_lot=0.01, order_jitter_ns=200_000)
    result = backtest(Alternate(), random_quotes(2), venue=venue, instrument=Instrument(symbol="T"))
    fills = result.fills
    signed = fills["side"] * fills["size_lots"]
    cash = -(signed * fills["price_ticks"].astype(np.int64)).sum() * 0.01
    mid = random_mid(random_quotes(2))
    fees = (0.5e-4 * fills["price_ticks"] * 0.01 * fills["size_lots"] + 0.01 * fills["size_lots"]).sum()
    assert result.fees == pytest.approx(fees, abs=1e-6)
    assert result.position_lots[-1] == signed.sum()
    assert result.pnl == pytest.approx(cash + signed.sum() * mid * 0.01 - fees, abs=1e-6)


def random_mid(events):
    last = events[-1:].view(QUOTE_DTYPE)[0]
    return (int(last["bid_price_ticks"]) + int(last["ask_price_ticks"])) / 2


def test_equal_arguments_give_equal_results_and_a_seed_changes_the_draws(tmp_path):
    venue = VenueConfig(queue="flow", flow=0.3, order_jitter_ns=400_000_000)
    events = random_quotes(3)
    results = [backtest(MarketMaker(), events, venue=venue, seed=seed) for seed in (7, 7, 8)]
    assert results[0].journal_hash == results[1].journal_hash
    assert np.array_equal(results[0].fills, results[1].fills)
    assert results[0].equity.tolist() == results[1].equity.tolist()
    assert results[0].journal_hash != results[2].journal_hash


def test_the_journal_is_written_verified_and_holds_the_fills(tmp_path):
    result = backtest(Alternate(), random_quotes(4), journal=tmp_path / "run.journal")
    assert verify_journal(tmp_path / "run.journal").sha256 == result.journal_hash
    reader = JournalReader(tmp_path / "run.journal")
    assert len(reader.orders()) == result.orders
    reports = reader.reports()
    assert np.array_equal(reports[reports["kind"] == 2], result.fills)


def test_a_failed_run_leaves_no_journal(tmp_path):
    class Broken(Strategy):
        def on_touch(self, ctx):
            raise ValueError("mine")

    with pytest.raises(StrategyError, match="strategy Broken failed: ValueError: mine"):
        backtest(Broken(), random_quotes(4), journal=tmp_path / "run.journal")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hook", ["on_start", "on_timer", "on_touch", "on_report", "on_stop", "parameters"])
def test_what_a_strategy_raises_is_the_cause_and_its_line_is_told(hook):
    mine = KeyError("mine")

    class Broken(Alternate):
        pass

    def fail(*_):
        raise mine

    setattr(Broken, hook, fail)
    with pytest.raises(StrategyError) as caught:
        backtest(Broken(), random_quotes(4))
    assert caught.value.__cause__ is mine
    line = fail.__code__.co_firstlineno + 1
    assert f"{Path(__file__)}, line {line}" in str(caught.value)
    told = caught.value.user_traceback.splitlines()
    assert told[1] == f'  File "{Path(__file__)}", line {line}, in fail' or hook == "parameters"
    assert "raise mine" in caught.value.user_traceback


def test_a_strategy_of_ours_that_fails_is_no_fault_of_the_user(monkeypatch):
    def fail(*_):
        raise KeyError("ours")

    monkeypatch.setattr(MarketMaker, "on_touch", fail, raising=False)
    with pytest.raises(KeyError, match="ours"):
        backtest(MarketMaker(), random_quotes(4))


class Permuted:
    """An inference session that gives its signals in another order."""

    feature_count, row_shape, precision, sha256, abstentions = 16, (16,), "int8", "0" * 64, 0

    def __init__(self, seed):
        draw = np.random.default_rng(1)
        self._signals = draw.uniform(-1, 1, 4_096)
        if seed is not None:
            self._signals = np.random.default_rng(seed).permutation(self._signals)
        self._calls = 0

    def probabilities(self, features):
        raise NotImplementedError

    def signal(self, features):
        self._calls += 1
        return float(self._signals[self._calls % 4_096])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SignalTaker(timer_ns=10 * SECOND_NS, enter_at=0.2, exit_at=0.05),
        lambda: MarketMaker(signal_ticks=3.0, tolerance=0.0),
    ],
)
def test_shuffling_the_signal_changes_the_journal(make):
    events = random_quotes(5)
    plain = backtest(make(), events, session=Permuted(None))
    again = backtest(make(), events, session=Permuted(None))
    shuffled = backtest(make(), events, session=Permuted(2))
    assert plain.journal_hash == again.journal_hash
    assert plain.journal_hash != shuffled.journal_hash
    assert plain.orders > 0


def test_an_error_of_the_model_stops_the_run():
    class Failing(Permuted):
        def signal(self, features):
            raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        backtest(SignalTaker(timer_ns=SECOND_NS), random_quotes(5), session=Failing(None))


def test_a_models_latency_delays_its_orders():
    sent = {}

    class Ask(Strategy):
        def __init__(self, ask):
            self._ask = ask

        def on_start(self, ctx):
            if self._ask:
                assert ctx.signal is not None
            ctx.buy(1)

        def on_fill(self, ctx, fill):
            sent[self._ask] = fill.ts_ns

    for ask in (False, True):
        backtest(Ask(ask), random_quotes(5), session=Permuted(None))
    assert sent[True] > sent[False]


# Trades alone.


def trades_csv(path, rows):
    pl.DataFrame(rows, schema=["ts_ns", "price", "size", "side"], orient="row").write_csv(path)
    return path


def test_trades_alone_make_a_market_of_one_tick(tmp_path):
    path = trades_csv(tmp_path / "trades.csv", [
        (START_NS, 10.00, 5, "buy"), (START_NS + 2 * SECOND_NS, 10.01, 4, "buy"),
        (START_NS + 4 * SECOND_NS, 9.99, 6, "sell"), (START_NS + 6 * SECOND_NS, 9.98, 3, "sell"),
    ])  # fmt: skip
    script = Script(
        t1=lambda ctx: ctx.buy(9), t3=lambda ctx: ctx.sell(2, 999), t5=lambda ctx: ctx.buy(2, 999)
    )
    result = backtest(
        script, path, venue=VenueConfig(feed_latency_ns=0, order_latency_ns=0, ack_latency_ns=0)
    )
    # Five at the buyer's price; the offer rests at the bid's side and meets it; at 999 six are ahead.
    assert script.fills == [(5, 1000), (2, 1000), (2, 999)]
    assert any("only trades are recorded" in note for note in result.notes)


def test_the_tick_rule_finds_the_side_that_is_not_recorded():
    trades = joined(*(trade(n, 0, price, 1) for n, price in enumerate([10, 11, 11, 10, 10, 12])))
    assert trade_sides(trades, price_before=None, side_before=1).tolist() == [1, 1, 1, -1, -1, 1]
    assert trade_sides(trades[:1], price_before=12, side_before=1).tolist() == [-1]


def test_a_resting_order_fills_from_trades_only():
    script = Script(t1=lambda ctx: ctx.buy(10, 100, post_only=True))
    flow = joined(trade(0, 1, 102, 5), trade(2, -1, 99, 3), trade(3, 1, 99, 50))
    play(script, flow)
    # 3 sold through our price; the 50 were bought, at an offer of 99 that our bid would have met before.
    assert script.fills == [(3, 100)]


# Bad input.


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda events: events["ts_ns"].__setitem__(7, 0), "ts_ns must not run back, was 0"),
        (lambda events: events["venue_id"].__setitem__(7, 3), "venue_id must be below 1"),
        (lambda events: events["kind"].__setitem__(7, 77), "kind must be 1 to 9, was 77"),
        (lambda events: events["instrument_id"].__setitem__(7, 3), "instrument_id must be 0, the run"),
    ],
)
def test_events_that_break_a_rule_are_refused_with_their_row(damage, rule):
    events = random_quotes(1, count=50)
    damage(events)
    with pytest.raises(DataError, match=f"row 7: {rule}"):
        backtest(Alternate(), events, venue=[VenueConfig()])


def test_events_without_packet_ends_are_refused():
    events = random_quotes(1, count=50)
    events["flags"] &= ~np.uint8(EventFlag.LAST_IN_PACKET)
    with pytest.raises(DataError, match="LAST_IN_PACKET"):
        backtest(Alternate(), events)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros(0, EVENT_DTYPE), np.zeros((2, 2), EVENT_DTYPE)])
def test_an_array_of_anything_else_is_refused(bad):
    with pytest.raises(DataError, match="EVENT_DTYPE"):
        backtest(Alternate(), bad)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nothing"):
        backtest(Alternate(), tmp_path / "nothing.parquet")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"equity_interval": "soon"}, "an interval must be like"),
        ({"venue": []}, "1 to 16 venues"),
    ],
)
def test_bad_options_are_refused(options, rule):
    with pytest.raises(ConfigError, match=rule):
        backtest(Alternate(), random_quotes(1, count=50), **options)


@pytest.mark.parametrize(
    "bad",
    [
        {"queue": "lucky"},
        {"flow": 1.0},
        {"order_latency_ns": -1},
        {"taker_fee_bps": float("nan")},
        {"maker_fee_per_lot": 1e300},
    ],
)
def test_bad_venues_are_refused(bad):
    with pytest.raises(ConfigError):
        VenueConfig(**bad)


def test_a_venue_of_a_store_may_begin_late(tmp_path):
    store = TickStore(tmp_path / "store")
    day = random_quotes(1, count=5_000)
    later = random_quotes(2, count=50)
    later["ts_ns"] += day["ts_ns"][-1] - later["ts_ns"][0] + 1
    for venue, events in (("A", day), ("B", later)):
        store.write([events], instrument=Instrument(symbol="LATE"), venue=venue)
    assert backtest(Strategy(), store.root).events == 5_050


def test_rejections_are_counted_by_name():
    result = play(Script(t1=lambda ctx: ctx.buy(10**7)), joined(quote(0, 99, 101), quote(5, 99, 101)))
    assert result.rejections == {Reason.RISK_ORDER_SIZE.name: 1}


# The curve.


def test_intervals_read_as_people_write_them():
    assert [interval_ns(text) for text in ("500ms", "2s", "1min", "1h", 5)] == [
        500_000_000, 2 * SECOND_NS, 60 * SECOND_NS, 3_600 * SECOND_NS, 5,
    ]  # fmt: skip


def test_drawdown_counts_from_the_start():
    assert max_drawdown(np.array([-3.0, 2.0, 1.0, 4.0])) == 3.0
    assert max_drawdown(np.array([1.0, 5.0, 2.0])) == 3.0
    assert max_drawdown(np.empty(0)) == 0.0


def test_profits_by_period_add_up():
    ts_ns = np.array([1, 9, 10, 25, 26], np.int64)
    equity = np.array([1.0, 2.0, 5.0, 4.0, 7.0])
    assert period_profits(ts_ns, equity, period_ns=10).tolist() == [2.0, 3.0, 2.0]


def test_the_sharpe_ratio_is_daily_where_there_are_twenty_days():
    day = 86_400 * SECOND_NS
    ts_ns = np.arange(40, dtype=np.int64) * day
    equity = np.cumsum(np.random.default_rng(1).normal(1, 2, 40))
    found = sharpe_of(ts_ns, equity, seed=1)
    profit = np.diff(equity, prepend=0)
    assert found.mean == pytest.approx(profit.mean() / profit.std(ddof=1) * np.sqrt(366), rel=1e-9)
    assert found.low < found.mean < found.high
    assert np.isnan(sharpe_of(ts_ns[:0], equity[:0], seed=1).mean)


# The README.


def ten_lines():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Ten lines$(.*?)^## ", readme, re.M | re.S)
    found = section and re.search(r"```python\n(.*?)```", section[1], re.S)
    return found[1] if found else None


@pytest.mark.parametrize("origin", ["example", "README"])
def test_the_ten_lines_run(tmp_path, origin):
    code = (ROOT / "examples/ten_lines.py").read_text() if origin == "example" else ten_lines()
    assert code is not None, "README.md has a section 'Ten lines'"
    write_quotes(tmp_path / "ticks.parquet", random_quotes(6, count=4_000))
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Interval(mean=" in ran.stdout
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_readme_shows_the_example():
    assert ten_lines() == (ROOT / "examples/ten_lines.py").read_text()


def test_a_result_is_json_safe_in_its_configuration():
    result = backtest(Alternate(), random_quotes(1, count=100))
    assert json.loads(json.dumps(result.config)) == result.config
    assert result.config["venues"][0]["queue"] == "flow"


def test_shortfall_is_what_one_sided_fills_cost_against_the_arrival_mid() -> None:
    instrument = Instrument(symbol="X", price_increment=0.01, lot_size=10.0)
    fills = np.zeros(2, REPORT_DTYPE)
    fills["side"], fills["size_lots"] = 1, (30, 10)
    fills["price_ticks"], fills["fee_nano"] = (1_001, 1_005), 10**9
    # Cost in ticks: 30 x 1 + 10 x 5, at 0.1 a tick and lot, plus 2 of fees; value 40 lots x 1,000 ticks.
    paid = (80 * 0.1 + 2.0) / (40 * 1_000 * 0.1) * 1e4
    assert shortfall_bps(fills, arrival_mid_x2=2_000, instrument=instrument) == pytest.approx(paid)
    fills["side"] = (1, -1)
    assert np.isnan(shortfall_bps(fills, arrival_mid_x2=2_000, instrument=instrument))
    assert np.isnan(shortfall_bps(fills[:0], arrival_mid_x2=2_000, instrument=instrument))

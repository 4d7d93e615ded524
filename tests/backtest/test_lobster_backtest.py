"""`anytick backtest` on order flow: recorded where it is at hand, generated where not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lobster_day import Day

from backtest.api import backtest
from backtest.cli.backtest import find_source
from backtest.cli.main import main
from backtest.cli.strategies import limits_for, load_strategy, strategy_maker, typical_lots
from backtest.order_flow import GeneratedFlow
from backtest.venue_config import VenueConfig
from data.errors import ConfigError
from data.events import open_events
from data.schema import EventFlag, EventKind
from engine.strategies import Twap
from engine.strategy import Strategy
from ext.order_book import OrderBook

BOUNDS = ("optimistic", "pessimistic")


class Ladder(Strategy):
    """Lays orders below and above the market once and lets them rest: equal under both bounds."""

    batch_events = 400

    def __init__(self, lots):
        self.lots = lots
        self.sent = {}

    def on_batch(self, ctx):
        bid, bid_size, ask, ask_size = ctx.touch()
        if bid_size and ask_size:
            step = ctx.tick_size_ticks
            for level in range(3):
                self.sent[ctx.buy(self.lots, bid - level * step, post_only=True)] = self.lots
                self.sent[ctx.sell(self.lots, ask + level * step, post_only=True)] = self.lots


def filled_by_order(result):
    ids, place = np.unique(result.fills["client_order_id"], return_inverse=True)
    lots = np.bincount(place, weights=result.fills["size_lots"]).astype(int)
    return dict(zip(ids.tolist(), lots.tolist(), strict=True))


def assert_bounds_hold(source):
    """Every order fills at least as much under the optimistic bound, never more than its size."""
    filled = {}
    for queue in BOUNDS:
        ladder = Ladder(3 * typical_lots(source))
        limits = limits_for(3 * typical_lots(source), source)
        result = backtest(ladder, source, venue=VenueConfig(queue=queue), limits=limits)
        filled[queue] = filled_by_order(result)
        assert all(lots <= ladder.sent[order] for order, lots in filled[queue].items())
    assert sum(filled["optimistic"].values()) >= sum(filled["pessimistic"].values()) > 0
    return filled


def test_the_bounds_hold_on_generated_flow_and_differ():
    filled = assert_bounds_hold(GeneratedFlow(seed=3, steps=20_000))
    assert filled["optimistic"] != filled["pessimistic"]


def test_the_bounds_hold_on_a_made_up_lobster_day(tmp_path):
    path = Day(seed=5, levels=5, rows=4_000).write_zip(tmp_path / "day.zip")
    assert_bounds_hold(open_events(path))


@pytest.mark.recording("lobster_aapl_amzn_2012-06-21")
@pytest.mark.parametrize(
    "name", ["LOBSTER_SampleFile_AMZN_2012-06-21_5.zip", "LOBSTER_SampleFile_AAPL_2012-06-21_1.zip"]
)
def test_the_bounds_hold_on_the_recorded_day(market_data, name):
    assert_bounds_hold(open_events(market_data / name))


@pytest.mark.recording("lobster_aapl_amzn_2012-06-21")
@pytest.mark.parametrize("queue", BOUNDS)
def test_the_twap_fills_its_size_on_the_recorded_day(market_data, queue):
    twap = Twap(size_lots=10_000)
    result = backtest(
        twap, market_data / "LOBSTER_SampleFile_AMZN_2012-06-21_5.zip", venue=VenueConfig(queue=queue)
    )
    assert (twap.filled_lots, twap.open_lots, twap.cancelled_lots) == (10_000, 0, 0)
    assert int(result.fills["size_lots"].sum()) == 10_000
    assert result.position_lots[-1] == 10_000


# The generated day.


def test_generated_flow_is_a_pure_function_of_its_seed():
    days = [np.concatenate(list(GeneratedFlow(seed=seed, steps=3_000).blocks(500))) for seed in (1, 1, 2)]
    assert np.array_equal(days[0], days[1])
    assert not np.array_equal(days[0], days[2])
    assert GeneratedFlow(seed=1).data_hash != GeneratedFlow(seed=2).data_hash


def test_generated_flow_keeps_a_book_that_never_crosses():
    flow = GeneratedFlow(seed=4, steps=20_000)
    book = OrderBook()
    rows = 0
    for events in flow.blocks(1_000):
        assert events["flags"][-1] & EventFlag.LAST_IN_PACKET
        rows += book.apply(events)
        assert book.bid_size_lots > 0
        assert book.ask_size_lots > 0
    assert (book.crossed, book.refused, book.duplicate_orders) == (0, 0, 0)
    assert book.applied == rows
    assert 0.005 < book.unknown_orders / rows < 0.13, "some messages name orders never announced"


def test_generated_flow_has_every_kind_a_recording_has():
    events = np.concatenate(list(GeneratedFlow(seed=1, steps=20_000).blocks()))
    assert set(events["kind"]) == {
        EventKind.ADD, EventKind.CANCEL, EventKind.EXECUTE, EventKind.TRADE, EventKind.LEVEL,
    }  # fmt: skip
    assert (np.diff(events["ts_ns"]) >= 0).all()


# The command.


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A folder without recordings, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYTICK_MARKET_DATA", raising=False)
    return tmp_path


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def test_without_a_path_it_runs_both_strategies_under_both_bounds(nowhere, capsys):
    assert main(["backtest", "--quiet", "--json"]) == 0
    first = last_json(capsys.readouterr().out)
    assert [one["name"] for one in first["results"]] == [
        "market_maker, optimistic", "market_maker, pessimistic", "twap, optimistic", "twap, pessimistic",
    ]  # fmt: skip
    assert (nowhere / "var/reports/backtest.html").stat().st_size > 10_000
    assert main(["backtest", "--quiet", "--json"]) == 0
    again = last_json(capsys.readouterr().out)
    assert [one["journal_hash"] for one in again["results"]] == [
        one["journal_hash"] for one in first["results"]
    ]
    assert first["results"][0]["filled_lots"] > 0


def test_the_largest_lobster_file_at_hand_is_taken(nowhere, monkeypatch):
    root = nowhere / "recordings" / "lobster"
    root.mkdir(parents=True)
    Day(seed=1, levels=2, rows=50).write_zip(root / "small.zip", ticker="SMALL")
    Day(seed=1, levels=2, rows=900).write_zip(root / "large.zip", ticker="LARGE")
    monkeypatch.setenv("ANYTICK_MARKET_DATA", str(nowhere / "recordings"))
    assert find_source(None, seed=1).instrument.symbol == "LARGE"


STRATEGY = """
from engine import Strategy

class Mine(Strategy):
    timer_ns = 60_000_000_000
    def on_timer(self, ctx):
        ctx.buy(1)

class Other:
    pass
"""


def test_a_strategy_of_a_users_file_runs(nowhere, capsys):
    (nowhere / "mine.py").write_text(STRATEGY)
    arguments = [
        "backtest",
        "--strategy",
        "mine.py:Mine",
        "--queue",
        "pessimistic",
        "--quiet",
        "--journal",
        "kept",
    ]
    assert main([*arguments, "--report", "mine.html"]) == 0
    out = capsys.readouterr().out
    assert "Mine" in out
    assert "mine.html" in out
    assert (nowhere / "mine.html").exists()
    assert main(["journal", "verify", "kept/Mine.journal"]) == 0


@pytest.mark.parametrize(
    "name", ["nothing.py:Mine", "mine.py:Other", "mine.py:Missing", "mine.py", "moon", "mine.txt:Mine"]
)
def test_a_strategy_that_is_none_is_refused(nowhere, name):
    (nowhere / "mine.py").write_text(STRATEGY)
    with pytest.raises(ConfigError):
        load_strategy(name)


def test_a_missing_file_is_bad_input(nowhere, capsys):
    assert main(["backtest", "nothing.zip", "--quiet"]) == 2
    assert "nothing.zip" in capsys.readouterr().err
    assert list(nowhere.iterdir()) == []


def test_sizes_come_from_the_data():
    flow = GeneratedFlow(seed=1, steps=5_000)
    assert typical_lots(flow) % 100 == 0
    assert strategy_maker("twap", lots=7)().size_lots == 700

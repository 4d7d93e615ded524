from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from fake_results import fake_backtest, fake_performance, fake_run

from backtest.console import (
    WIDTH,
    print_backtest_table,
    print_performance,
    print_run_table,
    result_table_text,
    run_progress,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_table_is_the_same_for_the_same_result_whatever_the_clock_said() -> None:
    assert result_table_text(fake_run(wall_seconds=10.0)) == result_table_text(fake_run(wall_seconds=300.0))
    assert result_table_text(fake_run(seed=8)) != result_table_text(fake_run(seed=7))


@pytest.mark.parametrize(
    "environment", [{"COLUMNS": "40"}, {"COLUMNS": "300"}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}]
)
def test_table_in_a_file_is_plain_and_of_fixed_width(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result_table_text(fake_run())
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sink = io.StringIO()
    print_run_table(fake_run(), stream=sink)
    assert sink.getvalue() == expected
    assert "\x1b" not in expected
    assert max(map(len, expected.splitlines())) <= WIDTH


def test_table_names_every_policy_verdict_and_hash() -> None:
    run = fake_run()
    text = result_table_text(run)
    for policy in run.policies:
        assert policy.label in text
        assert policy.journal_hash[:8] in text
    for expected in (
        run.headline,
        run.data_hash,
        run.config_hash,
        run.journal_hash,
        "LinUCB cost 0.090 bps less",
    ):
        assert expected in text
    assert "reference: single best venue" in text


def test_tables_go_to_standard_output_and_the_clock_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = fake_run()
    print_run_table(run)
    assert capsys.readouterr() == (result_table_text(run), "")
    print_performance(run.performance)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3 min 35 s" in err
    assert "p99.9" in err


def test_terminal_table_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    sink = Terminal()
    print_run_table(fake_run(), stream=sink)
    assert fake_run().policies[0].journal_hash[:8] in sink.getvalue()
    assert "decisions" not in sink.getvalue()


def test_names_are_text_and_not_markup_or_escape_codes() -> None:
    run = fake_run()
    hostile = "[bold red]x[/] \x1b[31m"
    text = result_table_text(
        replace(run, headline=hostile, policies=(replace(run.policies[0], label=hostile),))
    )
    assert "[bold red]x[/]" in text
    assert "\x1b" not in text


def test_stream_without_greek_letters_still_gets_its_table() -> None:
    raw = io.BytesIO()
    sink = io.TextIOWrapper(raw, encoding="ascii")
    print_run_table(fake_run(), stream=sink)
    assert b"?-greedy" in raw.getvalue()


def test_backtests_stand_side_by_side() -> None:
    sink = io.StringIO()
    results = [fake_backtest(name="optimistic"), fake_backtest(seed=12, name="pessimistic")]
    print_backtest_table(results, stream=sink)
    lines = sink.getvalue().splitlines()
    assert any("optimistic" in line and "pessimistic" in line for line in lines)
    assert any(line.startswith("annual Sharpe [95% CI]") for line in lines)
    assert any("refused: WOULD_CROSS" in line for line in lines)
    again = io.StringIO()
    print_backtest_table(results, stream=again)
    assert again.getvalue() == sink.getvalue()


def test_no_backtest_prints_nothing() -> None:
    sink = io.StringIO()
    print_backtest_table([], stream=sink)
    assert sink.getvalue() == ""


def test_run_without_policies_prints_its_verdict() -> None:
    assert fake_run().verdict[:40] in result_table_text(replace(fake_run(), policies=()))


def test_quiet_progress_is_silent() -> None:
    sink = Terminal()
    with run_progress(100, quiet=True, stream=sink) as progress:
        progress.update(50, "window 1")
    assert sink.getvalue() == ""


def test_progress_in_a_log_is_one_line_every_ten_seconds() -> None:
    sink, clock = io.StringIO(), FakeClock()
    with run_progress(100_000_000, description="run", stream=sink, clock=clock) as progress:
        for second in range(40):
            clock.now = float(second)
            progress.update(second * 1_000_000, f"window {second // 10}")
        clock.now = 100.0
        progress.update(100_000_000, "window 9")
        progress.update(100_000_000, "window 9")
    assert sink.getvalue().splitlines() == [
        "run window 1 · 10% · 10.00 million events · 1.00 million events/s · 10.0 s · 1 min 30 s left",
        "run window 2 · 20% · 20.00 million events · 1.00 million events/s · 20.0 s · 1 min 20 s left",
        "run window 3 · 30% · 30.00 million events · 1.00 million events/s · 30.0 s · 1 min 10 s left",
        "run window 9 · 100% · 100.00 million events · 1.00 million events/s · 1 min 40 s",
    ]


def test_progress_of_unknown_length_has_no_percentage() -> None:
    sink, clock = io.StringIO(), FakeClock()
    with run_progress(0, stream=sink, clock=clock) as progress:
        clock.now = 20.0
        progress.update(3_000)
    assert sink.getvalue() == "run · 3,000 events · 150 events/s · 20.0 s\n"


def test_progress_stays_plain_in_a_file_even_with_colour_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    sink, clock = io.StringIO(), FakeClock()
    with run_progress(10, stream=sink, clock=clock) as progress:
        clock.now = 1.0
        progress.update(10, "end")
    assert "\x1b" not in sink.getvalue()


def test_live_bar_shows_window_percentage_speed_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    sink, clock = Terminal(), FakeClock()
    with run_progress(200_000_000, description="run", stream=sink, clock=clock) as progress:
        clock.now = 10.0
        progress.update(50_000_000, "window 3/18 [odd]")
    shown = sink.getvalue()
    for expected in ("window 3/18 [odd]", "25%", "50.00 million", "5.00 million/s", "10.0 s", "ETA 30.0 s"):
        assert expected in shown


def test_live_bar_survives_an_error_of_the_run() -> None:
    sink = Terminal()
    with pytest.raises(RuntimeError, match="engine"), run_progress(10, stream=sink):
        raise RuntimeError("engine")


def test_performance_without_measurements_has_no_percentiles() -> None:
    performance = fake_performance(np.random.default_rng(1))
    histogram = replace(performance.tick_to_order, counts=np.zeros_like(performance.tick_to_order.counts))
    sink = io.StringIO()
    print_performance(replace(performance, tick_to_order=histogram, stage_seconds={}), stream=sink)
    assert sink.getvalue().count("\n") == 1

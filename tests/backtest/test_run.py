"""The main job as a whole: the same answer every time, and never half of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import SMALL, VENUES, Spoilt, small_quotes

import backtest.run as main_job
from backtest.console import result_table_text
from backtest.market import SCENARIOS
from backtest.result import RunResult
from backtest.run import RunOptions, planned_events, run, run_to_folder
from backtest.trials import TrialRegistry
from data.errors import ConfigError, DataError
from data.quotes import QuoteBlock

PLAIN = RunOptions(seed=1, sensitivity=False)


def job(folder: Path, options: RunOptions = PLAIN) -> RunResult:
    registry = TrialRegistry(folder / "trials.sqlite")
    return run_to_folder(small_quotes(), SMALL, options, folder=folder / "out", registry=registry)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def done(folder: Path) -> RunResult:
    return job(folder)


def test_a_run_leaves_report_result_and_journals(done: RunResult, folder: Path) -> None:
    out = folder / "out"
    assert sorted(path.name for path in out.iterdir()) == ["journals", "report.html", "result.json"]
    written = {path.stem for path in (out / "journals").iterdir()}
    assert written == {policy.name for policy in done.policies} | {one.name for one in done.strategies}
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("trials")) == ["out"]


def test_events_are_rows_times_venues_times_policies(done: RunResult) -> None:
    assert done.rows == small_quotes().rows()
    assert done.events == done.rows * VENUES * len(done.policies)


def test_the_same_seed_gives_the_same_table_and_the_same_hash(
    done: RunResult, folder: Path, tmp_path: Path
) -> None:
    elsewhere, again = job(tmp_path), job(folder)
    for other in (elsewhere, again):
        assert other.journal_hash == done.journal_hash
        assert result_table_text(other) == result_table_text(done)
        assert other.strategies[0].deflated_sharpe == done.strategies[0].deflated_sharpe
        assert other.trials == done.trials


def test_the_sensitivity_table_changes_no_journal_and_no_result(done: RunResult, tmp_path: Path) -> None:
    heard: list[int] = []
    options = replace(PLAIN, sensitivity=True)
    registry = TrialRegistry(tmp_path / "trials.sqlite")
    full = run(
        small_quotes(), SMALL, options, registry=registry, progress=lambda seen, label: heard.append(seen)
    )
    assert full.journal_hash == done.journal_hash
    assert [policy.cost_bps for policy in full.policies] == [policy.cost_bps for policy in done.policies]
    assert full.trials == done.trials
    assert len(full.sensitivity) == len(SCENARIOS)
    taking = {row.scenario: row.cost_bps["best-price sweep"] for row in full.sensitivity}
    assert taking["fees x 0"] < taking["as committed"] < taking["fees x 3"]
    assert taking["as committed"] < taking["displayed size x 0.5"]
    assert taking["fills of posted orders x 0.25"] == taking["as committed"]
    assert heard == sorted(heard)
    assert heard[-1] == planned_events(small_quotes(), SMALL, options)


def test_another_seed_gives_another_answer(done: RunResult, tmp_path: Path) -> None:
    other = job(tmp_path, replace(PLAIN, seed=2))
    assert other.journal_hash != done.journal_hash
    assert result_table_text(other) != result_table_text(done)


def test_another_configuration_gives_another_journal_hash(done: RunResult, tmp_path: Path) -> None:
    bolder = replace(SMALL, routing=replace(SMALL.routing, alpha=2.0))
    other = run(small_quotes(), bolder, PLAIN, registry=TrialRegistry(tmp_path / "trials.sqlite"))
    assert other.config_hash != done.config_hash
    assert other.journal_hash != done.journal_hash


def test_part_of_the_history_is_another_trial_on_the_same_data(tmp_path: Path) -> None:
    recording = small_quotes()
    short = RunOptions(years=0.03, sensitivity=False)
    registry = TrialRegistry(tmp_path / "trials.sqlite")
    whole = run(recording, SMALL, PLAIN, registry=registry)
    result = run(recording, SMALL, short, registry=registry)
    assert result.data_hash == whole.data_hash == recording.data_hash
    assert result.trials == 2 * whole.trials
    assert result.rows == recording.rows(recording.first_ns + round(0.03 * main_job.YEAR_NS))
    assert result.events == planned_events(recording, SMALL, short) * len(result.policies) // 12


@pytest.mark.parametrize("years", [0.0, -1.0, float("nan")])
def test_no_years_are_no_history(years: float) -> None:
    with pytest.raises(ConfigError, match="--years must be positive"):
        planned_events(small_quotes(), SMALL, RunOptions(years=years))


# Whole or not at all.


def test_a_failing_run_leaves_nothing_and_does_not_touch_what_stood(tmp_path: Path) -> None:
    def spoil(seen: int, block: QuoteBlock) -> QuoteBlock:
        if seen == 12:
            raise DataError("ts_ns must not run back, was 5", path="ticks.csv", row=99)
        return block

    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("{}")
    with pytest.raises(DataError, match=r"ticks.csv:row 99"):
        run_to_folder(
            Spoilt(small_quotes(), spoil),
            SMALL,
            PLAIN,
            folder=out,
            registry=TrialRegistry(tmp_path / "t.sqlite"),
        )
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("t.sqlite")] == ["out"]
    assert [path.name for path in out.iterdir()] == ["result.json"]


def test_a_report_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(result: RunResult, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(main_job, "write_run_report", refuse)
    with pytest.raises(OSError, match="No space") as found:
        job(tmp_path)
    assert Path(found.value.filename).parent == tmp_path
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("trials")]


ALONE = """
    import sys
    from pathlib import Path
    from test_run import job

    print(job(Path(sys.argv[1])).journal_hash)
"""


def python(source: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start an interpreter that sees what this one sees."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )


def test_another_process_with_other_threads_and_hash_seed_gives_the_same_hash(
    done: RunResult, tmp_path: Path
) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    said, _ = python(ALONE, tmp_path, PYTHONHASHSEED="4711", **threads).communicate()
    assert said.strip() == done.journal_hash


DRIVER = """
    import sys
    from pathlib import Path
    from test_run import SMALL, PLAIN, TrialRegistry, run_to_folder, small_quotes

    def progress(done, label):
        if label.startswith("fitting window 2"):
            print(label, flush=True)
            sys.stdin.read()  # until it is killed

    folder = Path(sys.argv[1])
    run_to_folder(
        small_quotes(), SMALL, PLAIN, folder=folder / "out", registry=TrialRegistry(folder / "trials.sqlite"),
        progress=progress,
    )
"""


def test_a_killed_run_leaves_no_report_and_the_next_one_is_as_if_it_had_never_been(
    done: RunResult, tmp_path: Path
) -> None:
    child = python(DRIVER, tmp_path)
    assert child.stdout is not None
    with child:
        assert child.stdout.readline().startswith("fitting window 2")
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    half = [place.name for place in tmp_path.iterdir() if place.name.startswith(".anytick-run-out-")]
    assert len(half) == 1
    again = job(tmp_path)
    assert again.journal_hash == done.journal_hash
    assert result_table_text(again) == result_table_text(done)
    assert not [place for place in tmp_path.iterdir() if place.name.startswith(".")]


def test_progress_ends_where_it_was_planned(tmp_path: Path) -> None:
    heard: list[tuple[int, str]] = []
    registry = TrialRegistry(tmp_path / "trials.sqlite")
    run(small_quotes(), SMALL, PLAIN, registry=registry, progress=lambda *said: heard.append(said))
    assert heard[-1] == (planned_events(small_quotes(), SMALL, PLAIN), "done")

"""The stress command: loads really served, figures from answers, and goals that can be missed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from router_ladder import write_ladder
from router_samples import COSTS, VALUES

from backtest.cli import main as entry
from backtest.cli import stress
from backtest.cli.stress import _until_it_fails
from backtest.stress import load
from backtest.stress.load import LoadRun
from backtest.stress.rivals import Hogs, NaiveRun, NaiveService, run_naive
from backtest.stress.verdict import Figures, figures_of, missed_goals, naive_sentence
from engine.inference.errors import ModelError
from engine.inference.serving.request import Outcome

MILLISECOND = 1_000_000


def run_of(
    latencies_ms: list[float], *, refused: int = 0, lost: int = 0, halfway_s: float | None = None
) -> LoadRun:
    count = len(latencies_ms) + refused
    latencies = np.array([*latencies_ms, *[1.0] * refused]) * MILLISECOND
    outcomes = np.array([Outcome.MODEL] * len(latencies_ms) + [Outcome.REFUSED] * refused, np.int64)
    return LoadRun(
        arrivals_ns=np.arange(count, dtype=np.int64) * 10 * MILLISECOND,
        latencies_ns=latencies.astype(np.int64),
        outcomes=outcomes,
        variants=np.where(outcomes == Outcome.MODEL, 5, 255),
        on_time=(outcomes == Outcome.MODEL) & (latencies <= 50 * MILLISECOND),
        asked=count + lost,
        lost=lost,
        cores=2.0,
        seconds=1.0,
        halfway_s=halfway_s,
        start_ns=0,
        slowdowns=(),
    )


def figures(run: LoadRun, tmp_path: Path, *, users: int | None = 4) -> Figures:
    variants = [*write_ladder(tmp_path), *write_ladder(tmp_path)]
    return figures_of(
        run,
        load="load",
        users=users,
        variants=variants,
        costs=COSTS,
        values=VALUES,
        deadline_ns=50 * MILLISECOND,
    )


def test_figures_count_what_is_late_refused_or_lost_as_worth_nothing(tmp_path: Path) -> None:
    found = figures(run_of([10.0] * 96 + [60.0] * 2, refused=1, lost=1), tmp_path)
    assert found.hit_rate == pytest.approx(0.96)
    assert found.value == pytest.approx(0.96)
    assert found.refused == pytest.approx(1 / 99)
    assert found.p99_ms == pytest.approx(60.0)
    assert found.clairvoyant == pytest.approx(1.0)
    missed = missed_goals(found, deadline_ms=50)
    assert [line.split(":")[1].split(" must")[0].split(" may")[0] for line in missed] == [
        " p99 of answered",
        " answered in time",
        " no request",
    ]


def test_a_good_run_misses_no_goal(tmp_path: Path) -> None:
    assert missed_goals(figures(run_of([10.0] * 1_000), tmp_path), deadline_ms=50) == []


def test_an_open_load_is_held_against_its_own_arrivals(tmp_path: Path) -> None:
    found = figures(run_of([10.0] * 100), tmp_path, users=None)
    assert found.value <= found.clairvoyant + 1e-9 <= 1.0 + 2e-9


def test_late_after_a_kill_counts_two_seconds_and_what_was_under_way(tmp_path: Path) -> None:
    latencies = [10.0] * 400
    for late in (96, 250, 301):  # requests come every 10 ms, the kill after 1 s
        latencies[late] = 60.0
    found = figures(run_of(latencies, halfway_s=1.0), tmp_path)
    assert found.late_after == pytest.approx(2 / 205)


def test_lost_cores_leave_out_a_spares_start_and_keep_a_victims_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delays = {1: 1_000, 2: 2_000, 3: 700_000_000}
    monkeypatch.setattr(load, "_run_delay_ns", lambda process: delays.get(process, 0))
    front = SimpleNamespace(worker_ids=(1, 2), process_ids=(1, 2, 3))
    clock = load._WorkerClock(front)  # type: ignore[arg-type]
    delays[1] += 100_000_000
    clock.note()
    # Worker 1 is killed, the spare takes over and waits a little itself.
    del delays[1]
    front.worker_ids = (3, 2)
    delays[3] += 50_000_000
    delays[2] += 250_000_000
    assert clock.cores(1.0) == pytest.approx(2.0 - 0.1 - 0.05 - 0.25)
    # Of a process that is gone nothing is read, and nothing is taken back.
    del delays[2]
    assert clock.cores(1.0) == pytest.approx(2.0 - 0.1 - 0.05 - 0.25)


def test_lost_cores_follow_a_switch_to_new_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    delays = {1: 0, 2: 0, 3: 0}
    monkeypatch.setattr(load, "_run_delay_ns", lambda process: delays.get(process, 0))
    front = SimpleNamespace(worker_ids=(1, 2), process_ids=(1, 2, 3))
    clock = load._WorkerClock(front)  # type: ignore[arg-type]
    delays |= {1: 100_000_000, 2: 100_000_000}
    clock.note()
    # New workers waited while they were starting; from then on it is the load that waits.
    delays |= {4: 400_000_000, 5: 500_000_000}
    front.worker_ids = (4, 5)
    clock.note()
    del delays[1], delays[2]
    delays[4] += 30_000_000
    delays[5] += 70_000_000
    assert clock.cores(1.0) == pytest.approx(2.0 - 0.2 - 0.1)


@pytest.mark.parametrize("place", [0, 1])
def test_the_naive_way_asks_one_session_from_every_user(tmp_path: Path, place: int) -> None:
    variant = write_ladder(tmp_path)[place]
    rows = np.zeros((2, 100, 40), np.float32)
    service = NaiveService(variant.read(), rows, source=variant.path, name=variant.name)
    run = service.run(3, seconds=0.05, deadline_ns=10**12)
    assert len(run.latencies_ns) >= 3
    assert run.hit_rate == 1.0
    assert run.rate * run.seconds == pytest.approx(len(run.latencies_ns))


def test_an_interrupted_naive_run_leaves_no_thread_in_its_session() -> None:
    asked, before = itertools.count(), threading.active_count()

    def ask(rows: object) -> None:
        if next(asked) == 10:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_naive(ask, np.zeros((2, 4), np.float32), users=3, seconds=600.0, deadline_ns=1)
    assert threading.active_count() == before


def test_a_naive_model_of_other_rows_is_refused(tmp_path: Path) -> None:
    variant = write_ladder(tmp_path)[1]
    with pytest.raises(ModelError, match=r"must take rows of \(99, 40\) or a part of them, was \(100, 40\)"):
        NaiveService(variant.read(), np.zeros((2, 99, 40), np.float32), source=variant.path, name="x")


def naive(users: int, *, late: int) -> NaiveRun:
    latencies = np.array([10.0] * (1_000 - late) + [80.0] * late) * MILLISECOND
    return NaiveRun(
        users=users, latencies_ns=latencies.astype(np.int64), deadline_ns=50 * MILLISECOND, seconds=1.0
    )


def test_the_verdict_says_where_the_naive_way_fails() -> None:
    runs = [naive(1, late=0), naive(4, late=10), naive(64, late=11)]
    assert naive_sentence(runs, "large") == (
        "naive, one session of large, a thread per user: fails at 64 users (98.9% in time, p99 80 ms); "
        "meets the deadline at 1, 4"
    )
    assert naive_sentence(runs[:2], "large").endswith(
        "fails nowhere, and answers 4 users (99.0% in time, p99 11 ms)"
    )
    assert naive_sentence(runs[2:], "large").endswith("p99 80 ms)")


def test_more_users_come_until_the_naive_way_fails() -> None:
    asked: list[int] = []

    def run(users: int) -> NaiveRun:
        asked.append(users)
        return naive(users, late=100 if users >= 200 else 0)

    assert [each.users for each in _until_it_fails([run(1), run(64)], run)] == [128, 256]
    assert _until_it_fails([naive(4, late=500)], run) == []
    assert asked == [1, 64, 128, 256]
    assert [each.users for each in _until_it_fails([naive(800, late=0)], lambda n: naive(n, late=0))] == [
        1_024
    ]


def test_hogs_end_with_their_block() -> None:
    with Hogs(2) as hogs:
        ids = [process.pid for process in hogs._processes]
        assert len(ids) == 2
    for process in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_every_naive_user_has_a_latency() -> None:
    run = run_naive(lambda rows: rows, np.zeros((1, 1), np.float32), users=3, seconds=0.0, deadline_ns=1)
    assert len(run.latencies_ns) == 3


def test_the_command_serves_kills_and_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(stress, "_NAIVE_USERS_MAX", 4)
    write_ladder(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    try:
        arguments = ("--users", "2", "--seconds", "0.2", "--deadline-ms", "5000", "--workers", "1")
        code = entry.main(["stress", *arguments, "--kill-worker", "--models", str(tmp_path), "--json"])
    finally:
        signal.signal(signal.SIGTERM, before)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    closed, opened = document["loads"]
    # Speeds are this machine's; that nothing is lost or late by five seconds is ours.
    assert code in (0, 1)
    assert (closed["lost"], opened["lost"]) == (0, 0)
    assert closed["hit_rate"] == opened["hit_rate"] == 1.0
    assert closed["requests"] > 0
    assert sum(closed["variants"].values()) == pytest.approx(1.0)
    assert closed["late_after"] == 0.0
    assert all("value" in sentence for sentence in document["missed"])


def test_a_registry_is_served_and_switched_under_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(stress, "_NAIVE_USERS_MAX", 4)
    ladder, registry = tmp_path / "ladder", ("--registry", str(tmp_path / "registry"))
    ladder.mkdir()
    write_ladder(ladder)
    assert entry.main(["models", "stage", str(ladder), *registry]) == 0
    assert entry.main(["models", "promote", "--staged", *registry]) == 0
    before = signal.getsignal(signal.SIGTERM)
    try:
        arguments = ("--users", "2", "--seconds", "0.2", "--deadline-ms", "5000", "--workers", "1", "--json")
        entry.main(
            ["stress", *arguments, "--switch", "--no-first-answers", "--models", str(tmp_path / "registry")]
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [load["lost"] for load in document["loads"]] == [0, 0]
    assert [load["hit_rate"] for load in document["loads"]] == [1.0, 1.0]
    assert document["loads"][0]["late_after"] == 0.0
    assert document["notes"][0] == "times of tiny, small, large: no profile is kept; measuring"
    assert any("last switch" in note for note in document["notes"])


@pytest.mark.parametrize(
    "words",
    [
        ("promote", "mid"),
        ("promote",),
        ("promote", "mid", "1", "--staged"),
        ("stage", "."),
        ("stage", "x.onnx"),
    ],
)
def test_a_registry_command_that_says_too_little_is_bad_input(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert entry.main(["models", *words, "--registry", str(tmp_path)]) == 2


def test_a_folder_without_a_ladder_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["stress", "--models", str(tmp_path)]) == 2
    assert "ladder.toml" in capsys.readouterr().err

"""One pass with every policy: what it depends on, what the model may know, and how it fails."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import SMALL, VENUES, Spoilt, simulate, small_quotes, small_simulator

from backtest import engines, market, simulation
from backtest.config import POLICIES, RunConfig, WalkForwardConfig
from backtest.simulation import PROBE, Simulation, fit_windows, router_of
from backtest.splits import DAY_NS
from data.errors import ConfigError, DataError
from data.quotes import QuoteBlock
from engine.inference.pipeline import train_window
from engine.inference.session import InferenceSession
from engine.inference.tiers import open_session
from engine.journal import JournalReader, replay_state, verify_journal
from ext.features import FEATURE_NAMES

MODELLED = {"linucb", "linucb_int8"}
STRATEGIES = {"signal_taker", "trend_taker"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journals")


@pytest.fixture(scope="module")
def passed(folder: Path) -> Simulation:
    return simulate(folder)


# Windows.


@given(
    days=st.integers(2, 900),
    train_days=st.integers(1, 300),
    test_days=st.integers(1, 120),
    purge_minutes=st.sampled_from([0.0, 60.0, 3_000.0]),
    embargo_hours=st.sampled_from([0.0, 24.0, 200.0]),
)
def test_windows_tile_any_history_and_never_train_on_what_they_test(
    days: int, train_days: int, test_days: int, purge_minutes: float, embargo_hours: float
) -> None:
    config = WalkForwardConfig(
        train_days=train_days, test_days=test_days, purge_minutes=purge_minutes, embargo_hours=embargo_hours
    )
    first_ns = 18_000 * DAY_NS + 7 * 3_600 * 10**9
    last_ns = (18_000 + days) * DAY_NS - 1
    windows = fit_windows(config, first_ns=first_ns, last_ns=last_ns).windows
    assert windows[0].train_from_ns >= 18_000 * DAY_NS
    assert windows[-1].test_until_ns > last_ns
    for window, following in itertools.pairwise(windows):
        assert window.test_until_ns == following.test_from_ns
    for window in windows:
        assert window.train_from_ns < window.train_until_ns <= window.test_from_ns < window.test_until_ns
    if days >= train_days + 3 * test_days:
        assert windows[0].test_from_ns == (18_000 + train_days) * DAY_NS


def test_one_day_is_no_history_to_walk_through() -> None:
    with pytest.raises(ConfigError, match="needs at least 2 days of history, had 1"):
        fit_windows(WalkForwardConfig(), first_ns=0, last_ns=DAY_NS - 1)


def test_every_policy_of_the_configuration_can_be_made() -> None:
    for name in (*POLICIES, PROBE):
        assert router_of(name, RunConfig(), venue_count=3, seed=1).name


# What a pass depends on.


def test_one_seed_gives_one_journal_for_every_engine(passed: Simulation) -> None:
    assert set(passed.journal_hashes) == {*POLICIES, PROBE, *STRATEGIES}
    assert simulate().journal_hashes == passed.journal_hashes


def test_another_seed_gives_other_journals(passed: Simulation) -> None:
    other = simulate(seed=2, policies=("linucb", "sweep"), probe=False, strategies=None)
    for name, digest in other.journal_hashes.items():
        assert digest != passed.journal_hashes[name]


def test_every_engine_handles_every_quote_of_every_venue(passed: Simulation) -> None:
    assert passed.rows == small_quotes().rows()
    every = [*passed.policies.values(), *passed.strategies.values(), passed.probe]
    assert len(every) == len(passed.journal_hashes)
    for engine in every:
        assert engine is not None
        assert engine.loop.events == passed.rows * VENUES, engine.name


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(
    passed: Simulation, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "EnginePool", partial(engines.EnginePool, threads=threads))
    assert simulate().journal_hashes == passed.journal_hashes


def test_blocks_rings_and_turns_of_any_size_change_nothing(
    passed: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market.MarketFeed, "block_rows", 61)
    monkeypatch.setattr(simulation, "RING_EVENTS", 64)
    monkeypatch.setattr(engines, "_EVENTS_A_TURN", 17)
    found = simulate(policies=("linucb", "epsilon_greedy"), probe=False)
    assert found.journal_hashes.items() <= passed.journal_hashes.items()


def test_an_engine_does_not_care_who_runs_beside_it(passed: Simulation) -> None:
    # The sampler is the first policy, so this also moves the sampling to another engine.
    alone = simulate(policies=("sweep", "linucb"), probe=False, strategies=None)
    assert alone.journal_hashes.items() <= passed.journal_hashes.items()


# The journals.


def test_every_journal_verifies_and_replays(passed: Simulation, folder: Path) -> None:
    written = {path.stem: path for path in folder.iterdir()}
    assert set(written) == {*POLICIES, *STRATEGIES}
    for name, path in written.items():
        assert verify_journal(path).sha256 == passed.journal_hashes[name]
        state = replay_state(path)
        assert not state.open_orders
        assert not state.decisions_pending


def test_shuffling_the_signal_changes_who_listens_and_nobody_else(
    passed: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shuffled:
        """The same forecasts, given to the wrong moments."""

        def __init__(self, inner: InferenceSession) -> None:
            self._inner = inner
            self._kept = [0.0] * 5
            self.precision, self.sha256 = inner.precision, inner.sha256
            self.row_shape = inner.row_shape

        def signal(self, features: Any) -> float:
            self._kept.append(self._inner.signal(features))
            return self._kept.pop(0)

    monkeypatch.setattr(
        simulation, "open_session", lambda content, **options: Shuffled(open_session(content, **options))
    )
    shuffled = simulate().journal_hashes
    changed = {name for name, digest in shuffled.items() if digest != passed.journal_hashes[name]}
    assert changed >= MODELLED | {"signal_taker"}
    assert not changed & ({*POLICIES, PROBE} - MODELLED)


def test_a_model_goes_live_with_its_test_window_and_not_before(passed: Simulation, folder: Path) -> None:
    assert all(model is not None for model in passed.models)
    starts = np.array([window.test_from_ns for window in passed.windows])
    for name in ("linucb", "linucb_int8", "linucb_blind"):
        journal = JournalReader(folder / f"{name}.journal")
        decisions = journal.decisions()
        stamped = journal.records["ts_ns"][journal.records["kind"] == 3]
        window = np.searchsorted(starts, stamped, side="right")
        np.testing.assert_array_equal(decisions["model_version"], window)
        assert not decisions["signal"][window == 0].any()
        assert bool(decisions["signal"][window > 0].any()) == (name in MODELLED)


# What a model is taught.


def test_no_model_sees_a_sample_from_outside_its_training_window(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[np.ndarray[Any, Any]] = []

    def spy(features: np.ndarray[Any, Any], changes: Any, **options: Any) -> Any:
        # The features are a field of the samples, whose other fields tell when they were taken.
        assert isinstance(features.base, np.ndarray)
        taught.append(features.base.copy())
        assert options["feature_names"] == FEATURE_NAMES
        return train_window(features, changes, **options)

    monkeypatch.setattr(simulation, "train_window", spy)
    done = simulate(policies=("linucb", "sweep"), probe=False, strategies=None)
    assert len(taught) == len(done.windows) >= 2
    for samples, window in zip(taught, done.windows, strict=True):
        assert (np.diff(samples["ts_ns"]) >= 0).all()
        assert samples["ts_ns"][0] >= window.train_from_ns
        assert samples["ts_ns"][-1] < window.train_until_ns
        assert (samples["label_ts_ns"] >= samples["ts_ns"]).all()
        assert samples["label_ts_ns"].max() < window.test_from_ns
        # One sample a stride, but for the pauses in which none is open.
        rows = small_quotes().rows(window.train_until_ns) - small_quotes().rows(window.train_from_ns)
        assert len(samples) == pytest.approx(rows * VENUES / SMALL.model.sample_stride, rel=0.02)


def test_a_window_too_thin_to_teach_runs_without_a_model() -> None:
    done = simulate(
        recording=small_quotes(rows_per_day=64),
        policies=("linucb", "linucb_blind"),
        probe=False,
        strategies=None,
    )
    assert done.models == [None] * len(done.windows)
    assert done.agent("linucb").decisions == done.agent("linucb_blind").decisions > 0


# Failure.


def test_a_broken_recording_surfaces_and_leaves_no_journal(tmp_path: Path) -> None:
    def spoil(seen: int, block: QuoteBlock) -> QuoteBlock:
        if seen == 9:
            raise DataError("bid must be a number, was nan", path="ticks.csv", row=7)
        return block

    with pytest.raises(DataError, match=r"ticks\.csv:row 7"):
        simulate(tmp_path, recording=Spoilt(small_quotes(), spoil))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_model_surfaces_and_leaves_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        precision, sha256, row_shape = "int8", "", (len(FEATURE_NAMES),)

        def signal(self, features: Any) -> float:
            raise ArithmeticError("no forecast")

    monkeypatch.setattr(simulation, "open_session", lambda content, **options: Failing())
    with pytest.raises(ArithmeticError, match="no forecast"):
        simulate(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_between_turns_ends_all_threads_and_leaves_no_journal(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def progress(done: int, label: str) -> None:
        if label.startswith("fitting"):
            raise error

    with pytest.raises(error):
        small_simulator(tmp_path).run(progress)
    assert list(tmp_path.iterdir()) == []
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("producer", "engines-"))
    ]

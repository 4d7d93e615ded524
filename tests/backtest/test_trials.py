"""The registry counts each trial once, whoever records it and how often, and refuses files not its own."""

from __future__ import annotations

import math
import multiprocessing
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backtest.stats.sharpe import deflated_sharpe, probabilistic_sharpe, return_moments
from backtest.trials import SCHEMA_VERSION, Trial, TrialRegistry, deflated
from data.errors import ConfigError, DataError


def record(registry, *, data_hash="ticks", name="maker", config_hash="c0", seed=1, **change):
    fields = {"kind": "strategy", "sharpe_daily": 0.05, "observations": 250} | change
    registry.record(data_hash, name=name, config_hash=config_hash, seed=seed, **fields)


@pytest.fixture
def registry(tmp_path):
    return TrialRegistry(tmp_path / "var" / "trials.sqlite")


def test_a_trial_reads_back_as_recorded(registry):
    record(registry, extra={"turnover": 3.5, "venues": ["a", "b"]})
    assert registry.trials("ticks") == [
        Trial(
            data_hash="ticks",
            kind="strategy",
            name="maker",
            config_hash="c0",
            seed=1,
            sharpe_daily=0.05,
            observations=250,
            extra={"turnover": 3.5, "venues": ["a", "b"]},
        )
    ]
    assert registry.trials("other ticks") == []


def test_the_same_trial_again_is_no_further_trial(registry):
    for _ in range(3):
        record(registry)
    assert registry.count("ticks") == 1
    record(registry, sharpe_daily=0.07)
    assert [trial.sharpe_daily for trial in registry.trials("ticks")] == [0.07]


@pytest.mark.parametrize("change", [{"name": "taker"}, {"config_hash": "c1"}, {"seed": 2}])
def test_another_name_configuration_or_seed_is_another_trial(registry, change):
    record(registry)
    record(registry, **change)
    assert registry.count("ticks") == 2


def test_data_sets_and_kinds_are_counted_apart(registry):
    record(registry, sharpe_daily=0.1)
    record(registry, name="linucb", kind="policy", sharpe_daily=0.2)
    record(registry, name="sweep", kind="policy", sharpe_daily=0.4)
    record(registry, data_hash="other ticks")
    assert registry.count("ticks") == 3
    assert registry.count("ticks", kind="policy") == 2
    assert registry.sharpe_variance("ticks", kind="policy") == pytest.approx(0.02)
    assert registry.sharpe_variance("ticks") == pytest.approx(np.var([0.1, 0.2, 0.4], ddof=1))


def test_trials_without_a_ratio_count_but_have_no_variance(registry):
    record(registry, sharpe_daily=math.nan)
    record(registry, seed=2)
    assert registry.count("ticks") == 2
    assert math.isnan(registry.trials("ticks")[0].sharpe_daily)
    assert math.isnan(registry.sharpe_variance("ticks"))


KEYS = st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 3))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, st.floats(-1, 1), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_recording_does_not_show(tmp_path_factory, trials, random):
    shuffled = list(trials.items())
    random.shuffle(shuffled)
    found = []
    for order in (list(trials.items()), shuffled):
        registry = TrialRegistry(tmp_path_factory.mktemp("order") / "trials.sqlite")
        for (name, config_hash, seed), ratio in order:
            record(registry, name=name, config_hash=config_hash, seed=seed, sharpe_daily=ratio)
        found.append((registry.trials("ticks"), registry.count("ticks")))
    assert found[0] == found[1]
    assert found[0][1] == len(trials)


def record_many(path, worker, barrier):
    barrier.wait()
    registry = TrialRegistry(path)
    for seed in range(20):
        record(registry, name=f"own {worker}", seed=seed)
        record(registry, name="shared", seed=seed)


def test_concurrent_processes_create_and_fill_one_registry(tmp_path):
    path = tmp_path / "trials.sqlite"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    workers = [context.Process(target=record_many, args=(path, worker, barrier)) for worker in range(4)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0] * 4
    assert TrialRegistry(path).count("ticks") == 4 * 20 + 20
    assert [entry.name for entry in tmp_path.iterdir()] == ["trials.sqlite"]


def test_an_abandoned_writer_leaves_the_registry_as_it_was(registry):
    record(registry)
    with closing(sqlite3.connect(registry.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM trial")
    assert TrialRegistry(registry.path).count("ticks") == 1


def refused(path, match):
    before = path.read_bytes()
    with pytest.raises(DataError, match=match) as caught:
        TrialRegistry(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"ts,price\n1,2\n" * 200, b"\x00" * 4096])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "trials.sqlite"
    path.write_bytes(content)
    refused(path, "trial registry")


def test_another_program_s_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "bookmarks.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE trial (url TEXT)")
    refused(path, "application id")


def test_a_newer_registry_is_refused_and_left_alone(registry):
    with closing(sqlite3.connect(registry.path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    refused(registry.path, "newer anytick")


def test_a_truncated_registry_is_refused(registry):
    for seed in range(200):
        record(registry, seed=seed)
    registry.path.write_bytes(registry.path.read_bytes()[:6000])
    refused(registry.path, "trial registry")


def test_a_row_whose_extra_is_no_json_is_named(registry):
    record(registry, name="a")
    record(registry, name="b")
    with closing(sqlite3.connect(registry.path, isolation_level=None)) as connection:
        connection.execute("UPDATE trial SET extra = '{' WHERE name = 'b'")
    with pytest.raises(DataError, match="row 1"):
        registry.trials("ticks")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"refused"):
        TrialRegistry(tmp_path)


def test_a_path_with_special_characters_works(tmp_path):
    registry = TrialRegistry(tmp_path / "what? 100% #1" / "trials.sqlite")
    record(registry)
    assert registry.count("ticks") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**63},
        {"observations": -1},
        {"sharpe_daily": math.inf},
        {"name": ""},
        {"extra": {"bad": math.nan}},
        {"extra": {"bad": object()}},
    ],
)
def test_values_that_cannot_be_kept_are_refused(registry, change):
    with pytest.raises(ConfigError):
        record(registry, **change)
    assert registry.count("ticks") == 0


RETURNS = 0.08 + np.random.default_rng(6).standard_normal(500)


@pytest.mark.parametrize("recorded", [0, 1])
def test_a_single_trial_is_not_deflated(registry, recorded):
    for _ in range(recorded):
        record(registry)
    judged = deflated(RETURNS, registry, "ticks")
    moments = return_moments(RETURNS)
    assert judged.trials == 1
    assert judged.luck_daily == 0.0
    assert judged.deflated == judged.probabilistic
    assert judged.probabilistic == probabilistic_sharpe(
        moments.sharpe, observations=500, skew=moments.skew, kurtosis=moments.kurtosis
    )


def test_many_trials_deflate_by_their_number_and_variance(registry):
    ratios = np.random.default_rng(2).normal(0.0, 0.04, 30)
    for seed, ratio in enumerate(ratios):
        record(registry, seed=seed, sharpe_daily=float(ratio))
    judged = deflated(RETURNS, registry, "ticks")
    moments = return_moments(RETURNS)
    assert judged.trials == 30
    assert judged.deflated == pytest.approx(
        deflated_sharpe(
            moments.sharpe,
            observations=500,
            skew=moments.skew,
            kurtosis=moments.kurtosis,
            trials=30,
            trial_sharpe_variance=ratios.var(ddof=1),
        )
    )
    assert judged.deflated < judged.probabilistic
    assert deflated(RETURNS, registry, "ticks") == judged


def test_returns_without_variation_have_neither(registry):
    record(registry)
    judged = deflated(np.zeros(30), registry, "ticks")
    assert math.isnan(judged.sharpe_daily)
    assert math.isnan(judged.probabilistic)
    assert math.isnan(judged.deflated)

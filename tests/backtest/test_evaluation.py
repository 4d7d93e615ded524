"""From engines to numbers: against the journals, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import simulate

from backtest.evaluation import (
    BASELINES,
    BPS,
    LABELS,
    best_fixed_arm,
    cheapest_baseline,
    cost_in_bps,
    day_stats,
    merged_latency,
    policy_results,
    scored_days,
    window_results,
)
from backtest.result import PolicyResult
from backtest.simulation import Simulation
from backtest.splits import DAY_NS
from data.schema import ParentState, ReportKind
from engine.journal import JournalReader
from engine.order_ids import unpack_order_ids
from ext.execution_stats import DAY_STATS_DTYPE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journals")


@pytest.fixture(scope="module")
def passed(folder: Path) -> Simulation:
    return simulate(folder)


@pytest.fixture(scope="module")
def results(passed: Simulation) -> dict[str, PolicyResult]:
    return {result.name: result for result in policy_results(passed, seed=1, confidence=0.95)}


def test_cost_is_weighted_by_notional() -> None:
    stats = np.zeros(3, DAY_STATS_DTYPE)
    stats["cost_ticklots"] = [10.0, 50.0, 0.0]
    stats["notional_ticklots"] = [1e5, 2e5, 0.0]
    assert cost_in_bps(stats) == pytest.approx(60 / 3e5 * 1e4)
    assert np.isnan(cost_in_bps(stats[2:]))


@pytest.mark.parametrize("name", ["linucb", "sweep", "round_robin"])
def test_costs_are_those_that_the_journal_tells(
    passed: Simulation, folder: Path, results: dict[str, PolicyResult], name: str
) -> None:
    journal = JournalReader(folder / f"{name}.journal")
    parents = journal.parents()
    first = {int(row["parent_id"]): row for row in parents[::-1]}
    ended = [row for row in parents if row["state"] != ParentState.WORKING]
    arrival_day = passed.first_day
    plan_day = {key: int(record["ts_ns"]) // DAY_NS for key, record in _first_records(journal).items()}
    fills = journal.reports()
    fills = fills[fills["kind"] == ReportKind.FILL]
    owners = unpack_order_ids(fills["client_order_id"])["parent"]
    start = scored_days(passed).start + arrival_day
    cost = fee = notional = 0.0
    for row in ended:
        key = int(row["parent_id"])
        if plan_day[key] < start:
            continue
        assert row["cancelled_lots"] == 0
        mid = 0.5 * int(first[key]["arrival_mid_x2"])
        own = fills[owners == key]
        assert own["size_lots"].sum() == row["size_lots"]
        cost += float((int(row["side"]) * (own["price_ticks"] - mid) * own["size_lots"]).sum())
        fee += float(own["fee_nano"].sum()) / (passed.recording.instrument.tick_value * 1e9)
        notional += mid * int(row["size_lots"])
    assert results[name].cost_bps.mean == pytest.approx((cost + fee) / notional * BPS, rel=1e-9)
    assert results[name].fee_bps == pytest.approx(fee / notional * BPS, rel=1e-9)
    assert results[name].filled_lots == sum(
        int(row["filled_lots"]) for row in ended if plan_day[int(row["parent_id"])] >= start
    )


def _first_records(journal: JournalReader) -> dict[int, np.void]:
    records = journal.records[journal.records["kind"] == 2]
    keys = np.ascontiguousarray(records["payload"][:, :4]).view("<u4")[:, 0]
    return dict(zip(keys[::-1].tolist(), records[::-1], strict=True))


def test_results_are_complete_and_within_their_bounds(
    passed: Simulation, results: dict[str, PolicyResult]
) -> None:
    days = scored_days(passed)
    assert set(results) == set(passed.policies)
    for name, result in results.items():
        assert result.label == LABELS[name]
        assert len(result.daily_cost_bps) == len(result.cumulative_regret_bps) == days.stop - days.start
        assert result.cost_bps.low <= result.cost_bps.mean <= result.cost_bps.high
        assert 0.0 <= result.taker_share <= 1.0
        assert result.journal_hash == passed.journal_hashes[name]
        assert result.journal_records == passed.policies[name].writer.record_count
        shares = result.venue_share
        assert shares.shape == (len(passed.windows), len(passed.venues))
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)
        traded = np.isfinite(result.daily_cost_bps)
        np.testing.assert_array_equal(traded, day_stats(passed, name)["notional_ticklots"] > 0)
    # All execute the same parents.
    assert len({result.parents for result in results.values()}) == 1
    assert results["sweep"].taker_share == 1.0


def test_the_reference_is_the_cheapest_baseline_and_differs_from_nobody(
    passed: Simulation, results: dict[str, PolicyResult]
) -> None:
    reference = cheapest_baseline(passed)
    assert reference in BASELINES
    assert results[reference].cost_bps.mean == min(results[name].cost_bps.mean for name in BASELINES)
    for name, result in results.items():
        difference = result.difference_bps
        if difference is None:
            assert name == reference
        else:
            expected = result.cost_bps.mean - results[reference].cost_bps.mean
            assert difference.mean == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_regret_is_held_against_the_best_arm_of_the_probe(
    passed: Simulation, results: dict[str, PolicyResult]
) -> None:
    best = best_fixed_arm(passed)
    assert best is not None
    assert passed.probe is not None
    stats = passed.probe.loop.agent.day_stats()[:, scored_days(passed)]  # type: ignore[attr-defined]
    costs = [cost_in_bps(row) for row in stats]
    assert best[0] == int(np.argmin(costs))
    for result in results.values():
        daily = np.nan_to_num(result.daily_cost_bps - best[1], nan=0.0)
        np.testing.assert_allclose(result.cumulative_regret_bps, np.cumsum(daily))


def test_the_probe_s_taking_arms_cost_what_a_policy_of_that_arm_would(passed: Simulation) -> None:
    # Every parent was played once by every arm, on the same market.
    assert passed.probe is not None
    stats = passed.probe.loop.agent.day_stats()  # type: ignore[attr-defined]
    ended = stats["parents"].sum(axis=1)
    assert len(set(ended.tolist())) == 1
    lots = (stats["lots"] + stats["cancelled_lots"]).sum(axis=1)
    assert len(set(lots.tolist())) == 1


def test_without_a_probe_there_is_no_regret() -> None:
    bare = simulate(policies=("linucb", "sweep"), probe=False, strategies=None)
    assert best_fixed_arm(bare) is None
    for result in policy_results(bare, seed=1, confidence=0.95):
        assert len(result.cumulative_regret_bps) == 0


def test_latencies_of_all_engines_are_merged(passed: Simulation) -> None:
    merged = merged_latency(passed, tuple(passed.policies))
    histograms = [engine.loop.tick_to_order for engine in passed.policies.values()]
    assert merged.counts.sum() == sum(histogram.total for histogram in histograms) > 0
    assert merged.max_ns == max(histogram.maximum for histogram in histograms)
    assert (np.diff(merged.upper_ns) > 0).all()
    orders = sum(engine.loop.totals["orders"] for engine in passed.policies.values())
    assert merged.counts.sum() == orders


def test_windows_are_described_with_their_models(passed: Simulation) -> None:
    described = window_results(passed)
    assert [window.index for window in described] == list(range(1, len(passed.windows) + 1))
    for window, model in zip(described, passed.models, strict=True):
        assert window.train_from < window.train_until <= window.test_from < window.test_until
        assert window.model is not None
        assert model is not None
        assert window.model.sha256_int8 == model.int8.sha256
        assert window.model.sha256_fp32 != window.model.sha256_int8
        assert window.model.latency_int8_ns > 0

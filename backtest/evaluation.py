"""From the engines of a pass to the numbers of the report: costs, intervals, regret, venue mix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.inference.pipeline import WindowModel
from engine.inference.profile import ModelProfile, measure_latency

from .result import Interval, LatencyHistogram, ModelResult, PolicyResult, WindowResult
from .simulation import Simulation, iso_date
from .splits import DAY_NS, Window
from .stats import paired_difference_interval, ratio_interval

BPS: Final = 1e4
BASELINES: Final = ("epsilon_greedy", "single_best", "single_post", "sweep", "pro_rata", "round_robin")
LABELS: Final = {
    "linucb": "LinUCB, model",
    "linucb_int8": "LinUCB, INT8 model",
    "linucb_blind": "LinUCB, no model",
    "epsilon_greedy": "ε-greedy",
    "single_best": "single best (take)",
    "single_post": "single best (post)",
    "sweep": "best-price sweep",
    "pro_rata": "pro rata",
    "round_robin": "round robin",
}


def scored_days(simulation: Simulation) -> slice:
    """Return the days whose parents count: those inside test windows."""
    first = simulation.windows[0].test_from_ns // DAY_NS - simulation.first_day
    return slice(int(first), simulation.last_day - simulation.first_day + 1)


def day_stats(simulation: Simulation, policy: str) -> NDArray[np.void]:
    """Return a policy's DAY_STATS_DTYPE rows of the scored days."""
    return simulation.agent(policy).day_stats()[0, scored_days(simulation)]


def cost_in_bps(stats: NDArray[np.void]) -> float:
    """Return the size-weighted cost over all days; NaN without a completed parent."""
    notional = float(stats["notional_ticklots"].sum())
    return float(stats["cost_ticklots"].sum()) / notional * BPS if notional > 0 else float("nan")


def cheapest_baseline(simulation: Simulation) -> str:
    """Return the baseline that was cheapest over the test windows, in hindsight.

    LinUCB is held against the hardest of them, not against a convenient one.
    """
    candidates = [name for name in simulation.policies if name in BASELINES] or list(simulation.policies)
    costs = {name: cost_in_bps(day_stats(simulation, name)) for name in candidates}
    return min(candidates, key=lambda name: (np.isnan(costs[name]), costs[name]))


def difference_bps(
    simulation: Simulation, policy: str, reference: str, *, seed: int, confidence: float
) -> Interval:
    """Return the cost of `policy` minus that of `reference`, days paired, in 1e-4 of notional."""
    ours, theirs = day_stats(simulation, policy), day_stats(simulation, reference)
    return paired_difference_interval(
        ours["cost_ticklots"] * BPS,
        theirs["cost_ticklots"] * BPS,
        ours["notional_ticklots"],
        denominator_b=theirs["notional_ticklots"],
        seed=seed,
        confidence=confidence,
    )


def policy_results(simulation: Simulation, *, seed: int, confidence: float) -> tuple[PolicyResult, ...]:
    """Evaluate every policy over the test windows."""
    reference = cheapest_baseline(simulation)
    return tuple(
        _policy_result(simulation, name, reference, seed=seed, confidence=confidence)
        for name in simulation.policies
    )


def _policy_result(
    simulation: Simulation, name: str, reference: str, *, seed: int, confidence: float
) -> PolicyResult:
    stats = day_stats(simulation, name)
    engine = simulation.policies[name]
    notional = stats["notional_ticklots"]
    with np.errstate(invalid="ignore", divide="ignore"):
        daily = np.where(notional > 0, stats["cost_ticklots"] / notional * BPS, np.nan)
    lots = simulation.agent(name).lots_by_venue()[1:].astype(np.float64)
    totals = lots.sum(axis=1, keepdims=True)
    filled = int(stats["lots"].sum())
    wanted = filled + int(stats["cancelled_lots"].sum())
    return PolicyResult(
        name=name,
        label=LABELS.get(name, name),
        parents=int(stats["parents"].sum()),
        decisions=int(stats["decisions"].sum()),
        filled_lots=filled,
        cost_bps=ratio_interval(stats["cost_ticklots"] * BPS, notional, seed=seed, confidence=confidence),
        fee_bps=float(stats["fee_ticklots"].sum() / max(float(notional.sum()), 1e-300)) * BPS,
        difference_bps=None
        if name == reference
        else difference_bps(simulation, name, reference, seed=seed, confidence=confidence),
        taker_share=float(stats["taker_lots"].sum()) / filled if filled else float("nan"),
        filled_share=filled / wanted if wanted else float("nan"),
        daily_cost_bps=daily,
        cumulative_regret_bps=_regret(simulation, daily),
        venue_share=np.divide(lots, totals, out=np.zeros_like(lots), where=totals > 0),
        journal_hash=simulation.journal_hashes[name],
        journal_records=engine.writer.record_count,
    )


def best_fixed_arm(simulation: Simulation) -> tuple[int, NDArray[np.float64]] | None:
    """Return the arm with the lowest cost in hindsight and its daily cost in bps; None without a probe."""
    if simulation.probe is None:
        return None
    stats = simulation.probe.loop.agent.day_stats()[:, scored_days(simulation)]  # type: ignore[attr-defined]
    notional = stats["notional_ticklots"]
    totals = stats["cost_ticklots"].sum(axis=1) / np.maximum(notional.sum(axis=1), 1e-300)
    best = int(np.argmin(totals))
    with np.errstate(invalid="ignore", divide="ignore"):
        daily = np.where(notional[best] > 0, stats["cost_ticklots"][best] / notional[best] * BPS, np.nan)
    return best, daily


def _regret(simulation: Simulation, daily: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running sum over days of cost minus the best fixed arm's cost, in bps."""
    best = best_fixed_arm(simulation)
    if best is None:
        return np.zeros(0)
    return np.cumsum(np.nan_to_num(daily - best[1], nan=0.0))


def window_results(simulation: Simulation) -> tuple[WindowResult, ...]:
    """Describe the windows with their models."""
    return tuple(
        WindowResult(
            index=window.index + 1,
            train_from=iso_date(window.train_from_ns),
            train_until=iso_date(window.train_until_ns),
            test_from=iso_date(window.test_from_ns),
            test_until=iso_date(window.test_until_ns),
            model=None if model is None else _model_result(window, model, simulation.profile),
        )
        for window, model in zip(simulation.windows, simulation.models, strict=True)
    )


def _model_result(window: Window, model: WindowModel, profile: ModelProfile) -> ModelResult:
    comparison = model.comparison
    runs, reason = model.choice(profile)
    return ModelResult(
        window=window.index + 1,
        samples=model.rows,
        accuracy_fp32=comparison.accuracy_fp32,
        accuracy_int8=comparison.accuracy_int8,
        accuracy_majority=comparison.accuracy_majority,
        agreement=comparison.agreement,
        mean_abs_difference=comparison.mean_abs_difference,
        latency_fp32_ns=measure_latency(model.fp32, repetitions=2_000).p50_ns,
        latency_int8_ns=measure_latency(model.int8, repetitions=2_000).p50_ns,
        runs=runs,
        runs_because=reason,
        sha256_fp32=model.fp32.sha256,
        sha256_int8=model.int8.sha256,
    )


def merged_latency(simulation: Simulation, policies: Sequence[str]) -> LatencyHistogram:
    """Return one tick-to-order histogram over several engines."""
    counts: dict[int, int] = {}
    maximum = 0
    for name in policies:
        histogram = simulation.policies[name].loop.tick_to_order
        edges, found = histogram.occupied()
        for edge, count in zip(edges.tolist(), found.tolist(), strict=True):
            counts[edge] = counts.get(edge, 0) + count
        maximum = max(maximum, histogram.maximum)
    edges_sorted = sorted(counts)
    return LatencyHistogram(
        upper_ns=np.array(edges_sorted, dtype=np.int64),
        counts=np.array([counts[edge] for edge in edges_sorted], dtype=np.int64),
        max_ns=maximum,
    )

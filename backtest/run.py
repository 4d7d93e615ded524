"""The main job: years of ticks, every policy, walk-forward, one verdict.

`run` returns a `RunResult`; `run_to_folder` also leaves report, result and journals in a folder that
appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from data.errors import ConfigError, DataError, writing_to
from data.quotes import QuoteRecording
from data.schema import Reason

from .config import RunConfig
from .evaluation import (
    LABELS,
    best_fixed_arm,
    cheapest_baseline,
    cost_in_bps,
    day_stats,
    difference_bps,
    merged_latency,
    policy_results,
    scored_days,
    window_results,
)
from .market import SCENARIOS, Scenario, draw_venues
from .memory import PeakMemory
from .report import write_json, write_run_report
from .result import Interval, Performance, RunResult, SensitivityRow
from .showcase import record_and_judge, strategy_factories
from .simulation import Progress, Simulation, Simulator
from .splits import DAY_NS
from .trials import TrialRegistry
from .whole_folder import whole_folder

YEAR_NS: Final = round(365.25 * DAY_NS)
MODELLED_NOTES: Final = (
    "Venues, depth, fees, latencies and fills are modelled; every number was drawn once from the ranges "
    "in backtest/venue_ranges.toml by the seed.",
    "The market does not react to the orders beyond the liquidity they take: no lasting impact.",
    "Posted orders fill by a modelled rate of aggressors, or when the opposite quote reaches their price.",
    "The example strategies only take: what a resting order earns here would measure the assumed rate of "
    "aggressors, not the strategy.",
    "Policies learn from their own rewards in training and test windows alike; only test windows are scored.",
    "Intervals cover the choice of days, not the luck of one learning path: compare several seeds before "
    "reading a small difference between two learners.",
    "The reference of all differences is the cheapest baseline in hindsight, the hardest to beat.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What a run needs besides its input and configuration.

    Parameters
    ----------
    years : float or None
        Use the first years of the history; None uses all.
    sensitivity : bool
        Replay part of the history once per scenario.
    """

    seed: int = 1
    years: float | None = None
    sensitivity: bool = True


def run(
    recording: QuoteRecording,
    config: RunConfig,
    options: RunOptions,
    *,
    registry: TrialRegistry,
    journal_folder: Path | None = None,
    progress: Progress = lambda done, label: None,
) -> RunResult:
    """Do the main job.

    Parameters
    ----------
    recording : QuoteRecording
    registry : TrialRegistry
        Learns of every strategy and policy tried on this data.
    journal_folder : Path, optional
        Where each engine's journal goes; None keeps only the hashes.
    progress : callable
        Gets (events done, what is going on); see `planned_events` for the total.
    """
    started = time.monotonic()
    stop_ns = _stop_of(recording, options.years)
    plan = _Plan(recording, config, options, stop_ns=stop_ns)
    with PeakMemory() as memory:
        simulator = plan.simulator(journal_folder)
        simulation = simulator.run(progress)
        if simulation.rows == 0:
            raise DataError(
                f"expected a quote that is not crossed, was none in {recording.rows(stop_ns):,} rows",
                path=recording.source,
            )
        quotes = simulation.rows * len(simulation.venues)
        sensitivity = tuple(plan.sensitivity(progress, done=quotes * simulator.engine_count))
    return _result(
        simulation, config, options, registry,
        sensitivity=sensitivity, events=quotes * len(simulation.policies), memory=memory, started=started,
    )  # fmt: skip


def planned_events(recording: QuoteRecording, config: RunConfig, options: RunOptions) -> int:
    """Return how many events all passes of a run will handle, before any row is quarantined."""
    plan = _Plan(recording, config, options, stop_ns=_stop_of(recording, options.years))
    return plan.events_in_all()


def _stop_of(recording: QuoteRecording, years: float | None) -> int:
    if years is None:
        return recording.last_ns + 1
    if not years > 0:
        raise ConfigError(f"--years must be positive, was {years}")
    return min(recording.first_ns + round(years * YEAR_NS), recording.last_ns + 1)


class _Plan:
    """Which passes a run consists of."""

    def __init__(
        self, recording: QuoteRecording, config: RunConfig, options: RunOptions, *, stop_ns: int
    ) -> None:
        self.recording, self.config, self.options, self.stop_ns = recording, config, options, stop_ns
        length_ns = round(config.sensitivity.share * (stop_ns - recording.first_ns))
        wanted = recording.first_ns + max(length_ns, config.sensitivity.days_min * DAY_NS)
        self.sensitivity_stop_ns = min(wanted, stop_ns)
        self.venue_count = len(draw_venues(config.venue_ranges, seed=options.seed))
        self.strategies = strategy_factories(
            recording, config, venue_count=self.venue_count, seed=options.seed
        )
        self.scenarios = SCENARIOS if options.sensitivity and config.sensitivity.share > 0 else ()

    def simulator(self, journal_folder: Path | None) -> Simulator:
        return Simulator(
            self.recording,
            self.config,
            seed=self.options.seed,
            stop_ns=self.stop_ns,
            scenario=SCENARIOS[0],
            policies=self.config.routing.policies,
            journal_folder=journal_folder,
            strategies=self.strategies,
            probe=True,
        )

    def events_in_all(self) -> int:
        # Every policy, the probe of the fixed arms, and the strategies that ride along.
        engines = len(self.config.routing.policies) + 1 + len(self.strategies)
        main = self.recording.rows(self.stop_ns) * engines
        short = self.recording.rows(self.sensitivity_stop_ns) if self.scenarios else 0
        return self.venue_count * (main + short * len(self.scenarios) * len(self.config.sensitivity.policies))

    def sensitivity(self, tick: Progress, *, done: int) -> Iterator[SensitivityRow]:
        """Replay a part of the history once per scenario."""
        for scenario in self.scenarios:
            row = self._scenario(scenario, tick, done=done)
            done += row.events
            yield row

    def _scenario(self, scenario: Scenario, tick: Progress, *, done: int) -> SensitivityRow:
        simulator = Simulator(
            self.recording,
            self.config,
            seed=self.options.seed,
            stop_ns=self.sensitivity_stop_ns,
            scenario=scenario,
            policies=self.config.sensitivity.policies,
        )
        simulation = simulator.run(lambda more, label: tick(done + more, f"{scenario.name}, {label}"))
        reference = cheapest_baseline(simulation)
        return SensitivityRow(
            scenario=scenario.name,
            cost_bps={LABELS[name]: cost_in_bps(day_stats(simulation, name)) for name in simulation.policies},
            difference_bps=difference_bps(
                simulation, "linucb", reference, seed=self.options.seed, confidence=self.config.confidence
            ),
            events=simulation.rows * len(simulation.venues) * len(simulation.policies),
        )


def _result(
    simulation: Simulation,
    config: RunConfig,
    options: RunOptions,
    registry: TrialRegistry,
    *,
    sensitivity: tuple[SensitivityRow, ...],
    events: int,
    memory: PeakMemory,
    started: float,
) -> RunResult:
    recording = simulation.recording
    policies = policy_results(simulation, seed=options.seed, confidence=config.confidence)
    data_hash = recording.data_hash
    strategies = record_and_judge(
        simulation, policies, registry,
        data_hash=data_hash, config_hash=trial_digest(config, simulation), seed=options.seed,
        confidence=config.confidence,
    )  # fmt: skip
    days = scored_days(simulation)
    hashes = "".join(f"{name}:{digest}\n" for name, digest in sorted(simulation.journal_hashes.items()))
    seconds = time.monotonic() - started
    return RunResult(
        headline=headline(recording),
        verdict=verdict(simulation, sensitivity, seed=options.seed, confidence=config.confidence),
        instrument=recording.instrument.symbol,
        source=recording.source,
        recorded=recording.recorded,
        seed=options.seed,
        years=(simulation.last_day - simulation.first_day + 1) / 365.25,
        rows=simulation.rows,
        venues=tuple(venue.name for venue in simulation.venues),
        events=events,
        config=config.as_dict() | {"venues": {venue.name: dict(venue.drawn) for venue in simulation.venues}},
        config_hash=config.digest(),
        data_hash=data_hash,
        journal_hash=hashlib.sha256(hashes.encode()).hexdigest(),
        trials=registry.count(data_hash),
        days=np.arange(simulation.first_day + days.start, simulation.first_day + days.stop).astype(
            "datetime64[D]"
        ),
        windows=window_results(simulation),
        policies=policies,
        strategies=strategies,
        sensitivity=sensitivity,
        notes=(*MODELLED_NOTES, *run_notes(simulation), *getattr(recording, "notes", ())),
        performance=Performance(
            seconds=seconds,
            events_per_second=events / max(simulation.seconds - simulation.train_seconds, 1e-9),
            peak_memory_bytes=memory.peak_bytes,
            tick_to_order=merged_latency(simulation, tuple(simulation.policies)),
            stage_seconds={
                "stream": simulation.seconds - simulation.train_seconds,
                "train": simulation.train_seconds,
                "sensitivity and evaluation": seconds - simulation.seconds,
            },
        ),
    )


def trial_digest(config: RunConfig, simulation: Simulation) -> str:
    """Return what makes a trial on one recording different: the configuration and the days used."""
    return hashlib.sha256(f"{config.digest()}:{simulation.last_day}".encode()).hexdigest()


def headline(recording: QuoteRecording) -> str:
    """Return what kind of evidence this is."""
    kind = "simulation on a recorded mid price" if recording.recorded else "simulation on a synthetic market"
    return f"{recording.instrument.symbol}: {kind}"


def run_notes(simulation: Simulation) -> tuple[str, ...]:
    """Say what happened in this run that the tables do not show."""
    agent = simulation.agent(next(iter(simulation.policies)))
    found = [
        f"{agent.skipped:,} of {agent.plan_count:,} parent orders arrived while the market was closed and "
        f"were skipped; {agent.censored:,} decisions were cut off by the end of the data."
    ]
    refused = [
        f"{window.index + 1} ({', '.join(model.gate_failures)})"
        for window, model in zip(simulation.windows, simulation.models, strict=True)
        if model is not None and model.gate_failures
    ]
    if refused:
        found.append(f"FP32 ran in place of INT8, which failed its gate, in windows: {'; '.join(refused)}.")
    models = [model for model in simulation.models if model is not None]
    if models:
        chosen, reason = models[-1].choice(simulation.profile)
        runtimes = sorted({session.runtime for model in models for session in (model.fp32, model.int8)})
        found.append(
            f"The last model ran as {chosen.upper()}: {reason}. Forecasts came from {' and '.join(runtimes)}."
        )
    gate = {Reason(code).name: count for code, count in simulation.refusals.items() if count}
    if gate:
        found.append(f"The risk gates refused orders, over all policies: {_counted(gate)}.")
    if (simulation.purge_ns, simulation.embargo_ns) != simulation.configured_gaps_ns:
        found.append(
            "The history is too short for the configured purge and embargo; used were "
            f"{simulation.purge_ns / 3.6e12:.1f} h and {simulation.embargo_ns / 3.6e12:.1f} h."
        )
    untaught = [
        str(window.index + 1)
        for window, model in zip(simulation.windows, simulation.models, strict=True)
        if model is None
    ]
    if untaught:
        found.append(
            f"Windows too poor to teach a model (the one before stayed live): {', '.join(untaught)}."
        )
    return tuple(found)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def verdict(
    simulation: Simulation, sensitivity: tuple[SensitivityRow, ...], *, seed: int, confidence: float
) -> str:
    """Say what the run shows besides who won: the best fixed arm, the model's worth, where it turns."""
    parts = []
    best = best_fixed_arm(simulation)
    if best is not None and np.isfinite(best[1]).any():
        venue, style = simulation.venues[best[0] // 2].name, ("taking", "posting")[best[0] % 2]
        parts.append(
            f"In hindsight the best fixed choice was {style} at {venue}; regret is measured against it."
        )
    pairs = (
        ("linucb", "linucb_blind", "The model's signal changed LinUCB's cost by"),
        ("linucb_int8", "linucb", "INT8 always, instead of the faster form, changes it by"),
    )
    for policy, other, words in pairs:
        if policy in simulation.policies and other in simulation.policies:
            change = difference_bps(simulation, policy, other, seed=seed, confidence=confidence)
            if np.isfinite(change.low):
                parts.append(f"{words} {_signed(change)} bps.")
    if sensitivity and not any(np.isfinite(row.difference_bps.low) for row in sensitivity):
        return " ".join([*parts, "The history is too short for the intervals of the sensitivity table."])
    lost = [row.scenario for row in sensitivity if row.difference_bps.low > 0]
    unresolved = [
        row.scenario for row in sensitivity if row.difference_bps.low <= 0 <= row.difference_bps.high
    ]
    if lost:
        parts.append(f"LinUCB loses to the cheapest baseline {_among(lost, sensitivity)}.")
    if unresolved:
        parts.append(f"No difference is shown {_among(unresolved, sensitivity)}.")
    return " ".join(parts)


def _among(names: list[str], rows: tuple[SensitivityRow, ...]) -> str:
    return f"in all {len(rows)} scenarios" if len(names) == len(rows) else f"in: {'; '.join(names)}"


def _signed(change: Interval) -> str:
    return f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def run_to_folder(
    recording: QuoteRecording,
    config: RunConfig,
    options: RunOptions,
    *,
    folder: Path,
    registry: TrialRegistry,
    keep_journals: bool = True,
    progress: Progress = lambda done, label: None,
) -> RunResult:
    """Do the main job and leave ``report.html``, ``result.json`` and the journals in `folder`."""
    with writing_to(folder), whole_folder(folder) as scratch:
        journals = scratch / "journals" if keep_journals else None
        if journals is not None:
            journals.mkdir()
        result = run(
            recording, config, options, registry=registry, journal_folder=journals, progress=progress
        )
        write_run_report(result, scratch / "report.html")
        write_json(result, scratch / "result.json")
    return result

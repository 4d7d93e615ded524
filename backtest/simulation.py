"""One pass over the market with every policy, walk-forward: train, switch the model, test, repeat.

Test windows tile time after the first training window. At each boundary the engines stand still, a
classifier is fitted on the samples of the window behind it, exported, quantized and handed to the
engines that use it. Policies keep learning from their own rewards all the time, as they would live;
only outcomes inside test windows are scored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from data.quotes import QuoteRecording
from data.schema import JournalKind
from engine.inference.classifier import TrainingConfig
from engine.inference.pipeline import WindowModel, train_window
from engine.inference.profile import ModelProfile, load_profile
from engine.inference.session import source_of
from engine.inference.tiers import open_session
from engine.journal import JournalWriter
from engine.journal_format import window_payload
from engine.order_ids import run_id_of
from engine.risk import make_gate
from engine.routing import make_router
from ext.event_loop import EventLoop
from ext.executor import ParentExecutor
from ext.features import FEATURE_NAMES
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.routing import ArmProbeRouter, Router
from ext.sim_venue import SimulatedVenue
from ext.tick_path import Agent

from .config import RunConfig, WalkForwardConfig
from .engines import RING_EVENTS, Engine, EnginePool
from .market import MarketFeed, Scenario, VenueModel, draw_venues
from .plan import draw_plan, repeat_per_arm
from .splits import DAY_NS, Window, rolling_windows

_JOURNAL_RECORDS: Final = 65_536
PROBE: Final = "arm_probe"
SIGNAL_PRECISION: Final = {"linucb": "profile", "linucb_int8": "int8"}
"""Which policies see the model, and in which precision: ``"profile"`` takes the faster one."""

Progress = Callable[[int, str], None]


@dataclass(kw_only=True, slots=True)
class Simulation:
    """What a pass leaves behind: engines at rest, windows, models, counts."""

    recording: QuoteRecording
    venues: tuple[VenueModel, ...]
    windows: tuple[Window, ...]
    first_day: int
    last_day: int
    rows: int
    policies: dict[str, Engine]
    probe: Engine | None
    strategies: dict[str, Engine]
    models: list[WindowModel | None]
    profile: ModelProfile
    seconds: float
    train_seconds: float
    purge_ns: int
    embargo_ns: int
    configured_gaps_ns: tuple[int, int]
    journal_hashes: dict[str, str] = field(default_factory=dict)

    @property
    def refusals(self) -> dict[int, int]:
        """Orders that the risk gates refused, by Reason, over all policies."""
        found: dict[int, int] = {}
        for engine in self.policies.values():
            for code, count in engine.loop.gate.refusals.items():
                found[code] = found.get(code, 0) + count
        return found

    def agent(self, policy: str) -> ParentExecutor:
        """Return the executor of a policy."""
        agent = self.policies[policy].loop.agent
        assert isinstance(agent, ParentExecutor)
        return agent


StrategyFactory = Callable[[], Agent]


def gaps_ns(config: WalkForwardConfig) -> tuple[int, int]:
    """Return the configured purge and embargo."""
    return round(config.purge_minutes * 60e9), round(config.embargo_hours * 3600e9)


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowPlan:
    """Walk-forward windows, with the gaps that were used: a short history shrinks them too."""

    windows: tuple[Window, ...]
    purge_ns: int
    embargo_ns: int


def fit_windows(config: WalkForwardConfig, *, first_ns: int, last_ns: int) -> WindowPlan:
    """Cut a history into windows; one too short for three of the configured kind gets smaller windows."""
    days = last_ns // DAY_NS + 1 - first_ns // DAY_NS
    train, test = config.train_days, config.test_days
    if days < train + 3 * test:
        train, test = max(1, int(days * 0.4)), max(1, int(days * 0.2))
    purge_ns, embargo_ns = gaps_ns(config)
    if purge_ns + embargo_ns >= train * DAY_NS // 2:
        purge_ns = embargo_ns = train * DAY_NS // 8
    windows = rolling_windows(
        first_ns, last_ns, train_days=train, test_days=test, purge_ns=purge_ns, embargo_ns=embargo_ns
    )
    return WindowPlan(windows=windows, purge_ns=purge_ns, embargo_ns=embargo_ns)


def router_of(name: str, config: RunConfig, *, venue_count: int, seed: int) -> Router:
    """Return a fresh routing policy by its configured name; LinUCB's forms differ in the model they see."""
    if name == PROBE:
        return ArmProbeRouter()
    routing = config.routing
    return make_router(
        "linucb" if name in ("linucb_int8", "linucb_blind") else name,
        venue_count,
        seed=seed,
        alpha=routing.alpha,
        ridge=routing.ridge,
        epsilon=routing.epsilon,
    )


class Simulator:
    """Builds the engines of one pass and runs it.

    Parameters
    ----------
    recording : QuoteRecording
    config : RunConfig
    seed : int
    stop_ns : int
        End of the history to use, exclusive.
    scenario : Scenario
    policies : sequence of str
    journal_folder : Path or None
        None keeps hashes only.
    strategies : mapping of str to a factory of agents, optional
        Example strategies that trade for themselves on the same market.
    probe : bool
        Also measure every fixed arm, for regret.
    """

    def __init__(
        self,
        recording: QuoteRecording,
        config: RunConfig,
        *,
        seed: int,
        stop_ns: int,
        scenario: Scenario,
        policies: Sequence[str],
        journal_folder: Path | None = None,
        strategies: dict[str, StrategyFactory] | None = None,
        probe: bool = False,
    ) -> None:
        self.recording, self.config, self.seed = recording, config, seed
        self.first_ns, self.stop_ns = recording.first_ns, min(stop_ns, recording.last_ns + 1)
        try:
            self._cut = fit_windows(config.walk_forward, first_ns=self.first_ns, last_ns=self.stop_ns - 1)
        except ConfigError:
            # Too short may mean out of order: if a row is to blame, it is the better answer.
            for _ in recording.blocks():
                pass
            raise
        self.windows = self._cut.windows
        self.venues = draw_venues(config.venue_ranges, seed=seed, scenario=scenario)
        self.plan = draw_plan(config.parents, first_ns=self.first_ns, last_ns=self.stop_ns - 1, seed=seed)
        self.profile: ModelProfile = load_profile()
        self._limits = config.risk.limits(mid_ticks=first_mid_ticks(recording))
        self._folder = journal_folder
        self._config_hash = config.digest()
        self._feed = MarketFeed(recording, self.venues, seed=seed)
        arms = 2 * len(self.venues)
        self._policies = {name: self._engine(name, self._executor(name, self.plan)) for name in policies}
        self._probe = (
            self._engine(PROBE, self._executor(PROBE, repeat_per_arm(self.plan, arms), groups=arms))
            if probe
            else None
        )
        self._strategies = {name: self._engine(name, make()) for name, make in (strategies or {}).items()}
        for engine in self._strategies.values():
            engine.loop.configure(equity_interval_ns=DAY_NS)
        first = next(iter(self._policies.values()))
        first.loop.configure(
            sample_stride=config.model.sample_stride, sample_horizon=config.model.sample_horizon
        )
        self._sampler = first
        self._models: list[WindowModel | None] = []
        self._model_version = 0

    @property
    def engine_count(self) -> int:
        """Engines that see every event."""
        return len(self._policies) + len(self._strategies) + (self._probe is not None)

    def _executor(self, name: str, plan: NDArray[np.void], *, groups: int = 1) -> ParentExecutor:
        first_day = self.first_ns // DAY_NS
        return ParentExecutor(
            router_of(name, self.config, venue_count=len(self.venues), seed=self.seed),
            plan,
            first_day=first_day,
            day_count=(self.stop_ns - 1) // DAY_NS - first_day + 1,
            tick_value=self.recording.instrument.tick_value,
            run_id=run_id_of(self._config_hash, seed=self.seed),
            groups=groups,
            post_ns=round(self.config.routing.post_seconds * 1e9),
            protection=self.config.routing.protection_spreads,
            use_signal=name in SIGNAL_PRECISION,
            window_max=len(self.windows) + 2,
        )

    def _engine(self, name: str, agent: Agent) -> Engine:
        instrument = self.recording.instrument
        venues = [
            SimulatedVenue(
                venue.rules(),
                venue_id=index,
                tick_value=instrument.tick_value,
                seed=self.seed,
                book=OrderBook(64, 64),
            )
            for index, venue in enumerate(self.venues)
        ]
        buffer = JournalBuffer(_JOURNAL_RECORDS, run_id=run_id_of(self._config_hash, seed=self.seed))
        loop = EventLoop(
            ring=SpscRing(RING_EVENTS),
            venues=venues,
            agent=agent,
            gate=make_gate(self._limits, instrument),
            journal=buffer,
            instrument_id=instrument.instrument_id,
            decision_ns=round(self.config.routing.decision_us * 1e3),
            seed=self.seed,
        )
        # The probe plays no policy; its journal would be the largest of all and is hashed only.
        path = None if self._folder is None or name == PROBE else self._folder / f"{name}.journal"
        writer = JournalWriter(path, buffer=buffer, config_hash=self._config_hash, seed=self.seed)
        return Engine(name=name, loop=loop, writer=writer)

    def run(self, progress: Progress) -> Simulation:
        """Stream the history through all engines; `progress` gets (events done, window label)."""
        started = time.monotonic()
        train_seconds = 0.0
        engines = [*self._policies.values(), *self._strategies.values()]
        if self._probe is not None:
            engines.append(self._probe)
        pool = EnginePool(engines)
        bounds = [self.windows[0].test_from_ns, *(window.test_until_ns for window in self.windows)]
        start = self.first_ns
        try:
            for index, stop in enumerate(bounds):
                if index > 0:
                    trained = time.monotonic()
                    self._switch_model(self.windows[index - 1], progress, pool.events)
                    train_seconds += time.monotonic() - trained
                label = "training" if index == 0 else f"window {index}/{len(self.windows)}"
                blocks = self._feed.events(start, min(stop, self.stop_ns))
                pool.run_segment(blocks, tick=partial(_report, progress, pool, label))
                start = stop
            for engine in engines:
                engine.finish()
            for engine in engines:
                if isinstance(engine.loop.agent, ParentExecutor):
                    engine.loop.agent.censor()
            hashes = {engine.name: engine.writer.commit() for engine in engines}
        except BaseException:
            for engine in engines:
                engine.writer.abort()
            raise
        progress(pool.events, "done")
        return Simulation(
            recording=self.recording,
            venues=self.venues,
            windows=self.windows,
            first_day=self.first_ns // DAY_NS,
            last_day=(self.stop_ns - 1) // DAY_NS,
            rows=self._feed.rows,
            policies=self._policies,
            probe=self._probe,
            strategies=self._strategies,
            models=self._models,
            profile=self.profile,
            seconds=time.monotonic() - started,
            train_seconds=train_seconds,
            purge_ns=self._cut.purge_ns,
            embargo_ns=self._cut.embargo_ns,
            configured_gaps_ns=gaps_ns(self.config.walk_forward),
            journal_hashes=hashes,
        )

    def _switch_model(self, window: Window, progress: Progress, events: int) -> None:
        """Fit on the window's training samples and hand the model to the engines that use one."""
        progress(events, f"fitting window {window.index + 1}/{len(self.windows)}")
        model = self._train(window)
        self._models.append(model)
        if model is not None:
            self._model_version = window.index + 1
        for name, engine in (*self._policies.items(), *self._strategies.items()):
            journal, now_ns = engine.loop.journal, engine.loop.now_ns
            journal.append(JournalKind.WINDOW, now_ns, window_payload(window.index + 1))
            precision = SIGNAL_PRECISION.get(name, "profile" if name in self._strategies else None)
            if model is not None and precision is not None:
                # An INT8 model that failed its gate is replaced by the FP32 one it came from.
                as_int8 = not model.gate_failures and (
                    precision == "int8" or model.choice(self.profile)[0] == "int8"
                )
                content = model.int8_model if as_int8 else model.fp32_model
                session = open_session(content, source=f"{name} {model.window_label}", batch_max=1)
                model_ns = self.profile.latency_ns(session.precision)
                engine.loop.configure(source=source_of(session), model_ns=model_ns)
                payload = window_payload(
                    window.index + 1,
                    sha256=session.sha256,
                    int8=session.precision == "int8",
                    model_ns=model_ns,
                )
                journal.append(JournalKind.MODEL, now_ns, payload)
            if isinstance(engine.loop.agent, ParentExecutor):
                engine.loop.agent.begin_window(self._model_version)

    def _train(self, window: Window) -> WindowModel | None:
        self._sampler.samples = [
            kept
            for kept in (batch[batch["ts_ns"] >= window.train_from_ns] for batch in self._sampler.samples)
            if len(kept)
        ]
        if not self._sampler.samples:
            return None
        samples = np.concatenate(self._sampler.samples)
        purge_ns = self._cut.purge_ns
        learnt = samples[
            (samples["ts_ns"] < window.train_until_ns)
            & (samples["label_ts_ns"] < window.train_until_ns + purge_ns)
        ]
        if len(learnt) == 0:
            return None
        horizon, stride = self.config.model.sample_horizon, self.config.model.sample_stride
        return train_window(
            learnt["features"],
            learnt["move_x2"] * 0.5,
            seed=self.seed,
            feature_names=FEATURE_NAMES,
            window_label=f"{iso_date(window.train_from_ns)}..{iso_date(window.train_until_ns)}",
            config=TrainingConfig(
                hidden=self.config.model.hidden, purge_rows=math.ceil(horizon / stride), rows_min=400
            ),
        )


def _report(progress: Progress, pool: EnginePool, label: str) -> None:
    progress(pool.events, label)


def first_mid_ticks(recording: QuoteRecording) -> float:
    """Return the mid of a recording's first quote, in ticks."""
    block = next(iter(recording.blocks(block_rows=1)), None)
    return 0.0 if block is None else 0.5 * (float(block.bid_ticks[0]) + float(block.ask_ticks[0]))


def iso_date(ts_ns: int) -> str:
    """Return the UTC date of an instant."""
    return datetime.fromtimestamp(ts_ns // 1_000_000_000, tz=UTC).date().isoformat()

"""A main job that takes a second: three weeks of a thin synthetic market."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backtest.config import ModelConfig, ParentConfig, RunConfig, SensitivityConfig, WalkForwardConfig
from backtest.market import SCENARIOS
from backtest.showcase import strategy_factories
from backtest.simulation import Simulation, Simulator
from data.instrument import Instrument
from data.quotes import QuoteBlock
from data.synthetic import SyntheticQuotes

VENUES = 3
SMALL = RunConfig(
    walk_forward=WalkForwardConfig(train_days=7, test_days=5, embargo_hours=6.0),
    parents=ParentConfig(per_day=6),
    model=ModelConfig(sample_stride=6, sample_horizon=3),
    sensitivity=SensitivityConfig(share=0.1, days_min=16, policies=("linucb", "sweep")),
)


def small_quotes(*, seed: int = 1, years: float = 0.06, rows_per_day: int = 400) -> SyntheticQuotes:
    return SyntheticQuotes(seed=seed, years=years, rows_per_day=rows_per_day)


def small_simulator(folder: Path | None = None, *, seed: int = 1, **changed: Any) -> Simulator:
    recording = changed.pop("recording", None) or small_quotes(seed=seed)
    options: dict[str, Any] = {
        "stop_ns": recording.last_ns + 1,
        "scenario": SCENARIOS[0],
        "policies": SMALL.routing.policies,
        "journal_folder": folder,
        "strategies": strategy_factories(recording, SMALL, venue_count=VENUES, seed=seed),
        "probe": True,
    }
    return Simulator(recording, SMALL, seed=seed, **(options | changed))


def silent(done: int, label: str) -> None:
    """Hear about progress and do nothing."""


def simulate(folder: Path | None = None, **changed: Any) -> Simulation:
    return small_simulator(folder, **changed).run(silent)


class Spoilt:
    """A recording that passes its blocks through `spoil`, which may raise."""

    recorded = False

    def __init__(self, inner: SyntheticQuotes, spoil: Callable[[int, QuoteBlock], QuoteBlock]) -> None:
        self._inner, self._spoil = inner, spoil
        self._seen = 0
        self.instrument: Instrument = inner.instrument
        self.first_ns, self.last_ns = inner.first_ns, inner.last_ns
        self.source, self.data_hash = inner.source, inner.data_hash

    def rows(self, until_ns: int | None = None) -> int:
        return self._inner.rows(until_ns)

    def blocks(self, **options: Any) -> Iterator[QuoteBlock]:
        for block in self._inner.blocks(**options):
            self._seen += 1
            yield self._spoil(self._seen, block)

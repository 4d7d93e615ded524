from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ext.journal import JournalBuffer
from ext.ring_buffer import SpscRing
from ext.risk_gate import RiskGate
from ext.signal_source import SignalSource
from ext.sim_venue import SimulatedVenue
from ext.tick_path import Agent, TickPath

EVENT_DTYPE: np.dtype[Any]

@final
class EventLoop(TickPath):
    def __new__(
        cls,
        *,
        ring: SpscRing,
        venues: Sequence[SimulatedVenue],
        agent: Agent,
        gate: RiskGate,
        journal: JournalBuffer,
        instrument_id: int = 0,
        decision_ns: int = 2_000,
        seed: int = 1,
        order_rings: Sequence[SpscRing] = (),
        live: bool = False,
    ) -> EventLoop: ...
    @property
    def venues(self) -> tuple[SimulatedVenue, ...]: ...
    @property
    def totals(self) -> dict[str, int]: ...
    @property
    def foreign_events(self) -> int: ...
    @property
    def refusals(self) -> dict[int, int]: ...
    @property
    def signal_error(self) -> Exception | None: ...
    def configure(
        self,
        *,
        source: SignalSource | None = None,
        model_ns: int | None = None,
        sample_stride: int | None = None,
        sample_horizon: int | None = None,
        equity_interval_ns: int | None = None,
        record_fills: bool | None = None,
    ) -> None: ...
    def run(self, count_max: int = 16_384) -> int: ...
    def run_live(self) -> bool: ...
    def finish(self) -> bool: ...
    def take_samples(self) -> NDArray[np.void]: ...
    def take_equity(self) -> NDArray[np.void]: ...
    def take_fills(self) -> NDArray[np.void]: ...

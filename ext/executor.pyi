from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from ext.routing import Router
from ext.tick_path import Agent

PLAN_DTYPE: Final[np.dtype[np.void]]

@final
class ParentExecutor(Agent):
    def __new__(
        cls,
        router: Router,
        plan: NDArray[np.void],
        *,
        first_day: int,
        day_count: int,
        tick_value: float,
        run_id: int,
        groups: int = 1,
        post_ns: int = 60_000_000_000,
        closed_ns: int = 600_000_000_000,
        protection: float = 1.0,
        use_signal: bool = True,
        window_max: int = 512,
    ) -> ParentExecutor: ...
    @property
    def router(self) -> Router: ...
    @property
    def plan_count(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def decisions(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def censored(self) -> int: ...
    def begin_window(self, model_version: int = 0) -> None: ...
    def day_stats(self) -> NDArray[np.void]: ...
    def lots_by_venue(self) -> NDArray[np.int64]: ...
    def censor(self) -> int: ...

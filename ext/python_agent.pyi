from collections.abc import Callable, Mapping
from typing import Any, Final, final

from ext.tick_path import Agent

HOOK_NAMES: Final[tuple[str, ...]]

@final
class PythonAgent(Agent):
    def __init__(
        self,
        hooks: Mapping[str, Callable[..., Any]],
        *,
        run_id: int,
        tick_value: float,
        tick_size_ticks: int = 1,
        timer_ns: int = 0,
        batch_events: int = 0,
        touch_sizes: bool = False,
        touch_every_ns: int = 0,
    ) -> None: ...
    @property
    def error(self) -> BaseException | None: ...
    def set_relieve(self, relieve: Callable[[], Any] | None) -> None: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...

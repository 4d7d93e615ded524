from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from ext.tick_path import Agent

COMMANDS_MAX: Final[int]
VIEW_DTYPE: Final[np.dtype[np.void]]

@final
class CompiledAgent(Agent):
    def __init__(
        self,
        *,
        address: int,
        owner: object,
        state: NDArray[Any],
        run_id: int,
        timer_ns: int = 0,
        packets: bool = True,
        features: bool = False,
    ) -> None: ...
    @property
    def owner(self) -> object: ...
    @property
    def state(self) -> NDArray[Any]: ...
    @property
    def error(self) -> BaseException | None: ...
    def set_relieve(self, relieve: object) -> None: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...

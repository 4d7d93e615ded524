from typing import Any, Final, final

import numpy as np

NAME: Any
MODES: Final[dict[str, int]]
POLICIES: Final[dict[str, int]]
WAITS: Final[dict[str, int]]
KINDS: Final[dict[int, str]]

@final
class RingMemory:
    @property
    def name(self) -> str | None: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...

def unlink_ring(name: str) -> None: ...

from typing import Any

import numpy as np
from numpy.typing import NDArray

EVENTS_MAX: int
HEADER_BYTES: int

def crc32c(data: Any, start: int = 0) -> int: ...
def pack(events: NDArray[np.void]) -> bytes: ...
def unpack(data: Any, out: NDArray[np.void]) -> int: ...

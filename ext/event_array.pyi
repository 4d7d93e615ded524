from typing import Any

import numpy as np
from numpy.typing import NDArray

EVENT_DTYPE: np.dtype[Any]

def first_illegal(events: NDArray[np.void], previous_ns: int) -> int: ...
def packets_end(events: NDArray[np.void]) -> int: ...

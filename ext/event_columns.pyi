from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def interleave(columns: Sequence[NDArray[Any]], out: NDArray[np.void]) -> None: ...
def separate(events: NDArray[np.void]) -> list[NDArray[Any]]: ...

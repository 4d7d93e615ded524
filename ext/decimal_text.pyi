from typing import Final

import numpy as np
from numpy.typing import NDArray

DECIMALS_MAX: Final[int]

def decimal_units(texts: list[str], decimals: int) -> tuple[NDArray[np.int64], int]: ...

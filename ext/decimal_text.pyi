from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

DECIMALS_MAX: Final[int]

def decimal_units(texts: list[str], decimals: int) -> tuple[NDArray[np.int64], int]: ...
def first_bad_pair(
    pairs: Sequence[Sequence[str]], price_decimals: int, price_max: int, size_decimals: int, size_max: int
) -> int: ...

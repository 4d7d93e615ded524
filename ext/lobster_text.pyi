from typing import Any

import numpy as np
from numpy.typing import NDArray

def parse_messages(
    text: Any, out: NDArray[np.int64], previous_ns: int, extra: bool
) -> tuple[int, int, str, int]: ...
def parse_books(text: Any, out: NDArray[np.int64]) -> tuple[int, int, str, int]: ...

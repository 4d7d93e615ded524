import numpy as np
from numpy.typing import NDArray

def survey(
    events: NDArray[np.void], previous: NDArray[np.void] | None, newest_ns: int, gap_ns: int
) -> tuple[
    NDArray[np.int64],
    int,
    bool,
    bool,
    int,
    int,
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
]: ...

import numpy as np
from numpy.typing import NDArray

def fill_events(
    messages: NDArray[np.int64],
    books: NDArray[np.int64],
    previous: NDArray[np.int64] | None,
    row: int,
    seq: int,
    midnight_ns: int,
    instrument_id: int,
    out: NDArray[np.void],
) -> tuple[int, int]: ...
def events_most(levels: int) -> int: ...

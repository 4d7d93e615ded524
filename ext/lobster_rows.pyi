from typing import Any

import numpy as np
from numpy.typing import NDArray

def parse_messages(
    text: Any, out: NDArray[np.int64], previous_ns: int, extra: bool
) -> tuple[int, int, str, int]: ...
def parse_books(text: Any, out: NDArray[np.int64]) -> tuple[int, int, str, int]: ...
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

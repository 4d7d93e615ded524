from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

SIZE_TABLE_STEPS: Final[int]

@final
class QuoteMarket:
    def __new__(
        cls, venues: Sequence[Mapping[str, Any]], *, seed: int, instrument_id: int = 0
    ) -> QuoteMarket: ...
    @property
    def venue_count(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def rows(self) -> int: ...
    def events(
        self,
        ts_ns: NDArray[np.int64],
        bid_ticks: NDArray[np.int32],
        ask_ticks: NDArray[np.int32],
        pressure: NDArray[np.int8] | None,
        out: NDArray[np.void],
    ) -> int: ...

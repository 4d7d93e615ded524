from typing import Final, final

import numpy as np
from numpy.typing import NDArray

FEATURE_NAMES: Final[tuple[str, ...]]

@final
class FeatureTracker:
    def __new__(cls, venue_count: int = 1) -> FeatureTracker: ...
    def update(
        self,
        venue: int,
        bid_price_ticks: int,
        bid_size_lots: int,
        ask_price_ticks: int,
        ask_size_lots: int,
        ts_ns: int,
    ) -> None: ...
    def trade(self, side: int) -> None: ...
    def values(self) -> NDArray[np.float32]: ...
    @property
    def mid_x2(self) -> int: ...

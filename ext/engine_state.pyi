from typing import Self, TypedDict, type_check_only

import numpy as np
from numpy.typing import NDArray

SELF_TRADE_MODES: tuple[str, ...]
PHASES: tuple[str, ...]

@type_check_only
class LiveOrder(TypedDict):
    side: int
    price_ticks: int
    shown_lots: int
    leaves_lots: int
    hidden: bool
    stop: bool

class EngineState:
    def __new__(
        cls,
        order_capacity: int = 65_536,
        level_capacity: int = 4_096,
        *,
        self_trade: str = "cancel_newest",
        tick_size_ticks: int = 1,
        instrument_id: int = 0,
        venue_id: int = 0,
    ) -> Self: ...
    @property
    def fill_hash(self) -> int: ...
    @property
    def fill_count(self) -> int: ...
    @property
    def traded_lots(self) -> int: ...
    @property
    def now_ns(self) -> int: ...
    @property
    def live_orders(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    def depth_array(self, side: int, count: int) -> NDArray[np.int64]: ...
    def queue_array(self, side: int, price_ticks: int) -> NDArray[np.uint64]: ...
    def order(self, order_id: int) -> LiveOrder | None: ...
    def state_hash(self) -> int: ...
    def verify(self) -> None: ...
    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...

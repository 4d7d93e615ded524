from collections.abc import Mapping
from typing import Any, Final, final

from ext.order_book import OrderBook

QUEUE_MODES: Final[dict[str, int]]

@final
class SimulatedVenue:
    def __new__(
        cls, rules: Mapping[str, Any], *, venue_id: int, tick_value: float, seed: int, book: OrderBook
    ) -> SimulatedVenue: ...
    @property
    def book(self) -> OrderBook: ...
    @property
    def venue_id(self) -> int: ...
    @property
    def resting_count(self) -> int: ...

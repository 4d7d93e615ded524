from collections.abc import Mapping
from typing import Any

from ext.order_book import OrderBook

class OwnOrders:
    def __new__(
        cls, rules: Mapping[str, Any], *, venue_id: int, tick_value: float, seed: int, book: OrderBook
    ) -> OwnOrders: ...
    @property
    def book(self) -> OrderBook: ...
    @property
    def venue_id(self) -> int: ...
    @property
    def resting_count(self) -> int: ...

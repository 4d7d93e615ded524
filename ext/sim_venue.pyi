from collections.abc import Mapping
from typing import Any, final

from ext.order_book import OrderBook
from ext.own_orders import OwnOrders

@final
class SimulatedVenue(OwnOrders):
    def __new__(
        cls, rules: Mapping[str, Any], *, venue_id: int, tick_value: float, seed: int, book: OrderBook
    ) -> SimulatedVenue: ...

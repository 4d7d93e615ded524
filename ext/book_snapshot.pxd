"""A book written down as the events that make it again."""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

from .layout cimport EVENT_ADD, EVENT_LEVEL, EVENT_QUOTE, MarketEvent
from .lots cimport LEVEL_LOTS_MAX, SIZE_LOTS_MAX
from .order_book cimport OrderBook
from .order_index cimport Order
from .price_index cimport price_of
from .resting_book cimport ASK, BID, Level, RestingBook, level_behind


cdef struct EventWriter:
    MarketEvent* events         # NULL: they are only counted
    Py_ssize_t count


cdef inline MarketEvent* next_event(EventWriter* out, int kind, int side) noexcept nogil:
    cdef MarketEvent* event = out.events + out.count if out.events != NULL else NULL
    out.count += 1
    if event != NULL:
        memset(event, 0, sizeof(MarketEvent))
        event.kind = <unsigned char>kind
        event.side = 1 if side == BID else -1 if side == ASK else 0
    return event


cdef inline void write_lots(
    EventWriter* out, int kind, int side, int price_ticks, int64_t size_lots, const Order* order
) noexcept nogil:
    cdef MarketEvent* event = next_event(out, kind, side)
    if event != NULL:
        event.price_ticks = price_ticks
        event.size_lots = size_lots
        event.order_id = order.order_id if order != NULL else 0


cdef inline void write_level(EventWriter* out, const RestingBook* book, const Level* level) noexcept nogil:
    """Write a level's orders, first to trade first, and then what its total is beside them."""
    cdef int side = <int>level.side
    cdef int price_ticks = price_of(level.rank, side)
    cdef uint32_t number = level.first
    cdef const Order* order
    cdef int64_t total = 0, lots
    while number:
        order = &book.orders[number]
        if total > LEVEL_LOTS_MAX - order.size_lots:
            # A total below its orders stands as given, so there is room again.
            total = 1
            write_lots(out, EVENT_LEVEL, side, price_ticks, total, NULL)
        write_lots(out, EVENT_ADD, side, price_ticks, order.size_lots, order)
        total += order.size_lots
        number = order.next
    if total == level.total_lots:
        return
    total = min(level.total_lots, <int64_t>SIZE_LOTS_MAX)
    write_lots(out, EVENT_LEVEL, side, price_ticks, total, NULL)
    while total < level.total_lots:
        lots = min(level.total_lots - total, <int64_t>SIZE_LOTS_MAX)
        write_lots(out, EVENT_ADD, side, price_ticks, lots, NULL)
        total += lots


cdef inline void write_side(EventWriter* out, RestingBook* book, int side) noexcept nogil:
    cdef uint32_t number = book.best[side]
    while number:
        write_level(out, book, &book.levels[number])
        number = level_behind(book, number)


cdef inline void write_quote(EventWriter* out, OrderBook book) noexcept nogil:
    cdef MarketEvent* event = next_event(out, EVENT_QUOTE, -1)
    if event == NULL:
        return
    if book.quoted_sides & (1 << BID):
        event.price_ticks = book.bid_price_ticks
        event.size_lots = book.bid_size_lots
    if book.quoted_sides & (1 << ASK):
        # The ask stands in order_id's place (QuoteView).
        event.order_id = (<uint32_t>book.ask_price_ticks) | (<unsigned long long>book.ask_size_lots << 32)


cdef inline void write_book(EventWriter* out, OrderBook book) noexcept nogil:
    """Write levels best first. A quote takes both touches, so it stands behind the sides whose touch is a
    quote's and before the others, which take theirs back."""
    cdef int side
    for side in range(2):
        if book.quoted_sides & (1 << side):
            write_side(out, &book.resting, side)
    if book.quoted_sides:
        write_quote(out, book)
    for side in range(2):
        if book.quoted_sides & (1 << side) == 0:
            write_side(out, &book.resting, side)
            if book.quoted_sides and book.resting.best[side] == 0:
                write_lots(out, EVENT_LEVEL, side, 0, 0, NULL)

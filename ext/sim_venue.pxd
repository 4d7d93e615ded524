"""A simulated venue: the recorded or modelled market of one venue, with our own orders in it.

The market never reacts to us beyond what we take. Lots that an order of ours traded with, taking or
resting, are gone for our other orders: while the touch stands in recorded flow, until the next quote in
a feed of quotes. What becomes of an order that rests: ext/own_orders.pxd.
"""

from libc.stdint cimport int32_t, int64_t

from ext.layout cimport EVENT_QUOTE, MarketEvent, OrderCommand
from ext.order_book cimport book_apply
from ext.own_orders cimport OwnOrders

cdef enum:
    DEPTH_MAX = 32          # levels of a book that an order can take


cdef class SimulatedVenue(OwnOrders):
    cdef void arrive(self, const OrderCommand* command, int64_t ts_ns, int64_t market_mid_x2) noexcept nogil
    cdef void end_of_data(self, int64_t ts_ns) noexcept nogil
    cdef void take(self, const OrderCommand* command, int64_t* leaves, int64_t ts_ns) noexcept nogil
    cdef int offered(self, int side, int32_t* prices, int64_t* sizes) noexcept nogil
    cdef bint declines(self, const OrderCommand* command, int64_t market_mid_x2) noexcept nogil


cdef inline void venue_apply(SimulatedVenue venue, const MarketEvent* event) noexcept nogil:
    """Take an event of the venue's market: its book, what we took of its touch, our resting orders."""
    cdef int64_t bid_size = venue.book.bid_size_lots, ask_size = venue.book.ask_size_lots
    cdef int64_t bid = venue.book.bid_price_ticks, ask = venue.book.ask_price_ticks
    if venue.resting_count > 0:
        venue.before_event(event)
    book_apply(venue.book, event)
    # What we took stays gone while the touch it stood at does; a quote always renews both sides.
    if event.kind == EVENT_QUOTE:
        venue.taken_lots[0] = venue.taken_lots[1] = 0
    else:
        if venue.taken_lots[0] > 0:
            venue.taken_lots[0] = still_taken(
                venue.taken_lots[0], ask_size, venue.book.ask_size_lots, venue.book.ask_price_ticks - ask
            )
        if venue.taken_lots[1] > 0:
            venue.taken_lots[1] = still_taken(
                venue.taken_lots[1], bid_size, venue.book.bid_size_lots, bid - venue.book.bid_price_ticks
            )
    if venue.resting_count > 0:
        venue.after_event(event)


cdef inline int64_t still_taken(
    int64_t taken, int64_t size_before, int64_t size, int64_t worse_by
) noexcept nogil:
    """Return how much of our takings is still shown, after a side's touch went from one state to another."""
    if size == 0 or worse_by > 0:       # the touch left with what we had of it; the rest was behind
        return taken - size_before if taken > size_before else 0
    if worse_by < 0:                    # a better price is new to us
        return 0
    if size >= size_before:
        return taken
    # Others took or withdrew the difference: as far as possible the lots we had not taken.
    return max(taken - (size_before - size), min(taken, size))

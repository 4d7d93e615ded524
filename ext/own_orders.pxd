"""Our resting orders at one venue, and when the venue's market fills them.

Three queue models say when a resting order of ours fills:

FLOW         quotes only. Aggressors reach the touch at a modelled rate; what is ahead trades first.
OPTIMISTIC   recorded order flow. Cancels of orders the feed never announced were ahead of us, hidden
             prints at our price count.
PESSIMISTIC  recorded order flow. Unannounced cancels were behind us, hidden prints and prints without an
             aggressor count only beyond our price.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from ext.layout cimport ExecutionReport, MarketEvent, OrderCommand
from ext.order_book cimport OrderBook
from ext.venue_rules cimport VenueRules

cdef enum:
    NO_ORDER = 0xFFFFFFFF


cdef struct OwnOrder:
    OrderCommand command
    int64_t leaves_lots
    int64_t ahead_lots               # queue ahead of us at our price
    uint64_t entry_sequence          # the book's clock of arrivals when we joined
    uint32_t next
    uint32_t previous


cdef class OwnOrders:
    cdef readonly OrderBook book
    cdef VenueRules rules
    cdef readonly int venue_id
    cdef uint64_t seed
    cdef double tick_value
    cdef readonly uint32_t resting_count
    cdef uint32_t first                  # resting orders, oldest first
    cdef uint32_t last
    cdef uint32_t free_list
    cdef uint32_t order_capacity
    cdef OwnOrder* orders                # owned
    cdef int64_t[2] taken_lots           # from the ask (0) and the bid (1) since their last event
    cdef ExecutionReport* out            # owned; answers not yet collected by the loop
    cdef int out_count
    cdef int out_capacity

    cdef void before_event(self, const MarketEvent* event) noexcept nogil
    cdef void after_event(self, const MarketEvent* event) noexcept nogil
    cdef void expire(self, uint64_t client_order_id, int64_t ts_ns, uint8_t reason) noexcept nogil
    cdef void end_all(self, uint32_t owner, int side, int64_t ts_ns, uint8_t reason) noexcept nogil
    cdef int64_t ahead_at(self, int side, int32_t price_ticks, int64_t known_lots) noexcept nogil
    cdef bint queue_at_best(
        self, int side, int32_t* price_ticks, int64_t* ahead, int64_t* level
    ) noexcept nogil
    cdef void rest(self, const OrderCommand* command, int64_t leaves, int64_t ts_ns) noexcept nogil
    cdef uint32_t find(self, uint64_t client_order_id) noexcept nogil
    cdef void remove(self, uint32_t slot) noexcept nogil
    cdef void end_order(self, uint32_t slot, int64_t ts_ns, uint8_t reason) noexcept nogil
    cdef void fill_resting(self, uint32_t slot, int64_t size_lots, int64_t ts_ns) noexcept nogil
    cdef void flow_event(self, const MarketEvent* event) noexcept nogil
    cdef void crossed_by_touch(self, const MarketEvent* event) noexcept nogil
    cdef void recorded_trade(self, const MarketEvent* event, int resting_side, bint at_price) noexcept nogil
    cdef void recorded_leave(self, const MarketEvent* event) noexcept nogil
    cdef void cap_queue(self, const MarketEvent* event) noexcept nogil
    cdef void answer(
        self, const OrderCommand* command, uint8_t kind, uint8_t reason, int64_t ts_ns,
        int64_t size_lots, int64_t leaves_lots, int32_t price_ticks, uint8_t liquidity,
    ) noexcept nogil

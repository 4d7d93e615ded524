"""One venue's book of one instrument, built from its feed: by quote, by level or by order."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint64_t

from .book_memory cimport BookMemory
from .layout cimport EVENT_LEVEL, EVENT_QUOTE, FLAG_LAST_IN_PACKET, MarketEvent
from .resting_book cimport RestingBook


cdef struct OrderView:
    uint64_t entry              # orders entered before it; the smaller one trades first
    int64_t size_lots           # still resting
    int32_t price_ticks
    int8_t side


cdef class OrderBook:
    # The touch; a side with size 0 is empty and its price is 0.
    cdef readonly int32_t bid_price_ticks
    cdef readonly int32_t ask_price_ticks
    cdef readonly int64_t bid_size_lots
    cdef readonly int64_t ask_size_lots
    cdef uint32_t quoted_sides  # 1 bid, 2 ask: its touch is a quote's, not the levels'
    cdef uint32_t looks_crossed  # 1 where bid >= ask and both sides have lots: kept with the touch
    cdef readonly uint64_t applied
    cdef readonly uint64_t crossed
    cdef readonly uint64_t lost
    cdef RestingBook resting    # owned, freed in __dealloc__
    cdef readonly uint64_t unknown_orders
    cdef readonly uint64_t duplicate_orders
    cdef readonly uint64_t refused
    cdef list depth_rows        # of depth_view, by side
    cdef BookMemory memory      # the pools' arena, and who may work on them

    # What book_apply does with a LEVEL, and with every kind that has no function of its own.
    cdef void set_level(self, const MarketEvent* event) noexcept nogil
    cdef void apply_other(self, const MarketEvent* event) noexcept nogil
    cdef int64_t level_size(self, int side, int32_t price_ticks) noexcept nogil
    cdef int depth(self, int side, int count, int32_t* prices, int64_t* sizes) noexcept nogil
    cdef bint find_order(self, uint64_t order_id, OrderView* out) noexcept nogil


cdef int require_side(int side) except -1


cdef inline void judge_touch(OrderBook book) noexcept nogil:
    """Keep what follows from a touch that has changed."""
    book.looks_crossed = (
        (book.bid_size_lots > 0) & (book.ask_size_lots > 0)
        & (book.bid_price_ticks >= book.ask_price_ticks)
    )


cdef inline void count_crossed(OrderBook book, const MarketEvent* event) noexcept nogil:
    # Only where a packet ends: inside one, a book may look crossed and mean nothing by it.
    book.crossed += book.looks_crossed & (event.flags & FLAG_LAST_IN_PACKET != 0)


cdef inline void apply_quote(OrderBook book, const MarketEvent* event) noexcept nogil:
    # The ask stands in order_id's place (QuoteView). Taking the integer apart, instead of reading it
    # through a QuoteView pointer, keeps within C's aliasing rules.
    cdef int64_t ask_size = <int64_t>(event.order_id >> 32)
    cdef int64_t bid_size = max(event.size_lots, <int64_t>0)
    book.applied += 1
    book.quoted_sides = 3
    book.bid_size_lots = bid_size
    book.ask_size_lots = ask_size
    book.bid_price_ticks = event.price_ticks if bid_size else 0
    book.ask_price_ticks = <int32_t>event.order_id if ask_size else 0
    judge_touch(book)
    count_crossed(book, event)


cdef inline void book_apply(OrderBook book, const MarketEvent* event) noexcept nogil:
    """Apply one event. A quote touches four fields of the book and nothing else."""
    if event.kind == EVENT_QUOTE:
        apply_quote(book, event)
    elif event.kind == EVENT_LEVEL:
        book.set_level(event)
    else:
        book.apply_other(event)

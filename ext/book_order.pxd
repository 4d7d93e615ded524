"""What events by order and by level do to a book: functions that whoever applies many can inline."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from .layout cimport (
    EVENT_ADD,
    EVENT_CANCEL,
    EVENT_CLEAR,
    EVENT_EXECUTE,
    EVENT_STATUS,
    EVENT_TRADE,
    FLAG_HIDDEN,
    MarketEvent,
    check,
)
from .lots cimport LEVEL_LOTS_MAX, SIZE_LOTS_MAX
from .order_book cimport OrderBook, count_crossed, judge_touch
from .order_index cimport Order, order_index_find_at
from .price_index cimport price_of
from .resting_book cimport (
    ASK,
    BID,
    Level,
    OrderSeat,
    RestingBook,
    book_clear,
    level_find,
    level_lower,
    level_remove,
    level_require,
    order_append,
    order_find,
    order_join,
    order_leave,
    order_remove_at,
    order_reserve,
    order_seek,
)

cdef enum:
    NO_SIDE = -1


cdef inline int side_of(const MarketEvent* event) noexcept nogil:
    return BID if event.side == 1 else ASK if event.side == -1 else NO_SIDE


cdef inline bint is_positive(int64_t size_lots) noexcept nogil:
    return 0 < size_lots <= SIZE_LOTS_MAX


cdef inline void refresh_touch(OrderBook book, int side) noexcept nogil:
    """Take one side of the touch from the levels."""
    cdef uint32_t best = book.resting.best[side]
    cdef const Level* level = &book.resting.levels[best]    # [0] is all zero: an empty side
    cdef int32_t price_ticks = price_of(level.rank, side) if best else 0
    check(best == 0 or level.total_lots > 0, "a level that stands holds lots")
    # By address: which side it is, is a coin's toss for the branch predictor.
    cdef int32_t* price = &book.bid_price_ticks if side == BID else &book.ask_price_ticks
    cdef int64_t* size = &book.bid_size_lots if side == BID else &book.ask_size_lots
    book.quoted_sides &= ~(1 << side)
    price[0] = price_ticks
    size[0] = level.total_lots
    judge_touch(book)


cdef inline void add_order(
    OrderBook book, const MarketEvent* event, int side, bint windowed
) noexcept nogil:
    """Apply an ADD; `windowed` is whether the book has a window, which most callers know beforehand."""
    cdef RestingBook* resting = &book.resting
    cdef OrderSeat seat
    cdef uint32_t level, found
    if side == NO_SIDE or not is_positive(event.size_lots):
        book.refused += 1
        return
    if event.order_id:
        if not order_reserve(resting):
            book.lost += 1
            return
        if windowed:
            found = order_seek(resting, event.order_id, &seat)
        else:
            found = order_find(resting, event.order_id)
        if found:
            book.duplicate_orders += 1
            return
    level = level_require(resting, side, event.price_ticks)
    if level == 0:
        book.lost += 1
        return
    if resting.levels[level].total_lots > LEVEL_LOTS_MAX - event.size_lots:
        book.refused += 1
        return
    if event.order_id and not windowed:
        order_append(resting, level, event.order_id, event.size_lots, <uint32_t>resting.entries)
    elif event.order_id:
        order_join(resting, &seat, level, event.order_id, event.size_lots)
    resting.levels[level].total_lots += event.size_lots
    # Elsewhere the touch is what it was, and looking it up would fetch a level that nothing else needs.
    if level == resting.best[side] or book.quoted_sides:
        refresh_touch(book, side)


cdef inline void lower_known(
    OrderBook book, const MarketEvent* event, uint32_t number, const OrderSeat* seat, bint windowed
) noexcept nogil:
    """Apply a CANCEL, REDUCE or EXECUTE to a live order, whose seat was found."""
    cdef RestingBook* resting = &book.resting
    cdef Order* order = &resting.orders[number]
    cdef uint32_t level = order.level
    cdef int side = resting.levels[level].side
    cdef bint at_touch = level == resting.best[side]
    cdef int64_t lots
    if event.kind == EVENT_CANCEL:
        lots = order.size_lots
    elif is_positive(event.size_lots):
        lots = min(event.size_lots, order.size_lots)
    else:
        book.refused += 1
        return
    order.size_lots -= lots
    if order.size_lots == 0:
        if windowed:
            order_leave(resting, number, seat)
        else:
            order_remove_at(resting, number, &seat.at)
    level_lower(resting, level, lots)
    if at_touch or book.quoted_sides:
        refresh_touch(book, side)


cdef inline void lower_unknown(OrderBook book, const MarketEvent* event) noexcept nogil:
    """Lower the level where an order that was never announced must have stood."""
    cdef int side = side_of(event)
    cdef uint32_t level
    if side == NO_SIDE or not is_positive(event.size_lots):
        book.refused += 1
        return
    book.unknown_orders += event.order_id != 0
    level = level_find(&book.resting, side, event.price_ticks)
    if level:
        level_lower(&book.resting, level, event.size_lots)
        refresh_touch(book, side)


cdef inline void replace_level(OrderBook book, const MarketEvent* event, int side) noexcept nogil:
    """Apply a LEVEL."""
    cdef RestingBook* resting = &book.resting
    cdef uint32_t level
    if side == NO_SIDE or not 0 <= event.size_lots <= SIZE_LOTS_MAX:
        book.refused += 1
        return
    if event.size_lots:
        level = level_require(resting, side, event.price_ticks)
        if level == 0:
            book.lost += 1
            return
        resting.levels[level].total_lots = event.size_lots
    else:
        level = level_find(resting, side, event.price_ticks)
        if level:
            level_remove(resting, level)
    refresh_touch(book, side)


cdef inline void apply_by_order(OrderBook book, const MarketEvent* event, bint windowed) noexcept nogil:
    """Apply any event but a QUOTE or a LEVEL; `windowed` is whether the book has a window."""
    cdef int side = side_of(event)
    cdef uint32_t number
    cdef OrderSeat seat
    book.applied += 1
    if EVENT_ADD <= event.kind <= EVENT_EXECUTE:
        if event.flags & FLAG_HIDDEN == 0:
            if event.kind == EVENT_ADD:
                add_order(book, event, side, windowed)
            else:
                if windowed:
                    number = order_seek(&book.resting, event.order_id, &seat)
                else:
                    number = order_index_find_at(
                        &book.resting.by_id, book.resting.orders, event.order_id, &seat.at
                    )
                if number:
                    lower_known(book, event, number, &seat, windowed)
                else:
                    lower_unknown(book, event)
    elif event.kind == EVENT_CLEAR:
        book_clear(&book.resting)
        refresh_touch(book, BID)
        refresh_touch(book, ASK)
    elif event.kind != EVENT_TRADE and event.kind != EVENT_STATUS:
        book.refused += 1
    count_crossed(book, event)

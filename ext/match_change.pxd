"""Replacing and cancelling orders that are in a book."""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t

from .layout cimport (
    LIQUIDITY_NONE,
    ORDER_HIDDEN,
    ORDER_LIMIT,
    ORDER_POST_ONLY,
    ORDER_STOP,
    REASON_BAD_ORDER,
    REASON_BAD_PRICE,
    REASON_BAD_SIZE,
    REASON_CAPACITY,
    REASON_NONE,
    REASON_PHASE,
    REASON_UNKNOWN_ORDER,
    REASON_USER,
    REASON_WOULD_CROSS,
    REPORT_ACCEPTED,
    REPORT_CANCELLED,
    REPORT_REJECTED,
    TIF_GTC,
    OrderCommand,
)
from .match_order cimport (
    book_append,
    entry_close,
    entry_from_detail,
    entry_match,
    is_peg,
    order_price,
    order_side,
    price_fault,
    size_is_valid,
)
from .match_state cimport (
    PHASE_CONTINUOUS,
    PHASE_HALTED,
    MatchState,
    OrderDetail,
    lots_left,
    lots_taken,
    order_withdraw,
    report,
    state_find,
)
from .match_sweep cimport Entry, can_trade
from .order_index cimport Order
from .price_index cimport price_of
from .resting_book cimport ASK, BID, Level, RestingBook, level_behind


cdef inline void reject(
    MatchState* state, const OrderCommand* command, uint8_t reason, int side
) noexcept nogil:
    report(
        state, command.client_order_id, REPORT_REJECTED, reason, side, command.size_lots, 0,
        command.price_ticks, LIQUIDITY_NONE,
    )


cdef inline uint8_t replace_fault(
    MatchState* state, const OrderCommand* command, RestingBook* book, uint32_t number
) noexcept nogil:
    """Return why an order can not become what a replace asks for, or REASON_NONE."""
    cdef const OrderDetail* detail = &state.details[book.orders[number].mark]
    cdef uint8_t order_type = detail.order_type
    cdef uint8_t reason = REASON_NONE
    if is_peg(order_type):
        return REASON_BAD_ORDER
    if not size_is_valid(command.size_lots, detail.display_lots):
        return REASON_BAD_SIZE
    if order_type != ORDER_STOP:
        reason = price_fault(state, command.price_ticks, True)
        if reason != REASON_NONE:
            return reason
    if book == &state.stops and command.stop_price_ticks % state.tick_size_ticks:
        return REASON_BAD_PRICE
    if state.phase == PHASE_HALTED:
        return REASON_PHASE
    if command.flags & ORDER_POST_ONLY and state.phase == PHASE_CONTINUOUS and book != &state.stops:
        if can_trade(state, order_side(state, book, number), command.price_ticks, command.size_lots):
            return REASON_WOULD_CROSS
    return REASON_NONE


cdef inline void order_shrink(
    MatchState* state, RestingBook* book, uint32_t number, int64_t size_lots
) noexcept nogil:
    """Leave an order with fewer lots in its place; the reserve goes first."""
    cdef Order* order = &book.orders[number]
    cdef OrderDetail* detail = &state.details[order.mark]
    cdef int64_t gone = lots_left(state, order) - size_lots
    cdef int64_t reserve = min(gone, detail.reserve_lots)
    if reserve:
        detail.reserve_lots -= reserve
        state.lots_out += reserve
    if gone > reserve:
        lots_taken(state, book, number, gone - reserve)


cdef inline void order_replace(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef uint32_t number
    cdef RestingBook* book = state_find(state, command.client_order_id, &number)
    cdef Entry entry
    cdef Order* order
    cdef const Level* level
    cdef uint8_t reason
    cdef int64_t whole
    if book == NULL:
        reject(state, command, REASON_UNKNOWN_ORDER, BID if command.side > 0 else ASK)
        return
    order = &book.orders[number]
    level = &book.levels[order.level]
    entry.order_id = order.order_id
    entry.side = order_side(state, book, number)
    reason = replace_fault(state, command, book, number)
    if reason != REASON_NONE:
        reject(state, command, reason, entry.side)
        return
    report(
        state, entry.order_id, REPORT_ACCEPTED, REASON_NONE, entry.side, 0, command.size_lots,
        command.price_ticks, LIQUIDITY_NONE,
    )
    whole = lots_left(state, order)
    if (
        book != &state.stops and command.size_lots <= whole
        and price_of(level.rank, level.side) == command.price_ticks
    ):
        order_shrink(state, book, number, command.size_lots)
        return
    entry.leaves_lots = command.size_lots
    entry.price_ticks = command.price_ticks
    entry.detail = state.details[order.mark]
    if order.mark == 0:
        entry.detail.order_type = ORDER_LIMIT
        entry.detail.time_in_force = TIF_GTC
        entry.detail.expire_ns = INT64_MAX
        entry.detail.flags = ORDER_HIDDEN if book == &state.dark else 0
    if book == &state.stops:
        entry.detail.price_ticks = command.price_ticks
    order_withdraw(state, book, number)
    state.lots_in += command.size_lots
    entry_from_detail(state, &entry)
    if book == &state.stops:
        if not book_append(state, book, 1 - entry.side, command.stop_price_ticks, &entry):
            entry_close(state, &entry, REASON_CAPACITY)
    else:
        entry_match(state, &entry)


cdef inline void order_end(
    MatchState* state, RestingBook* book, uint32_t number, uint8_t kind, uint8_t reason
) noexcept nogil:
    """Report an order gone with all it had left, and take it out."""
    cdef const Order* order = &book.orders[number]
    report(
        state, order.order_id, kind, reason, order_side(state, book, number), lots_left(state, order), 0,
        order_price(state, book, number), LIQUIDITY_NONE,
    )
    order_withdraw(state, book, number)


cdef inline void order_cancel(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef uint32_t number
    cdef RestingBook* book = state_find(state, command.client_order_id, &number)
    if book == NULL:
        reject(state, command, REASON_UNKNOWN_ORDER, BID if command.side > 0 else ASK)
    else:
        order_end(state, book, number, REPORT_CANCELLED, REASON_USER)


cdef inline void orders_end(
    MatchState* state, RestingBook* book, int sides, uint32_t owner, uint8_t tif, uint8_t kind, uint8_t reason
) noexcept nogil:
    """End orders of one book: bids before asks, best price first, oldest first.

    `sides` has bit 0 set for buys and bit 1 for sells; owner 0 and tif 0 mean any.
    """
    cdef uint32_t level, behind, number, after
    cdef const OrderDetail* detail
    cdef int side, own
    for side in range(2):
        own = 1 - side if book == &state.stops else side
        level = book.best[own] if sides & (1 << side) else 0
        while level:
            behind = level_behind(book, level)
            number = book.levels[level].first
            while number:
                after = book.orders[number].next
                detail = &state.details[book.orders[number].mark]
                if (owner == 0 or detail.owner == owner) and (tif == 0 or detail.time_in_force == tif):
                    order_end(state, book, number, kind, reason)
                number = after
            level = behind


cdef inline void mass_cancel(
    MatchState* state, int sides, uint32_t owner, uint8_t tif, uint8_t kind, uint8_t reason
) noexcept nogil:
    """End displayed, then hidden orders, then stops."""
    orders_end(state, &state.lit, sides, owner, tif, kind, reason)
    orders_end(state, &state.dark, sides, owner, tif, kind, reason)
    orders_end(state, &state.stops, sides, owner, tif, kind, reason)

"""What happens without a command of its own: expiry, triggered stops, pegs that follow the touch."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from .expiry_heap cimport Expiry, expiry_next_ns, expiry_pop
from .layout cimport (
    ACTION_CANCEL,
    ACTION_MASS_CANCEL,
    ACTION_NEW,
    ACTION_REPLACE,
    LIQUIDITY_NONE,
    ORDER_LIMIT,
    ORDER_MARKET,
    ORDER_STOP,
    REASON_BAD_ORDER,
    REASON_NONE,
    REASON_NO_LIQUIDITY,
    REASON_PRICE_BAND,
    REASON_TIME,
    REASON_USER,
    REPORT_CANCELLED,
    REPORT_EXPIRED,
    REPORT_TRIGGERED,
    OrderCommand,
)
from .match_change cimport mass_cancel, order_cancel, order_end, order_replace, reject
from .match_memory cimport peg_find, pegs_compact
from .match_order cimport (
    entry_close,
    entry_from_detail,
    entry_match,
    order_new,
    peg_price,
    price_fault,
    touch_of,
)
from .match_state cimport (
    NO_PRICE,
    PHASE_CONTINUOUS,
    MatchState,
    OrderDetail,
    lots_left,
    order_withdraw,
    report,
    state_find,
)
from .match_sweep cimport Entry
from .order_index cimport Order
from .price_index cimport price_of
from .resting_book cimport ASK, BID, RestingBook


cdef inline void trigger_first(MatchState* state, int stop_side) noexcept nogil:
    """Turn the next stop of one side into the order it stands for."""
    cdef RestingBook* book = &state.stops
    cdef uint32_t number = book.levels[book.best[stop_side]].first
    cdef Order* order = &book.orders[number]
    cdef Entry entry
    entry.order_id = order.order_id
    entry.side = 1 - stop_side
    entry.leaves_lots = lots_left(state, order)
    entry.detail = state.details[order.mark]
    entry.price_ticks = entry.detail.price_ticks
    order_withdraw(state, book, number)
    state.lots_in += entry.leaves_lots          # the withdrawal counted them as gone
    entry.detail.order_type = ORDER_MARKET if entry.detail.order_type == ORDER_STOP else ORDER_LIMIT
    entry_from_detail(state, &entry)
    report(
        state, entry.order_id, REPORT_TRIGGERED, REASON_NONE, entry.side, 0, entry.leaves_lots,
        entry.detail.price_ticks, LIQUIDITY_NONE,
    )
    # The band may have moved since the stop was accepted.
    if price_fault(state, entry.price_ticks, False) != REASON_NONE:
        entry_close(state, &entry, REASON_PRICE_BAND)
    else:
        entry_match(state, &entry)


cdef inline void trigger_stops(MatchState* state) noexcept nogil:
    """Trigger every stop that the last trade reached, one at a time: each may move the last price."""
    cdef uint32_t buys, sells
    while state.phase == PHASE_CONTINUOUS and state.traded and state.stops.order_count:
        buys = state.stops.best[ASK]
        sells = state.stops.best[BID]
        if buys and price_of(state.stops.levels[buys].rank, ASK) <= state.last_price_ticks:
            trigger_first(state, ASK)
        elif sells and price_of(state.stops.levels[sells].rank, BID) >= state.last_price_ticks:
            trigger_first(state, BID)
        else:
            return


cdef inline void peg_move(MatchState* state, uint32_t number) noexcept nogil:
    """Give a pegged order the price of this touch, as a new arrival where that differs."""
    cdef RestingBook* book = &state.dark
    cdef Order* order = &book.orders[number]
    cdef const OrderDetail* detail = &state.details[order.mark]
    cdef int side = book.levels[order.level].side
    cdef int64_t price = peg_price(
        state, detail.order_type, side, detail.price_ticks, detail.peg_offset_ticks
    )
    cdef Entry entry
    if price == NO_PRICE:
        order_end(state, book, number, REPORT_CANCELLED, REASON_NO_LIQUIDITY)
        return
    if price == price_of(book.levels[order.level].rank, side):
        return
    entry.order_id = order.order_id
    entry.side = side
    entry.leaves_lots = order.size_lots
    entry.price_ticks = <int32_t>price
    entry.detail = detail[0]
    order_withdraw(state, book, number)
    state.lots_in += entry.leaves_lots          # the withdrawal counted them as gone
    entry_from_detail(state, &entry)
    entry_match(state, &entry)


cdef inline bint pegs_follow(MatchState* state) noexcept nogil:
    """Move the pegged orders, oldest first, if the touch has moved; False when it has not."""
    cdef int64_t bid = touch_of(state, BID), ask = touch_of(state, ASK)
    cdef uint64_t place
    cdef uint32_t number
    if bid == state.pegged_bid and ask == state.pegged_ask:
        return False
    # With no peg left the touch stays what it was: nobody is priced by this one.
    pegs_compact(state)
    if state.peg_count == 0:
        return False
    state.pegged_bid, state.pegged_ask = bid, ask
    for place in range(state.peg_count):
        number = peg_find(state, &state.pegs[place])
        if number:
            peg_move(state, number)
    return True


cdef inline void settle(MatchState* state) noexcept nogil:
    """Do what follows from a change: stops trigger, pegs move, until neither does."""
    if state.phase != PHASE_CONTINUOUS:
        return
    while True:
        trigger_stops(state)
        if state.peg_count == 0 or not pegs_follow(state):
            return


cdef inline void expire_due(MatchState* state) noexcept nogil:
    """End every order whose time is over, earliest first."""
    cdef Expiry expiry
    cdef RestingBook* book
    cdef uint32_t number
    while state.expiries.count and state.expiries.items[0].expire_ns <= state.now_ns:
        expiry = expiry_pop(&state.expiries)
        book = state_find(state, expiry.order_id, &number)
        # A heap entry outlives an order that left early; its id may be another's by now.
        if book != NULL and state.details[book.orders[number].mark].expire_ns == expiry.expire_ns:
            order_end(state, book, number, REPORT_EXPIRED, REASON_TIME)


cdef inline void clock_advance(MatchState* state, int64_t ts_ns) noexcept nogil:
    if ts_ns > state.now_ns:
        state.now_ns = ts_ns
        if expiry_next_ns(&state.expiries) <= ts_ns:
            expire_due(state)


cdef inline void state_apply(MatchState* state, const OrderCommand* command) noexcept nogil:
    """Do what one command asks, and all that follows from it."""
    cdef int sides
    clock_advance(state, command.ts_ns)
    if command.action == ACTION_NEW:
        order_new(state, command)
    elif command.action == ACTION_CANCEL:
        order_cancel(state, command)
    elif command.action == ACTION_REPLACE:
        order_replace(state, command)
    elif command.action == ACTION_MASS_CANCEL:
        sides = 3 if command.side == 0 else 1 if command.side > 0 else 2
        mass_cancel(state, sides, command.owner, 0, REPORT_CANCELLED, REASON_USER)
    else:
        reject(state, command, REASON_BAD_ORDER, BID if command.side > 0 else ASK)
    if state.stops.order_count + state.peg_count:
        settle(state)

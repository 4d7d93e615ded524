"""What a command does: accepted or refused, traded, rested, replaced, cancelled, triggered, expired.

Each command is answered by reports in the order things happened; docs/MATCHING.md has the rules with
their sources. Every refusal leaves the book as it was.
"""

from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MAX, int8_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memset

from .expiry_heap cimport Expiry, expiry_next_ns, expiry_pop, expiry_push
from .layout cimport (
    ACTION_CANCEL,
    ACTION_MASS_CANCEL,
    ACTION_NEW,
    ACTION_REPLACE,
    LIQUIDITY_NONE,
    ORDER_HIDDEN,
    ORDER_LIMIT,
    ORDER_MARKET,
    ORDER_POST_ONLY,
    ORDER_STOP,
    ORDER_STOP_LIMIT,
    REASON_BAD_ORDER,
    REASON_BAD_PRICE,
    REASON_BAD_SIZE,
    REASON_CAPACITY,
    REASON_DUPLICATE_ID,
    REASON_NO_LIQUIDITY,
    REASON_NONE,
    REASON_PHASE,
    REASON_PRICE_BAND,
    REASON_TIME,
    REASON_UNKNOWN_ORDER,
    REASON_USER,
    REASON_WOULD_CROSS,
    REPORT_ACCEPTED,
    REPORT_CANCELLED,
    REPORT_EXPIRED,
    REPORT_REJECTED,
    REPORT_TRIGGERED,
    TIF_DAY,
    TIF_FOK,
    TIF_GTC,
    TIF_GTD,
    TIF_IOC,
    OrderCommand,
    check,
)
from .match_state cimport (
    PHASE_AUCTION,
    PHASE_CONTINUOUS,
    PHASE_HALTED,
    MatchState,
    OrderDetail,
    detail_take,
    lots_left,
    lots_taken,
    order_withdraw,
    report,
    state_find,
)
from .match_sweep cimport Entry, best_book, can_trade, sweep, tradable
from .order_index cimport Order, OrderSlot, order_index_free, order_index_slot
from .price_index cimport price_of
from .resting_book cimport (
    ASK,
    BID,
    Level,
    RestingBook,
    level_behind,
    level_remove,
    level_require,
    node_drop,
    order_append,
    order_unlink,
)

# Sums of a few thousand sizes of 2^48 stay within an int64; a level refuses what would exceed its half.
cdef enum:
    FLAGS_KNOWN = ORDER_POST_ONLY | ORDER_HIDDEN

cdef extern from *:
    """
    #define ANYTICK_SIZE_LOTS_MAX ((int64_t)1 << 48)
    #define ANYTICK_LEVEL_LOTS_MAX ((int64_t)1 << 62)
    """
    const int64_t SIZE_LOTS_MAX "ANYTICK_SIZE_LOTS_MAX"
    const int64_t LEVEL_LOTS_MAX "ANYTICK_LEVEL_LOTS_MAX"


cdef inline bint is_stop(uint8_t order_type) noexcept nogil:
    return order_type == ORDER_STOP or order_type == ORDER_STOP_LIMIT


cdef inline bint is_unpriced(uint8_t order_type) noexcept nogil:
    return order_type == ORDER_MARKET or order_type == ORDER_STOP


cdef inline int32_t order_price(const MatchState* state, const RestingBook* book, uint32_t number) noexcept nogil:
    """Return an order's limit price: of a stop, not the trigger."""
    cdef const Level* level = &book.levels[book.orders[number].level]
    if book == &state.stops:
        return state.details[book.orders[number].mark].price_ticks
    return price_of(level.rank, level.side)


cdef inline int order_side(const MatchState* state, const RestingBook* book, uint32_t number) noexcept nogil:
    cdef int side = book.levels[book.orders[number].level].side
    # Buy stops trigger upwards: the lowest is next, which is what the ask side calls its best.
    return 1 - side if book == &state.stops else side


# Into the book.

cdef inline void entry_close(MatchState* state, Entry* entry, uint8_t reason) noexcept nogil:
    """Cancel what an arriving order has left."""
    report(
        state, entry.order_id, REPORT_CANCELLED, reason, entry.side, entry.leaves_lots, 0,
        entry.price_ticks, LIQUIDITY_NONE,
    )
    state.lots_out += entry.leaves_lots
    entry.leaves_lots = 0


cdef inline bint book_append(
    MatchState* state, RestingBook* book, int side, int32_t price_ticks, Entry* entry
) noexcept nogil:
    """Queue an entry last at a price; False, and nothing changed, where no more fits."""
    cdef uint32_t level = level_require(book, side, price_ticks), mark = 0
    cdef int64_t shown = entry.leaves_lots
    cdef OrderSlot* slot = entry.slot
    if level == 0 or book.levels[level].total_lots > LEVEL_LOTS_MAX - shown:
        return False
    if slot == NULL or book != &state.lit:
        slot = order_index_slot(&book.by_id, book.orders, entry.order_id)
    if entry.special:
        mark = detail_take(state, &entry.detail)
        if entry.detail.display_lots and book == &state.lit:
            shown = min(shown, <int64_t>entry.detail.display_lots)
        state.details[mark].reserve_lots = entry.leaves_lots - shown
    order_append(book, slot, level, entry.order_id, shown, mark)
    book.levels[level].total_lots += shown
    return True


cdef inline void entry_rest(MatchState* state, Entry* entry) noexcept nogil:
    cdef RestingBook* book = &state.dark if entry.hidden else &state.lit
    if not book_append(state, book, entry.side, entry.price_ticks, entry):
        entry_close(state, entry, REASON_CAPACITY)


cdef inline void entry_match(MatchState* state, Entry* entry) noexcept nogil:
    """Trade an accepted order as far as it goes, then rest or cancel what it has left."""
    if state.phase == PHASE_CONTINUOUS and can_trade(state, entry.side, entry.price_ticks):
        if entry.minimum_lots and tradable(state, entry, entry.minimum_lots) < entry.minimum_lots:
            entry_close(state, entry, REASON_NO_LIQUIDITY)
            return
        sweep(state, entry)
        if entry.leaves_lots == 0:
            return
    elif entry.minimum_lots:
        entry_close(state, entry, REASON_NO_LIQUIDITY)
        return
    if entry.rests:
        entry_rest(state, entry)
    elif (
        is_unpriced(entry.detail.order_type) and state.lit.best[1 - entry.side] | state.dark.best[1 - entry.side]
    ):
        entry_close(state, entry, REASON_PRICE_BAND)
    else:
        entry_close(state, entry, REASON_NO_LIQUIDITY)


# New orders.

cdef inline uint8_t contradiction(const OrderCommand* command) noexcept nogil:
    """Return why a command's fields make no order, or REASON_NONE."""
    cdef uint8_t tif = command.time_in_force
    cdef bint immediate = tif == TIF_IOC or tif == TIF_FOK or is_unpriced(command.order_type)
    if command.client_order_id == 0 or (command.side != 1 and command.side != -1):
        return REASON_BAD_ORDER
    if not ORDER_LIMIT <= command.order_type <= ORDER_STOP_LIMIT or not TIF_GTC <= tif <= TIF_DAY:
        return REASON_BAD_ORDER
    if command.flags & ~FLAGS_KNOWN:
        return REASON_BAD_ORDER
    if command.flags & ORDER_POST_ONLY and (
        immediate or is_stop(command.order_type) or command.minimum_size_lots
    ):
        return REASON_BAD_ORDER
    if command.flags & ORDER_HIDDEN and command.display_size_lots:
        return REASON_BAD_ORDER
    if not 0 < command.size_lots <= SIZE_LOTS_MAX or command.minimum_size_lots > command.size_lots:
        return REASON_BAD_SIZE
    return REASON_NONE


cdef inline uint8_t price_fault(MatchState* state, int32_t price_ticks, bint rests) noexcept nogil:
    if rests and state.tick_size_ticks != 1 and price_ticks % state.tick_size_ticks:
        return REASON_BAD_PRICE
    if not state.band_low_ticks <= price_ticks <= state.band_high_ticks:
        return REASON_PRICE_BAND
    return REASON_NONE


cdef inline uint8_t refusal(MatchState* state, const OrderCommand* command) noexcept nogil:
    """Return why a new order is not accepted, or REASON_NONE."""
    cdef uint8_t reason = contradiction(command), tif = command.time_in_force
    cdef bint immediate = tif == TIF_IOC or tif == TIF_FOK
    if reason != REASON_NONE:
        return reason
    if not is_unpriced(command.order_type):
        reason = price_fault(state, command.price_ticks, not immediate)
        if reason != REASON_NONE:
            return reason
    if is_stop(command.order_type) and command.stop_price_ticks % state.tick_size_ticks:
        return REASON_BAD_PRICE
    if state.phase != PHASE_CONTINUOUS and (
        state.phase == PHASE_HALTED or immediate or command.order_type == ORDER_MARKET
        or command.minimum_size_lots
    ):
        return REASON_PHASE
    if tif == TIF_GTD and command.expire_ns <= state.now_ns:
        return REASON_TIME
    if command.flags & ORDER_POST_ONLY and state.phase == PHASE_CONTINUOUS:
        if can_trade(state, BID if command.side > 0 else ASK, command.price_ticks):
            return REASON_WOULD_CROSS
    return REASON_NONE


cdef inline void entry_from_detail(MatchState* state, Entry* entry) noexcept nogil:
    """Complete an entry whose id, side, size, price and detail stand."""
    cdef uint8_t order_type = entry.detail.order_type, tif = entry.detail.time_in_force
    entry.slot = NULL
    entry.owner = entry.detail.owner
    entry.hidden = entry.detail.flags & ORDER_HIDDEN != 0
    entry.rests = not is_unpriced(order_type) and tif != TIF_IOC and tif != TIF_FOK
    entry.minimum_lots = entry.leaves_lots if tif == TIF_FOK else entry.detail.minimum_lots
    if is_unpriced(order_type):
        entry.price_ticks = state.band_high_ticks if entry.side == BID else state.band_low_ticks
    entry.special = (
        entry.owner != 0 or entry.detail.display_lots != 0 or is_stop(order_type)
        or entry.detail.expire_ns != INT64_MAX or tif == TIF_DAY
    )


cdef inline void entry_of(MatchState* state, Entry* entry, const OrderCommand* command) noexcept nogil:
    memset(&entry.detail, 0, sizeof(OrderDetail))
    entry.order_id = command.client_order_id
    entry.side = BID if command.side > 0 else ASK
    entry.leaves_lots = command.size_lots
    entry.price_ticks = command.price_ticks
    entry.detail.owner = command.owner
    entry.detail.display_lots = command.display_size_lots
    entry.detail.price_ticks = command.price_ticks
    entry.detail.minimum_lots = command.minimum_size_lots
    entry.detail.order_type = command.order_type
    entry.detail.time_in_force = command.time_in_force
    entry.detail.flags = command.flags
    entry.detail.expire_ns = command.expire_ns if command.time_in_force == TIF_GTD else INT64_MAX
    entry_from_detail(state, entry)


cdef inline bint is_plain(const MatchState* state, const OrderCommand* command) noexcept nogil:
    """Tell whether a new order has nothing beyond side, price and size, and all of them in order."""
    return (
        command.order_type == ORDER_LIMIT and command.time_in_force == TIF_GTC and command.flags == 0
        and (command.owner | command.display_size_lots | command.minimum_size_lots) == 0
        and (command.side == 1 or command.side == -1)
        and 0 < command.size_lots <= SIZE_LOTS_MAX and state.tick_size_ticks == 1
        and state.band_low_ticks <= command.price_ticks <= state.band_high_ticks
        and state.phase != PHASE_HALTED and command.client_order_id != 0
    )


cdef inline void order_new(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef Entry entry
    cdef OrderSlot* slot = order_index_slot(&state.lit.by_id, state.lit.orders, command.client_order_id)
    cdef uint32_t number = slot.order
    cdef RestingBook* book = &state.lit if number else NULL
    cdef uint8_t reason = REASON_NONE
    if number == 0 and state.dark.order_count + state.stops.order_count:
        book = state_find(state, command.client_order_id, &number)
    if book != NULL:
        # A resend of an order that is live: answered again, and nothing changes.
        report(
            state, command.client_order_id, REPORT_ACCEPTED, REASON_DUPLICATE_ID,
            order_side(state, book, number), 0, lots_left(state, &book.orders[number]),
            order_price(state, book, number), LIQUIDITY_NONE,
        )
        return
    if is_plain(state, command):
        entry.order_id = command.client_order_id
        entry.side = BID if command.side > 0 else ASK
        entry.leaves_lots = command.size_lots
        entry.price_ticks = command.price_ticks
        entry.minimum_lots = 0
        entry.owner = 0
        entry.rests = True
        entry.hidden = entry.special = False
        entry.detail.order_type = ORDER_LIMIT
    else:
        reason = refusal(state, command)
        if reason != REASON_NONE:
            report(
                state, command.client_order_id, REPORT_REJECTED, reason, BID if command.side > 0 else ASK,
                command.size_lots, 0, command.price_ticks, LIQUIDITY_NONE,
            )
            return
        entry_of(state, &entry, command)
    entry.slot = slot
    state.lots_in += command.size_lots
    report(
        state, command.client_order_id, REPORT_ACCEPTED, REASON_NONE, entry.side, 0, command.size_lots,
        command.price_ticks, LIQUIDITY_NONE,
    )
    if entry.special and entry.detail.expire_ns != INT64_MAX:
        expiry_push(&state.expiries, Expiry(entry.detail.expire_ns, entry.order_id))
    if is_stop(entry.detail.order_type):
        if not book_append(state, &state.stops, 1 - entry.side, command.stop_price_ticks, &entry):
            entry_close(state, &entry, REASON_CAPACITY)
    else:
        entry_match(state, &entry)


# Replacing and cancelling.

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
    cdef uint8_t order_type = state.details[book.orders[number].mark].order_type
    cdef uint8_t reason = REASON_NONE
    if not 0 < command.size_lots <= SIZE_LOTS_MAX:
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
        if can_trade(state, order_side(state, book, number), command.price_ticks):
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
    else:
        entry.detail.minimum_lots = 0
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


cdef inline void plain_cancel(MatchState* state, OrderSlot* slot) noexcept nogil:
    """Cancel a displayed order without detail, whose slot is known: order_end in fewer steps."""
    cdef RestingBook* book = &state.lit
    cdef uint32_t number = slot.order
    cdef Order* order = &book.orders[number]
    cdef uint32_t level_number = order.level
    cdef Level* level = &book.levels[level_number]
    cdef int64_t lots = order.size_lots
    report(
        state, order.order_id, REPORT_CANCELLED, REASON_USER, level.side, lots, 0,
        price_of(level.rank, level.side), LIQUIDITY_NONE,
    )
    state.lots_out += lots
    level.total_lots -= lots
    level.order_count -= 1
    order_unlink(book, level, order)
    order_index_free(&book.by_id, <uint32_t>(slot - book.by_id.slots))
    node_drop(book, order, number)
    if level.total_lots == 0:
        level_remove(book, level_number)


cdef inline void order_cancel(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef RestingBook* book = &state.lit
    cdef OrderSlot* slot = order_index_slot(&book.by_id, book.orders, command.client_order_id)
    cdef uint32_t number = slot.order
    if number and book.orders[number].mark == 0:
        plain_cancel(state, slot)
        return
    book = state_find(state, command.client_order_id, &number)
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


# What happens without a command of its own.

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
        return
    elif command.action == ACTION_REPLACE:
        order_replace(state, command)
    elif command.action == ACTION_MASS_CANCEL:
        sides = 3 if command.side == 0 else 1 if command.side > 0 else 2
        mass_cancel(state, sides, command.owner, 0, REPORT_CANCELLED, REASON_USER)
        return
    else:
        reject(state, command, REASON_BAD_ORDER, BID if command.side > 0 else ASK)
        return
    if state.stops.order_count:
        trigger_stops(state)

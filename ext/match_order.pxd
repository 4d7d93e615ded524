"""New orders: accepted or refused, traded, rested.

Each command is answered by reports in the order things happened; docs/MATCHING.md has the rules with
their sources. Every refusal leaves the book as it was.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from .expiry_heap cimport Expiry, expiry_push
from .layout cimport (
    LIQUIDITY_NONE,
    ORDER_HIDDEN,
    ORDER_LIMIT,
    ORDER_MARKET,
    ORDER_PEG_MID,
    ORDER_PEG_PRIMARY,
    ORDER_POST_ONLY,
    ORDER_STOP,
    ORDER_STOP_LIMIT,
    REASON_BAD_ORDER,
    REASON_BAD_PRICE,
    REASON_BAD_SIZE,
    REASON_CAPACITY,
    REASON_DUPLICATE_ID,
    REASON_NONE,
    REASON_NO_LIQUIDITY,
    REASON_PHASE,
    REASON_PRICE_BAND,
    REASON_TIME,
    REASON_WOULD_CROSS,
    REPORT_ACCEPTED,
    REPORT_CANCELLED,
    REPORT_REJECTED,
    TIF_DAY,
    TIF_FOK,
    TIF_GTC,
    TIF_GTD,
    TIF_IOC,
    OrderCommand,
)
from .lots cimport LEVEL_LOTS_MAX, SIZE_LOTS_MAX
from .match_state cimport (
    NO_PRICE,
    PHASE_CONTINUOUS,
    PHASE_HALTED,
    MatchState,
    OrderDetail,
    Peg,
    detail_take,
    lots_left,
    report,
    state_find,
)
from .match_sweep cimport Entry, can_trade, is_beyond, sweep, sweep_past, tradable
from .price_index cimport price_of
from .resting_book cimport ASK, BID, Level, RestingBook, level_require, order_append

cdef enum:
    FLAGS_KNOWN = ORDER_POST_ONLY | ORDER_HIDDEN
    # Every slice of an iceberg that one order trades with is two reports.
    SLICES_MAX = 65_536


cdef inline bint size_is_valid(int64_t size_lots, uint32_t display_lots) noexcept nogil:
    if display_lots and size_lots > <int64_t>display_lots * SLICES_MAX:
        return False
    return 0 < size_lots <= SIZE_LOTS_MAX


cdef inline bint is_stop(uint8_t order_type) noexcept nogil:
    return order_type == ORDER_STOP or order_type == ORDER_STOP_LIMIT


cdef inline bint is_peg(uint8_t order_type) noexcept nogil:
    return order_type == ORDER_PEG_MID or order_type == ORDER_PEG_PRIMARY


cdef inline bint is_unpriced(uint8_t order_type) noexcept nogil:
    return order_type == ORDER_MARKET or order_type == ORDER_STOP


cdef inline int32_t order_price(
    const MatchState* state, const RestingBook* book, uint32_t number
) noexcept nogil:
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

cdef inline void order_lapse(
    MatchState* state, uint64_t order_id, int side, int64_t lots, int32_t price_ticks, uint8_t reason
) noexcept nogil:
    """Cancel lots that are in no book."""
    report(
        state, order_id, REPORT_CANCELLED, reason, side, lots, 0, price_ticks, LIQUIDITY_NONE,
    )
    state.lots_out += lots


cdef inline void entry_close(MatchState* state, Entry* entry, uint8_t reason) noexcept nogil:
    """Cancel what an arriving order has left."""
    order_lapse(state, entry.order_id, entry.side, entry.leaves_lots, entry.price_ticks, reason)
    entry.leaves_lots = 0


cdef inline void detail_rest(OrderDetail* detail, bint lit, int32_t price_ticks) noexcept nogil:
    """Forget what no longer decides anything, so that orders that behave alike are alike."""
    if lit:
        detail.minimum_lots = 0                 # it held on arrival
    if not is_stop(detail.order_type) and not is_peg(detail.order_type):
        detail.price_ticks = price_ticks


cdef inline bint book_append(
    MatchState* state, RestingBook* book, int side, int32_t price_ticks, Entry* entry
) noexcept nogil:
    """Queue an entry last at a price; False, and nothing changed, where no more fits."""
    cdef uint32_t level = level_require(book, side, price_ticks), mark = 0
    cdef int64_t shown = entry.leaves_lots
    if level == 0 or book.levels[level].total_lots > LEVEL_LOTS_MAX - shown:
        return False
    if entry.special:
        mark = detail_take(state, &entry.detail)
        if entry.detail.display_lots and book == &state.lit:
            shown = min(shown, <int64_t>entry.detail.display_lots)
        detail_rest(&state.details[mark], book == &state.lit, price_ticks)
        state.details[mark].reserve_lots = entry.leaves_lots - shown
        state.minimums[side] += book == &state.dark and entry.detail.minimum_lots != 0
    order_append(book, level, entry.order_id, shown, mark)
    book.levels[level].total_lots += shown
    return True


cdef inline void entry_rest(MatchState* state, Entry* entry) noexcept nogil:
    cdef RestingBook* book = &state.dark if entry.hidden else &state.lit
    if not book_append(state, book, entry.side, entry.price_ticks, entry):
        entry_close(state, entry, REASON_CAPACITY)


cdef inline void entry_match(MatchState* state, Entry* entry) noexcept nogil:
    """Trade an accepted order as far as it goes, then rest or cancel what it has left."""
    cdef bint trades = (
        state.phase == PHASE_CONTINUOUS
        and can_trade(state, entry.side, entry.price_ticks, entry.leaves_lots)
        and (
            entry.minimum_lots == 0 or tradable(state, entry, entry.minimum_lots) >= entry.minimum_lots
        )
    )
    if trades:
        if state.minimums[1 - entry.side]:
            sweep_past(state, entry)
        else:
            sweep(state, entry)
        if entry.leaves_lots == 0:
            return
    elif entry.minimum_lots and not entry.demands:
        entry_close(state, entry, REASON_NO_LIQUIDITY)
        return
    if entry.rests:
        entry_rest(state, entry)
    elif is_unpriced(entry.detail.order_type) and is_beyond(state, entry.side, entry.price_ticks):
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
    if not ORDER_LIMIT <= command.order_type <= ORDER_PEG_PRIMARY or not TIF_GTC <= tif <= TIF_DAY:
        return REASON_BAD_ORDER
    if command.flags & ~FLAGS_KNOWN:
        return REASON_BAD_ORDER
    if command.flags & ORDER_POST_ONLY and (
        immediate or is_stop(command.order_type) or command.minimum_size_lots
    ):
        return REASON_BAD_ORDER
    if command.flags & ORDER_HIDDEN and command.display_size_lots:
        return REASON_BAD_ORDER
    if is_peg(command.order_type) and (
        immediate or command.flags & ORDER_POST_ONLY or command.display_size_lots
    ):
        return REASON_BAD_ORDER
    if not size_is_valid(command.size_lots, command.display_size_lots):
        return REASON_BAD_SIZE
    if command.minimum_size_lots > command.size_lots:
        return REASON_BAD_SIZE
    return REASON_NONE


cdef inline uint8_t price_fault(MatchState* state, int32_t price_ticks, bint rests) noexcept nogil:
    if rests and state.tick_size_ticks != 1 and price_ticks % state.tick_size_ticks:
        return REASON_BAD_PRICE
    if not state.band_low_ticks <= price_ticks <= state.band_high_ticks:
        return REASON_PRICE_BAND
    return REASON_NONE


cdef inline int64_t touch_of(const MatchState* state, int side) noexcept nogil:
    """Return the best displayed price of a side, or NO_PRICE."""
    cdef uint32_t best = state.lit.best[side]
    return price_of(state.lit.levels[best].rank, side) if best else NO_PRICE


cdef inline int64_t peg_price(
    const MatchState* state, uint8_t order_type, int side, int32_t cap_ticks, int32_t offset_ticks
) noexcept nogil:
    """Return what a pegged order's price is at this touch, or NO_PRICE where there is none."""
    cdef int64_t bid = touch_of(state, BID), ask = touch_of(state, ASK), price
    if order_type == ORDER_PEG_PRIMARY:
        price = bid if side == BID else ask
        if price == NO_PRICE:
            return NO_PRICE
    elif bid == NO_PRICE or ask == NO_PRICE:
        return NO_PRICE
    else:
        # An arithmetic shift rounds down: away from the other side for a buy; a sell rounds up.
        price = (bid + ask) >> 1 if side == BID else (bid + ask + 1) >> 1
    price += offset_ticks
    price = min(price, <int64_t>cap_ticks) if side == BID else max(price, <int64_t>cap_ticks)
    return price if state.band_low_ticks <= price <= state.band_high_ticks else NO_PRICE


cdef inline uint8_t refusal(MatchState* state, const OrderCommand* command) noexcept nogil:
    """Return why a new order is not accepted, or REASON_NONE."""
    cdef uint8_t reason = contradiction(command), tif = command.time_in_force
    cdef bint immediate = tif == TIF_IOC or tif == TIF_FOK
    if reason != REASON_NONE:
        return reason
    if is_peg(command.order_type):
        # Towards the other side a peg could trade with what it is pegged to.
        if command.side * <int64_t>command.peg_offset_ticks > 0:
            return REASON_BAD_PRICE
    elif not is_unpriced(command.order_type):
        reason = price_fault(state, command.price_ticks, not immediate)
        if reason != REASON_NONE:
            return reason
    if is_stop(command.order_type) and command.stop_price_ticks % state.tick_size_ticks:
        return REASON_BAD_PRICE
    if state.phase != PHASE_CONTINUOUS and (
        state.phase == PHASE_HALTED or immediate or command.order_type == ORDER_MARKET
        or is_peg(command.order_type) or command.minimum_size_lots
    ):
        return REASON_PHASE
    if tif == TIF_GTD and command.expire_ns <= state.now_ns:
        return REASON_TIME
    if is_peg(command.order_type) and peg_price(
        state, command.order_type, BID if command.side > 0 else ASK, command.price_ticks,
        command.peg_offset_ticks,
    ) == NO_PRICE:
        return REASON_NO_LIQUIDITY
    if command.flags & ORDER_POST_ONLY and state.phase == PHASE_CONTINUOUS:
        if can_trade(state, BID if command.side > 0 else ASK, command.price_ticks, command.size_lots):
            return REASON_WOULD_CROSS
    return REASON_NONE


cdef inline void entry_from_detail(MatchState* state, Entry* entry) noexcept nogil:
    """Complete an entry whose id, side, size, price and detail stand."""
    cdef uint8_t order_type = entry.detail.order_type, tif = entry.detail.time_in_force
    entry.owner = entry.detail.owner
    entry.hidden = entry.detail.flags & ORDER_HIDDEN != 0 or is_peg(order_type)
    entry.rests = not is_unpriced(order_type) and tif != TIF_IOC and tif != TIF_FOK
    entry.minimum_lots = entry.leaves_lots
    if tif != TIF_FOK:
        entry.minimum_lots = min(entry.leaves_lots, <int64_t>entry.detail.minimum_lots)
    entry.demands = entry.hidden and entry.rests and entry.minimum_lots != 0
    if is_unpriced(order_type):
        entry.price_ticks = state.band_high_ticks if entry.side == BID else state.band_low_ticks
    entry.special = (
        entry.owner != 0 or entry.detail.display_lots != 0 or is_stop(order_type) or is_peg(order_type)
        or entry.detail.expire_ns != INT64_MAX or tif == TIF_DAY or entry.demands
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


cdef inline void order_new(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef Entry entry
    cdef uint32_t number
    cdef RestingBook* book = state_find(state, command.client_order_id, &number)
    cdef uint8_t reason
    if book != NULL:
        # A resend of an order that is live: answered again, and nothing changes.
        report(
            state, command.client_order_id, REPORT_ACCEPTED, REASON_DUPLICATE_ID,
            order_side(state, book, number), 0, lots_left(state, &book.orders[number]),
            order_price(state, book, number), LIQUIDITY_NONE,
        )
        return
    reason = refusal(state, command)
    if reason != REASON_NONE:
        report(
            state, command.client_order_id, REPORT_REJECTED, reason, BID if command.side > 0 else ASK,
            command.size_lots, 0, command.price_ticks, LIQUIDITY_NONE,
        )
        return
    entry_of(state, &entry, command)
    state.lots_in += command.size_lots
    report(
        state, command.client_order_id, REPORT_ACCEPTED, REASON_NONE, entry.side, 0, command.size_lots,
        command.price_ticks, LIQUIDITY_NONE,
    )
    if entry.special and entry.detail.expire_ns != INT64_MAX:
        expiry_push(&state.expiries, Expiry(entry.detail.expire_ns, entry.order_id))
    if is_peg(entry.detail.order_type):
        state.peg_sequence += 1
        entry.detail.peg_offset_ticks = command.peg_offset_ticks
        entry.detail.peg_sequence = state.peg_sequence
        entry.price_ticks = <int32_t>peg_price(
            state, command.order_type, entry.side, command.price_ticks, command.peg_offset_ticks
        )
        state.pegs[state.peg_count] = Peg(entry.order_id, state.peg_sequence)
        state.peg_count += 1
        # It is priced by the touch of now, which may not be the one the others were priced by.
        state.pegged_bid = state.pegged_ask = INT64_MIN
        entry_match(state, &entry)
    elif is_stop(entry.detail.order_type):
        if not book_append(state, &state.stops, 1 - entry.side, command.stop_price_ticks, &entry):
            entry_close(state, &entry, REASON_CAPACITY)
    else:
        entry_match(state, &entry)

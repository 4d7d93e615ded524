"""How an order trades on arrival: best price first, then displayed before hidden, then time.

A hidden order may demand a minimum of whoever trades with it. Arriving orders that bring less pass it by, and
what they have left only falls, so that one pass over the book is enough.

A level's rank grows towards the touch on either side (price_index.pxd), so "as good as its limit"
is one comparison for buys and sells alike. Trades happen at the price of the order that rested.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from .layout cimport (
    LIQUIDITY_MAKER,
    LIQUIDITY_NONE,
    LIQUIDITY_TAKER,
    REASON_NONE,
    REASON_SELF_TRADE,
    REPORT_CANCELLED,
    REPORT_FILL,
)
from .match_state cimport (
    SELF_TRADE_CANCEL_BOTH,
    SELF_TRADE_CANCEL_NEWEST,
    SELF_TRADE_CANCEL_OLDEST,
    MatchState,
    OrderDetail,
    is_refused,
    lots_left,
    lots_taken,
    order_withdraw,
    report,
)
from .order_index cimport Order
from .price_index cimport price_of, rank_of
from .resting_book cimport Level, RestingBook, level_behind, mix

cdef extern from *:
    """
    #define anytick_prefetch(address) __builtin_prefetch((address), 1, 3)
    """
    void prefetch "anytick_prefetch"(const void* address) noexcept nogil

cdef extern from *:
    """
    /* More than any order wants; with a level's displayed lots and a size it stays within an int64. */
    #define ANYTICK_RESERVE_LOTS_ENOUGH ((int64_t)1 << 61)
    """
    const int64_t RESERVE_LOTS_ENOUGH "ANYTICK_RESERVE_LOTS_ENOUGH"


cdef struct Entry:
    # An order on its way into the book. What it needs once it rests beyond a price stands in `detail`,
    # which counts only where `special` says so.
    uint64_t order_id
    int64_t leaves_lots
    int64_t minimum_lots        # what must trade at once, or nothing does
    int32_t price_ticks         # its limit; the band's edge for a market order
    int side                    # BID or ASK
    uint32_t owner
    bint rests
    bint hidden
    bint demands                # its minimum holds for as long as it rests
    bint special
    OrderDetail detail


cdef inline RestingBook* best_book(MatchState* state, int side) noexcept nogil:
    """Return the book whose best order on a side trades first."""
    cdef uint32_t dark = state.dark.best[side], lit = state.lit.best[side]
    if dark and (lit == 0 or state.dark.levels[dark].rank > state.lit.levels[lit].rank):
        return &state.dark
    return &state.lit


cdef inline uint32_t level_first(
    const MatchState* state, const RestingBook* book, uint32_t level, int64_t lots
) noexcept nogil:
    """Return the first order of a level that trades with an order of so many lots, or 0."""
    cdef uint32_t number = book.levels[level].first
    while number and book == &state.dark and is_refused(state, &book.orders[number], lots):
        number = book.orders[number].next
    return number


cdef inline bint can_trade(MatchState* state, int side, int32_t price_ticks, int64_t lots) noexcept nogil:
    """Tell whether an order of `side` at a price meets one that trades with it."""
    cdef int contra = 1 - side
    cdef uint32_t limit_rank = rank_of(price_ticks, contra)
    cdef uint32_t lit = state.lit.best[contra], dark = state.dark.best[contra]
    if lit and state.lit.levels[lit].rank >= limit_rank:
        return True
    while dark and state.dark.levels[dark].rank >= limit_rank:
        if state.minimums[contra] == 0 or level_first(state, &state.dark, dark, lots):
            return True
        dark = level_behind(&state.dark, dark)
    return False


cdef inline bint is_beyond(MatchState* state, int side, int32_t price_ticks) noexcept nogil:
    """Tell whether the book holds orders against `side` that a price does not reach."""
    cdef int contra = 1 - side, place
    cdef uint32_t limit_rank = rank_of(price_ticks, contra), level
    cdef RestingBook* book
    for place in range(2):
        book = &state.dark if place else &state.lit
        level = book.best[contra]
        # Levels that it does reach are those of orders that demand more than it had.
        while level and book.levels[level].rank >= limit_rank:
            level = level_behind(book, level)
        if level:
            return True
    return False


cdef inline void trade_record(
    MatchState* state, uint64_t maker_id, uint64_t taker_id, int64_t lots, int32_t price_ticks
) noexcept nogil:
    # The words are combined before they are mixed, which keeps one mixing step per trade on the chain
    # that the next trade waits for.
    cdef uint64_t word = maker_id * <uint64_t>0xD6E8FEB86659FD93
    word ^= taker_id * <uint64_t>0xA0761D6478BD642F
    word += (<uint64_t>lots * <uint64_t>0xE7037ED1A0B428DB) ^ <uint64_t><int64_t>price_ticks
    state.fill_hash = mix(state.fill_hash, word)
    state.fill_count += 1
    state.traded_lots += lots
    state.last_price_ticks = price_ticks
    state.traded = True


cdef inline bint is_own(const MatchState* state, const Order* order, uint32_t owner) noexcept nogil:
    return owner != 0 and order.mark != 0 and state.details[order.mark].owner == owner


cdef inline bint prevent_self_trade(
    MatchState* state, RestingBook* book, uint32_t number, Entry* entry
) noexcept nogil:
    """Cancel what the mode says instead of trading; False when that removed the level."""
    cdef Order* order = &book.orders[number]
    cdef int32_t price_ticks = price_of(book.levels[order.level].rank, 1 - entry.side)
    cdef uint64_t order_id = order.order_id
    cdef int64_t whole = lots_left(state, order)
    cdef int64_t lots = min(order.size_lots, entry.leaves_lots)
    if state.self_trade == SELF_TRADE_CANCEL_NEWEST:
        entry_cancel(state, entry, entry.leaves_lots)
        return True
    if state.self_trade == SELF_TRADE_CANCEL_OLDEST or state.self_trade == SELF_TRADE_CANCEL_BOTH:
        report(
            state, order_id, REPORT_CANCELLED, REASON_SELF_TRADE, 1 - entry.side, whole, 0, price_ticks,
            LIQUIDITY_NONE,
        )
        if state.self_trade == SELF_TRADE_CANCEL_BOTH:
            entry_cancel(state, entry, entry.leaves_lots)
        return order_withdrawn(state, book, number)
    report(
        state, order_id, REPORT_CANCELLED, REASON_SELF_TRADE, 1 - entry.side, lots, whole - lots,
        price_ticks, LIQUIDITY_NONE,
    )
    entry_cancel(state, entry, lots)
    return lots_taken(state, book, number, lots)


cdef inline bint order_withdrawn(MatchState* state, RestingBook* book, uint32_t number) noexcept nogil:
    """Withdraw an order; False when that removed its level."""
    cdef bint last = book.levels[book.orders[number].level].order_count == 1
    order_withdraw(state, book, number)
    return not last


cdef inline void entry_cancel(MatchState* state, Entry* entry, int64_t lots) noexcept nogil:
    """Take lots off an arriving order because of self-trade prevention."""
    entry.leaves_lots -= lots
    state.lots_out += lots
    report(
        state, entry.order_id, REPORT_CANCELLED, REASON_SELF_TRADE, entry.side, lots, entry.leaves_lots,
        entry.price_ticks, LIQUIDITY_NONE,
    )


cdef inline bint sweep_order(
    MatchState* state, RestingBook* book, uint32_t number, Entry* entry
) noexcept nogil:
    """Trade with one order; False when that removed its level."""
    cdef Order* order = &book.orders[number]
    cdef int32_t price_ticks = price_of(book.levels[order.level].rank, 1 - entry.side)
    cdef int64_t lots = min(order.size_lots, entry.leaves_lots)
    prefetch(&book.orders[order.next])
    if is_own(state, order, entry.owner):
        return prevent_self_trade(state, book, number, entry)
    entry.leaves_lots -= lots
    state.lots_out += lots
    trade_record(state, order.order_id, entry.order_id, lots, price_ticks)
    report(
        state, order.order_id, REPORT_FILL, REASON_NONE, 1 - entry.side, lots,
        lots_left(state, order) - lots, price_ticks, LIQUIDITY_MAKER,
    )
    report(
        state, entry.order_id, REPORT_FILL, REASON_NONE, entry.side, lots, entry.leaves_lots, price_ticks,
        LIQUIDITY_TAKER,
    )
    return lots_taken(state, book, number, lots)


cdef inline void sweep(MatchState* state, Entry* entry) noexcept nogil:
    """Trade an arriving order until it is done, or nothing left is as good as its limit."""
    cdef int contra = 1 - entry.side
    cdef uint32_t limit_rank = rank_of(entry.price_ticks, contra), level
    cdef RestingBook* book
    while entry.leaves_lots:
        book = best_book(state, contra)
        level = book.best[contra]
        if level == 0 or book.levels[level].rank < limit_rank:
            return
        # Invariant: `level` trades first until it is gone, since nothing better arrives meanwhile.
        while sweep_order(state, book, book.levels[level].first, entry) and entry.leaves_lots:
            pass


cdef inline void sweep_past(MatchState* state, Entry* entry) noexcept nogil:
    """Do what `sweep` does where hidden orders may have to be passed by."""
    cdef int contra = 1 - entry.side
    cdef uint32_t limit_rank = rank_of(entry.price_ticks, contra), lit, number, after
    cdef uint32_t dark = state.dark.best[contra], behind
    while entry.leaves_lots:
        lit = state.lit.best[contra]
        if dark and (lit == 0 or state.dark.levels[dark].rank > state.lit.levels[lit].rank):
            if state.dark.levels[dark].rank < limit_rank:
                return
            behind = level_behind(&state.dark, dark)
            number = state.dark.levels[dark].first
            while number and entry.leaves_lots:
                after = state.dark.orders[number].next
                if not is_refused(state, &state.dark.orders[number], entry.leaves_lots):
                    sweep_order(state, &state.dark, number, entry)
                number = after
            dark = behind
        else:
            if lit == 0 or state.lit.levels[lit].rank < limit_rank:
                return
            while sweep_order(state, &state.lit, state.lit.levels[lit].first, entry) and entry.leaves_lots:
                pass


cdef inline int64_t level_tradable(
    MatchState* state, RestingBook* book, const Level* level, int64_t lots, uint32_t owner, bint* met_own
) noexcept nogil:
    """Return the lots of a level that an owner with `lots` left could trade with; see `tradable`."""
    cdef int64_t shown = 0, reserve = 0
    cdef uint32_t number = level.first
    cdef const Order* order
    if state.detail_count == 0:
        return level.total_lots
    while number:
        order = &book.orders[number]
        if book == &state.dark and is_refused(state, order, max(lots - shown, <int64_t>0)):
            pass
        elif not is_own(state, order, owner):
            shown += order.size_lots
            reserve = min(reserve + state.details[order.mark].reserve_lots, RESERVE_LOTS_ENOUGH)
        elif state.self_trade != SELF_TRADE_CANCEL_OLDEST:
            met_own[0] = True
            return shown
        number = order.next
    return shown + reserve


cdef inline int64_t tradable(MatchState* state, const Entry* entry, int64_t wanted) noexcept nogil:
    """Return how many lots an arriving order could trade at its limit; counting stops at `wanted`.

    Lots of its own owner never count, nor those of orders that demand more than it would have left. Where
    self-trade prevention would stop or reduce the arriving order, only what trades before that counts: of the
    level where it happens, the displayed lots ahead.
    """
    cdef int contra = 1 - entry.side
    cdef uint32_t limit_rank = rank_of(entry.price_ticks, contra)
    cdef uint32_t lit = state.lit.best[contra], dark = state.dark.best[contra]
    cdef const Level* level
    cdef RestingBook* book
    cdef int64_t lots = 0
    cdef bint met_own = False
    while lots < wanted and not met_own and (lit or dark):
        if dark and (lit == 0 or state.dark.levels[dark].rank > state.lit.levels[lit].rank):
            book, level = &state.dark, &state.dark.levels[dark]
            dark = level_behind(&state.dark, dark)
        else:
            book, level = &state.lit, &state.lit.levels[lit]
            lit = level_behind(&state.lit, lit)
        if level.rank < limit_rank:
            break
        lots += level_tradable(state, book, level, entry.leaves_lots - lots, entry.owner, &met_own)
    return lots

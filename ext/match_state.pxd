"""What a matching engine owns: three books, what orders need beyond a price and a size, and reports.

`lit` holds displayed orders (of an iceberg the displayed slice), `dark` hidden ones, `stops` those not
yet triggered, by trigger price and each on the side that makes the next to trigger its best level. All
three are the RestingBook of the feeds. A plain order is its 32-byte node and nothing else; one with an
owner, an expiry, a reserve or a trigger has an OrderDetail, whose number stands in the node's `mark`.

Every pool grows in `state_reserve`, between chunks of a batch, never within one; only reports, of which
one order can cause any number, may grow while it is matched.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from .branch_hint cimport unlikely
from .expiry_heap cimport ExpiryHeap
from .layout cimport ExecutionReport, check
from .order_index cimport Order
from .resting_book cimport Level, RestingBook, level_remove, order_find, order_remove, order_unlink

cdef enum Phase:
    PHASE_CONTINUOUS = 0
    PHASE_HALTED = 1
    PHASE_AUCTION = 2

cdef enum SelfTrade:
    SELF_TRADE_CANCEL_NEWEST = 0
    SELF_TRADE_CANCEL_OLDEST = 1
    SELF_TRADE_CANCEL_BOTH = 2
    SELF_TRADE_DECREMENT = 3


cdef extern from *:
    """
    #define ANYTICK_NO_PRICE (-((int64_t)1 << 40))    /* outside every int32 */

    /* An ExecutionReport in whole words: stores of fields one by one would be a third of a plain command's
     * work. In C, because compilers call it otherwise, and only C can insist. */
    static inline __attribute__((always_inline)) void anytick_report_write(
        uint64_t *words, int64_t now_ns, uint64_t origin, uint64_t order_id, uint8_t kind, uint8_t reason,
        int side, int64_t size_lots, int64_t leaves_lots, int32_t price_ticks, uint8_t liquidity)
    {
        words[0] = order_id;
        words[1] = (uint64_t)now_ns;
        words[2] = (uint64_t)ANYTICK_RECV_NOT_RECORDED;
        words[3] = (uint64_t)size_lots;
        words[4] = (uint64_t)leaves_lots;
        words[5] = 0;
        words[6] = origin | (uint32_t)price_ticks | (uint64_t)kind << 56;
        words[7] = (uint8_t)(1 - 2 * side) | (uint64_t)reason << 8 | (uint64_t)liquidity << 16;
    }
    """
    void report_write "anytick_report_write"(
        uint64_t* words, int64_t now_ns, uint64_t origin, uint64_t order_id, uint8_t kind, uint8_t reason,
        int side, int64_t size_lots, int64_t leaves_lots, int32_t price_ticks, uint8_t liquidity,
    ) noexcept nogil
    const int64_t NO_PRICE "ANYTICK_NO_PRICE"


cdef struct OrderDetail:
    int64_t reserve_lots            # not displayed, behind the slice in the book
    int64_t expire_ns               # INT64_MAX: never
    uint32_t owner                  # self-trade prevention group, 0: none
    uint32_t display_lots           # of each new slice, 0: all
    int32_t price_ticks             # the limit of a stop-limit order, the cap of a peg
    int32_t peg_offset_ticks
    uint32_t minimum_lots           # hidden: that each counterparty brings; of a stop, for its arrival
    uint32_t next_free              # in the pool
    uint8_t order_type
    uint8_t time_in_force
    uint8_t flags
    uint8_t _unused
    uint32_t _padding
    uint64_t peg_sequence           # its number among all pegged orders ever, from 1; 0: not pegged


cdef struct Peg:
    uint64_t order_id
    uint64_t sequence


cdef struct MatchState:
    RestingBook lit
    RestingBook dark
    RestingBook stops
    OrderDetail* details            # [0] is never used and stays zero
    uint32_t detail_capacity
    uint32_t details_made
    uint32_t free_detail
    uint32_t detail_count
    ExpiryHeap expiries
    ExecutionReport* reports
    uint64_t report_count
    uint64_t report_capacity
    bint reports_owned              # False: the caller's array
    ExecutionReport scrap           # takes reports that found no memory
    uint64_t reports_lost
    int64_t now_ns                  # latest time a command carried
    uint64_t fill_hash
    uint64_t fill_count
    uint64_t traded_lots
    uint64_t lots_in                # accepted, or added by a replace
    uint64_t lots_out               # traded (both sides) or cancelled
    int32_t last_price_ticks
    bint traded                     # last_price_ticks means something
    int32_t band_low_ticks
    int32_t band_high_ticks
    int32_t tick_size_ticks
    int phase                       # enum Phase
    int self_trade                  # enum SelfTrade
    uint64_t origin                 # instrument and venue where a report's seventh word has them
    uint16_t instrument_id
    uint8_t venue_id
    Peg* pegs                       # in time order; some may have left since
    uint64_t peg_count
    uint64_t peg_capacity
    uint64_t peg_sequence
    uint32_t[2] minimums            # orders in the dark book, by side, that demand a minimum
    int64_t pegged_bid              # the touch the pegs were priced by, NO_PRICE where a side was empty
    int64_t pegged_ask


cdef inline uint64_t lots_left(const MatchState* state, const Order* order) noexcept nogil:
    """Return all an order still wants: the slice in the book and the reserve behind it."""
    return order.size_lots + state.details[order.mark].reserve_lots


cdef inline bint is_refused(const MatchState* state, const Order* order, int64_t lots) noexcept nogil:
    """Tell whether a hidden order demands more of a counterparty than it has left.

    One that has less left than its minimum demands what it has.
    """
    return lots < min(<int64_t>state.details[order.mark].minimum_lots, order.size_lots)


# Reports.

cdef inline bint reports_reserve(MatchState* state, uint64_t count) noexcept nogil:
    """Make sure that `count` more reports fit. False, and nothing changed, when memory is out."""
    cdef uint64_t capacity = max(state.report_capacity, <uint64_t>64)
    cdef ExecutionReport* larger
    if state.report_capacity - state.report_count >= count:
        return True
    while capacity - state.report_count < count:
        capacity *= 2
    larger = <ExecutionReport*>malloc(capacity * sizeof(ExecutionReport))
    if larger == NULL:
        return False
    if state.report_count:
        memcpy(larger, state.reports, state.report_count * sizeof(ExecutionReport))
    if state.reports_owned:
        free(state.reports)
    state.reports = larger
    state.report_capacity = capacity
    state.reports_owned = True
    return True


cdef inline uint64_t* report_place(MatchState* state) noexcept nogil:
    """Return where the next report goes, in a larger block; without memory for that, where it is lost."""
    if not reports_reserve(state, 1):
        state.reports_lost += 1
        return <uint64_t*>&state.scrap
    state.report_count += 1
    return <uint64_t*>&state.reports[state.report_count - 1]


cdef inline uint64_t* report_next(MatchState* state) noexcept nogil:
    """Return where the next report goes."""
    if unlikely(state.report_count == state.report_capacity):
        return report_place(state)
    state.report_count += 1
    return <uint64_t*>&state.reports[state.report_count - 1]


cdef inline void report(
    MatchState* state, uint64_t order_id, uint8_t kind, uint8_t reason, int side,
    int64_t size_lots, int64_t leaves_lots, int32_t price_ticks, uint8_t liquidity,
) noexcept nogil:
    report_write(
        report_next(state), state.now_ns, state.origin, order_id, kind, reason, side, size_lots, leaves_lots,
        price_ticks, liquidity,
    )


# Orders and their details.

cdef inline uint32_t detail_take(MatchState* state, const OrderDetail* source) noexcept nogil:
    """Return the number of a new detail; state_reserve made room for it."""
    cdef uint32_t number = state.free_detail
    if number:
        state.free_detail = state.details[number].next_free
    else:
        number = state.details_made
        state.details_made += 1
    check(number <= state.detail_capacity, "a detail was reserved before it is taken")
    state.details[number] = source[0]
    state.detail_count += 1
    return number


cdef inline void detail_drop(MatchState* state, uint32_t number) noexcept nogil:
    state.details[number].reserve_lots = 0
    state.details[number].next_free = state.free_detail
    state.free_detail = number
    state.detail_count -= 1


cdef inline RestingBook* state_find(MatchState* state, uint64_t order_id, uint32_t* number) noexcept nogil:
    """Return the book an order is in, and its number there, or NULL."""
    number[0] = order_find(&state.lit, order_id)
    if number[0]:
        return &state.lit
    if state.dark.order_count:
        number[0] = order_find(&state.dark, order_id)
        if number[0]:
            return &state.dark
    if state.stops.order_count:
        number[0] = order_find(&state.stops, order_id)
        if number[0]:
            return &state.stops
    return NULL


cdef inline bint lots_taken(
    MatchState* state, RestingBook* book, uint32_t number, int64_t lots
) noexcept nogil:
    """Take lots off an order in the book; False when that removed its level.

    An iceberg whose slice is gone shows the next one at the end of the queue. An order with nothing
    left leaves, its detail with it.
    """
    cdef Order* order = &book.orders[number]
    cdef uint32_t level_number = order.level, mark = order.mark
    cdef Level* level = &book.levels[level_number]
    check(0 < lots <= order.size_lots, "an order gives what it has")
    order.size_lots -= lots
    level.total_lots -= lots
    state.lots_out += lots
    if order.size_lots == 0:
        if mark:
            if state.details[mark].reserve_lots:
                slice_show(state, book, number)
                return True
            state.minimums[level.side] -= book == &state.dark and state.details[mark].minimum_lots != 0
            detail_drop(state, mark)
        order_remove(book, number)
    if level.total_lots:
        return True
    check(level.order_count == 0, "an empty level has no orders")
    level_remove(book, level_number)
    return False


cdef inline void slice_show(MatchState* state, RestingBook* book, uint32_t number) noexcept nogil:
    """Move an iceberg's next slice from the reserve to the end of its level's queue."""
    cdef Order* order = &book.orders[number]
    cdef Level* level = &book.levels[order.level]
    cdef OrderDetail* detail = &state.details[order.mark]
    cdef int64_t lots = min(<int64_t>detail.display_lots, detail.reserve_lots)
    detail.reserve_lots -= lots
    order.size_lots = lots
    level.total_lots += lots
    if level.last == number:
        return
    order_unlink(book, level, order)
    book.orders[level.last].next = number
    order.previous = level.last
    order.next = 0
    level.last = number


cdef inline void order_withdraw(MatchState* state, RestingBook* book, uint32_t number) noexcept nogil:
    """Take an order out with all it had left, reserve included."""
    cdef uint32_t mark = book.orders[number].mark
    if mark:
        state.lots_out += state.details[mark].reserve_lots
        state.details[mark].reserve_lots = 0
    lots_taken(state, book, number, book.orders[number].size_lots)

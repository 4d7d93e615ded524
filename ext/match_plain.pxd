"""The two commands that make up nearly all of a day, in the fewest steps.

A plain command is a good-till-cancelled limit order with nothing beyond a side, a price and a size, or a
cancel of one that rests. Where the engine trades continuously, at a tick size of one, and holds neither
hidden orders nor stops nor pegs, it needs none of the general path's questions. These functions do
what match_order and match_change would do and give the same reports; whatever they do not
recognise they leave untouched, for the general path to judge.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .branch_hint cimport likely
from .expiry_heap cimport expiry_next_ns
from .layout cimport (
    LIQUIDITY_MAKER,
    LIQUIDITY_NONE,
    LIQUIDITY_TAKER,
    ORDER_LIMIT,
    REASON_CAPACITY,
    REASON_NONE,
    REASON_USER,
    REPORT_ACCEPTED,
    REPORT_CANCELLED,
    REPORT_FILL,
    TIF_GTC,
    ACTION_CANCEL,
    ACTION_NEW,
    OrderCommand,
    check,
)
from .lots cimport LEVEL_LOTS_MAX, SIZE_LOTS_MAX
from .match_order cimport order_lapse
from .match_state cimport (
    PHASE_CONTINUOUS,
    MatchState,
    lots_left,
    lots_taken,
    report_next,
    report_write,
)
from .match_sweep cimport prefetch, trade_record
from .order_index cimport (
    Order,
    OrderPlace,
    order_index_erase,
    order_index_erase_at,
    order_index_find,
    order_index_find_at,
)
from .price_index cimport index_near, price_of, rank_of
from .resting_book cimport (
    Level,
    RestingBook,
    level_remove,
    level_require,
    node_drop,
    order_append,
    order_unlink,
)

cdef extern from *:
    """
    /* The last eight bytes of an OrderCommand: instrument u16, venue u8, action u8, side i8, type u8,
     * time in force u8, flags u8. Instrument and venue are not looked at. */
    #define ANYTICK_PLAIN_MASK 0xffffff00ff000000ull
    #define ANYTICK_PLAIN_NEW \
        ((uint64_t)ACTION_NEW << 24 | (uint64_t)ORDER_LIMIT << 40 | (uint64_t)TIF_GTC << 48)
    """
    const uint64_t PLAIN_MASK "ANYTICK_PLAIN_MASK"
    const uint64_t PLAIN_NEW "ANYTICK_PLAIN_NEW"


cdef inline void command_name(
    OrderCommand* command, uint8_t action, int8_t side, uint8_t order_type, uint8_t time_in_force,
    uint8_t flags,
) noexcept nogil:
    """Write a command's last eight bytes in one store.

    They are read in one soon after, which of bytes stored one by one would wait until all stores before
    them have reached the cache: after a cancel those are misses.
    """
    cdef uint64_t tail = <uint64_t>action << 24 | <uint64_t><uint8_t>side << 32
    tail |= <uint64_t>order_type << 40 | <uint64_t>time_in_force << 48 | <uint64_t>flags << 56
    memcpy(&command.instrument_id, &tail, sizeof(tail))


cdef inline bint state_is_plain(const MatchState* state) noexcept nogil:
    """Tell whether plain commands meet nothing but displayed orders here."""
    return (
        state.phase == PHASE_CONTINUOUS and state.tick_size_ticks == 1
        and (state.dark.order_count | state.stops.order_count | state.peg_count) == 0
    )


cdef inline bint plain_clock(MatchState* state, int64_t ts_ns) noexcept nogil:
    """Let time pass; False, and nothing done, where an order's time is over."""
    if ts_ns > state.now_ns:
        if expiry_next_ns(&state.expiries) <= ts_ns:
            return False
        state.now_ns = ts_ns
    return True


cdef inline void first_remove(RestingBook* book, Level* level, Order* order, uint32_t number) noexcept nogil:
    """Take a level's first order out, all of it traded.

    Where none is behind it, `level.last` still names it: level_remove is due.
    """
    level.first = order.next
    book.orders[order.next].previous = 0
    level.order_count -= 1
    order_index_erase(&book.by_id, book.orders, order.order_id)
    node_drop(book, order, number)


cdef inline int64_t plain_sweep(
    MatchState* state, uint64_t order_id, int side, uint32_t limit_rank, int64_t leaves_lots
) noexcept nogil:
    """Trade with displayed orders as good as a limit; return the lots left."""
    cdef RestingBook* book = &state.lit
    cdef int contra = 1 - side
    cdef uint32_t best = book.best[contra], number
    cdef Level* level
    cdef Order* order
    cdef int64_t lots
    cdef int32_t price_ticks
    while best and book.levels[best].rank >= limit_rank:
        level = &book.levels[best]
        price_ticks = price_of(level.rank, contra)
        while True:
            number = level.first
            order = &book.orders[number]
            prefetch(&book.orders[order.next])
            lots = min(order.size_lots, leaves_lots)
            leaves_lots -= lots
            state.lots_out += lots
            trade_record(state, order.order_id, order_id, lots, price_ticks)
            report_write(
                report_next(state), state.now_ns, state.origin,
                order.order_id, REPORT_FILL, REASON_NONE, contra, lots, lots_left(state, order) - lots,
                price_ticks, LIQUIDITY_MAKER,
            )
            report_write(
                report_next(state), state.now_ns, state.origin,
                order_id, REPORT_FILL, REASON_NONE, side, lots, leaves_lots, price_ticks, LIQUIDITY_TAKER,
            )
            if not likely(order.mark == 0):
                if not lots_taken(state, book, number, lots):
                    break
            else:
                # What lots_taken does, with the level known and the order first in its queue.
                state.lots_out += lots
                level.total_lots -= lots
                if order.size_lots != lots:
                    order.size_lots -= lots
                    return 0
                first_remove(book, level, order, number)
                if level.total_lots == 0:
                    check(level.order_count == 0, "an empty level has no orders")
                    level_remove(book, best)
                    break
            if leaves_lots == 0:
                return 0
        if leaves_lots == 0:
            return 0
        best = book.best[contra]
    return leaves_lots


cdef inline bint plain_new(MatchState* state, const OrderCommand* command, uint64_t tail) noexcept nogil:
    cdef RestingBook* book = &state.lit
    cdef int side = <int>(tail >> 39) & 1
    cdef int64_t leaves_lots = command.size_lots
    cdef uint32_t limit_rank = rank_of(command.price_ticks, 1 - side), best = book.best[1 - side], level
    if not likely(
        (command.owner | command.display_size_lots | command.minimum_size_lots) == 0
        and (<uint32_t>(tail >> 32) + 1) & 0xfd == 0
        and <uint64_t>(leaves_lots - 1) < <uint64_t>SIZE_LOTS_MAX
        and state.band_low_ticks <= command.price_ticks <= state.band_high_ticks
        and command.client_order_id != 0
    ):
        return False
    if order_index_find(&book.by_id, book.orders, command.client_order_id):
        return False
    if not plain_clock(state, command.ts_ns):
        return False
    state.lots_in += leaves_lots
    report_write(
        report_next(state), state.now_ns, state.origin,
        command.client_order_id, REPORT_ACCEPTED, REASON_NONE, side, 0, leaves_lots, command.price_ticks,
        LIQUIDITY_NONE,
    )
    if best and book.levels[best].rank >= limit_rank:
        leaves_lots = plain_sweep(state, command.client_order_id, side, limit_rank, leaves_lots)
        if leaves_lots == 0:
            return True
    level = index_near(&book.prices[side], rank_of(command.price_ticks, side))
    if not likely(level != 0):
        level = level_require(book, side, command.price_ticks)
    if not likely(level != 0 and book.levels[level].total_lots <= LEVEL_LOTS_MAX - leaves_lots):
        order_lapse(
            state, command.client_order_id, side, leaves_lots, command.price_ticks, REASON_CAPACITY
        )
        return True
    order_append(book, level, command.client_order_id, leaves_lots, 0)
    book.levels[level].total_lots += leaves_lots
    return True


cdef inline bint plain_cancel(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef RestingBook* book = &state.lit
    cdef OrderPlace at
    cdef uint32_t number = order_index_find_at(&book.by_id, book.orders, command.client_order_id, &at)
    cdef uint32_t level_number
    cdef Order* order = &book.orders[number]
    cdef Level* level
    cdef int64_t lots
    if not likely(number != 0 and order.mark == 0) or not plain_clock(state, command.ts_ns):
        return False
    level_number = order.level
    level = &book.levels[level_number]
    lots = order.size_lots
    report_write(
        report_next(state), state.now_ns, state.origin,
        order.order_id, REPORT_CANCELLED, REASON_USER, level.side, lots, 0,
        price_of(level.rank, level.side), LIQUIDITY_NONE,
    )
    state.lots_out += lots
    level.total_lots -= lots
    level.order_count -= 1
    order_unlink(book, level, order)
    order_index_erase_at(&book.by_id, at)
    node_drop(book, order, number)
    if level.total_lots == 0:
        level_remove(book, level_number)
    return True


cdef inline bint plain_apply(MatchState* state, const OrderCommand* command) noexcept nogil:
    """Do a plain command; False, and nothing done, where it is none."""
    cdef uint64_t tail
    memcpy(&tail, &command.instrument_id, sizeof(tail))
    if tail & PLAIN_MASK == PLAIN_NEW:
        return plain_new(state, command, tail)
    if <uint32_t>(tail >> 24) & 0xff == ACTION_CANCEL:
        return plain_cancel(state, command)
    return False

"""A chunk of commands through the engine, with what they will touch fetched ahead.

In a small book everything is in the cache and asking for it again costs more than it saves, so fetching
begins where the orders outgrow the second-level cache. It runs in three steps, each some commands after
the one before: the id's place in the window, or its bucket; the order in it, and the last order where a
new one would queue; that order's neighbours and level. Whether a command is new or cancels is a coin's
toss, so every step asks for what either would need: a fetch in vain is cheaper than a branch that went
wrong.

The commands themselves are asked for in a book of any size: what the processor fetches of its own accord
ends where a page does, so that each 64th command would be waited for, all the way from memory: a tenth of
the time at 1,000 orders.
"""

from libc.stdint cimport uint32_t, uint64_t

from .branch_hint cimport likely
from .layout cimport OrderCommand, cycle_stamp
from .match_follow cimport state_apply
from .match_plain cimport plain_apply, state_is_plain
from .match_state cimport MatchState
from .match_sweep cimport prefetch
from .order_index cimport Order, order_first_guess, order_index_first
from .price_index cimport index_guess, rank_of
from .resting_book cimport RestingBook

cdef enum:
    FETCH_ORDERS_MIN = 16_384       # 32-byte nodes and 16 bytes of index each: 768 KiB
    BUCKET_AHEAD = 24
    ORDER_AHEAD = 16
    NEIGHBOURS_AHEAD = 8
    COMMANDS_AHEAD = 16             # beyond the last, one asks for what nobody reads
    FETCHES = 32                    # a power of two above BUCKET_AHEAD


cdef struct Fetched:
    const void* firsts[FETCHES]     # of a row at row % FETCHES, from BUCKET_AHEAD on
    uint32_t[FETCHES] orders        # from ORDER_AHEAD on


cdef inline void fetch_bucket(
    RestingBook* book, const OrderCommand* commands, Py_ssize_t row, Fetched* fetched
) noexcept nogil:
    cdef const void* first = order_index_first(&book.by_id, commands[row].client_order_id)
    fetched.firsts[row & (FETCHES - 1)] = first
    prefetch(first)


cdef inline void fetch_order(
    RestingBook* book, const OrderCommand* commands, Py_ssize_t row, Fetched* fetched
) noexcept nogil:
    cdef const OrderCommand* command = &commands[row]
    cdef uint32_t number = order_first_guess(
        &book.by_id, fetched.firsts[row & (FETCHES - 1)], command.client_order_id
    )
    cdef int side = command.side < 0
    cdef uint32_t level = index_guess(&book.prices[side], rank_of(command.price_ticks, side))
    fetched.orders[row & (FETCHES - 1)] = number
    prefetch(&book.orders[number])
    prefetch(&book.orders[book.levels[level].last])


cdef inline void fetch_neighbours(RestingBook* book, Py_ssize_t row, const Fetched* fetched) noexcept nogil:
    cdef const Order* order = &book.orders[fetched.orders[row & (FETCHES - 1)]]
    prefetch(&book.orders[order.next])
    prefetch(&book.orders[order.previous])
    prefetch(&book.levels[order.level])


cdef inline void batch_apply(
    MatchState* state, const OrderCommand* commands, Py_ssize_t count, uint64_t* stamps
) noexcept nogil:
    """Do commands in order; `stamps`, if any, gets the processor's clock after each."""
    cdef RestingBook* book = &state.lit
    cdef Py_ssize_t row, fetched_rows = 0
    cdef bint plain = state_is_plain(state)
    cdef Fetched fetched
    if book.order_count >= FETCH_ORDERS_MIN and count > BUCKET_AHEAD:
        fetched_rows = count - BUCKET_AHEAD
        for row in range(BUCKET_AHEAD):
            fetch_bucket(book, commands, row, &fetched)
        for row in range(ORDER_AHEAD):
            fetch_order(book, commands, row, &fetched)
    # Pools and tables stay where they are within a chunk, so an address fetched now is good when it is used.
    # One loop for all, because the plain path is inlined where it is called once only.
    for row in range(count):
        if row < fetched_rows:
            fetch_bucket(book, commands, row + BUCKET_AHEAD, &fetched)
            fetch_order(book, commands, row + ORDER_AHEAD, &fetched)
            fetch_neighbours(book, row + NEIGHBOURS_AHEAD, &fetched)
        prefetch(&commands[row + COMMANDS_AHEAD])
        if not likely(plain and plain_apply(state, &commands[row])):
            state_apply(state, &commands[row])
            plain = state_is_plain(state)
        if stamps != NULL:
            stamps[row] = cycle_stamp()

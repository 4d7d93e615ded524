"""A chunk of commands through the engine, with what they will touch fetched ahead.

In a small book everything is in the cache and asking for it again costs a third more time than it saves,
so fetching begins where the orders outgrow the second-level cache. It runs in three steps, each some
commands after the one before: the id's slot, the order in it, that order's neighbours and level.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from .layout cimport ACTION_NEW, OrderCommand
from .match_follow cimport state_apply
from .match_state cimport MatchState
from .match_sweep cimport prefetch
from .order_index cimport Order, OrderSlot, order_tag
from .price_index cimport index_find, rank_of
from .resting_book cimport ASK, BID, RestingBook

cdef enum:
    FETCH_ORDERS_MIN = 16_384       # 32-byte nodes and 16 bytes of index each: 768 KiB
    SLOT_AHEAD = 12
    ORDER_AHEAD = 8
    NEIGHBOURS_AHEAD = 4


cdef inline OrderSlot* home_slot(const RestingBook* book, const OrderCommand* command) noexcept nogil:
    return &book.by_id.slots[order_tag(command.client_order_id) >> book.by_id.home_shift]


cdef inline Order* likely_order(RestingBook* book, const OrderCommand* command) noexcept nogil:
    """Return the order whose slot is at home where the command's id belongs: nearly always its own."""
    return &book.orders[home_slot(book, command).order]


cdef inline void fetch_order(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef RestingBook* book = &state.lit
    cdef uint32_t level
    cdef int side
    if command.action != ACTION_NEW:
        prefetch(likely_order(book, command))
        return
    side = BID if command.side > 0 else ASK
    level = index_find(&book.prices[side], rank_of(command.price_ticks, side))
    if level:
        prefetch(&book.orders[book.levels[level].last])


cdef inline void fetch_neighbours(MatchState* state, const OrderCommand* command) noexcept nogil:
    cdef RestingBook* book = &state.lit
    cdef const Order* order
    if command.action != ACTION_NEW:
        order = likely_order(book, command)
        prefetch(&book.orders[order.next])
        prefetch(&book.orders[order.previous])
        prefetch(&book.levels[order.level])


cdef inline void batch_apply(
    MatchState* state, const OrderCommand* commands, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t row
    if state.lit.order_count < FETCH_ORDERS_MIN:
        for row in range(count):
            state_apply(state, &commands[row])
        return
    for row in range(count):
        if row + SLOT_AHEAD < count:
            prefetch(home_slot(&state.lit, &commands[row + SLOT_AHEAD]))
        if row + ORDER_AHEAD < count:
            fetch_order(state, &commands[row + ORDER_AHEAD])
        if row + NEIGHBOURS_AHEAD < count:
            fetch_neighbours(state, &commands[row + NEIGHBOURS_AHEAD])
        state_apply(state, &commands[row])

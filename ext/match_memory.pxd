"""Room for what commands can add, made before they run."""

from libc.stdint cimport INT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from .expiry_heap cimport Expiry, ExpiryHeap, expiry_before, expiry_pop, expiry_push, expiry_reserve
from .layout cimport ExecutionReport
from .match_state cimport NO_PRICE, MatchState, OrderDetail, Peg, reports_reserve, state_find
from .node_arena cimport pool_give, pool_grow, pool_take
from .order_index cimport order_index_bytes, order_index_review, order_index_tidy
from .resting_book cimport (
    RestingBook,
    book_close,
    book_open,
    levels_extend,
    order_find,
    orders_extend,
    pool_bytes,
)


cdef inline bint book_reserve(RestingBook* book, uint64_t orders, uint64_t levels) noexcept nogil:
    """Make sure that so many more orders and levels fit."""
    order_index_tidy(&book.by_id)
    cdef uint64_t capacity = book.order_capacity
    while capacity - book.order_count < orders:
        capacity *= 2
    if capacity > book.order_capacity and not orders_extend(book, capacity):
        return False
    capacity = book.level_capacity
    levels += book.level_count[0] + book.level_count[1]
    while capacity < levels:
        capacity *= 2
    return capacity == book.level_capacity or levels_extend(book, capacity)


cdef inline bint details_reserve(MatchState* state, uint64_t count) noexcept nogil:
    cdef uint64_t capacity = state.detail_capacity
    cdef void* larger
    if capacity - state.detail_count >= count:
        return True
    while capacity - state.detail_count < count:
        capacity *= 2
    if capacity > 0x7fffffff:
        return False
    larger = pool_grow(
        NULL, state.details, (<size_t>state.detail_capacity + 1) * sizeof(OrderDetail),
        (capacity + 1) * sizeof(OrderDetail),
    )
    if larger == NULL:
        return False
    state.details = <OrderDetail*>larger
    state.detail_capacity = <uint32_t>capacity
    return True


cdef inline bint expiry_is_live(MatchState* state, const Expiry* expiry) noexcept nogil:
    cdef uint32_t number
    cdef RestingBook* book = state_find(state, expiry.order_id, &number)
    return book != NULL and state.details[book.orders[number].mark].expire_ns == expiry.expire_ns


cdef inline void expiries_distinct(ExpiryHeap* heap) noexcept nogil:
    """Keep one of equal entries: an id that comes back with its old time would add one each time."""
    cdef uint64_t count = heap.count, place
    cdef Expiry item
    while heap.count:
        item = expiry_pop(heap)
        heap.items[heap.count] = item           # the place that the pop left free: latest first in the end
    for place in range(count // 2):
        item = heap.items[place]
        heap.items[place] = heap.items[count - 1 - place]
        heap.items[count - 1 - place] = item
    for place in range(count):                  # ascending, and so a heap
        item = heap.items[place]
        if heap.count and not expiry_before(&heap.items[heap.count - 1], &item):
            continue
        heap.items[heap.count] = item
        heap.count += 1


cdef inline uint32_t peg_find(MatchState* state, const Peg* peg) noexcept nogil:
    """Return the number of a pegged order in the dark book, or 0 when it has left."""
    cdef uint32_t number = order_find(&state.dark, peg.order_id)
    return number if state.details[state.dark.orders[number].mark].peg_sequence == peg.sequence else 0


cdef inline void pegs_compact(MatchState* state) noexcept nogil:
    cdef uint64_t place, kept = 0
    for place in range(state.peg_count):
        if peg_find(state, &state.pegs[place]):
            state.pegs[kept] = state.pegs[place]
            kept += 1
    state.peg_count = kept


cdef inline bint pegs_reserve(MatchState* state, uint64_t count) noexcept nogil:
    cdef uint64_t capacity = max(state.peg_capacity, <uint64_t>64)
    cdef void* larger
    if state.peg_capacity - state.peg_count >= count:
        return True
    pegs_compact(state)
    while capacity - state.peg_count < count:
        capacity *= 2
    larger = realloc(state.pegs, capacity * sizeof(Peg))
    if larger == NULL:
        return False
    state.pegs = <Peg*>larger
    state.peg_capacity = capacity
    return True


cdef inline bint state_reserve(MatchState* state, uint64_t commands) noexcept nogil:
    """Make room for what so many commands can add. False, with the state intact, when memory is out."""
    cdef Expiry expiry
    cdef uint64_t kept = 0, place
    # A triggered stop, or a peg that finds a price, moves from one book to another.
    cdef uint64_t moving = commands + state.stops.order_count + state.peg_count
    if state.expiries.capacity - state.expiries.count < commands:
        # A cancelled order leaves its expiry behind; they are swept out when the heap is full.
        for place in range(state.expiries.count):
            expiry = state.expiries.items[place]
            if expiry_is_live(state, &expiry):
                state.expiries.items[kept] = expiry
                kept += 1
        state.expiries.count = 0
        for place in range(kept):
            expiry_push(&state.expiries, state.expiries.items[place])
        expiries_distinct(&state.expiries)
    order_index_review(&state.lit.by_id, state.lit.orders, state.lit.order_capacity, state.lit.entries)
    return (
        expiry_reserve(&state.expiries, commands) and pegs_reserve(state, commands)
        and book_reserve(&state.lit, moving, moving)
        and book_reserve(&state.dark, moving, moving)
        and book_reserve(&state.stops, commands, commands)
        and details_reserve(state, commands)
        and reports_reserve(state, commands + commands // 2)
    )


cdef inline bint state_open(MatchState* state, uint32_t orders, uint32_t levels) noexcept nogil:
    """Make a zeroed state usable. False when memory is out; state_close is due either way."""
    cdef uint32_t few = min(orders, <uint32_t>256)
    state.details = <OrderDetail*>pool_take(NULL, (<size_t>few + 1) * sizeof(OrderDetail))
    if state.details == NULL:
        return False
    state.details[0].expire_ns = INT64_MAX
    state.details_made = 1
    state.detail_capacity = few
    state.pegged_bid = state.pegged_ask = NO_PRICE
    return (
        book_open(&state.lit, orders, levels) and book_open(&state.dark, few, few)
        and book_open(&state.stops, few, few)
        and reports_reserve(state, 256) and expiry_reserve(&state.expiries, 256) and pegs_reserve(state, 256)
    )


cdef inline uint64_t book_bytes(const RestingBook* book) noexcept nogil:
    return (
        pool_bytes(book.order_capacity) + pool_bytes(book.level_capacity)
        + order_index_bytes(&book.by_id)
    )


cdef inline uint64_t state_bytes(const MatchState* state) noexcept nogil:
    """Return what the state's own memory takes."""
    cdef uint64_t reports = state.report_capacity if state.reports_owned else 0
    return (
        book_bytes(&state.lit) + book_bytes(&state.dark) + book_bytes(&state.stops)
        + (<uint64_t>state.detail_capacity + 1) * sizeof(OrderDetail)
        + state.expiries.capacity * sizeof(Expiry) + state.peg_capacity * sizeof(Peg)
        + reports * sizeof(ExecutionReport)
    )


cdef inline void state_close(MatchState* state) noexcept nogil:
    book_close(&state.lit)
    book_close(&state.dark)
    book_close(&state.stops)
    pool_give(NULL, state.details, (<size_t>state.detail_capacity + 1) * sizeof(OrderDetail))
    free(state.expiries.items)
    free(state.pegs)
    if state.reports_owned:
        free(state.reports)

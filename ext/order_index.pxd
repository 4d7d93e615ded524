"""Where the order of an id stands. The table's layout and algorithm are in order_index.h; this makes it."""

from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from .node_arena cimport pool_give, pool_take

cdef extern from "order_index.h" nogil:
    enum:
        ORDER_BUCKET_PLACES
        ORDER_GROUP_BITS

    const uint64_t ORDER_WINDOW_SPAN

    ctypedef struct Order:
        uint64_t order_id
        int64_t size_lots
        uint32_t next
        uint32_t previous
        uint32_t level
        uint32_t mark

    ctypedef struct OrderBucket:
        uint64_t tags
        uint32_t orders[ORDER_BUCKET_PLACES]

    ctypedef struct OrderIndex:
        OrderBucket* buckets
        uint32_t mask
        uint32_t home_shift
        OrderBucket* older
        uint32_t older_mask
        uint32_t older_shift
        uint64_t moved
        uint32_t* window
        uint32_t* absent
        uint64_t window_mask
        uint64_t span_first
        uint64_t span
        uint64_t newest_id
        uint64_t reviewed_id
        uint64_t reviewed_entries
        uint64_t window_entries

    ctypedef struct OrderPlace:
        pass

    OrderBucket* order_index_home(const OrderIndex* index, uint64_t order_id)
    const void* order_index_first(const OrderIndex* index, uint64_t order_id)
    uint32_t order_index_find(const OrderIndex* index, const Order* orders, uint64_t order_id)
    uint32_t order_index_find_at(
        const OrderIndex* index, const Order* orders, uint64_t order_id, OrderPlace* at
    )
    uint32_t order_index_guess(const OrderBucket* home, uint64_t order_id)
    uint32_t order_first_guess(const OrderIndex* index, const void* first, uint64_t order_id)
    void order_index_enter(OrderIndex* index, uint64_t order_id, uint32_t number)
    void order_index_erase(const OrderIndex* index, const Order* orders, uint64_t order_id)
    void order_index_erase_at(const OrderIndex* index, OrderPlace at)
    void order_index_move(OrderIndex* index, const Order* orders)

cdef enum:
    BUCKET_FILL = 3             # on average, of a table that holds all it was made for
    BUCKETS_MIN_BITS = 3
    TOUCHED_BYTES_MAX = 1 << 28  # of a larger table, the pages come with the orders
    MOVED_BITS_MIN = 12         # a smaller table is moved at once
    MOVED_BUCKETS = 2           # for each id entered: a third of the entries that fill the new table
    WINDOW_PLACES = 8           # for each order the table was made for: old orders are few, but stay long
    REVIEW_ENTRIES = 64
    NEAR_IDS = 8                # for each order entered: ids this close are worth a window
    MOVE_ENTRIES = 16           # for each order the table was made for: two counters could take turns


cdef inline size_t window_bytes(uint64_t places) noexcept nogil:
    return (places + (places >> ORDER_GROUP_BITS)) * sizeof(uint32_t)


cdef inline size_t buckets_bytes(uint32_t mask) noexcept nogil:
    return (<size_t>mask + 1) * sizeof(OrderBucket)


cdef inline uint64_t order_index_bytes(const OrderIndex* index) noexcept nogil:
    """Return what an index takes that was made."""
    cdef uint64_t total = buckets_bytes(index.mask)
    if index.older != NULL:
        total += buckets_bytes(index.older_mask)
    if index.window != NULL:
        total += window_bytes(index.window_mask + 1)
    return total


cdef inline uint64_t index_room(const OrderIndex* index) noexcept nogil:
    """Return how many ids an index has room for."""
    return BUCKET_FILL * (<uint64_t>index.mask + 1)


cdef inline void older_give(OrderIndex* index) noexcept nogil:
    if index.older != NULL:
        pool_give(NULL, index.older, buckets_bytes(index.older_mask))
        index.older = NULL


cdef inline void order_index_advance(OrderIndex* index, const Order* orders, uint64_t buckets) noexcept nogil:
    """Move so many buckets of the older table, if there is one.

    Emptied, it stays until order_index_tidy: a batch may have looked up a bucket there for a later command.
    """
    while index.older != NULL and index.moved <= index.older_mask and buckets:
        order_index_move(index, orders)
        buckets -= 1


cdef inline void order_index_tidy(OrderIndex* index) noexcept nogil:
    """Give an emptied older table back, while nobody has an address in it."""
    if index.older != NULL and index.moved > index.older_mask:
        older_give(index)


cdef inline bint window_take(OrderIndex* index, uint64_t orders_max) noexcept nogil:
    """Give a new index a window, empty, about its newest id; False when memory is out."""
    cdef uint64_t places = 1 << ORDER_GROUP_BITS
    while places < WINDOW_PLACES * orders_max:
        places *= 2
    index.window = <uint32_t*>pool_take(NULL, window_bytes(places))
    if index.window == NULL:
        return False
    index.absent = index.window + places
    index.window_mask = places - 1
    index.span_first = index.newest_id - ORDER_WINDOW_SPAN // 2
    index.span = ORDER_WINDOW_SPAN
    return True


cdef inline void order_index_close(OrderIndex* index) noexcept nogil:
    older_give(index)
    if index.buckets != NULL:
        pool_give(NULL, index.buckets, buckets_bytes(index.mask))
    if index.window != NULL:
        pool_give(NULL, index.window, window_bytes(index.window_mask + 1))


cdef inline void index_copy(OrderIndex* target, const OrderIndex* source, const Order* orders) noexcept nogil:
    """Enter into one index what another holds."""
    cdef uint64_t row
    cdef uint32_t number
    cdef int place
    if source.buckets == NULL:
        return
    for row in range(<uint64_t>source.mask + 1):
        for place in range(ORDER_BUCKET_PLACES):
            if (source.buckets[row].tags >> (8 * place)) & 0xff:
                number = source.buckets[row].orders[place]
                order_index_enter(target, orders[number].order_id, number)
    if source.window != NULL:
        for row in range(source.window_mask + 1):
            number = source.window[row]
            if number:
                order_index_enter(target, orders[number].order_id, number)


cdef inline bint index_rebuild(
    OrderIndex* index, const Order* orders, uint64_t orders_max, bint windowed
) noexcept nogil:
    """Make room for `orders_max` ids. False, and nothing changed, when memory is out."""
    cdef uint32_t bits = BUCKETS_MIN_BITS
    cdef uint64_t bucket_count
    cdef OrderIndex made
    order_index_advance(index, orders, UINT64_MAX)
    order_index_tidy(index)
    made = index[0]
    while BUCKET_FILL * (<uint64_t>1 << bits) < orders_max:
        bits += 1
    if bits > 31:
        return False
    bucket_count = <uint64_t>1 << bits
    made.mask = <uint32_t>(bucket_count - 1)
    made.home_shift = 64 - bits
    made.window = NULL
    made.buckets = <OrderBucket*>pool_take(NULL, buckets_bytes(made.mask))
    if made.buckets == NULL or (windowed and not window_take(&made, orders_max)):
        order_index_close(&made)
        return False
    if not windowed and index.window == NULL and index.mask >> MOVED_BITS_MIN:
        made.older, made.older_mask, made.older_shift = index.buckets, index.mask, index.home_shift
        made.moved = 0
        index[0] = made
        return True
    if index.buckets == NULL and buckets_bytes(made.mask) <= TOUCHED_BYTES_MAX:
        # A table made for the capacity given gets its pages here, not under the first orders.
        memset(made.buckets, 0, buckets_bytes(made.mask))
    index_copy(&made, index, orders)
    made.newest_id = index.newest_id
    order_index_close(index)
    index[0] = made
    return True


cdef inline bint order_index_resize(
    OrderIndex* index, const Order* orders, uint64_t orders_max
) noexcept nogil:
    """Make room for `orders_max` ids. False, and nothing changed, when memory is out."""
    return index_rebuild(index, orders, orders_max, index.span != 0)


cdef inline void order_index_review(
    OrderIndex* index, const Order* orders, uint64_t orders_max, uint64_t entries
) noexcept nogil:
    """Open a window, or move it along, where the ids entered of late are close to one another.

    `entries` counts all ids ever entered. Without memory for a window, ids stay where they are.
    """
    cdef uint64_t entered = entries - index.reviewed_entries
    cdef uint64_t passed = index.newest_id - index.reviewed_id
    if entered < REVIEW_ENTRIES:
        return
    index.reviewed_entries = entries
    index.reviewed_id = index.newest_id
    # Unsigned, so that ids that went back are as far as can be.
    if passed > NEAR_IDS * entered or index.newest_id - index.span_first < index.span // 4 * 3:
        return
    if index.span and entries - index.window_entries < MOVE_ENTRIES * orders_max:
        return
    if index_rebuild(index, orders, orders_max, True):
        index.window_entries = entries

"""Where the order of an id stands. The table's layout and algorithm are in order_index.h; this makes it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from .node_memory cimport nodes_take

cdef extern from "order_index.h" nogil:
    enum:
        ORDER_BUCKET_PLACES

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

    ctypedef struct OrderPlace:
        pass

    OrderBucket* order_index_home(const OrderIndex* index, uint64_t order_id)
    uint32_t order_index_find(const OrderIndex* index, const Order* orders, uint64_t order_id)
    uint32_t order_index_find_at(
        const OrderIndex* index, const Order* orders, uint64_t order_id, OrderPlace* at
    )
    uint32_t order_index_guess(const OrderBucket* home, uint64_t order_id)
    void order_index_enter(OrderIndex* index, uint64_t order_id, uint32_t number)
    void order_index_erase(const OrderIndex* index, const Order* orders, uint64_t order_id)
    void order_index_erase_at(const OrderIndex* index, OrderPlace at)

cdef enum:
    BUCKET_FILL = 3             # on average, of a table that holds all it was made for
    BUCKETS_MIN_BITS = 3


cdef inline bint order_index_resize(
    OrderIndex* index, const Order* orders, uint64_t orders_max
) noexcept nogil:
    """Make room for `orders_max` ids. False, and nothing changed, when memory is out."""
    cdef uint32_t bits = BUCKETS_MIN_BITS, number
    cdef uint64_t bucket_count, row
    cdef OrderIndex larger
    cdef int place
    while BUCKET_FILL * (<uint64_t>1 << bits) < orders_max:
        bits += 1
    if bits > 31:
        return False
    bucket_count = <uint64_t>1 << bits
    larger.mask = <uint32_t>(bucket_count - 1)
    larger.home_shift = 64 - bits
    larger.buckets = <OrderBucket*>nodes_take(bucket_count * sizeof(OrderBucket))
    if larger.buckets == NULL:
        return False
    memset(larger.buckets, 0, bucket_count * sizeof(OrderBucket))
    if index.buckets != NULL:
        for row in range(<uint64_t>index.mask + 1):
            for place in range(ORDER_BUCKET_PLACES):
                if (index.buckets[row].tags >> (8 * place)) & 0xff:
                    number = index.buckets[row].orders[place]
                    order_index_enter(&larger, orders[number].order_id, number)
        free(index.buckets)
    index[0] = larger
    return True

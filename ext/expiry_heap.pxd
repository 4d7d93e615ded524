"""When orders end: a binary heap of (time, order id), earliest first, ties by the smaller id.

An order that leaves early stays in the heap; who pops it finds it gone. The order of pops depends on
the pairs alone, so a heap rebuilt from the live orders behaves like the one it replaces.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport realloc


cdef struct Expiry:
    int64_t expire_ns
    uint64_t order_id


cdef struct ExpiryHeap:
    Expiry* items
    uint64_t count
    uint64_t capacity


cdef inline bint expiry_before(const Expiry* left, const Expiry* right) noexcept nogil:
    if left.expire_ns != right.expire_ns:
        return left.expire_ns < right.expire_ns
    return left.order_id < right.order_id


cdef inline int64_t expiry_next_ns(const ExpiryHeap* heap) noexcept nogil:
    return heap.items[0].expire_ns if heap.count else INT64_MAX


cdef inline bint expiry_reserve(ExpiryHeap* heap, uint64_t count) noexcept nogil:
    """Make sure that `count` more fit. False, and nothing changed, when memory is out."""
    cdef uint64_t capacity = max(heap.capacity, <uint64_t>64)
    cdef Expiry* larger
    if heap.capacity - heap.count >= count:
        return True
    while capacity - heap.count < count:
        capacity *= 2
    larger = <Expiry*>realloc(heap.items, capacity * sizeof(Expiry))
    if larger == NULL:
        return False
    heap.items = larger
    heap.capacity = capacity
    return True


cdef inline void expiry_push(ExpiryHeap* heap, Expiry item) noexcept nogil:
    """Enter an expiry that expiry_reserve made room for."""
    cdef uint64_t place = heap.count, parent
    heap.count += 1
    while place:
        parent = (place - 1) // 2
        if not expiry_before(&item, &heap.items[parent]):
            break
        heap.items[place] = heap.items[parent]
        place = parent
    heap.items[place] = item


cdef inline Expiry expiry_pop(ExpiryHeap* heap) noexcept nogil:
    """Remove and return the earliest of a heap that is not empty."""
    cdef Expiry earliest = heap.items[0], item
    cdef uint64_t place = 0, child
    heap.count -= 1
    item = heap.items[heap.count]
    while True:
        child = 2 * place + 1
        if child >= heap.count:
            break
        if child + 1 < heap.count and expiry_before(&heap.items[child + 1], &heap.items[child]):
            child += 1
        if not expiry_before(&heap.items[child], &item):
            break
        heap.items[place] = heap.items[child]
        place = child
    heap.items[place] = item
    return earliest

"""A bounded ring of events between one producer thread and one consumer thread.

Cursors count events since the ring was made and wrap at 2^64; a slot is its cursor modulo the
capacity. Each cursor line of RingHeader has one writer. Both sides keep the last value they saw of the
other's cursor and look again only when that is not enough, so a busy ring rarely moves a cache line
(rigtorp's SPSCQueue and LMAX's Disruptor explain why). The functions need no object and no
allocation: the same code serves the heap and, with the header first, shared memory.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from .layout cimport MarketEvent, RingHeader, check, load_acquire, load_relaxed, store_release


cdef inline bint ring_push(RingHeader* ring, MarketEvent* slots, const MarketEvent* event) noexcept nogil:
    """Copy one event in. False when full. Producer thread only."""
    cdef uint64_t tail = load_relaxed(&ring.tail)
    if tail - ring.head_seen == ring.capacity:
        ring.head_seen = load_acquire(&ring.head)
        if tail - ring.head_seen == ring.capacity:
            return False
    check(tail - ring.head_seen < ring.capacity, "a push never laps the consumer")
    check(not ring.closed, "a closed ring takes no more events")
    slots[tail & (ring.capacity - 1)] = event[0]
    store_release(&ring.tail, tail + 1)
    return True


cdef inline size_t ring_push_batch(
    RingHeader* ring, MarketEvent* slots, const MarketEvent* source, size_t count
) noexcept nogil:
    """Copy as many events in as fit, publish them at once, return how many. Producer thread only."""
    cdef uint64_t tail = load_relaxed(&ring.tail)
    cdef uint64_t room = ring.capacity - (tail - ring.head_seen)
    cdef uint64_t start = tail & (ring.capacity - 1)
    cdef size_t before_end
    if room < count:
        ring.head_seen = load_acquire(&ring.head)
        room = ring.capacity - (tail - ring.head_seen)
        if room < count:
            count = room
    check(room <= ring.capacity, "a push never laps the consumer")
    check(not ring.closed, "a closed ring takes no more events")
    if count == 0:
        return 0
    before_end = ring.capacity - start
    if count <= before_end:
        memcpy(&slots[start], source, count * sizeof(MarketEvent))
    else:
        memcpy(&slots[start], source, before_end * sizeof(MarketEvent))
        memcpy(slots, source + before_end, (count - before_end) * sizeof(MarketEvent))
    store_release(&ring.tail, tail + count)
    return count


cdef inline size_t ring_peek(
    RingHeader* ring, MarketEvent* slots, size_t count_max, MarketEvent** first
) noexcept nogil:
    """Point at the oldest events, at most `count_max`, without copying; return how many.

    They stay the consumer's until `ring_release`. A run ends where the slots end, so fewer than are
    waiting may come back; 0 means empty. Consumer thread only.
    """
    cdef uint64_t head = load_relaxed(&ring.head)
    cdef uint64_t waiting = ring.tail_seen - head
    cdef uint64_t start = head & (ring.capacity - 1)
    cdef uint64_t before_end = ring.capacity - start
    if waiting < count_max:
        ring.tail_seen = load_acquire(&ring.tail)
        waiting = ring.tail_seen - head
    check(waiting <= ring.capacity, "the consumer never overtakes the producer")
    first[0] = &slots[start]
    return min(waiting, before_end, <uint64_t>count_max)


cdef inline void ring_release(RingHeader* ring, size_t count) noexcept nogil:
    """Give the oldest `count` peeked slots back to the producer. Consumer thread only."""
    cdef uint64_t head = load_relaxed(&ring.head)
    check(count <= ring.tail_seen - head, "only peeked events are released")
    store_release(&ring.head, head + count)


cdef inline void ring_close(RingHeader* ring) noexcept nogil:
    """Say that no more events will come. Producer thread only, after its last push."""
    store_release(&ring.closed, 1)


cdef inline bint ring_is_drained(RingHeader* ring) noexcept nogil:
    """Return whether the ring is closed and empty, so that no event will ever come."""
    # closed first: it is stored after the last push, so a tail read after seeing it is final. The
    # other order could miss a push and a close that both fall between the two reads.
    if not load_acquire(&ring.closed):
        return False
    return load_acquire(&ring.tail) == load_acquire(&ring.head)


cdef class SpscRing:
    cdef RingHeader* ring       # owned, freed in __dealloc__
    cdef MarketEvent* slots     # owned, freed in __dealloc__
    cdef readonly uint64_t capacity

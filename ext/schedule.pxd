"""What is due when: a binary heap over (time, order of entry), with a slab for 64-byte payloads.

Entry order breaks ties, so equal times run in the order they were scheduled. Both arrays double when
they are full; a run reaches its working size in its first seconds and allocates nothing after.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum DueKind:
    DUE_ARRIVAL = 1     # payload: an OrderCommand reaches its venue
    DUE_REPORT = 2      # payload: an ExecutionReport reaches us
    DUE_TIMER = 3       # tag: the agent's
    DUE_EXPIRY = 4      # tag: client order id; place: venue
    DUE_EQUITY = 5      # time for a sample of the equity curve

cdef enum:
    NO_PLACE = 0xFFFFFFFF


cdef struct DueItem:
    int64_t due_ns
    uint64_t entry
    uint64_t tag
    uint32_t place
    uint8_t kind


cdef struct Payload:
    uint8_t[64] bytes
    uint32_t next


cdef class Schedule:
    cdef readonly int64_t next_ns          # INT64_MAX when nothing is due
    cdef readonly uint32_t count
    cdef uint32_t capacity
    cdef uint64_t entries
    cdef DueItem* heap                     # owned
    cdef Payload* slab                     # owned
    cdef uint32_t slab_capacity
    cdef uint32_t free_list

    cdef bint push(self, int64_t due_ns, uint8_t kind, uint64_t tag, uint32_t place) noexcept nogil
    cdef bint push_payload(self, int64_t due_ns, uint8_t kind, const void* payload64) noexcept nogil
    cdef void pop(self, DueItem* out) noexcept nogil
    cdef void take_payload(self, uint32_t place, void* payload64) noexcept nogil

"""What Python does at either end of a ring, and the ends as objects of their own."""

cimport numpy as cnp
from libc.stdint cimport int64_t

from .ring cimport Ring
from .ring_memory cimport RingMemory


cdef size_t push_records(
    RingMemory memory, Ring* ring, cnp.ndarray records, bint waits, object timeout_s
) except? -1
cdef object pop_records(RingMemory memory, Ring* ring, Py_ssize_t count_max)
cdef bint wait_for_records(RingMemory memory, Ring** lanes, size_t lane_count, object timeout_s) except -1
cdef int64_t deadline_of(object timeout_s) except? -1


cdef class RingProducer:
    cdef RingMemory memory
    cdef Ring* ring             # owned
    cdef int descriptor         # holds the role's lock; -1 on the heap

    cdef int require(self) except -1
    cdef void leave(self) noexcept


cdef class RingConsumer:
    cdef RingMemory memory
    cdef Ring* ring             # owned
    cdef int descriptor         # holds the role's lock; -1 on the heap

    cdef int require(self) except -1
    cdef void leave(self) noexcept


cdef RingProducer producer_join(RingMemory memory)
cdef RingConsumer consumer_join(RingMemory memory)

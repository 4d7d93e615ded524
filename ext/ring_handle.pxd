"""What the rings have in common: memory and ends, and the producer's side of those with one producer."""

from libc.stdint cimport uint32_t, uint64_t

from .ring cimport Ring
from .ring_memory cimport RingMemory


cdef class RingHandle:
    cdef RingMemory memory
    cdef bint produces          # this process has the producer's end
    cdef bint consumes
    cdef readonly uint64_t capacity

    cdef int open(
        self, uint32_t kind, object capacity, object dtype, dict options, object role, object lanes,
        object consumers
    ) except -1
    cdef int require_producer(self) except -1
    cdef int require_consumer(self) except -1


cdef class SoleProducerRing(RingHandle):
    cdef Ring* ring             # owned; producer and consumer of one process share it

    cdef int open_ring(self) except -1


cdef RingMemory memory_found(uint32_t kind, str name, object role, object dtype)

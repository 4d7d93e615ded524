"""The three rings as classes. The algorithm stands in ext/ring.h, for Cython in ext/ring.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from .ring cimport Ring
from .ring_memory cimport RingMemory


cdef class SpscRing:
    cdef RingMemory memory
    cdef Ring* ring             # owned; producer and consumer of one process share it
    cdef bint produces
    cdef bint consumes
    cdef readonly uint64_t capacity


cdef class BroadcastRing:
    cdef RingMemory memory
    cdef Ring* ring             # owned; the producer's
    cdef bint produces
    cdef readonly uint64_t capacity


cdef class MpscRing:
    cdef RingMemory memory
    cdef Ring** lanes           # owned; the consumer's
    cdef uint32_t next_lane     # where the next look begins
    cdef bint consumes
    cdef readonly uint64_t capacity

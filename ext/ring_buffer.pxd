"""The three rings as classes. The algorithm stands in ext/ring.h, for Cython in ext/ring.pxd."""

from libc.stdint cimport uint32_t

from .ring cimport Ring
from .ring_handle cimport RingHandle, SoleProducerRing


cdef class SpscRing(SoleProducerRing):
    pass


cdef class BroadcastRing(SoleProducerRing):
    pass


cdef class MpscRing(RingHandle):
    cdef Ring** lanes           # owned; the consumer's
    cdef uint32_t next_lane     # where the next look begins

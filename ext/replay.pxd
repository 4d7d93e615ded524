"""Events through books and features with nobody trading: what a recording costs to read."""

from libc.stdint cimport int64_t, uint64_t

from .book_memory cimport BookMemory
from .feature_set cimport FeatureSet
from .features cimport VENUE_MAX, FeatureState
from .layout cimport MarketEvent
from .order_book cimport OrderBook


cdef class Replay:
    cdef readonly tuple books
    cdef void* places[VENUE_MAX]        # borrowed from `books`
    cdef readonly int venue_count
    cdef readonly FeatureSet features   # None: none are kept
    cdef FeatureState state
    cdef readonly uint64_t events
    cdef readonly uint64_t foreign
    cdef readonly uint64_t backwards
    cdef readonly int64_t stream_ns
    cdef bint busy                      # works without the GIL
    cdef BookMemory memory              # of the books

    cdef uint64_t lost(self) noexcept
    cdef int64_t begin(self) except -1
    cdef end(self, uint64_t lost_before)

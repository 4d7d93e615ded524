"""Many streams of events into one by (ts_ns, venue_id, seq, stream); the algorithm stands in ext/merge.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .layout cimport MarketEvent

cdef extern from "merge.h" nogil:
    enum:
        MERGE_STREAMS_MAX

    ctypedef struct Merge:
        uint64_t dry
        uint64_t closed
        uint32_t stream_count

    void merge_open(Merge* merge, uint32_t stream_count, uint32_t by_seq) noexcept
    void merge_refill(Merge* merge, uint32_t stream, const MarketEvent* first, size_t count) noexcept
    void merge_close(Merge* merge, uint32_t stream) noexcept
    const MarketEvent* merge_next(Merge* merge) noexcept
    size_t merge_copy(Merge* merge, MarketEvent* out, size_t count) noexcept


cdef class EventMerge:
    cdef Merge* merge           # owned; C aligns its keys, Python objects would not
    cdef list blocks            # the array each stream points into
    cdef int64_t[MERGE_STREAMS_MAX] last_ns
    cdef bint busy              # read without the GIL

    cdef require_dry(self, int stream)

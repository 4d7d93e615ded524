"""A log-linear histogram of nanoseconds: 32 buckets per power of two, under 3.2 % wide each."""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    SUB_BITS = 5
    BUCKETS = 2048


cdef inline int bucket_of(int64_t value) noexcept nogil:
    """Return the bucket of a non-negative value: exact below 64, then by leading bits."""
    cdef uint64_t bits = <uint64_t>value
    cdef int shift = 0
    while (bits >> shift) >= 64:
        shift += 1
    return <int>((shift << SUB_BITS) + (bits >> shift))


cdef class Histogram:
    cdef int64_t[BUCKETS] counts
    cdef readonly int64_t maximum
    cdef readonly int64_t total

    cdef void record(self, int64_t value) noexcept nogil

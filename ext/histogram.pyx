"""Latency histogram that the loop fills without allocating."""

cimport cython
from libc.stdint cimport int64_t
from libc.string cimport memset

import numpy as np


@cython.final
@cython.auto_pickle(False)
cdef class Histogram:
    """Counts of non-negative nanoseconds."""

    def __cinit__(self):
        memset(self.counts, 0, sizeof(self.counts))

    cdef void record(self, int64_t value) noexcept nogil:
        value = value if value > 0 else 0
        self.counts[bucket_of(value)] += 1
        self.total += 1
        if value > self.maximum:
            self.maximum = value

    def add(self, int64_t value):
        """Count one value."""
        self.record(value)

    def occupied(self):
        """Return (upper edges, counts) of the buckets in use, both int64, ascending."""
        counts = np.array(<int64_t[:BUCKETS]>self.counts)
        used = np.flatnonzero(counts)
        # Bucket index = (shift << 5) + leading; leading is 0..63 for shift 0, 32..63 above.
        shift = np.maximum((used >> SUB_BITS) - 1, 0)
        leading = used - (shift << SUB_BITS)
        return ((leading + 1) << shift) - 1, counts[used]

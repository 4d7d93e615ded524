"""The compiled contract of a forecast: one row of features in, one number in [-1, 1] out, without the GIL."""

from libc.stdint cimport uint64_t


cdef class SignalSource:
    """A forecast in [-1, 1]; the base always answers 0."""
    cdef readonly int feature_count        # floats that `signal` reads; 0 reads none
    cdef readonly uint64_t abstentions     # calls that had no finite answer
    cdef float signal(self, const float* features) noexcept nogil

"""A choice of features, written in its order into a model's float32 input where that lies."""

from libc.stdint cimport int64_t

from .features cimport FeatureState

cdef enum:
    FEATURES_MAX = 32


cdef struct OwnQueue:
    int64_t ahead_lots          # before our best resting order of one side
    int64_t level_lots          # at its price, ours not counted; 0 where none of ours rests


cdef class FeatureSet:
    cdef readonly tuple names
    cdef readonly int size
    cdef int[FEATURES_MAX] codes
    cdef readonly bint wants_touch      # one of the sixteen that are kept per event
    cdef readonly bint wants_queues     # where our own orders stand

    cdef void fill(
        self, const FeatureState* state, void** books, const OwnQueue* queues, float* out
    ) noexcept nogil

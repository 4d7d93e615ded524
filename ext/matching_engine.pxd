"""A price-time-priority matching engine for one instrument of one venue."""

from .engine_state cimport EngineState
from .layout cimport OrderCommand


cdef class MatchingEngine(EngineState):
    cdef int apply_one(self, const OrderCommand* command) except -1

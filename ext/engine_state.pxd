"""The state of a matching engine as Python sees it."""

from libc.stdint cimport uint32_t

from .match_state cimport MatchState


cdef class EngineState:
    cdef MatchState state       # owned, freed in __dealloc__
    cdef bint busy              # a batch runs without the GIL
    cdef uint32_t room          # commands that the pools have room for without asking

    cdef int refuse_busy(self) except -1
    cdef int enter(self) except -1
    cdef object reports_taken(self)

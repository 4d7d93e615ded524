"""A price-time-priority matching engine for one instrument of one venue."""

from .match_state cimport MatchState


cdef class MatchingEngine:
    cdef MatchState state       # owned, freed in __dealloc__
    cdef bint busy              # a batch runs without the GIL

    cdef int enter(self) except -1
    cdef object reports_taken(self)
    cdef list interest(self, int side)

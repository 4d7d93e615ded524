"""Memory and one thread's right to it, which books share."""

from .node_arena cimport NodeArena


cdef class BookMemory:
    cdef NodeArena arena        # owned, freed in __dealloc__
    cdef bint busy

    cdef int require_idle(self) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept

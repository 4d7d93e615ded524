"""Memory and one thread's right to it, which books share."""

from libc.stdint cimport uint64_t

from .node_arena cimport NodeArena


cdef class BookMemory:
    cdef NodeArena arena        # owned, freed in __dealloc__
    cdef uint64_t* window       # owned; NULL until ids prove to be counted through all books
    cdef uint64_t owners        # books that were given a number
    cdef bint busy

    cdef uint64_t number_owner(self) noexcept
    cdef int require_idle(self) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept

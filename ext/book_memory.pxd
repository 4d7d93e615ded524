"""Memory and one thread's right to it, which books share."""

from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from .layout cimport MarketEvent
from .node_arena cimport NodeArena


cdef class BookMemory:
    cdef NodeArena arena        # owned, freed in __dealloc__
    cdef uint64_t* window       # owned; NULL until ids prove to be counted through all books
    # What an OrderBook does with an event by order once there is a window: reached by address, because with
    # both ways in one module the compiler inlines neither.
    cdef void (*apply_windowed)(PyObject* book, const MarketEvent* event) noexcept nogil
    cdef uint64_t owners        # books that were given a number
    cdef bint busy

    cdef uint64_t number_owner(self) noexcept
    cdef int require_idle(self) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept

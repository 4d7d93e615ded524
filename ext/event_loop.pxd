"""One engine: the tick path of `ext/tick_path.pxd` with its door to Python."""

from ext.tick_path cimport TickPath


cdef class EventLoop(TickPath):
    cdef bint busy              # works without the GIL

    cdef int require_idle(self, bint drained) except -1
    cdef raise_overflow(self)

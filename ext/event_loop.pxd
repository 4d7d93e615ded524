"""One engine: the tick path of `ext/tick_path.pxd` with its door to Python."""

from ext.tick_path cimport TickPath


cdef class EventLoop(TickPath):
    cdef raise_overflow(self)

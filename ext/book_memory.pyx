"""Memory and one thread's right to it, which books share."""

cimport cython
from libc.stdint cimport uint64_t

from .busy cimport refuse_busy
from .node_arena cimport arena_close
from .order_window cimport OWNER_SHIFT, OWNERS_MAX, window_give


@cython.final
@cython.auto_pickle(False)
cdef class BookMemory:
    """Memory of books that one thread at a time works on.

    Small books that share it stand side by side in huge pages. While a thread is in any of them without the
    GIL, a call into any of them from another thread is refused.
    """

    def __dealloc__(self):
        arena_close(&self.arena)
        window_give(self.window)

    cdef uint64_t number_owner(self) noexcept:
        """Return a new book's number in places of the window; 0 where they are used up."""
        if self.owners == OWNERS_MAX:
            return 0
        self.owners += 1
        return self.owners << OWNER_SHIFT

    cdef int require_idle(self) except -1:
        """Refuse a thread while another is at work without the GIL."""
        return refuse_busy(self.busy, "book")

    cdef int enter(self) except -1:
        """Begin work without the GIL; `leave` is due."""
        self.require_idle()
        self.busy = True
        return 0

    cdef void leave(self) noexcept:
        self.busy = False

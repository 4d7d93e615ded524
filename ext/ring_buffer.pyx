"""A bounded ring of events between one producer thread and one consumer thread."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

from .event_array cimport events_empty, events_pointer
from .layout cimport MarketEvent, RingHeader, load_acquire
from .ring_buffer cimport ring_close, ring_is_drained, ring_peek, ring_push_batch, ring_release

cnp.import_array()

cdef extern from "layout.h" nogil:
    const size_t CACHE_LINE "ANYTICK_CACHE_LINE"
    const size_t CURSOR_STRIDE "ANYTICK_CURSOR_STRIDE"


@cython.final
@cython.auto_pickle(False)
cdef class SpscRing:
    """A bounded ring of market events that one thread fills and one other thread drains.

    Both sides release the GIL while they copy. A full ring takes fewer events than it is offered and an
    empty one gives none: expected outcomes, not errors.

    Parameters
    ----------
    capacity : int
        Events it holds at most, a power of two. Two to four thousand stay within a core's L2.
    first_cursor : int
        Count given to the first event. Cursors wrap at 2**64, and a ring begun shortly before that
        shows that nothing depends on them not wrapping.

    Raises
    ------
    ValueError
        If `capacity` is not a power of two.
    """

    def __cinit__(self, Py_ssize_t capacity, *, uint64_t first_cursor=0):
        if capacity <= 0 or capacity & (capacity - 1):
            raise ValueError(f"capacity must be a power of two, was {capacity}")
        cdef size_t slot_bytes = <size_t>capacity * sizeof(MarketEvent)
        if slot_bytes // sizeof(MarketEvent) != <size_t>capacity:
            raise MemoryError(f"a ring of {capacity} events does not fit the address space")
        # Python aligns objects to 16 bytes only, so the cursors need a block of their own.
        if posix_memalign(<void**>&self.ring, CURSOR_STRIDE, sizeof(RingHeader)):
            raise MemoryError("no memory for the ring's cursors")
        if posix_memalign(<void**>&self.slots, CACHE_LINE, slot_bytes):
            raise MemoryError(f"no memory for a ring of {capacity} events")
        memset(self.ring, 0, sizeof(RingHeader))
        memset(self.slots, 0, slot_bytes)    # touches the pages now, not on the first lap
        self.capacity = self.ring.capacity = capacity
        self.ring.tail = self.ring.tail_seen = first_cursor
        self.ring.head = self.ring.head_seen = first_cursor

    def __dealloc__(self):
        free(self.ring)
        free(self.slots)

    def __len__(self):
        # head first: read the other way round, it could have passed the tail.
        cdef uint64_t head = load_acquire(&self.ring.head)
        cdef uint64_t waiting = load_acquire(&self.ring.tail) - head
        return min(waiting, self.capacity)

    @property
    def closed(self):
        """Whether the producer has said that no more events will come."""
        return load_acquire(&self.ring.closed) != 0

    @property
    def drained(self):
        """Whether the ring is closed and every event was taken."""
        return ring_is_drained(self.ring)

    def try_push(self, cnp.ndarray events not None):
        """Copy events in until the ring is full; return how many went in. Producer thread only.

        Parameters
        ----------
        events : array of EVENT_DTYPE, shape (n,)

        Raises
        ------
        TypeError
            If `events` has another dtype.
        ValueError
            If `events` is not contiguous or the ring is closed.
        """
        cdef const MarketEvent* source = events_pointer(events)
        cdef size_t count = cnp.PyArray_SIZE(events)
        if self.ring.closed:
            raise ValueError("a closed ring takes no more events")
        with nogil:
            count = ring_push_batch(self.ring, self.slots, source, count)
        return count

    def pop(self, Py_ssize_t count_max):
        """Take the oldest events out, at most `count_max`. Consumer thread only.

        Returns
        -------
        array of EVENT_DTYPE, shape (n,)
            A copy, in the order they were pushed; empty when none wait.
        """
        if count_max < 0:
            raise ValueError(f"count_max must not be negative, was {count_max}")
        cdef size_t wanted = min(<size_t>count_max, <size_t>len(self)), taken = 0, run
        cdef MarketEvent* first
        events = events_empty(wanted)
        cdef MarketEvent* target = <MarketEvent*>cnp.PyArray_DATA(events)
        with nogil:
            while taken < wanted:
                # Never short: these events were counted before, and only this thread takes any.
                run = ring_peek(self.ring, self.slots, wanted - taken, &first)
                memcpy(target + taken, first, run * sizeof(MarketEvent))
                ring_release(self.ring, run)
                taken += run
        return events

    def close(self):
        """Say that no more events will come. Producer thread only; again is harmless."""
        ring_close(self.ring)

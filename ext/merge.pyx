"""Many streams of events into one."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport INT64_MIN, int64_t
from libc.stdlib cimport free
from posix.stdlib cimport posix_memalign

from .busy cimport refuse_busy
from .event_array cimport events_pointer
from .layout cimport MarketEvent

cnp.import_array()


@cython.final
@cython.auto_pickle(False)
cdef class EventMerge:
    """Merges streams in order of time; equal times by venue, then sequence number, then stream.

    Events of one stream keep their order, whatever their venues and numbers. A stream that has run dry
    stops the merge until it is refilled or closed. While one thread takes events, every call from another
    is refused with RuntimeError.

    Parameters
    ----------
    stream_count : int
        1 to 64.
    by_seq : bool
        False where streams of one venue count on their own, so that their numbers do not compare: then
        the stream decides.

    Examples
    --------
    >>> merge = EventMerge(2)
    >>> merge.dry
    (0, 1)
    """

    def __cinit__(self, int stream_count, *, bint by_seq=True):
        if not 1 <= stream_count <= MERGE_STREAMS_MAX:
            raise ValueError(f"stream_count must be 1 to {MERGE_STREAMS_MAX}, was {stream_count}")
        if posix_memalign(<void**>&self.merge, 64, sizeof(Merge)) != 0:
            self.merge = NULL
            raise MemoryError("EventMerge")
        merge_open(self.merge, stream_count, by_seq)
        for stream in range(stream_count):
            self.last_ns[stream] = INT64_MIN
        self.blocks = [None] * stream_count

    def __dealloc__(self):
        free(self.merge)

    @property
    def dry(self):
        """Streams that wait for `refill` or `close`, in order."""
        refuse_busy(self.busy, "merge")
        return tuple(
            stream for stream in range(self.merge.stream_count) if self.merge.dry >> stream & 1
        )

    def refill(self, int stream, cnp.ndarray events not None):
        """Give a dry stream its next events; the array is read in place and kept until it is used up.

        Parameters
        ----------
        events : array of EVENT_DTYPE, shape (n,)
            In order of time. None at all leaves the stream dry.

        Raises
        ------
        ValueError
            The stream still has events or is closed, or its time runs back.
        """
        cdef const MarketEvent* first = events_pointer(events)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(events), row
        cdef int64_t backwards = 0
        self.require_dry(stream)
        if count == 0:
            return
        self.busy = True
        with nogil:
            for row in range(1, count):
                backwards += first[row].ts_ns < first[row - 1].ts_ns
        self.busy = False
        backwards += first[0].ts_ns < self.last_ns[stream]
        if backwards:
            raise ValueError(f"ts_ns of stream {stream} must not run back, did {backwards} times")
        self.last_ns[stream] = first[count - 1].ts_ns
        self.blocks[stream] = events
        merge_refill(self.merge, stream, first, count)

    def close(self, int stream):
        """Say that a dry stream has ended."""
        self.require_dry(stream)
        self.blocks[stream] = None
        merge_close(self.merge, stream)

    def take(self, cnp.ndarray out not None, Py_ssize_t first=0):
        """Copy the next events in order into `out` from position `first` on; return how many.

        Returns early when a stream has run dry; 0 with none dry means that all have ended.
        """
        cdef MarketEvent* target = <MarketEvent*>events_pointer(out)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(out)
        if not 0 <= first <= count or not cnp.PyArray_ISWRITEABLE(out):
            raise ValueError(f"needs a writable array and a place in it, was {first} of {count}")
        refuse_busy(self.busy, "merge")
        self.busy = True
        with nogil:
            count = merge_copy(self.merge, target + first, count - first)
        self.busy = False
        return count

    cdef require_dry(self, int stream):
        refuse_busy(self.busy, "merge")
        if not 0 <= stream < <int>self.merge.stream_count:
            raise ValueError(f"stream must be below {self.merge.stream_count}, was {stream}")
        if not self.merge.dry >> stream & 1:
            raise ValueError(f"stream {stream} must be dry, was not")

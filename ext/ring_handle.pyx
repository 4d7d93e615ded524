"""What the rings have in common: memory and ends, and the producer's side of those with one producer."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport uint32_t
from libc.stdlib cimport free

from .event_array import EVENT_DTYPE
from .layout cimport load_acquire
from .ring cimport ring_adopt, ring_close, ring_is_closed
from .ring_ends cimport push_records
from .ring_memory cimport RingMemory, handle_open, memory_attach, memory_create

cnp.import_array()


cdef int require_role(object role) except -1:
    if role not in ("producer", "consumer"):
        raise ValueError(f"role must be producer or consumer, was {role!r}")
    return 0


cdef RingMemory memory_found(uint32_t kind, str name, object role, object dtype):
    """Attach to a ring's shared memory; its handle is opened on it in place of a capacity."""
    require_role(role)
    return memory_attach(kind, name, EVENT_DTYPE if dtype is None else dtype)


@cython.no_gc
@cython.auto_pickle(False)
cdef class RingHandle:
    """A ring's memory, on the heap or shared under a name, and which of its ends this process has.

    Attributes
    ----------
    capacity : int
        Records it holds at most; of an `MpscRing`, each lane.
    """

    def __cinit__(self, *_args, **_options):
        if type(self) is RingHandle or type(self) is SoleProducerRing:
            raise TypeError("make an SpscRing, a BroadcastRing or an MpscRing")

    cdef int open(
        self, uint32_t kind, object capacity, object dtype, dict options, object role, object lanes,
        object consumers
    ) except -1:
        """Take the memory that `attach` found in place of a capacity, or make it."""
        require_role(role)
        if isinstance(capacity, RingMemory):
            self.memory = capacity
        else:
            self.memory = memory_create(
                kind, capacity, EVENT_DTYPE if dtype is None else dtype, options, lanes, consumers
            )
        self.capacity = self.memory.identity.capacity
        self.produces = role == "producer"
        self.consumes = role == "consumer"
        return 0

    cdef int require_producer(self) except -1:
        if not self.produces:
            raise ValueError("this end of the ring is not its producer")
        return 0

    cdef int require_consumer(self) except -1:
        if not self.consumes:
            raise ValueError("this end of the ring is not its consumer")
        return 0

    @property
    def dtype(self):
        """Of the records."""
        return self.memory.dtype

    @property
    def name(self):
        """Of the shared memory; None on the heap."""
        return self.memory.name


@cython.no_gc
@cython.auto_pickle(False)
cdef class SoleProducerRing(RingHandle):
    """The producer's side of a ring that one thread fills."""

    cdef int open_ring(self) except -1:
        """Take the handle on the records, and the producer's place where this end is the producer's."""
        self.ring = handle_open(self.memory, 0, 0)
        if self.produces and self.memory.name is not None:
            ring_adopt(self.ring)
        return 0

    def __dealloc__(self):
        free(self.ring)

    @property
    def closed(self):
        """Whether the producer has said that no more records will come."""
        return bool(ring_is_closed(self.ring))

    @property
    def refused(self):
        """Records that a full ring did not take, each time they were offered."""
        return load_acquire(&self.ring.producer.refused)

    def try_push(self, cnp.ndarray records not None):
        """Copy records in without waiting; return how many went in. Producer thread only.

        Parameters
        ----------
        records : array of the ring's dtype, shape (n,)

        Raises
        ------
        TypeError
            If `records` has another dtype.
        ValueError
            If `records` is not contiguous, the ring is closed or this end is the consumer's.
        """
        self.require_producer()
        return push_records(self.memory, self.ring, records, False, None)

    def push(self, cnp.ndarray records not None, *, timeout_s=None):
        """Copy records in, the ring's way; return how many went in. Producer thread only.

        Parameters
        ----------
        records : array of the ring's dtype, shape (n,)
        timeout_s : float, optional
            With "block", how long to wait for room; None waits for ever. Others never wait.
        """
        self.require_producer()
        return push_records(self.memory, self.ring, records, True, timeout_s)

    def close(self):
        """Say that no more records will come. Producer thread only; again is harmless."""
        self.require_producer()
        ring_close(self.ring)

"""The three rings: one producer and one consumer, one and many that each see everything, many and one.

Any of them lives on the heap, for threads, or under a name in POSIX shared memory, for processes. Every
ring says once, when it is made, how it works (`mode`), what a push into a full ring does (`when_full`) and
how its threads wait (`wait`).
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np

from .layout cimport load_acquire
from .ring cimport RING_ACTIVE, RING_BROADCAST, RING_MPSC, RING_SPSC, Ring, ring_is_drained, ring_length
from .ring_ends cimport consumer_join, pop_records, producer_join, wait_for_records
from .ring_handle cimport RingHandle, SoleProducerRing, memory_found
from .ring_memory cimport consumer_role, handle_open

cnp.import_array()

cdef extern from *:
    """
    static inline void ring_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    """
    void ring_fence() noexcept nogil


cdef dict options_of(mode, when_full, wait, first_cursor, name):
    return {
        "mode": mode, "when_full": when_full, "wait": wait, "first_cursor": first_cursor, "name": name,
    }


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class SpscRing(SoleProducerRing):
    """A bounded ring of records that one thread fills and one other thread drains.

    Both sides release the GIL while they copy. A full ring takes fewer records than it is offered and an
    empty one gives none: expected outcomes, not errors.

    Parameters
    ----------
    capacity : int
        Records it holds at most, a power of two. Two to four thousand events stay within a core's L2.
    dtype : numpy dtype
        Of the records: 8 to 4096 bytes, whole words. Market events unless said otherwise.
    mode : {"index", "stamped"}
        "index" moves most records a second; "stamped" moves a single one soonest.
    when_full : {"refuse", "block", "drop-oldest"}
        What `push` does. "refuse" and "drop-oldest" count what did not arrive; "drop-oldest" needs
        mode "index".
    wait : {"spin", "yield", "block"}
        How `push` and `wait` pass the time; "block" sleeps on a futex after a short spin.
    first_cursor : int
        Count given to the first record. Cursors wrap at 2**64, and a ring begun shortly before that
        shows that nothing depends on them not wrapping.
    name : str, optional
        Makes the ring in shared memory, for `attach` in another process, until `unlink_ring(name)`.
    role : {"producer", "consumer"}
        Which end of a named ring this process has; a ring without name has both.

    Raises
    ------
    ValueError
        A parameter breaks its rule.
    FileExistsError
        A ring of that name is there, perhaps left behind by a process that died.
    """

    def __cinit__(
        self, capacity, *, dtype=None, str mode="index", str when_full="refuse", str wait="yield",
        first_cursor=0, name=None, role="producer"
    ):
        cdef dict options = options_of(mode, when_full, wait, first_cursor, name)
        self.open(RING_SPSC, capacity, dtype, options, role, 1, 1)
        if self.memory.name is None:
            self.produces = self.consumes = True
        else:
            self.memory.take_role(0 if self.produces else consumer_role(0), role)
        self.open_ring()

    @staticmethod
    def attach(str name, role, *, dtype=None):
        """Open a ring that another process made, as its producer or its consumer.

        A role whose last holder has ended, however it ended, can be taken again: a consumer goes on with
        the first record that was not taken, a producer after the last that was published.

        Raises
        ------
        FileNotFoundError
            No such ring.
        ValueError
            What stands there is not exactly such a ring.
        OSError
            A living process has the role (EBUSY).
        """
        return SpscRing(memory_found(RING_SPSC, name, role, dtype), role=role)

    def __len__(self):
        return ring_length(self.ring)

    @property
    def drained(self):
        """Whether the ring is closed and every record was taken."""
        return bool(ring_is_drained(self.ring))

    @property
    def held(self):
        """Pushes that found the ring too full."""
        return load_acquire(&self.ring.consumers.held)

    @property
    def lost(self):
        """Records that "drop-oldest" overwrote before they were taken, as far as the consumer has come."""
        return load_acquire(&self.ring.consumers.lost)

    @property
    def peer_alive(self):
        """Whether another living process or ring object has the other role; always True on the heap."""
        if self.memory.name is None:
            return True
        return bool(self.memory.is_held(consumer_role(0) if self.produces else 0))

    def pop(self, Py_ssize_t count_max):
        """Take the oldest records out, at most `count_max`. Consumer thread only.

        Returns
        -------
        array of the ring's dtype, shape (n,)
            A copy, in the order they were pushed; empty when none wait.
        """
        self.require_consumer()
        return pop_records(self.memory, self.ring, count_max)

    def wait(self, *, timeout_s=None):
        """Wait for records, the ring's way; return whether there are any. Consumer thread only.

        Parameters
        ----------
        timeout_s : float, optional
            None waits until there are records or the ring is drained.
        """
        self.require_consumer()
        return wait_for_records(self.memory, &self.ring, 1, timeout_s)


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class BroadcastRing(SoleProducerRing):
    """A bounded ring that one thread fills and every consumer sees as a whole, from when it joined.

    With "refuse" and "block" the slowest consumer holds the producer back, and `consumers` says who did
    how often. With "drop-oldest" the producer never waits, and every consumer counts what it lost.
    Parameters not named here are those of `SpscRing`.

    Parameters
    ----------
    consumers_max : int
        Places for consumers, 1 to 64.
    role : {"producer", "consumer"}
        A "consumer" only subscribes.
    """

    def __cinit__(
        self, capacity, *, consumers_max=8, dtype=None, str mode="index", str when_full="refuse",
        str wait="yield", first_cursor=0, name=None, role="producer"
    ):
        cdef dict options = options_of(mode, when_full, wait, first_cursor, name)
        self.open(RING_BROADCAST, capacity, dtype, options, role, 1, consumers_max)
        if self.produces and self.memory.name is not None:
            self.memory.take_role(0, role)
        self.open_ring()

    @staticmethod
    def attach(str name, role="consumer", *, dtype=None):
        """Open a ring that another process made, to subscribe or as its producer. See `SpscRing.attach`."""
        return BroadcastRing(memory_found(RING_BROADCAST, name, role, dtype), role=role)

    @property
    def consumers(self):
        """Of each place: whether it is taken, records waiting, pushes it held back, records it lost.

        Returns
        -------
        tuple of (bool, int, int, int)
        """
        cdef Ring* ring = self.ring
        cdef uint32_t place
        cdef uint64_t head, waiting
        found = []
        for place in range(ring.consumer_count):
            active = load_acquire(&ring.consumers[place].state) == RING_ACTIVE
            head = load_acquire(&ring.consumers[place].head)
            waiting = load_acquire(&ring.producer.tail) - head if active else 0
            held, lost = load_acquire(&ring.consumers[place].held), load_acquire(&ring.consumers[place].lost)
            found.append((active, min(waiting, ring.capacity), held, lost))
        return tuple(found)

    def subscribe(self):
        """Return a new consumer, which sees every record from now on.

        Raises
        ------
        OSError
            All places are taken (EBUSY).
        """
        return consumer_join(self.memory)

    def reap(self):
        """Free the places of consumers whose processes have died; a push into a full ring does it too."""
        self.memory.reap()


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class MpscRing(RingHandle):
    """Many producers, one consumer: a lane of `capacity` records for each producer, visited in turn.

    What one producer pushed comes out in its order; between producers there is no order, so records that
    need one carry a time. A producer that dies leaves no hole and holds nobody back. Parameters not named
    here are those of `SpscRing`; "drop-oldest" works per lane.

    Parameters
    ----------
    producers_max : int
        Lanes, 1 to 64.
    role : {"producer", "consumer"}
        A "producer" only makes producers.
    """

    def __cinit__(
        self, capacity, *, producers_max=8, dtype=None, str mode="index", str when_full="refuse",
        str wait="yield", first_cursor=0, name=None, role="consumer"
    ):
        cdef dict options = options_of(mode, when_full, wait, first_cursor, name)
        cdef uint32_t lane
        self.open(RING_MPSC, capacity, dtype, options, role, producers_max, 1)
        if self.consumes and self.memory.name is not None:
            self.memory.take_role(consumer_role(0), role)
        self.lanes = <Ring**>calloc(self.memory.identity.lane_count, sizeof(Ring*))
        if self.lanes == NULL:
            raise MemoryError("no memory for the ring's lanes")
        for lane in range(self.memory.identity.lane_count):
            self.lanes[lane] = handle_open(self.memory, lane, 0)

    @staticmethod
    def attach(str name, role="producer", *, dtype=None):
        """Open a ring that another process made, to produce or as its consumer. See `SpscRing.attach`."""
        return MpscRing(memory_found(RING_MPSC, name, role, dtype), role=role)

    def __dealloc__(self):
        cdef uint32_t lane
        if self.lanes != NULL:
            for lane in range(self.memory.identity.lane_count):
                free(self.lanes[lane])
        free(self.lanes)

    def __len__(self):
        return sum([ring_length(self.lanes[lane]) for lane in range(self.memory.identity.lane_count)])

    @property
    def drained(self):
        """Whether every record was taken and no living producer is open; one more may still join."""
        cdef uint32_t lane
        self.memory.reap()
        for lane in range(self.memory.identity.lane_count):
            if not ring_is_drained(self.lanes[lane]):
                return False
        return True

    @property
    def lanes_lost(self):
        """Records that "drop-oldest" overwrote before they were taken, per lane."""
        return tuple([
            load_acquire(&self.lanes[lane].consumers.lost) for lane in range(self.memory.identity.lane_count)
        ])

    def producer(self):
        """Return a new producer with a lane of its own.

        Raises
        ------
        OSError
            All lanes are in use (EBUSY).
        """
        return producer_join(self.memory)

    def pop(self, Py_ssize_t count_max):
        """Take records out, at most `count_max`, beginning with the lane after the last one visited.

        Returns
        -------
        array of the ring's dtype, shape (n,)
        """
        cdef uint32_t _turn, lane_count = self.memory.identity.lane_count
        cdef Py_ssize_t left = count_max
        self.require_consumer()
        runs = []
        for _turn in range(lane_count):
            run = pop_records(self.memory, self.lanes[self.next_lane], left)
            self.next_lane = (self.next_lane + 1) % lane_count
            if len(run):
                runs.append(run)
                left -= len(run)
                if left == 0:
                    break
        if len(runs) == 1:
            return runs[0]
        return np.concatenate(runs) if runs else np.empty(0, dtype=self.memory.dtype)

    def look(self):
        """Return whether any lane has records, for a consumer that goes to sleep elsewhere.

        It wrote before that it will. With wait="block", a producer that pushes and then reads this, and the
        consumer that writes it and then looks, cannot both miss the other: there is a fence on both sides.
        """
        self.require_consumer()
        ring_fence()
        return len(self) > 0

    def wait(self, *, timeout_s=None):
        """Wait until any lane has records; return whether one has. See `SpscRing.wait`.

        Returns at once when every lane is closed and empty.
        """
        self.require_consumer()
        return wait_for_records(self.memory, self.lanes, self.memory.identity.lane_count, timeout_s)

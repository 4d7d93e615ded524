"""What Python does at either end of a ring, and the ends as objects of their own.

All copying and waiting happens without the GIL. Waits return every now and then, so that Ctrl-C works
and a dead process on the other end is noticed.
"""

cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBUSY
from libc.stdint cimport INT64_MAX, int64_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memset
from posix.unistd cimport close

import numpy as np

from .event_array cimport events_pointer
from .event_array import EVENT_DTYPE
from .layout cimport MarketEvent, load_acquire, monotonic_ns
from .ring cimport (
    RING_DROP_OLDEST, RING_FREE, RING_WAIT_FOR_ROOM, Ring, RingPatience, ring_adopt, ring_close,
    ring_count_held, ring_count_refused, ring_is_closed, ring_is_drained, ring_join, ring_leave, ring_length,
    ring_overwrite, ring_pause, ring_peek, ring_pop_batch, ring_push_batch, ring_take_latest, ring_take_role,
    ring_time_is_up,
)
from .ring_memory cimport RingMemory, consumer_role, handle_open, memory_reopen

cnp.import_array()

cdef enum:
    TURN_NS = 20_000_000     # how long a wait stays away from the interpreter


cdef const void* records_pointer(RingMemory memory, cnp.ndarray records) except? NULL:
    if memory.dtype is EVENT_DTYPE:
        return events_pointer(records)
    if <object>cnp.PyArray_DESCR(records) != memory.dtype:
        raise TypeError(f"records must have dtype {memory.dtype}, was {<object>cnp.PyArray_DESCR(records)}")
    if cnp.PyArray_NDIM(records) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(records):
        raise ValueError(f"records must be one contiguous run, was shape {(<object>records).shape}")
    return cnp.PyArray_DATA(records)


cdef size_t push_some(Ring* ring, const char* source, size_t count) noexcept nogil:
    # The constant lets the compiler unroll the copies of what nearly every ring carries.
    if ring.record_bytes == sizeof(MarketEvent):
        return ring_push_batch(ring, source, count, sizeof(MarketEvent))
    return ring_push_batch(ring, source, count, ring.record_bytes)


cdef size_t push_until(Ring* ring, const char* source, size_t count, int64_t deadline_ns) noexcept nogil:
    cdef RingPatience patience
    cdef size_t done = 0, run
    memset(&patience, 0, sizeof(patience))
    while True:
        run = push_some(ring, source + done * ring.record_bytes, count - done)
        done += run
        if done == count or (run == 0 and ring_time_is_up(&patience, ring.wait, deadline_ns)):
            return done
        if run:
            memset(&patience, 0, sizeof(patience))
        else:
            ring_pause(ring.room_park, ring.wait, &patience, deadline_ns)


cdef int64_t deadline_of(object timeout_s) except? -1:
    if timeout_s is None:
        return INT64_MAX
    if not timeout_s >= 0:
        raise ValueError(f"timeout_s must not be negative, was {timeout_s}")
    return monotonic_ns() + <int64_t>(min(float(timeout_s), 1e9) * 1e9)


cdef size_t push_records(
    RingMemory memory, Ring* ring, cnp.ndarray records, bint waits, object timeout_s
) except? -1:
    """Copy records in the ring's way; return how many went in."""
    cdef const char* source = <const char*>records_pointer(memory, records)
    cdef size_t count = cnp.PyArray_SIZE(records), done, run
    cdef int64_t deadline_ns = deadline_of(timeout_s)   # a bad time is refused before anything goes in
    cdef int64_t turn_ns
    if ring_is_closed(ring):
        raise ValueError("a closed ring takes no more events")
    if ring.policy == RING_DROP_OLDEST:
        with nogil:
            ring_overwrite(ring, source, count, ring.record_bytes)
        return count
    with nogil:
        done = run = push_some(ring, source, count)
        # A broadcast ring that nobody reads takes any number, a ring's length at a time.
        while ring.shares and run and done < count:
            run = push_some(ring, source + done * ring.record_bytes, count - done)
            done += run
    if done == count:
        return done
    ring_count_held(ring)
    if ring.shares:
        memory.reap()
    if not waits or ring.policy != RING_WAIT_FOR_ROOM:
        with nogil:
            done += push_some(ring, source + done * ring.record_bytes, count - done)
        if done < count:
            ring_count_refused(ring, count - done)
        return done
    while done < count:
        with nogil:
            turn_ns = min(monotonic_ns() + TURN_NS, deadline_ns)
            done += push_until(ring, source + done * ring.record_bytes, count - done, turn_ns)
        PyErr_CheckSignals()
        if ring.shares:
            memory.reap()
        if turn_ns == deadline_ns:
            break
    if done < count:
        ring_count_refused(ring, count - done)
    return done


cdef object pop_records(RingMemory memory, Ring* ring, Py_ssize_t count_max):
    """Copy the oldest records out, at most `count_max`."""
    if count_max < 0:
        raise ValueError(f"count_max must not be negative, was {count_max}")
    cdef size_t wanted = min(<size_t>count_max, <size_t>ring_length(ring)), taken
    records = np.empty(wanted, dtype=memory.dtype)
    cdef char* target = <char*>cnp.PyArray_DATA(records)
    # Also when there is nothing: who polls an empty ring must let the producer's thread run.
    with nogil:
        if ring.policy == RING_DROP_OLDEST:
            taken = ring_take_latest(ring, target, wanted, ring.record_bytes)
        else:
            taken = ring_pop_batch(ring, target, wanted, ring.record_bytes)
    # Fewer when a dropping producer overtook the copy, or a stamped record is not there yet.
    return records if taken == wanted else records[:taken].copy()


cdef bint look(Ring* ring) noexcept nogil:
    cdef const void* first
    if ring.policy == RING_DROP_OLDEST:
        return ring_length(ring) > 0
    return ring_peek(ring, 1, ring.record_bytes, &first) > 0


cdef bint wait_for_records(RingMemory memory, Ring** lanes, size_t lane_count, object timeout_s) except -1:
    """Wait until a lane has records. False when the time is up or every lane is drained."""
    cdef RingPatience patience
    cdef int64_t deadline_ns = deadline_of(timeout_s), turn_ns
    cdef size_t index, drained
    memset(&patience, 0, sizeof(patience))
    while True:
        with nogil:
            turn_ns = min(monotonic_ns() + TURN_NS, deadline_ns)
            while True:
                drained = 0
                for index in range(lane_count):
                    # drained first: a record that comes after this look is seen by the other.
                    drained += ring_is_drained(lanes[index])
                    if look(lanes[index]):
                        with gil:
                            return True
                if drained == lane_count or ring_time_is_up(&patience, lanes[0].wait, turn_ns):
                    break
                ring_pause(lanes[0].data_park, lanes[0].wait, &patience, turn_ns)
        PyErr_CheckSignals()
        memory.reap()
        if drained == lane_count or turn_ns == deadline_ns:
            return False


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class RingProducer:
    """One producer's end of an MPSC ring; `MpscRing.producer` makes it. For one thread at a time."""

    def __cinit__(self):
        self.descriptor = -1

    def __dealloc__(self):
        self.leave()
        free(self.ring)

    cdef int require(self) except -1:
        if self.ring == NULL:
            raise ValueError("a producer comes from MpscRing.producer()")
        if self.memory is None:
            raise ValueError("a closed producer pushes no more")
        return 0

    cdef void leave(self) noexcept:
        if self.memory is None:
            return
        # The lock goes last: whoever gets it finds the lane closed.
        ring_close(self.ring)
        if self.descriptor >= 0:
            close(self.descriptor)
        self.memory = None

    @property
    def refused(self):
        """Records that a full ring did not take, each time they were offered."""
        self.require()
        return load_acquire(&self.ring.producer.refused)

    def try_push(self, cnp.ndarray records not None):
        """Copy records in without waiting; return how many went in. See `SpscRing.try_push`."""
        self.require()
        return push_records(self.memory, self.ring, records, False, None)

    def push(self, cnp.ndarray records not None, *, timeout_s=None):
        """Copy records in, the ring's way; return how many went in. See `SpscRing.push`."""
        self.require()
        return push_records(self.memory, self.ring, records, True, timeout_s)

    def close(self):
        """Give the lane back: what was pushed can still be taken, and another producer may join."""
        self.leave()


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class RingConsumer:
    """One consumer's end of a broadcast ring; `BroadcastRing.subscribe` makes it. For one thread."""

    def __cinit__(self):
        self.descriptor = -1

    def __dealloc__(self):
        self.leave()
        free(self.ring)

    cdef int require(self) except -1:
        if self.ring == NULL:
            raise ValueError("a consumer comes from BroadcastRing.subscribe()")
        if self.memory is None:
            raise ValueError("a consumer that has left takes no more records")
        return 0

    cdef void leave(self) noexcept:
        if self.memory is None:
            return
        # The lock goes last: whoever gets it finds the place free.
        ring_leave(self.ring, self.ring.consumer)
        if self.descriptor >= 0:
            close(self.descriptor)
        self.memory = None

    def __len__(self):
        self.require()
        return ring_length(self.ring)

    @property
    def place(self):
        """Which of the ring's consumers this is, as in `BroadcastRing.consumers`."""
        self.require()
        return self.ring.consumer

    @property
    def lost(self):
        """Records overwritten before this consumer took them; grows when it takes the next ones."""
        self.require()
        return load_acquire(&self.ring.consumers[self.ring.consumer].lost)

    @property
    def drained(self):
        """Whether the ring is closed and this consumer took every record."""
        self.require()
        return bool(ring_is_drained(self.ring))

    def pop(self, Py_ssize_t count_max):
        """Copy the oldest records out, at most `count_max`. See `SpscRing.pop`."""
        self.require()
        return pop_records(self.memory, self.ring, count_max)

    def wait(self, *, timeout_s=None):
        """Wait for records, the ring's way. See `SpscRing.wait`."""
        self.require()
        return wait_for_records(self.memory, &self.ring, 1, timeout_s)

    def close(self):
        """Leave the ring; a gating producer waits for this consumer no longer. Again is harmless."""
        self.leave()


cdef RingProducer producer_join(RingMemory memory):
    """Take the first free lane."""
    cdef RingProducer end = RingProducer.__new__(RingProducer)
    cdef uint32_t lane
    cdef Ring* ring
    end.descriptor = memory_reopen(memory)
    for lane in range(memory.identity.lane_count):
        if end.descriptor >= 0 and ring_take_role(end.descriptor, lane):
            continue
        ring = handle_open(memory, lane, 0)
        if end.descriptor < 0 and not ring_is_closed(ring):
            free(ring)
            continue
        ring_adopt(ring)
        end.ring, end.memory = ring, memory
        return end
    if end.descriptor >= 0:
        close(end.descriptor)
    raise OSError(EBUSY, f"all {memory.identity.lane_count} producers of the ring are in use", memory.name)


cdef RingConsumer consumer_join(RingMemory memory):
    """Take the first free place."""
    cdef RingConsumer end = RingConsumer.__new__(RingConsumer)
    cdef uint32_t place
    cdef Ring* ring
    end.descriptor = memory_reopen(memory)
    for place in range(memory.identity.consumer_count):
        if end.descriptor >= 0 and ring_take_role(end.descriptor, consumer_role(place)):
            continue
        ring = handle_open(memory, 0, place)
        if end.descriptor < 0 and ring.consumers[place].state != RING_FREE:
            free(ring)
            continue
        ring_join(ring)
        end.ring, end.memory = ring, memory
        return end
    if end.descriptor >= 0:
        close(end.descriptor)
    raise OSError(EBUSY, f"all {memory.identity.consumer_count} places of the ring are taken", memory.name)

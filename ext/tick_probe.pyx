"""A market on schedule: what the tick-to-order benchmark runs on the other end of a loop's ring, and an
engine that does nothing, the least that any engine can be late on the same machine.

Each event is due at its own time, whether or not the one before was handled, and carries that time as
`recv_ns`. Whoever measures from it counts what an event waited, in the ring or before it
(no coordinated omission).
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t

from .event_array cimport events_pointer
from .histogram cimport Histogram
from .layout cimport MarketEvent, monotonic_ns
from .ring cimport Ring, ring_close, ring_is_drained, ring_pop, ring_push, ring_relax
from .ring_buffer cimport SpscRing

cnp.import_array()

cdef int64_t PATIENCE_NS = 10_000_000_000


def publish_on_schedule(
    SpscRing ring not None, cnp.ndarray events not None, int64_t interval_ns, int64_t lead_ns=20_000_000
):
    """Push events, one every `interval_ns` of the monotonic clock, then close the ring.

    Parameters
    ----------
    ring : SpscRing
    events : array of EVENT_DTYPE, shape (n,)
        Their `recv_ns` is overwritten.
    lead_ns : int
        Until the first one, so that the other end is there.

    Returns
    -------
    int
        Events that were pushed more than an interval after their time.

    Raises
    ------
    TimeoutError
        The ring stayed full for ten seconds.
    """
    cdef MarketEvent* first = <MarketEvent*>events_pointer(events)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(events), row
    cdef int64_t due_ns = 0, now_ns = 0
    cdef uint64_t late = 0
    cdef Ring* to = ring.ring
    cdef bint gave_up = False
    if not ring.produces or to.record_bytes != sizeof(MarketEvent):
        raise ValueError("needs a producer's end of a ring of events")
    if not cnp.PyArray_ISWRITEABLE(events) or interval_ns <= 0:
        raise ValueError("needs writable events and a positive interval")
    with nogil:
        due_ns = monotonic_ns() + lead_ns
        for row in range(count):
            now_ns = monotonic_ns()
            while now_ns < due_ns:
                ring_relax()
                now_ns = monotonic_ns()
            first[row].recv_ns = due_ns
            while not ring_push(to, first + row, sizeof(MarketEvent)):
                ring_relax()
                now_ns = monotonic_ns()
                if now_ns - due_ns > PATIENCE_NS:
                    gave_up = True
                    break
            if gave_up:
                break
            late += now_ns - due_ns > interval_ns
            due_ns += interval_ns
        ring_close(to)
    if gave_up:
        raise TimeoutError(f"the ring stayed full at event {row} of {count}")
    return late


def receive(SpscRing ring not None, Histogram waited not None):
    """Take events until the ring is closed and empty, spinning; count how long after its `recv_ns` each came.

    Parameters
    ----------
    ring : SpscRing
        Of EVENT_DTYPE.
    waited : Histogram
        Nanoseconds, added to.
    """
    cdef MarketEvent event
    cdef Ring* taken = ring.ring
    if not ring.consumes or taken.record_bytes != sizeof(MarketEvent):
        raise ValueError("needs a consumer's end of a ring of events")
    with nogil:
        while True:
            if ring_pop(taken, &event, sizeof(MarketEvent)):
                waited.record(monotonic_ns() - event.recv_ns)
            elif ring_is_drained(taken):
                break
            else:
                ring_relax()

"""What the benchmarks run on either end of a ring, without the interpreter, and the limit beside it.

The limit is two threads that hand a number back and forth: over one cache line that both write, or over
two lines with one writer each, which is the least that a ring in each direction can cost. All waiting
here spins, and gives up after ten seconds without progress, so that a dead partner cannot hang a run.

For throughput, a side that finds nothing to do lets some microseconds pass before it looks again.
Otherwise both sides fall into step: every look at the other's cursor takes the line away from its writer,
and every single record then costs a transfer between cores.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

import numpy as np

from .event_array cimport events_pointer
from .layout cimport MarketEvent, load_acquire, monotonic_ns, store_release
from .ring cimport (
    CURSOR_STRIDE, Ring, ring_peek, ring_pop, ring_push, ring_push_batch, ring_relax, ring_release,
)
from .ring_buffer cimport SpscRing

cnp.import_array()

cdef enum:
    PATIENCE_NS = 10_000_000_000
    READING_NS = 2_000_000_000
    LOOKS = 1 << 16              # between two looks at the clock
    RELAX_TURNS = 512


cdef void stand_back() noexcept nogil:
    cdef int _turn
    for _turn in range(RELAX_TURNS):
        ring_relax()


cdef struct Patience:
    uint64_t looks              # that found nothing, since one that found something
    int64_t seen_ns
    int64_t waited_ns


cdef bint is_late(Patience* patience) noexcept nogil:
    """Count a look that found nothing; return whether that has gone on for too long.

    A process that was suspended has not waited: what lies between two readings of the clock counts up to
    `READING_NS`.
    """
    cdef int64_t now_ns
    patience.looks += 1
    if patience.looks % LOOKS:
        return False
    now_ns = monotonic_ns()
    if patience.looks == LOOKS:
        patience.waited_ns = 0
    else:
        patience.waited_ns += min(now_ns - patience.seen_ns, <int64_t>READING_NS)
    patience.seen_ns = now_ns
    return patience.waited_ns > <int64_t>PATIENCE_NS


cdef int require_done(uint64_t done, uint64_t wanted) except -1:
    if done != wanted:
        raise TimeoutError(f"the other end made no progress after {done} of {wanted}")
    return 0


def push_cycling(SpscRing ring not None, cnp.ndarray events not None, uint64_t count, uint64_t batch):
    """Push `count` events, over and over the same ones, `batch` at a time (1: singly).

    Parameters
    ----------
    events : array of EVENT_DTYPE, shape (n,)
        n is a power of two and a multiple of `batch`.
    """
    cdef const MarketEvent* source = events_pointer(events)
    cdef uint64_t mask = cnp.PyArray_SIZE(events) - 1, pushed = 0, left
    cdef Patience patience = [0, 0, 0]
    cdef Ring* to = ring.ring
    if not ring.produces or cnp.PyArray_SIZE(events) & mask or (mask + 1) % batch:
        raise ValueError("needs a producer's end and a power of two of events, in whole batches")
    with nogil:
        if batch == 1:
            while pushed < count:
                if ring_push(to, &source[pushed & mask], sizeof(MarketEvent)):
                    pushed += 1
                    patience.looks = 0
                elif is_late(&patience):
                    break
                else:
                    stand_back()
        else:
            while pushed < count:
                left = min(batch - pushed % batch, count - pushed)
                left = ring_push_batch(to, &source[pushed & mask], left, sizeof(MarketEvent))
                pushed += left
                if left:
                    patience.looks = 0
                elif is_late(&patience):
                    break
                else:
                    stand_back()
    require_done(pushed, count)


def pop_cycling(SpscRing ring not None, uint64_t cycle, uint64_t count, uint64_t batch):
    """Take `count` events, at most `batch` at a time; return how many were not the one expected.

    The i-th event's order_id is expected to be i modulo `cycle`, a power of two. Batches are read in
    place; single events are copied out.
    """
    cdef MarketEvent event
    cdef const MarketEvent* first
    cdef uint64_t mask = cycle - 1, popped = 0, wrong = 0
    cdef size_t run, index
    cdef Patience patience = [0, 0, 0]
    cdef Ring* source = ring.ring
    if not ring.consumes or cycle & mask:
        raise ValueError("needs a consumer's end and a power of two as cycle")
    with nogil:
        if batch == 1:
            while popped < count:
                if ring_pop(source, &event, sizeof(MarketEvent)):
                    wrong += event.order_id != popped & mask
                    popped += 1
                    patience.looks = 0
                elif is_late(&patience):
                    break
                else:
                    stand_back()
        else:
            while popped < count:
                run = ring_peek(source, batch, sizeof(MarketEvent), <const void**>&first)
                for index in range(run):
                    wrong += first[index].order_id != (popped + index) & mask
                if run:
                    ring_release(source, run)
                    popped += run
                    patience.looks = 0
                elif is_late(&patience):
                    break
                else:
                    stand_back()
    require_done(popped, count)
    return wrong


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class CacheLines:
    """Two cache lines, far enough apart that no prefetcher joins them, for two threads."""

    cdef uint64_t* there
    cdef uint64_t* back

    def __cinit__(self, int lines):
        cdef size_t line = CURSOR_STRIDE
        if lines not in (1, 2):
            raise ValueError(f"lines must be 1 or 2, was {lines}")
        if posix_memalign(<void**>&self.there, line, 4 * line):
            raise MemoryError("no memory for two cache lines")
        memset(self.there, 0, 4 * line)
        self.back = self.there if lines == 1 else <uint64_t*>(<char*>self.there + 2 * line)

    def __dealloc__(self):
        free(self.there)

    def ping(self, uint64_t rounds):
        """Store odd numbers and wait for the even ones.

        Returns
        -------
        array of int64, shape (rounds,)
            Round trips, ns, the clock's own cost included.
        """
        cdef uint64_t done = 0
        cdef Patience patience = [0, 0, 0]
        cdef int64_t begun_ns
        cdef int64_t[::1] took_ns
        result = np.zeros(rounds, np.int64)
        took_ns = result
        with nogil:
            while done < rounds:
                begun_ns = monotonic_ns()
                store_release(self.there, 2 * done + 1)
                patience.looks = 0
                while load_acquire(self.back) != 2 * done + 2:
                    if is_late(&patience):
                        break
                took_ns[done] = monotonic_ns() - begun_ns
                if load_acquire(self.back) != 2 * done + 2:
                    break
                done += 1
        require_done(done, rounds)
        return result

    def pong(self, uint64_t rounds):
        """Wait for the odd numbers and answer with the even ones."""
        cdef uint64_t done = 0
        cdef Patience patience = [0, 0, 0]
        with nogil:
            while done < rounds:
                if load_acquire(self.there) == 2 * done + 1:
                    store_release(self.back, 2 * done + 2)
                    done += 1
                    patience.looks = 0
                elif is_late(&patience):
                    break
        require_done(done, rounds)


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class HalvesInTurn:
    """Two halves of a block of events: one thread fills one while another thread reads the other.

    The least that moving events between two cores can cost: two signals and two copies for thousands of
    events, nothing to keep account of. What a ring of the same size is measured against.
    """

    cdef char* block
    cdef uint64_t half
    cdef CacheLines signals

    def __cinit__(self, uint64_t capacity):
        if capacity < 2 or capacity & (capacity - 1):
            raise ValueError(f"capacity must be a power of two, was {capacity}")
        self.half = capacity // 2
        self.signals = CacheLines(2)
        if posix_memalign(<void**>&self.block, CURSOR_STRIDE, capacity * sizeof(MarketEvent)):
            raise MemoryError("no memory for a block of events")
        memset(self.block, 0, capacity * sizeof(MarketEvent))

    def __dealloc__(self):
        free(self.block)

    def fill(self, cnp.ndarray events not None, uint64_t halves):
        """Copy the first half of `events` into either half of the block, `halves` times in all."""
        cdef const MarketEvent* source = events_pointer(events)
        cdef uint64_t done = 0, bytes_ = self.half * sizeof(MarketEvent)
        cdef Patience patience = [0, 0, 0]
        if <uint64_t>cnp.PyArray_SIZE(events) < self.half:
            raise ValueError("needs at least half the block's events")
        with nogil:
            while done < halves:
                if done < load_acquire(self.signals.back) + 2:
                    memcpy(self.block + (done & 1) * bytes_, source, bytes_)
                    done += 1
                    store_release(self.signals.there, done)
                    patience.looks = 0
                elif is_late(&patience):
                    break
                else:
                    ring_relax()
        require_done(done, halves)

    def read(self, uint64_t halves):
        """Look at every event of `halves` halves; return how many were not in their place."""
        cdef const MarketEvent* first
        cdef uint64_t done = 0, wrong = 0, index
        cdef Patience patience = [0, 0, 0]
        with nogil:
            while done < halves:
                if load_acquire(self.signals.there) > done:
                    first = <const MarketEvent*>(self.block) + (done & 1) * self.half
                    for index in range(self.half):
                        wrong += first[index].order_id != index
                    done += 1
                    store_release(self.signals.back, done)
                    patience.looks = 0
                elif is_late(&patience):
                    break
                else:
                    ring_relax()
        require_done(done, halves)
        return wrong


def ring_ping(SpscRing there not None, SpscRing back not None, uint64_t rounds):
    """Send events one at a time and wait for each to come back.

    Returns
    -------
    array of int64, shape (rounds,)
        Round trips, ns, the clock's own cost included.
    """
    cdef MarketEvent event
    cdef uint64_t done = 0
    cdef Patience patience = [0, 0, 0]
    cdef int64_t begun_ns
    cdef int64_t[::1] took_ns
    result = np.zeros(rounds, np.int64)
    took_ns = result
    memset(&event, 0, sizeof(event))
    with nogil:
        while done < rounds:
            event.order_id = done
            begun_ns = monotonic_ns()
            ring_push(there.ring, &event, sizeof(event))
            patience.looks = 0
            while not ring_pop(back.ring, &event, sizeof(event)):
                if is_late(&patience):
                    break
            took_ns[done] = monotonic_ns() - begun_ns
            if event.order_id != done + 1:
                break
            done += 1
    require_done(done, rounds)
    return result


def ring_pong(SpscRing there not None, SpscRing back not None, uint64_t rounds):
    """Answer `ring_ping`: send every event back, its order_id one higher."""
    cdef MarketEvent event
    cdef uint64_t done = 0
    cdef Patience patience = [0, 0, 0]
    with nogil:
        while done < rounds:
            if ring_pop(there.ring, &event, sizeof(event)):
                event.order_id += 1
                ring_push(back.ring, &event, sizeof(event))
                done += 1
                patience.looks = 0
            elif is_late(&patience):
                break
    require_done(done, rounds)

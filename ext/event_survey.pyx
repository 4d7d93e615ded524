"""What a block of events holds, told in one pass; what its rules mean is told in data/quality.py.

numpy would ask each question in a pass of its own with a temporary behind it, and every pass touches every
cache line of the events. Here a block that holds nothing out of the ordinary costs one look at each event.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint64_t

from ext.event_array cimport events_pointer
from ext.layout cimport (
    EVENT_EXECUTE,
    EVENT_REDUCE,
    EVENT_TRADE,
    FLAG_LAST_IN_PACKET,
    RECV_NOT_RECORDED,
    MarketEvent,
)

cnp.import_array()

cdef int64_t MINUTE_NS = 60_000_000_000


cdef struct Seen:
    Py_ssize_t duplicates, first_duplicate, gaps, minutes, prints
    bint late, receipts
    uint8_t flags


def survey(cnp.ndarray events not None, previous, int64_t newest_ns, int64_t gap_ns):
    """Look at each event and at the step from the one before it.

    Parameters
    ----------
    events : array of EVENT_DTYPE, shape (n,)
    previous : array of EVENT_DTYPE, shape (1,), or None
        The event before the first; None at the start of a stream.
    newest_ns : int
        The largest time so far.
    gap_ns : int
        A step beyond it is a gap.

    Returns
    -------
    kinds : array of int64, shape (256,)
        Events by kind.
    flags : int
        Those that any event has.
    late : bool
        Whether a time lies before one already seen.
    receipts : bool
        Whether any event's receipt is recorded.
    duplicates : int
        Events equal to the one before in all but `recv_ns` and, unless they lower an order, `seq`.
    first_duplicate : int
        Where the first of them stands.
    gaps : array of int64
        Rows whose step is a gap.
    minutes : array of int64
        Rows that begin another minute than the row before, the first row among them.
    prints : array of int64, shape (2, n_prints)
        Time and twice the price of each trade and execution that no flag but LAST_IN_PACKET sets apart.
    """
    cdef const MarketEvent* first = events_pointer(events)
    cdef const MarketEvent* before = NULL
    cdef Py_ssize_t count = cnp.PyArray_SIZE(events)
    if previous is not None:
        before = events_pointer(previous)
        if cnp.PyArray_SIZE(previous) != 1:
            raise ValueError(f"previous must be one event, was {len(previous)}")
    kinds, gaps = np.zeros(256, np.int64), np.empty(count, np.int64)
    minutes, prints = np.empty(count, np.int64), np.empty((2, count), np.int64)
    cdef int64_t[::1] kind_counts = kinds, gap_rows = gaps, minute_rows = minutes
    cdef int64_t[:, ::1] print_rows = prints
    cdef Seen seen
    if count == 0:
        return kinds, 0, False, False, 0, 0, gaps, minutes, prints
    with nogil:
        seen = _looked_at(
            first, count, before, newest_ns, gap_ns, &kind_counts[0], &gap_rows[0], &minute_rows[0],
            &print_rows[0, 0], &print_rows[1, 0],
        )
    return (
        kinds, seen.flags, seen.late, seen.receipts, seen.duplicates, seen.first_duplicate,
        gaps[:seen.gaps], minutes[:seen.minutes], prints[:, :seen.prints],
    )


cdef Seen _looked_at(
    const MarketEvent* first, Py_ssize_t count, const MarketEvent* before, int64_t newest_ns, int64_t gap_ns,
    int64_t* kinds, int64_t* gaps, int64_t* minutes, int64_t* print_times, int64_t* print_prices,
) noexcept nogil:
    cdef Seen seen = Seen(0, 0, 0, 0, 0, False, False, 0)
    cdef const MarketEvent* event
    cdef Py_ssize_t row
    cdef int64_t step_ns, into_ns, left_ns
    # Of the minute at hand, both included; it holds nothing before the first event.
    cdef int64_t begin_ns = 0, end_ns = -1
    for row in range(count):
        event = first + row
        kinds[event.kind] += 1
        seen.flags |= event.flags
        seen.receipts |= event.recv_ns != RECV_NOT_RECORDED
        seen.late |= event.ts_ns < newest_ns
        newest_ns = max(newest_ns, event.ts_ns)
        if before != NULL:
            step_ns = <int64_t>(<uint64_t>event.ts_ns - <uint64_t>before.ts_ns)
            if step_ns == 0:
                if _is_same(event, before):
                    seen.first_duplicate = seen.first_duplicate if seen.duplicates else row
                    seen.duplicates += 1
            elif step_ns > gap_ns:
                gaps[seen.gaps] = row
                seen.gaps += 1
        if event.ts_ns < begin_ns or event.ts_ns > end_ns:
            into_ns = _into_minute(event.ts_ns)
            left_ns = MINUTE_NS - 1 - into_ns
            begin_ns = event.ts_ns - into_ns if event.ts_ns >= INT64_MIN + into_ns else INT64_MIN
            end_ns = event.ts_ns + left_ns if event.ts_ns <= INT64_MAX - left_ns else INT64_MAX
            minutes[seen.minutes] = row
            seen.minutes += 1
        if (event.kind == EVENT_TRADE or event.kind == EVENT_EXECUTE) and (
            event.flags & ~FLAG_LAST_IN_PACKET == 0
        ):
            print_times[seen.prints] = event.ts_ns
            print_prices[seen.prints] = 2 * <int64_t>event.price_ticks
            seen.prints += 1
        before = event
    return seen


cdef inline bint _is_same(const MarketEvent* event, const MarketEvent* before) noexcept nogil:
    """Compare two events of one time; orders may lose the same size twice, so there `seq` counts."""
    if (
        event.order_id != before.order_id or event.size_lots != before.size_lots
        or event.price_ticks != before.price_ticks or event.kind != before.kind
        or event.side != before.side or event.flags != before.flags
    ):
        return False
    return (event.kind != EVENT_REDUCE and event.kind != EVENT_EXECUTE) or event.seq == before.seq


cdef inline int64_t _into_minute(int64_t ts_ns) noexcept nogil:
    """Return how far a time is into its minute, also before the epoch."""
    cdef int64_t rest = ts_ns % MINUTE_NS
    return rest + MINUTE_NS if rest < 0 else rest

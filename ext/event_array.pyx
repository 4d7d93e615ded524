"""The one check of event arrays where Python hands them to compiled code.

A typed memoryview of a structured dtype costs 1.7 µs a call and trusts the declaration; this costs a
pointer comparison when the dtype object was seen before.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t, uintptr_t

from .layout cimport EVENT_ADD, EVENT_STATUS, FLAG_LAST_IN_PACKET, MarketEvent

cnp.import_array()

# data/schema.py declares the same dtype; ext knows nothing above it, so a test compares the two.
EVENT_DTYPE = np.dtype(
    [
        ("ts_ns", "<i8"),
        ("recv_ns", "<i8"),
        ("order_id", "<u8"),
        ("size_lots", "<i8"),
        ("price_ticks", "<i4"),
        ("seq", "<u4"),
        ("instrument_id", "<u2"),
        ("venue_id", "u1"),
        ("kind", "u1"),
        ("side", "i1"),
        ("flags", "u1"),
        ("_reserved", "<u2"),
    ]
)

cdef object declared = EVENT_DTYPE
# An equal dtype that is another object passes the slow comparison once; the reference keeps its
# address from being reused.
cdef object accepted = EVENT_DTYPE


cdef const MarketEvent* events_pointer(cnp.ndarray events) except? NULL:
    """Return the first event of an array that is safe to read as MarketEvent[size]."""
    global accepted
    if events is None:
        raise TypeError("events must be an array of EVENT_DTYPE, was None")
    cdef object dtype = <object>cnp.PyArray_DESCR(events)
    if dtype is not accepted:
        if dtype != declared:
            raise TypeError(f"events must have EVENT_DTYPE, was {dtype}")
        accepted = dtype
    if cnp.PyArray_NDIM(events) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(events):
        shape, strides = (<object>events).shape, (<object>events).strides
        raise ValueError(f"events must be one contiguous run, was shape {shape}, strides {strides}")
    cdef void* first = cnp.PyArray_DATA(events)
    # A packed dtype has alignment 1 for numpy, so a view into a file can start anywhere.
    if <uintptr_t>first % sizeof(long long):
        raise ValueError(f"events must start at a multiple of 8 bytes, was address {<uintptr_t>first:#x}")
    return <const MarketEvent*>first


def first_illegal(cnp.ndarray events not None, int64_t previous_ns):
    """Return the first row whose kind or side is unknown or whose time runs back, the length if none.

    Parameters
    ----------
    events : array of EVENT_DTYPE, shape (n,)
    previous_ns : int
        Time of the event before the first.
    """
    cdef const MarketEvent* first = events_pointer(events)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(events), row
    cdef uint64_t illegal = 0
    with nogil:
        # Counted without a branch; only what is wrong is looked at twice.
        for row in range(count):
            illegal += is_illegal(first + row, first[row - 1].ts_ns if row else previous_ns)
        if illegal:
            row = 0
            while not is_illegal(first + row, first[row - 1].ts_ns if row else previous_ns):
                row += 1
    return row if illegal else count


cdef inline bint is_illegal(const MarketEvent* event, int64_t previous_ns) noexcept nogil:
    return (
        (event.ts_ns < previous_ns) | (event.kind < EVENT_ADD) | (event.kind > EVENT_STATUS)
        | (event.side < -1) | (event.side > 1)
    )


def packets_end(cnp.ndarray events not None):
    """Return the row behind the last event that ends a packet, 0 where none does."""
    cdef const MarketEvent* first = events_pointer(events)
    cdef Py_ssize_t row = cnp.PyArray_SIZE(events)
    while row > 0 and first[row - 1].flags & FLAG_LAST_IN_PACKET == 0:
        row -= 1
    return row


cdef cnp.ndarray events_empty(Py_ssize_t count):
    """Return an uninitialised array of `count` events."""
    return np.empty(count, dtype=declared)

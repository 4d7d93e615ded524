"""Columns of a table into events, and back.

numpy would take each column in a pass of its own, and every pass touches every cache line of the events;
here an event is touched once.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.event_array cimport events_pointer
from ext.layout cimport MarketEvent

cnp.import_array()

cdef tuple TYPES = (
    cnp.NPY_INT64, cnp.NPY_INT64, cnp.NPY_UINT64, cnp.NPY_INT64, cnp.NPY_INT32, cnp.NPY_UINT32,
    cnp.NPY_UINT16, cnp.NPY_UINT8, cnp.NPY_UINT8, cnp.NPY_INT8, cnp.NPY_UINT8,
)

cdef enum:
    COLUMNS = 11


def interleave(columns, cnp.ndarray out not None):
    """Write eleven contiguous columns, ts_ns to flags in the event's own order and types, into `out`."""
    cdef MarketEvent* target = <MarketEvent*>events_pointer(out)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(out), place
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out must be writable, was read-only")
    if len(columns) != len(TYPES):
        raise ValueError(f"expected {len(TYPES)} columns, was {len(columns)}")
    cdef (void*)[COLUMNS] first
    cdef cnp.ndarray column
    for place in range(COLUMNS):
        column = columns[place]
        if (
            cnp.PyArray_TYPE(column) != TYPES[place] or cnp.PyArray_NDIM(column) != 1
            or cnp.PyArray_SIZE(column) != count or not cnp.PyArray_IS_C_CONTIGUOUS(column)
            or not cnp.PyArray_ISBEHAVED_RO(column)
        ):
            raise ValueError(
                f"column {place} must be {count} contiguous values of its event field, was "
                f"{columns[place].dtype} of shape {columns[place].shape}"
            )
        first[place] = cnp.PyArray_DATA(column)
    with nogil:
        for place in range(count):
            target[place].ts_ns = (<int64_t*>first[0])[place]
            target[place].recv_ns = (<int64_t*>first[1])[place]
            target[place].order_id = (<uint64_t*>first[2])[place]
            target[place].size_lots = (<int64_t*>first[3])[place]
            target[place].price_ticks = (<int32_t*>first[4])[place]
            target[place].seq = (<uint32_t*>first[5])[place]
            target[place].instrument_id = (<uint16_t*>first[6])[place]
            target[place].venue_id = (<uint8_t*>first[7])[place]
            target[place].kind = (<uint8_t*>first[8])[place]
            target[place].side = (<int8_t*>first[9])[place]
            target[place].flags = (<uint8_t*>first[10])[place]
            target[place]._reserved = 0


def separate(cnp.ndarray events not None):
    """Return the columns of events, ts_ns to flags, each contiguous: what `interleave` takes."""
    cdef const MarketEvent* source = events_pointer(events)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(events), place
    columns = [np.empty(count, events.dtype.fields[name][0]) for name in events.dtype.names[:COLUMNS]]
    cdef (void*)[COLUMNS] first
    for place in range(COLUMNS):
        first[place] = cnp.PyArray_DATA(columns[place])
    with nogil:
        for place in range(count):
            (<int64_t*>first[0])[place] = source[place].ts_ns
            (<int64_t*>first[1])[place] = source[place].recv_ns
            (<uint64_t*>first[2])[place] = source[place].order_id
            (<int64_t*>first[3])[place] = source[place].size_lots
            (<int32_t*>first[4])[place] = source[place].price_ticks
            (<uint32_t*>first[5])[place] = source[place].seq
            (<uint16_t*>first[6])[place] = source[place].instrument_id
            (<uint8_t*>first[7])[place] = source[place].venue_id
            (<uint8_t*>first[8])[place] = source[place].kind
            (<int8_t*>first[9])[place] = source[place].side
            (<uint8_t*>first[10])[place] = source[place].flags
    return columns

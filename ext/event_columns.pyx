"""Columns of a table into events.

numpy would write each column in a pass of its own, and every pass touches every cache line of the
target; this writes an event once.
"""

cimport numpy as cnp
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.event_array cimport events_pointer
from ext.layout cimport MarketEvent

cnp.import_array()

cdef tuple TYPES = (
    cnp.NPY_INT64, cnp.NPY_INT64, cnp.NPY_UINT64, cnp.NPY_INT64, cnp.NPY_INT32, cnp.NPY_UINT32,
    cnp.NPY_UINT16, cnp.NPY_UINT8, cnp.NPY_UINT8, cnp.NPY_INT8, cnp.NPY_UINT8,
)


def interleave(columns, cnp.ndarray out not None):
    """Write eleven contiguous columns, ts_ns to flags in the event's own order and types, into `out`."""
    cdef MarketEvent* target = <MarketEvent*>events_pointer(out)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(out), place
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out must be writable, was read-only")
    if len(columns) != len(TYPES):
        raise ValueError(f"expected {len(TYPES)} columns, was {len(columns)}")
    cdef (void*)[11] first
    cdef cnp.ndarray column
    for place in range(11):
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

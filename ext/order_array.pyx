"""The one check of arrays of orders and reports where Python hands them to compiled code.

See event_array.pyx for why it is not left to typed memoryviews.
"""

import numpy as np

cimport numpy as cnp
from cpython.ref cimport Py_INCREF, PyObject
from libc.stdint cimport uintptr_t

from .layout cimport ExecutionReport, OrderCommand

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    cnp.ndarray PyArray_NewFromDescr(
        type subtype, cnp.PyArray_Descr* dtype, int dimensions, cnp.npy_intp* shape, cnp.npy_intp* strides,
        void* data, int flags, PyObject* source,
    )

# The dtypes come from the C declarations, so the two cannot drift; a test compares them with the schema.
cdef OrderCommand[1] _order_layout
cdef ExecutionReport[1] _report_layout
ORDER_DTYPE = np.asarray(<OrderCommand[:1]>_order_layout).dtype
REPORT_DTYPE = np.asarray(<ExecutionReport[:1]>_report_layout).dtype


# An equal dtype that is another object passes the slow comparison once; the reference keeps its
# address from being reused.
cdef object accepted_orders = ORDER_DTYPE
cdef object accepted_reports = REPORT_DTYPE


cdef void* records_pointer(cnp.ndarray records, str name) except? NULL:
    """Return the first record of an array whose dtype was accepted."""
    if cnp.PyArray_NDIM(records) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(records):
        shape, strides = (<object>records).shape, (<object>records).strides
        raise ValueError(f"{name} must be one contiguous run, was shape {shape}, strides {strides}")
    # A packed dtype has alignment 1 for numpy, so a view into a file can start anywhere.
    if <uintptr_t>cnp.PyArray_DATA(records) % sizeof(long long):
        raise ValueError(f"{name} must start at a multiple of 8 bytes")
    return cnp.PyArray_DATA(records)


cdef const OrderCommand* orders_pointer(cnp.ndarray orders) except? NULL:
    global accepted_orders
    cdef object dtype = <object>cnp.PyArray_DESCR(orders)
    if dtype is not accepted_orders:
        if dtype != ORDER_DTYPE:
            raise TypeError(f"orders must have ORDER_DTYPE, was {dtype}")
        accepted_orders = dtype
    return <const OrderCommand*>records_pointer(orders, "orders")


cdef ExecutionReport* reports_pointer(cnp.ndarray reports) except? NULL:
    global accepted_reports
    cdef object dtype = <object>cnp.PyArray_DESCR(reports)
    if dtype is not accepted_reports:
        if dtype != REPORT_DTYPE:
            raise TypeError(f"out must have REPORT_DTYPE, was {dtype}")
        accepted_reports = dtype
    if not cnp.PyArray_ISWRITEABLE(reports):
        raise ValueError("out must be writeable")
    return <ExecutionReport*>records_pointer(reports, "out")


cdef object first_rows(cnp.ndarray records, cnp.npy_intp count):
    """Return ``records[:count]``; made directly, since the general slice costs more than a command."""
    cdef cnp.ndarray rows
    Py_INCREF(<object>cnp.PyArray_DESCR(records))       # which the new array takes over
    rows = PyArray_NewFromDescr(
        cnp.ndarray, cnp.PyArray_DESCR(records), 1, &count, NULL, cnp.PyArray_DATA(records),
        cnp.NPY_ARRAY_CARRAY, <PyObject*>NULL,
    )
    cnp.set_array_base(rows, records)
    return rows

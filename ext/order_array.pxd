"""The one check of arrays of orders and reports where Python hands them to compiled code."""

cimport numpy as cnp

from .layout cimport ExecutionReport, OrderCommand


cdef const OrderCommand* orders_pointer(cnp.ndarray orders) except? NULL
cdef ExecutionReport* reports_pointer(cnp.ndarray reports) except? NULL
cdef object first_rows(cnp.ndarray records, cnp.npy_intp count)

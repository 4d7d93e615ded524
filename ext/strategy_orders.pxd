"""Orders and reports, as a strategy written in Python sees them."""

from libc.stdint cimport int64_t

from ext.layout cimport ExecutionReport, OrderCommand


cdef class Report:
    cdef ExecutionReport record


cdef class Order:
    cdef OrderCommand command       # as last sent
    cdef readonly int64_t leaves_lots
    cdef readonly bint accepted
    cdef readonly bint cancelling

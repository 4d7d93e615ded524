"""The one check of event arrays where Python hands them to compiled code."""

cimport numpy as cnp

from .layout cimport MarketEvent


cdef const MarketEvent* events_pointer(cnp.ndarray events) except? NULL
cdef cnp.ndarray events_empty(Py_ssize_t count)

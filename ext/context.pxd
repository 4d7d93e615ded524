"""What a strategy written in Python sees and does.

Its verbs write commands into a preallocated buffer; the agent hands them to the loop when the callback
has returned. So a strategy never calls a venue, and a callback that raises sends nothing.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ext.layout cimport ExecutionReport, OrderCommand
from ext.tick_path cimport TickPath

cdef enum:
    COMMAND_MAX = 1024      # of one instant, the answers to refusals included


cdef class Context:
    cdef TickPath loop
    cdef OrderCommand* commands     # owned, COMMAND_MAX
    cdef int command_count
    cdef dict orders                # client order id -> Order, in order of sending
    cdef object feature_array       # float32, shape (16,)
    cdef uint32_t run_id
    cdef uint64_t order_count
    cdef bint closed                # the data has ended: nothing new is sent
    cdef readonly double tick_value
    cdef readonly int tick_size_ticks
    cdef readonly uint64_t timer_tag

    cdef OrderCommand* next_command(self) except NULL
    cdef submit(self, int side, int64_t size_lots, price_ticks, int venue, bint post_only, ttl_ns, bint ioc)
    cdef void settle(self, const ExecutionReport* report)

"""Execution of parent orders: slices on a schedule, each routed as one decision.

A parent order is a saga: filled + open + cancelled = size at every instant. A slice becomes a child,
the child one or more legs; what the legs leave over is swept (compensated) at the cheapest venues, and
what is left at the parent's deadline is closed out with market orders or counted as cancelled.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.execution_stats cimport ExecutionStats
from ext.layout cimport ExecutionReport
from ext.parent_order cimport WorkingParent
from ext.routing cimport RouteAnswer, Router, RouteRequest
from ext.tick_path cimport Agent

cdef enum:
    PARENT_SLOTS = 1024     # parents at work at once; a power of two
    SWEEPS_MAX = 2          # compensating sweeps per child


cdef struct PlannedParent:
    int64_t arrival_ns
    int64_t deadline_ns
    int64_t size_lots
    int32_t slices
    int8_t side
    uint8_t[3] _reserved


cdef class ParentExecutor(Agent):
    cdef readonly Router router
    cdef PlannedParent* plan               # owned
    cdef readonly uint32_t plan_count
    cdef WorkingParent* parents            # owned, PARENT_SLOTS
    cdef ExecutionStats stats
    cdef uint32_t run_id
    cdef uint16_t model_version
    cdef double tick_value
    cdef int64_t post_ns
    cdef int64_t closed_ns
    cdef double protection
    cdef bint use_signal
    cdef readonly uint64_t decisions
    cdef readonly uint64_t skipped         # parents whose market was closed at arrival
    cdef readonly uint64_t censored        # decisions without an outcome

    cdef void begin_parent(self, uint32_t parent_id) noexcept nogil
    cdef void begin_slice(self, WorkingParent* parent) noexcept nogil
    cdef void decide(self, WorkingParent* parent, int64_t size_lots) noexcept nogil
    cdef void send_legs(
        self, WorkingParent* parent, const RouteRequest* request, const RouteAnswer* answer, bint market
    ) noexcept nogil
    cdef void continue_child(self, WorkingParent* parent) noexcept nogil
    cdef void end_child(self, WorkingParent* parent, bint censored) noexcept nogil
    cdef void close_out(self, WorkingParent* parent) noexcept nogil
    cdef void end_parent(self, WorkingParent* parent) noexcept nogil
    cdef bint market_closed(self) noexcept nogil

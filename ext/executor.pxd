"""Execution of parent orders: slices on a schedule, each routed as one decision.

A parent order is a saga: filled + open + cancelled = size at every instant. A slice becomes a child,
the child one or more legs; what the legs leave over is swept (compensated) at the cheapest venues, and
what is left at the parent's deadline is closed out with market orders or counted as cancelled.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.layout cimport ExecutionReport
from ext.routing cimport CONTEXT_SIZE, RouteAnswer, Router, RouteRequest
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


cdef struct WorkingParent:
    uint32_t parent_id
    bint active
    bint closing             # past the deadline
    bint last_round          # the closing market orders were sent
    int side
    int slices
    int slice
    uint16_t version
    uint32_t legs
    int64_t size_lots
    int64_t filled_lots
    int64_t open_lots        # neither filled nor cancelled
    int64_t cancelled_lots
    int64_t taker_lots
    int64_t sent_lots        # at venues or on their way; part of what is open
    int64_t arrival_ns
    int64_t deadline_ns
    int64_t interval_ns
    int64_t arrival_mid_x2
    int64_t cost_x2          # sum of side * (2 * price - arrival_mid_x2) * lots
    int64_t fee_nano
    # The child at work, if any.
    bint child_active
    int arm
    int attempt
    int outstanding
    uint64_t decision_id
    int64_t child_lots
    int64_t child_filled
    int64_t child_cost_x2
    int64_t child_fee_nano
    int64_t decision_mid_x2
    double scale_ticks
    double[CONTEXT_SIZE] context


cdef struct DayStats:
    double cost_ticklots       # of completed parents, fees included, by day of arrival
    double fee_ticklots
    double notional_ticklots   # size * arrival mid
    double child_cost_ticklots
    double reward
    int64_t parents
    int64_t lots
    int64_t cancelled_lots
    int64_t taker_lots
    int64_t decisions
    int64_t child_lots


cdef class ParentExecutor(Agent):
    cdef readonly Router router
    cdef PlannedParent* plan               # owned
    cdef readonly uint32_t plan_count
    cdef WorkingParent* parents            # owned, PARENT_SLOTS
    cdef DayStats* stats                   # owned, [group][day]
    cdef readonly int group_count
    cdef readonly int64_t first_day
    cdef readonly int64_t day_count
    cdef int64_t* venue_lots               # owned, [window][venue]
    cdef readonly int window
    cdef readonly int window_max
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
    cdef void write_decision(
        self, const WorkingParent* parent, const RouteRequest* request, const RouteAnswer* answer,
        float signal,
    ) noexcept nogil
    cdef void describe(
        self, WorkingParent* parent, int64_t size_lots, bint ask, RouteRequest* request
    ) noexcept nogil
    cdef void send_legs(
        self, WorkingParent* parent, const RouteRequest* request, const RouteAnswer* answer, bint market
    ) noexcept nogil
    cdef void continue_child(self, WorkingParent* parent) noexcept nogil
    cdef void end_child(self, WorkingParent* parent, bint censored) noexcept nogil
    cdef void close_out(self, WorkingParent* parent) noexcept nogil
    cdef void end_parent(self, WorkingParent* parent) noexcept nogil
    cdef void write_parent(self, WorkingParent* parent, uint8_t state) noexcept nogil
    cdef DayStats* day_of(self, const WorkingParent* parent) noexcept nogil
    cdef bint market_closed(self) noexcept nogil
    cdef double cost_of_taking(self, int side, int64_t lots, int64_t mid_x2) noexcept nogil
    cdef double spread_scale(self) noexcept nogil

"""What an executor's parents cost, by group and day of arrival, and where their lots were filled."""

from libc.stdint cimport int64_t, uint32_t

from ext.parent_order cimport WorkingParent


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


cdef class ExecutionStats:
    cdef DayStats* days                    # owned, [group][day]
    cdef int64_t* venue_lots               # owned, [window][venue]
    cdef uint32_t group_count
    cdef int64_t first_day
    cdef int64_t day_count
    cdef int window
    cdef int window_max

    cdef begin_window(self)
    cdef void add_child(self, const WorkingParent* parent, double cost, double reward) noexcept nogil
    cdef void add_parent(self, const WorkingParent* parent, double cost, double fee) noexcept nogil
    cdef DayStats* day_of(self, const WorkingParent* parent) noexcept nogil
    cdef day_array(self)
    cdef lots_by_venue(self, int venue_count)


cdef inline void add_fill(ExecutionStats stats, int venue, int64_t lots) noexcept nogil:
    stats.venue_lots[stats.window * 16 + venue] += lots

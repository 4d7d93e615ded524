"""What each (venue, style) shows and would cost: the router's view of a decision, in ticks per lot."""

from libc.stdint cimport int64_t

from ext.features cimport SPREAD
from ext.parent_order cimport WorkingParent
from ext.routing cimport RouteRequest
from ext.tick_path cimport TickPath


cdef void describe(
    TickPath loop, const WorkingParent* parent, int64_t size_lots, bint ask, double tick_value,
    RouteRequest* request,
) noexcept nogil
cdef double cost_of_taking(
    TickPath loop, int side, int64_t lots, int64_t mid_x2, double tick_value
) noexcept nogil


cdef inline double spread_scale(TickPath loop) noexcept nogil:
    # Over several venues the average spread can be zero or negative.
    return loop.features.average[SPREAD] if loop.features.average[SPREAD] > 1.0 else 1.0


cdef inline double bounded(double value, double bound) noexcept nogil:
    return bound if value > bound else (-bound if value < -bound else value)

"""How a child order is split over venues: the request, the answer and the policies' base class.

A policy sees one arm per (venue, style) with that arm's context, what is displayed there and what it
would cost at the displayed price. It answers with legs. Policies that play a single arm name it, and
are rewarded for it later; policies that split leave `arm` at -1 and learn nothing.
"""

from libc.stdint cimport int64_t, uint64_t

from ext.linucb cimport LinUcb

cdef enum:
    ARM_MAX = 32
    CONTEXT_SIZE = 8
    LEG_MAX = 16

cdef enum Style:
    STYLE_TAKE = 0      # immediate-or-cancel at the displayed price
    STYLE_POST = 1      # rest at our own touch, take what is left when the time is over


cdef struct ArmView:
    double[CONTEXT_SIZE] context
    double quoted_cost_ticks    # per lot against the mid, fees included
    int64_t available_lots      # displayed on the side we would trade against
    int venue
    int style


cdef struct RouteRequest:
    uint64_t decision_id
    int64_t now_ns
    int64_t size_lots
    int side
    int arm_count
    int venue_count
    ArmView[ARM_MAX] arms


cdef struct RouteLeg:
    int64_t size_lots
    int venue
    int style


cdef struct RouteAnswer:
    int leg_count
    int arm
    float score
    float propensity
    RouteLeg[LEG_MAX] legs


cdef class Router:
    cdef readonly str name
    cdef readonly int arm_count     # it was made for; 0 serves any number
    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil
    cdef void reward(self, int arm, const double* context, double value) noexcept nogil
    cdef void begin_window(self) noexcept nogil


cdef void answer_with_arm(const RouteRequest* request, RouteAnswer* answer, int arm) noexcept nogil
cdef void sweep(const RouteRequest* request, RouteAnswer* answer) noexcept nogil

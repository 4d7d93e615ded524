"""The bridge between the loop and a strategy written in Python.

The interpreter is entered only for what the strategy subscribes to and for answers to its own orders.
"""

from libc.stdint cimport int64_t

from ext.context cimport Context
from ext.features cimport VENUE_MAX, VenueTouch
from ext.layout cimport ExecutionReport, OrderCommand
from ext.tick_path cimport Agent


cdef class PythonAgent(Agent):
    cdef Context context
    cdef readonly object error      # what the strategy raised, or None
    cdef dict hooks
    cdef object relieve             # called when a buffer of the loop fills up within one batch
    cdef int64_t timer_ns
    cdef int64_t batch_events
    cdef int64_t batch_due          # event count at which the next batch ends
    cdef bint wants_touch
    cdef bint touch_sizes
    cdef int64_t touch_every_ns
    cdef int64_t touch_next_ns      # before it, a change waits
    cdef bint touch_waits
    cdef bint begun
    cdef bint sending
    cdef bint asleep                # the market is silent and the periodic timer rests
    cdef VenueTouch[VENUE_MAX] seen

    cdef void begin(self)
    cdef void fire(self, str name)
    cdef void fire_touch(self)
    cdef void answer(self, str name, const ExecutionReport* report)
    cdef void send_commands(self)
    cdef void refuse(self, const OrderCommand* command)
    cdef void make_room(self)
    cdef void fail(self, error)
    cdef void arm(self) noexcept nogil
    cdef bint touch_changed(self, int venue) noexcept nogil
    cdef int64_t events_seen(self) noexcept nogil

"""The bridge between the loop and a strategy written in Python.

The interpreter is entered only for what the strategy subscribes to and for answers to its own orders.
A strategy never calls a venue: its verbs write commands into a buffer, and the agent hands them to the
loop when the callback has returned. A callback that raises sends nothing.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ext.event_loop cimport Agent, EventLoop
from ext.features cimport VENUE_MAX, VenueTouch
from ext.layout cimport ExecutionReport, OrderCommand

cdef enum:
    COMMAND_MAX = 1024      # of one instant, the answers to refusals included


cdef class Report:
    cdef ExecutionReport record


cdef class Order:
    cdef OrderCommand command       # as last sent
    cdef readonly int64_t leaves_lots
    cdef readonly bint accepted
    cdef readonly bint cancelling


cdef class Context:
    cdef EventLoop loop
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
    cdef bint begun
    cdef bint sending
    cdef bint asleep                # the market is silent and the periodic timer rests
    cdef VenueTouch[VENUE_MAX] seen

    cdef void begin(self)
    cdef void fire(self, str name)
    cdef void answer(self, str name, const ExecutionReport* report)
    cdef void send_commands(self)
    cdef void refuse(self, const OrderCommand* command, uint8_t reason)
    cdef void make_room(self)
    cdef void fail(self, error)
    cdef void arm(self) noexcept nogil
    cdef bint touch_changed(self, int venue) noexcept nogil
    cdef int64_t events_seen(self) noexcept nogil

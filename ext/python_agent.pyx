"""The agent that calls a strategy written in Python."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ext.context cimport COMMAND_MAX, Context
from ext.features cimport VenueTouch
from ext.journal cimport journal_has_room
from ext.loop_records cimport RECORDS_MAX
from ext.layout cimport (
    ACTION_CANCEL, ACTION_MASS_CANCEL, ACTION_NEW, REASON_NONE, REPORT_FILL, REPORT_REJECTED,
    ExecutionReport, MarketEvent, OrderCommand,
)
from ext.sim_venue cimport SimulatedVenue
from ext.strategy_orders cimport Order, Report
from ext.tick_path cimport Agent

HOOK_NAMES = ("on_start", "on_timer", "on_touch", "on_batch", "on_report", "on_fill", "on_reject", "on_stop")

cdef enum:
    PERIODIC = 0
    ROOM_MIN = 4 * COMMAND_MAX      # journal records kept free ahead of a callback

# Tags of the agenda: a strategy's own are 1 to 2^63 - 1.
cdef uint64_t WAITING_TOUCH = <uint64_t>1 << 63

# A timer does not tick through nights and weekends: silence this long stops it until the next event.
cdef int64_t SILENCE_NS = 600_000_000_000


@cython.final
@cython.auto_pickle(False)
cdef class PythonAgent(Agent):
    """Calls a strategy written in Python; `engine.strategy.make_agent` makes one.

    Parameters
    ----------
    hooks : mapping of str to callable
        By the names of HOOK_NAMES; what is missing is never called. Each takes the context,
        `on_report`, `on_fill` and `on_reject` also a `Report`.
    run_id : int
        15 bits, of the client order ids.
    tick_value : float
        Currency per tick and lot.
    tick_size_ticks : int
    timer_ns : int
        Period of `on_timer`, on the grid of its multiples; 0 for none.
    batch_events : int
        `on_batch` is called at the end of the packet in which that many events are full; 0 for never.
    touch_sizes : bool
        `on_touch` is called on changes of size too, not of price only.
    touch_every_ns : int
        `on_touch` is called at most so often; a change in between is told when the time is over.

    Notes
    -----
    What a hook raises is kept in `error`; the strategy is not called again and the commands of that
    callback are not sent. Whoever runs the loop looks at `error` between batches.
    """

    def __init__(
        self, hooks, *, uint32_t run_id, double tick_value, int tick_size_ticks=1, int64_t timer_ns=0,
        int64_t batch_events=0, bint touch_sizes=False, int64_t touch_every_ns=0,
    ):
        unknown = set(hooks) - set(HOOK_NAMES)
        if unknown:
            raise ValueError(f"hooks must be of {', '.join(HOOK_NAMES)}, was {', '.join(sorted(unknown))}")
        if timer_ns < 0 or batch_events < 0 or touch_every_ns < 0 or tick_size_ticks < 1:
            raise ValueError(
                "timer_ns, batch_events and touch_every_ns must not be negative and tick_size_ticks must be "
                f"positive, were {timer_ns}, {batch_events}, {touch_every_ns} and {tick_size_ticks}"
            )
        self.hooks = dict(hooks)
        self.error = None
        self.relieve = None
        self.context = Context.__new__(Context)
        self.context.run_id = run_id
        self.context.tick_value = tick_value
        self.context.tick_size_ticks = tick_size_ticks
        self.timer_ns = timer_ns
        self.batch_events = batch_events if "on_batch" in self.hooks else 0
        self.batch_due = self.batch_events
        self.wants_touch = "on_touch" in self.hooks
        self.touch_sizes = touch_sizes
        self.touch_every_ns = touch_every_ns
        self.wants_events = True        # until the first packet has come

    def set_relieve(self, relieve):
        """Have `relieve()` called when the loop's journal or fills have to be drained within a batch."""
        self.relieve = relieve

    def close(self):
        """Note that the data has ended: from now on nothing new is sent."""
        self.context.closed = True

    def stop(self):
        """Call `on_stop`, once the loop has finished."""
        if self.context.loop is not None:
            self.fire("on_stop")

    # Called by the loop.

    cdef void on_start(self) noexcept nogil:
        with gil:
            self.context.loop = self.loop

    cdef void on_event(self, const MarketEvent* event) noexcept nogil:
        cdef bint touched, full = False
        if not self.begun:
            self.begun = True
            with gil:
                self.begin()
            return
        if self.asleep:
            self.arm()
        touched = self.wants_touch and self.touch_changed(event.venue_id) and not self.touch_waits
        if touched and self.loop.now_ns < self.touch_next_ns:
            # Told later by the agenda, so that a market which stands still afterwards is seen as well.
            touched = False
            self.touch_waits = True
            self.loop.schedule(self.touch_next_ns, WAITING_TOUCH)
        if self.batch_events > 0 and self.events_seen() >= self.batch_due:
            full = True
            self.batch_due = (self.events_seen() // self.batch_events + 1) * self.batch_events
        if touched or full:
            with gil:
                if touched:
                    self.fire_touch()
                if full:
                    self.fire("on_batch")

    cdef void on_timer(self, uint64_t tag) noexcept nogil:
        if tag == PERIODIC:
            if self.loop.stream_ns - self.loop.features.last_ts_ns > SILENCE_NS:
                self.asleep = True
                self.wants_events = True
                return
            self.arm()
        with gil:
            if tag == WAITING_TOUCH:
                self.touch_waits = False
                self.fire_touch()
            else:
                self.context.timer_tag = tag
                self.fire("on_timer")

    cdef void on_report(self, const ExecutionReport* report) noexcept nogil:
        with gil:
            self.context.settle(report)
            self.make_room()
            if report.kind == REPORT_FILL:
                self.answer("on_fill", report)
            elif report.kind == REPORT_REJECTED:
                self.answer("on_reject", report)
            self.answer("on_report", report)

    # With the interpreter.

    cdef void begin(self):
        cdef int venue
        for venue in range(self.loop.venue_count):
            self.touch_changed(venue)
        self.arm()
        self.fire("on_start")

    cdef void fire_touch(self):
        self.touch_next_ns = self.loop.now_ns + self.touch_every_ns
        self.fire("on_touch")

    cdef void fire(self, str name):
        hook = self.hooks.get(name)
        if hook is None or self.error is not None:
            return
        try:
            hook(self.context)
        except BaseException as error:
            self.fail(error)
        self.send_commands()

    cdef void answer(self, str name, const ExecutionReport* report):
        cdef Report told
        hook = self.hooks.get(name)
        if hook is None or self.error is not None:
            return
        told = Report.__new__(Report)
        told.record = report[0]
        try:
            hook(self.context, told)
        except BaseException as error:
            self.fail(error)
        self.send_commands()

    cdef void send_commands(self):
        """Hand the buffer to the loop; what the gate refuses is answered at once, and may add to it."""
        cdef Context context = self.context
        cdef OrderCommand* command
        cdef Order order
        cdef int index = 0
        cdef uint8_t reason
        if self.sending:
            return
        self.sending = True
        self.make_room()
        while index < context.command_count:
            command = &context.commands[index]
            index += 1
            reason = self.loop.send(command)
            if reason != REASON_NONE:
                self.refuse(command)
            else:
                order = context.orders.get(command.client_order_id)
                if order is not None and command.action != ACTION_CANCEL:
                    order.command = command[0]
        context.command_count = 0
        self.loop.pending_model_ns = 0
        self.sending = False

    cdef void refuse(self, const OrderCommand* command):
        """Tell the strategy what the gate refused; an order refused at its start is no order."""
        cdef ExecutionReport report = self.loop.refusal
        cdef Order order = self.context.orders.get(command.client_order_id)
        if command.action == ACTION_NEW:
            self.context.settle(&report)
        elif command.action == ACTION_MASS_CANCEL:
            for order in self.context.orders.values():
                order.cancelling = order.cancelling and order.command.venue_id != command.venue_id
        elif order is not None:
            report.leaves_lots = order.leaves_lots
            order.cancelling = order.cancelling and command.action != ACTION_CANCEL
        self.answer("on_reject", &report)
        self.answer("on_report", &report)

    cdef void make_room(self):
        """Have the loop's buffers drained before they could overflow."""
        if self.relieve is None or self.error is not None:
            return
        if (
            journal_has_room(self.loop.journal, ROOM_MIN)
            and 2 * self.loop.records.fill_count < RECORDS_MAX
        ):
            return
        try:
            self.relieve()
        except BaseException as error:
            self.fail(error)

    cdef void fail(self, error):
        self.error = error
        self.context.command_count = 0

    # Without it.

    cdef void arm(self) noexcept nogil:
        """Schedule the next tick of the periodic timer."""
        self.asleep = False
        self.wants_events = self.wants_touch or self.batch_events > 0
        if self.timer_ns > 0:
            self.loop.schedule((self.loop.now_ns // self.timer_ns + 1) * self.timer_ns, PERIODIC)

    cdef bint touch_changed(self, int venue) noexcept nogil:
        """Tell whether a venue's touch differs from the last look, and look."""
        cdef const VenueTouch* now = &self.loop.features.touch[venue]
        cdef VenueTouch* then = &self.seen[venue]
        cdef bint changed = (
            now.bid_price_ticks != then.bid_price_ticks or now.ask_price_ticks != then.ask_price_ticks
            or (now.bid_size_lots > 0) != (then.bid_size_lots > 0)
            or (now.ask_size_lots > 0) != (then.ask_size_lots > 0)
        )
        if self.touch_sizes and not changed:
            changed = now.bid_size_lots != then.bid_size_lots or now.ask_size_lots != then.ask_size_lots
        then[0] = now[0]
        return changed

    cdef int64_t events_seen(self) noexcept nogil:
        """Count the events that the books have taken; unlike the loop's count it is exact within a batch."""
        cdef int venue
        cdef int64_t seen = 0
        for venue in range(self.loop.venue_count):
            seen += applied_of(<SimulatedVenue>self.loop.venues[venue])
        return seen


cdef inline int64_t applied_of(SimulatedVenue venue) noexcept nogil:
    return <int64_t>venue.book.applied

"""From a tick to an order and back: `drain`, `advance`, `send`, `collect`, `receive`.

`drain` takes events out of the ring, and does what is due before each (`advance`); `handle` puts one
through its venue's book and the features; the agent decides and calls `send`; what the venue answers is put
on its way by `collect` and told by `receive`. Nothing here enters the interpreter.
"""

cimport cython
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from ext.feature_set cimport FeatureSet, OwnQueue
from ext.features cimport features_fill, features_trade, features_update
from ext.journal cimport journal_append
from ext.layout cimport (
    ACTION_NEW, EVENT_TRADE, FLAG_LAST_IN_PACKET, JOURNAL_ORDER, JOURNAL_REFUSAL, JOURNAL_REPORT,
    REASON_CAPACITY, REASON_TIME, REPORT_FILL, REPORT_REJECTED, TIF_GTD, ExecutionReport,
    MarketEvent, OrderCommand, monotonic_ns,
)
from ext.ring cimport Ring, ring_claim, ring_peek, ring_push, ring_release
from ext.rng cimport draw64
from ext.schedule cimport (
    DUE_ARRIVAL, DUE_EQUITY, DUE_EXPIRY, DUE_REPORT, DUE_TIMER, NO_PLACE, DueItem,
)
from ext.sim_venue cimport SimulatedVenue, venue_apply

cdef enum:
    STREAM_LATENCY = 4001


@cython.auto_pickle(False)
cdef class Agent:
    """Base of the compiled agents; does nothing."""

    cdef check_venues(self, int venue_count):
        """Raise ValueError where the agent can not serve that many venues; called by its loop, once."""

    cdef void on_start(self) noexcept nogil:
        """Called once, before the first event."""

    cdef void on_event(self, const MarketEvent* event) noexcept nogil:
        """Called at the end of each packet when `wants_events` is set."""

    cdef void on_timer(self, uint64_t tag) noexcept nogil:
        """Called when a scheduled time has come."""

    cdef void on_report(self, const ExecutionReport* report) noexcept nogil:
        """Called with each answer to our orders, at receipt."""


@cython.auto_pickle(False)
cdef class TickPath:
    """The path and its state; made, fed and drained as an `ext.event_loop.EventLoop`."""

    cdef void start(self) noexcept nogil:
        """Call the agent before the first event, once."""
        if not self.started:
            self.started = True
            self.agent.on_start()

    cdef size_t drain(self, size_t count_max) noexcept nogil:
        """Take up to `count_max` events out of the ring and handle them.

        Stops short, with `stalled` set, when a buffer has to be drained. What was due before the event
        it stopped at is done once: that event stays in the ring and is the next one handled.
        """
        cdef MarketEvent* first
        cdef MarketEvent* event
        cdef size_t handled = 0, run, index
        self.stalled = False
        while handled < count_max and not self.stalled:
            if not has_sample_room(self):
                self.stalled = True
                break
            run = count_max - handled
            run = run if run < EVENT_BATCH else EVENT_BATCH
            run = ring_peek(self.ring.ring, run, sizeof(MarketEvent), <const void**>&first)
            if run == 0:
                break
            for index in range(run):
                event = &first[index]
                if event.venue_id >= self.venue_count:
                    self.foreign += 1
                    continue
                if self.live:
                    self.tick_ns = event.recv_ns
                if (
                    (event.ts_ns > self.due.next_ns and not self.advance(event.ts_ns))
                    or (self.agent.wants_events and not has_room(self))
                ):
                    self.stalled = True
                    run = index
                    break
                handle(self, <SimulatedVenue>self.venues[event.venue_id], event)
                self.records.sample_left -= 1
                if self.records.sample_left == 0:
                    self.records.sample(&self.features)
                if self.agent.wants_events and event.flags & FLAG_LAST_IN_PACKET:
                    self.tick_ns = event.recv_ns if self.live else monotonic_ns()
                    set_clock(self, event.ts_ns)
                    self.agent.on_event(event)
            if run > 0:
                # Items due before the event that waits may have moved the clock past the last one handled.
                self.stream_ns = max(self.stream_ns, first[run - 1].ts_ns)
                ring_release(self.ring.ring, run)
                handled += run
        self.events += handled
        return handled

    cdef bint advance(self, int64_t until_ns) noexcept nogil:
        """Do what is due before the event at `until_ns`; False when a buffer has to be drained first."""
        cdef DueItem item
        cdef OrderCommand command
        cdef ExecutionReport report
        if not self.live:
            self.tick_ns = monotonic_ns()
        while self.due.next_ns < until_ns:
            if not has_room(self):
                return False
            self.due.pop(&item)
            set_clock(self, item.due_ns)
            if item.kind == DUE_TIMER:
                self.agent.on_timer(item.tag)
            elif item.kind == DUE_ARRIVAL:
                self.due.take_payload(item.place, &command)
                arrive(self, <SimulatedVenue>self.venues[command.venue_id], &command)
            elif item.kind == DUE_REPORT:
                self.due.take_payload(item.place, &report)
                self.receive(&report)
            elif item.kind == DUE_EXPIRY:
                expire(self, <SimulatedVenue>self.venues[item.place], item.tag)
            else:
                self.sample_equity()
                # Nobody wants a point a minute over a weekend: the next one is the first grid point
                # that the coming event passes.
                if until_ns != INT64_MAX:
                    self.due.push(
                        (until_ns // self.equity_ns + 1) * self.equity_ns, DUE_EQUITY, 0, NO_PLACE
                    )
        return True

    cdef uint8_t send(self, OrderCommand* command) noexcept nogil:
        """Check, journal and send a command; return 0 or the Reason it was refused for, told in `refusal`."""
        cdef uint8_t reason, venue = command.venue_id
        cdef int64_t arrival
        command.ts_ns = self.now_ns
        command.instrument_id = self.instrument_id
        if venue >= self.venue_count:
            return self.refuse(command, REASON_CAPACITY)
        if self.order_rings[venue] != NULL and not ring_has_room(self.order_rings[venue]):
            return self.refuse(command, REASON_CAPACITY)
        reason = self.gate.risk_check(
            command, self.features.mid_x2 if self.features.two_sided else INT64_MIN, self.now_ns
        )
        if reason != 0:
            return self.refuse(command, reason)
        self.gate.risk_on_sent(command)
        journal_append(self.journal, JOURNAL_ORDER, self.now_ns, command)
        self.account.orders += command.action == ACTION_NEW
        arrival = self.stream_ns + self.feed_ns + self.decision_ns + self.pending_model_ns
        arrival += order_delay(<SimulatedVenue>self.venues[venue], self.latency_seed, command)
        # A channel to a venue is first in, first out.
        if arrival < self.order_channel_ns[venue]:
            arrival = self.order_channel_ns[venue]
        self.order_channel_ns[venue] = arrival
        if not self.due.push_payload(arrival, DUE_ARRIVAL, command):
            # No memory for a command that the gate had let through: it takes it back.
            self.refuse(command, REASON_CAPACITY)
            self.gate.risk_on_report(&self.refusal)
            return REASON_CAPACITY
        if self.order_rings[venue] != NULL:
            ring_push(self.order_rings[venue], command, sizeof(OrderCommand))
        self.tick_to_order.record(monotonic_ns() - self.tick_ns)
        return 0

    cdef uint8_t refuse(self, const OrderCommand* command, uint8_t reason) noexcept nogil:
        """Count, journal and tell a refusal; return its reason."""
        cdef ExecutionReport* report = &self.refusal
        memset(report, 0, sizeof(ExecutionReport))
        report.client_order_id = command.client_order_id
        report.ts_ns = report.recv_ns = self.now_ns
        report.size_lots = command.size_lots
        report.price_ticks = command.price_ticks
        report.instrument_id = command.instrument_id
        report.venue_id = command.venue_id
        report.kind = REPORT_REJECTED
        report.side = command.side
        report.reason = reason
        self.refused[reason] += 1
        journal_append(self.journal, JOURNAL_REFUSAL, self.now_ns, report)
        return reason

    cdef void collect(self, SimulatedVenue venue) noexcept nogil:
        """Put a venue's answers on their way to us."""
        cdef int index
        cdef int64_t receipt, due
        cdef ExecutionReport* report
        for index in range(venue.out_count):
            report = &venue.out[index]
            receipt = report.ts_ns + venue.rules.ack_latency_ns
            if receipt < self.report_channel_ns[venue.venue_id]:
                receipt = self.report_channel_ns[venue.venue_id]
            self.report_channel_ns[venue.venue_id] = receipt
            report.recv_ns = receipt
            # An answer faster than the feed is seen with the feed: our clock never runs back.
            due = receipt - self.feed_ns
            if not self.due.push_payload(due if due > report.ts_ns else report.ts_ns, DUE_REPORT, report):
                self.records.overflowed = True
        venue.out_count = 0

    cdef void receive(self, const ExecutionReport* report) noexcept nogil:
        self.gate.risk_on_report(report)
        journal_append(self.journal, JOURNAL_REPORT, self.now_ns, report)
        if report.kind == REPORT_FILL:
            self.account.position_lots += report.side * report.size_lots
            self.account.cash_ticklots -= report.side * report.size_lots * <int64_t>report.price_ticks
            self.account.fee_nano += report.fee_nano
            self.account.filled_lots += report.size_lots
            self.account.fills += 1
            if self.records.record_fills:
                self.records.add_fill(report)
        elif report.kind == REPORT_REJECTED:
            self.refused[report.reason & (REASON_LIMIT - 1)] += 1
        self.agent.on_report(report)

    cdef void schedule(self, int64_t local_ns, uint64_t tag) noexcept nogil:
        """Call the agent's `on_timer(tag)` when our clock says `local_ns`."""
        self.due.push(local_ns - self.feed_ns, DUE_TIMER, tag, NO_PLACE)

    cdef float signal(self) noexcept nogil:
        """Return the model's forecast for the market as it stands; one run per market state."""
        if self.signal_update != self.features.updates:
            features_fill(&self.features, self.feature_values)
            self.signal_now = self.source.signal(self.feature_values)
            self.signal_update = self.features.updates
            self.signals += 1
        self.pending_model_ns = self.model_ns
        return self.signal_now

    cdef void fill_features(self, FeatureSet chosen, float* out) noexcept nogil:
        """Write chosen features where a model reads them."""
        cdef void* books[VENUE_LIMIT]
        cdef OwnQueue[2] queues
        cdef int venue
        for venue in range(self.venue_count):
            books[venue] = book_of(<SimulatedVenue>self.venues[venue])
        if chosen.wants_queues:
            for venue in range(2):
                queues[venue] = best_queue(self, 1 - 2 * venue)
        chosen.fill(&self.features, books, queues, out)

    cdef void sample_equity(self) noexcept nogil:
        if self.features.updates > 0:
            self.records.add_equity(self.now_ns, self.features.mid_x2, &self.account)

    cdef void deliver_rest(self) noexcept nogil:
        """After the last event: let arrive what is on its way, then end the venues' day."""
        cdef int index
        while self.due.count > 0 and has_room(self):
            finish_step(self)
        if self.due.count == 0:
            for index in range(self.venue_count):
                close_venue(self, <SimulatedVenue>self.venues[index])


cdef inline bint ring_has_room(Ring* ring) noexcept nogil:
    cdef void* slot
    return ring_claim(ring, 1, sizeof(OrderCommand), &slot) > 0


# Free functions, because a nogil block may pass a borrowed object on but not name it.

cdef inline void handle(TickPath loop, SimulatedVenue venue, const MarketEvent* event) noexcept nogil:
    """Book, our resting orders there, features."""
    venue_apply(venue, event)
    if venue.out_count > 0:
        loop.collect(venue)
    if event.kind == EVENT_TRADE:
        features_trade(&loop.features, event.side)
    else:
        features_update(
            &loop.features, event.venue_id, venue.book.bid_price_ticks, venue.book.bid_size_lots,
            venue.book.ask_price_ticks, venue.book.ask_size_lots, event.ts_ns,
        )


cdef inline void* book_of(SimulatedVenue venue) noexcept nogil:
    return <void*>venue.book


cdef OwnQueue best_queue(TickPath loop, int side) noexcept nogil:
    """Describe the queue before our best resting order of a side, over all venues."""
    cdef OwnQueue found, best
    cdef int32_t price = 0, best_price = 0
    cdef int venue
    best.ahead_lots = best.level_lots = 0
    for venue in range(loop.venue_count):
        if queue_of(<SimulatedVenue>loop.venues[venue], side, &price, &found) and (
            best.level_lots == 0 or side * (<int64_t>price - best_price) > 0
        ):
            best = found
            best_price = price
    return best


cdef inline bint queue_of(SimulatedVenue venue, int side, int32_t* price, OwnQueue* out) noexcept nogil:
    return venue.queue_at_best(side, price, &out.ahead_lots, &out.level_lots)


cdef inline int64_t order_delay(
    SimulatedVenue venue, uint64_t seed, const OrderCommand* command
) noexcept nogil:
    cdef uint64_t bits = draw64(seed, command.client_order_id, STREAM_LATENCY + command.action)
    cdef int64_t jitter = <int64_t>(bits & 0xFFFF)
    return venue.rules.order_latency_ns + ((venue.rules.order_jitter_ns * jitter) >> 16)


cdef inline void arrive(TickPath loop, SimulatedVenue venue, const OrderCommand* command) noexcept nogil:
    cdef uint32_t resting = venue.resting_count
    venue.arrive(command, loop.stream_ns, loop.features.mid_x2)
    if venue.resting_count > resting and command.time_in_force == TIF_GTD:
        # An order can reach its venue after its time; the clock must not run back to it.
        loop.due.push(
            max(command.expire_ns, loop.stream_ns), DUE_EXPIRY, command.client_order_id, command.venue_id
        )
    loop.collect(venue)


cdef inline void expire(TickPath loop, SimulatedVenue venue, uint64_t client_order_id) noexcept nogil:
    venue.expire(client_order_id, loop.stream_ns, REASON_TIME)
    loop.collect(venue)


cdef inline void close_venue(TickPath loop, SimulatedVenue venue) noexcept nogil:
    venue.end_of_data(loop.stream_ns)
    loop.collect(venue)


cdef void finish_step(TickPath loop) noexcept nogil:
    """After the last event: deliver what is under way, start nothing new."""
    cdef DueItem item
    cdef OrderCommand command
    cdef ExecutionReport report
    loop.due.pop(&item)
    if item.kind == DUE_ARRIVAL:
        loop.due.take_payload(item.place, &command)
        set_clock(loop, item.due_ns)
        arrive(loop, <SimulatedVenue>loop.venues[command.venue_id], &command)
    elif item.kind == DUE_REPORT:
        loop.due.take_payload(item.place, &report)
        set_clock(loop, item.due_ns)
        loop.receive(&report)

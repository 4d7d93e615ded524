"""The event loop: one engine, from events in its ring to orders at its venues.

Over 400 lines because the path (take an event, do what is due, send, receive) and the buffers Python
drains between batches share one state; apart, each half would reach into the other's.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

from ext.feature_set cimport FeatureSet, OwnQueue
from ext.features cimport FEATURE_COUNT, features_fill, features_trade, features_update
from ext.histogram cimport Histogram
from ext.journal cimport JournalBuffer, journal_append, journal_has_room
from ext.layout cimport (
    ACTION_NEW, EVENT_TRADE, FLAG_LAST_IN_PACKET, JOURNAL_ORDER, JOURNAL_REFUSAL, JOURNAL_REPORT,
    REASON_CAPACITY, REASON_TIME, REPORT_FILL, REPORT_REJECTED, TIF_GTD, ExecutionReport,
    MarketEvent, OrderCommand, check, monotonic_ns,
)
from ext.event_array import EVENT_DTYPE
from ext.ring cimport (
    RING_DROP_OLDEST, ring_claim, ring_is_drained, ring_peek, ring_push, ring_relax, ring_release,
)
from ext.ring_buffer cimport SpscRing
from ext.risk_gate cimport RiskGate
from ext.rng cimport draw64
from ext.schedule cimport (
    DUE_ARRIVAL, DUE_EQUITY, DUE_EXPIRY, DUE_REPORT, DUE_TIMER, NO_PLACE, DueItem, Schedule,
)
from ext.signal_source cimport SignalSource
from ext.sim_venue cimport SimulatedVenue, venue_apply

cnp.import_array()

# Room in the journal ahead of every due item and of every event an agent is called for; run() returns
# early to be drained when less is free. The worst one item can write is a strategy's: a report, and two
# callbacks of 1,024 commands with at most an order and a refusal each, 4,097 records. An executor's is
# below 100: a parent, a decision of 16 legs, two sweeps of 16, a reward, and the same for the close-out.
# Arrivals and expiries write nothing: whatever they trade comes back as one report, one item, per fill.
cdef enum:
    JOURNAL_RESERVE = 8192
    EVENT_BATCH = 512
    STREAM_LATENCY = 4001

SAMPLE_DTYPE = np.dtype(
    [("ts_ns", "<i8"), ("label_ts_ns", "<i8"), ("move_x2", "<i8"), ("features", "<f4", (FEATURE_COUNT,))]
)
EQUITY_DTYPE = np.dtype([
    ("ts_ns", "<i8"), ("mid_x2", "<i8"), ("position_lots", "<i8"), ("cash_ticklots", "<i8"),
    ("fee_nano", "<i8"), ("filled_lots", "<i8"),
])


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


@cython.final
@cython.auto_pickle(False)
cdef class EventLoop:
    """One engine: a ring of events, venues with books, features, an agent, a risk gate, a journal.

    Parameters
    ----------
    ring : SpscRing
        Of market events; its consumer's end, and not one that drops the oldest.
    venues : sequence of SimulatedVenue
        ``venue_id`` equals the position.
    agent : Agent
    gate : RiskGate
    journal : JournalBuffer
    instrument_id : int
        One loop serves one instrument.
    decision_ns : int
        Our own time from tick to order in simulated time, without the model.
    seed : int
        Of the latency jitter.
    order_rings : sequence of SpscRing, optional
        One per venue, of ORDER_DTYPE. Each command that leaves for a venue is published there too, for
        whoever carries it on; a command that finds its ring full is refused, reason CAPACITY. The simulated
        venues answer all the same.
    live : bool
        `recv_ns` of the events is the monotonic clock when they were due; `tick_to_order` counts from it.
    """

    def __cinit__(
        self, *, SpscRing ring not None, venues, Agent agent not None, RiskGate gate not None,
        JournalBuffer journal not None, int instrument_id=0, int64_t decision_ns=2_000, uint64_t seed=1,
        order_rings=(), bint live=False,
    ):
        cdef SimulatedVenue venue
        if not 1 <= len(venues) <= VENUE_LIMIT:
            raise ValueError(f"a loop has 1 to {VENUE_LIMIT} venues, was {len(venues)}")
        if journal.capacity < 2 * JOURNAL_RESERVE:
            raise ValueError(
                f"the journal buffer needs {2 * JOURNAL_RESERVE} records, was {journal.capacity}"
            )
        if agent.loop is not None:
            raise ValueError("an agent serves one loop")
        agent.check_venues(<int>len(venues))
        if not ring.consumes or ring.dtype != EVENT_DTYPE:
            raise ValueError(f"a loop consumes a ring of market events, was a ring of {ring.dtype}")
        if ring.ring.policy == RING_DROP_OLDEST:
            raise ValueError("a loop reads events in place, a ring that drops the oldest has none to lend")
        if len(order_rings) not in (0, len(venues)):
            raise ValueError(f"order_rings must be one per venue, was {len(order_rings)} for {len(venues)}")
        self.order_ring_list = list(order_rings)
        for index, ring_out in enumerate(self.order_ring_list):
            self.order_rings[index] = order_ring(ring_out)
        self.live = live
        self.ring = ring
        self.venue_list = list(venues)
        self.venue_count = <int>len(self.venue_list)
        self.feed_ns = 0
        for index, venue in enumerate(self.venue_list):
            if venue.venue_id != index:
                raise ValueError(f"venue {index} must carry its position as venue_id, was {venue.venue_id}")
            self.venues[index] = <void*>venue
            self.feed_ns = max(self.feed_ns, venue.rules.feed_latency_ns)
        self.gate = gate
        self.journal = journal
        self.agent = agent
        agent.loop = self
        self.due = Schedule()
        self.tick_to_order = Histogram()
        self.source = SignalSource()
        self.instrument_id = instrument_id
        self.decision_ns = decision_ns
        self.latency_seed = seed
        self.features.venue_count = self.venue_count
        self.stream_ns = self.now_ns = INT64_MIN
        self.signal_update = 0xFFFFFFFFFFFFFFFF
        self.sample_capacity = 1 << 14
        self.samples = <FeatureSample*>calloc(self.sample_capacity, sizeof(FeatureSample))
        self.equity_capacity = 1 << 14
        self.equity = <EquitySample*>calloc(self.equity_capacity, sizeof(EquitySample))
        self.fill_capacity = 1 << 14
        self.fills = <ExecutionReport*>calloc(self.fill_capacity, sizeof(ExecutionReport))
        if self.samples == NULL or self.equity == NULL or self.fills == NULL:
            raise MemoryError("EventLoop")

    def __dealloc__(self):
        free(self.samples)
        free(self.equity)
        free(self.fills)

    # The path.

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
            if not self.has_sample_room():
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
                    or (self.agent.wants_events and not self.has_room())
                ):
                    self.stalled = True
                    run = index
                    break
                handle(self, <SimulatedVenue>self.venues[event.venue_id], event)
                self.sample_left -= 1
                if self.sample_left == 0:
                    self.sample()
                if self.agent.wants_events and event.flags & FLAG_LAST_IN_PACKET:
                    self.tick_ns = event.recv_ns if self.live else monotonic_ns()
                    self.set_clock(event.ts_ns)
                    self.agent.on_event(event)
            if run > 0:
                # Items due before the event that waits may have moved the clock past the last one handled.
                self.stream_ns = max(self.stream_ns, first[run - 1].ts_ns)
                ring_release(self.ring.ring, run)
                handled += run
        self.events += handled
        return handled

    cdef bint has_room(self) noexcept nogil:
        """Tell whether one more item, whatever it is, can be written down."""
        return (
            journal_has_room(self.journal, JOURNAL_RESERVE)
            and self.equity_count < self.equity_capacity
            and self.fill_count < self.fill_capacity
        )

    cdef bint has_sample_room(self) noexcept nogil:
        """Tell whether each event of a batch may add a training sample."""
        return self.sample_count + EVENT_BATCH < self.sample_capacity

    cdef void set_clock(self, int64_t stream_ns) noexcept nogil:
        self.stream_ns = stream_ns
        self.now_ns = stream_ns + self.feed_ns

    cdef bint advance(self, int64_t until_ns) noexcept nogil:
        """Do what is due before the event at `until_ns`; False when a buffer has to be drained first."""
        cdef DueItem item
        cdef OrderCommand command
        cdef ExecutionReport report
        if not self.live:
            self.tick_ns = monotonic_ns()
        while self.due.next_ns < until_ns:
            if not self.has_room():
                return False
            self.due.pop(&item)
            self.set_clock(item.due_ns)
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

    cdef void schedule(self, int64_t local_ns, uint64_t tag) noexcept nogil:
        """Call the agent's `on_timer(tag)` when our clock says `local_ns`."""
        self.due.push(local_ns - self.feed_ns, DUE_TIMER, tag, NO_PLACE)

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
                self.overflowed = True
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
            if self.record_fills:
                self.keep_fill(report)
        elif report.kind == REPORT_REJECTED:
            self.refused[report.reason & (REASON_LIMIT - 1)] += 1
        self.agent.on_report(report)

    cdef void keep_fill(self, const ExecutionReport* report) noexcept nogil:
        check(self.fill_count < self.fill_capacity, "fills are drained before their buffer is full")
        if self.fill_count == self.fill_capacity:
            self.overflowed = True
            return
        self.fills[self.fill_count] = report[0]
        self.fill_count += 1

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

    cdef void sample(self) noexcept nogil:
        """Open a training sample, or close the open one with the move that followed it."""
        cdef FeatureSample* sample = &self.samples[self.sample_count]
        if not self.features.two_sided:
            self.sample_left = self.sample_stride
            self.sample_open = False
        elif self.sample_open:
            sample.label_ts_ns = self.features.last_ts_ns
            sample.move_x2 = self.features.mid_x2 - sample.move_x2
            self.sample_count += 1
            self.sample_open = False
            self.sample_left = self.sample_stride - self.sample_horizon
        else:
            sample.ts_ns = self.features.last_ts_ns
            sample.move_x2 = self.features.mid_x2
            features_fill(&self.features, sample.features)
            self.sample_open = True
            self.sample_left = self.sample_horizon

    cdef void sample_equity(self) noexcept nogil:
        cdef EquitySample* sample = &self.equity[self.equity_count]
        if self.features.updates == 0:
            return
        if self.equity_count == self.equity_capacity:
            self.overflowed = True
            return
        sample.ts_ns = self.now_ns
        sample.mid_x2 = self.features.mid_x2
        sample.position_lots = self.account.position_lots
        sample.cash_ticklots = self.account.cash_ticklots
        sample.fee_nano = self.account.fee_nano
        sample.filled_lots = self.account.filled_lots
        self.equity_count += 1

    # Python's side, between batches.

    def configure(self, *, source=None, model_ns=None, sample_stride=None, sample_horizon=None,
                  equity_interval_ns=None, record_fills=None):
        """Set what may change between calls of `run`; None leaves a setting as it is.

        Parameters
        ----------
        source : SignalSource
        model_ns : int
            Latency charged per use of the forecast, from a stored profile.
        sample_stride, sample_horizon : int
            Take a training sample every so many events, labelled with the move of the mid over the
            next `sample_horizon` events (horizon < stride).
        equity_interval_ns : int
        record_fills : bool
        """
        if source is not None:
            if (<SignalSource?>source).feature_count not in (0, FEATURE_COUNT):
                raise ValueError(f"a signal must read {FEATURE_COUNT} features, was {source.feature_count}")
            self.source = source
            self.signal_update = 0xFFFFFFFFFFFFFFFF
        if model_ns is not None:
            self.model_ns = model_ns
        if sample_stride is not None:
            if not 0 < sample_horizon < sample_stride:
                raise ValueError(f"sample_horizon must be below sample_stride, was {sample_horizon}")
            self.sample_stride = self.sample_left = sample_stride
            self.sample_horizon = sample_horizon
        if equity_interval_ns is not None:
            if equity_interval_ns <= 0:
                raise ValueError(f"equity_interval_ns must be positive, was {equity_interval_ns}")
            if self.equity_ns == 0:
                self.due.push(0, DUE_EQUITY, 0, NO_PLACE)
            self.equity_ns = equity_interval_ns
        if record_fills is not None:
            self.record_fills = record_fills

    def run(self, size_t count_max=16_384):
        """Handle up to `count_max` events that wait in the ring; return how many.

        Returns early when the journal, the samples, the fills or the equity curve have to be drained
        first, and 1 if that was before the first event: 0 is returned only when the ring is empty.
        `events` counts exactly.

        Raises
        ------
        RuntimeError
            Called again without the drain that the last call returned for.
        AssertionError
            A record was lost; the reserve is too small, or memory has run out.
        """
        cdef size_t handled
        if self.stalled and not (self.has_room() and self.has_sample_room()):
            raise RuntimeError("drain the journal, samples, fills and equity before run is called again")
        with nogil:
            if not self.started:
                self.started = True
                self.agent.on_start()
            handled = self.drain(count_max)
        self.raise_overflow()
        return 1 if handled == 0 and self.stalled else handled

    def run_live(self):
        """Handle events as they come, spinning while there are none, until the ring is closed and empty.

        Returns
        -------
        bool
            False where a buffer has to be drained first and `run_live` called again.

        Raises
        ------
        RuntimeError, AssertionError
            As `run`.
        """
        if self.stalled and not (self.has_room() and self.has_sample_room()):
            raise RuntimeError("drain the journal, samples, fills and equity before run_live is called again")
        with nogil:
            if not self.started:
                self.started = True
                self.agent.on_start()
            while True:
                if self.drain(EVENT_BATCH) == 0:
                    if self.stalled or ring_is_drained(self.ring.ring):
                        break
                    ring_relax()
                elif self.stalled:
                    break
        self.raise_overflow()
        return not self.stalled

    cdef raise_overflow(self):
        if self.overflowed:
            raise AssertionError("the loop reserves room for what it records, was an overflow")

    def finish(self):
        """End the run: what is on its way arrives, what rests is cancelled, answers are received.

        May be called when the ring is empty; returns True when all is done, False when the journal
        and the other buffers have to be drained and `finish` called again.
        """
        cdef int index
        self.ended = True
        with nogil:
            while self.due.count > 0 and self.has_room():
                finish_step(self)
            if self.due.count == 0:
                for index in range(self.venue_count):
                    close_venue(self, <SimulatedVenue>self.venues[index])
        self.raise_overflow()
        if not self.has_room():
            return False
        if self.due.count == 0 and self.stream_ns != INT64_MIN:
            # Events that nobody was called for have moved the stream but not our clock.
            self.set_clock(self.stream_ns)
            if self.equity_ns:
                self.sample_equity()
        return self.due.count == 0

    def take_samples(self):
        """Return the finished training samples as a SAMPLE_DTYPE array and forget them."""
        cdef FeatureSample keep
        out = copy_records(self.samples, self.sample_count, SAMPLE_DTYPE)
        keep = self.samples[self.sample_count]
        self.sample_count = 0
        self.samples[0] = keep      # one may be open
        return out

    def take_equity(self):
        """Return the equity samples as an EQUITY_DTYPE array and forget them."""
        out = copy_records(self.equity, self.equity_count, EQUITY_DTYPE)
        self.equity_count = 0
        return out

    def take_fills(self):
        """Return the fills as raw bytes of ExecutionReport records, shape (n, 64), and forget them."""
        out = copy_records(self.fills, self.fill_count, np.dtype("V64"))
        self.fill_count = 0
        return out

    @property
    def venues(self):
        """The venues, in order."""
        return tuple(self.venue_list)

    @property
    def totals(self):
        """Counts of the run so far."""
        return {
            "events": self.events, "orders": self.account.orders, "fills": self.account.fills,
            "filled_lots": self.account.filled_lots, "position_lots": self.account.position_lots,
            "cash_ticklots": self.account.cash_ticklots, "fee_nano": self.account.fee_nano,
            "signals": self.signals, "mid_x2": self.features.mid_x2,
        }

    @property
    def foreign_events(self):
        """Events of venues this loop does not have: left out and counted."""
        return self.foreign

    @property
    def refusals(self):
        """Refused orders by Reason code, ours and the venues'."""
        return {code: self.refused[code] for code in range(REASON_LIMIT) if self.refused[code]}

    @property
    def signal_error(self):
        """The exception that stopped the forecast, or None."""
        return getattr(self.source, "error", None)


cdef Ring* order_ring(SpscRing ring) except NULL:
    """Return a venue's ring of commands, checked."""
    if not ring.produces or ring.ring.record_bytes != sizeof(OrderCommand):
        raise ValueError(f"a venue's ring takes orders, was a ring of {ring.dtype}")
    if ring.ring.policy == RING_DROP_OLDEST:
        raise ValueError("a venue's ring must not drop an order")
    return ring.ring


cdef inline bint ring_has_room(Ring* ring) noexcept nogil:
    cdef void* slot
    return ring_claim(ring, 1, sizeof(OrderCommand), &slot) > 0


cdef copy_records(const void* first, uint32_t count, dtype):
    cdef cnp.ndarray out = np.empty(count, dtype=dtype)
    memcpy(cnp.PyArray_DATA(out), first, <size_t>count * dtype.itemsize)
    return out


# Free functions, because a nogil block may pass a borrowed object on but not name it.

cdef inline void handle(EventLoop loop, SimulatedVenue venue, const MarketEvent* event) noexcept nogil:
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


cdef OwnQueue best_queue(EventLoop loop, int side) noexcept nogil:
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


cdef inline void arrive(EventLoop loop, SimulatedVenue venue, const OrderCommand* command) noexcept nogil:
    cdef uint32_t resting = venue.resting_count
    venue.arrive(command, loop.stream_ns, loop.features.mid_x2)
    if venue.resting_count > resting and command.time_in_force == TIF_GTD:
        # An order can reach its venue after its time; the clock must not run back to it.
        loop.due.push(
            max(command.expire_ns, loop.stream_ns), DUE_EXPIRY, command.client_order_id, command.venue_id
        )
    loop.collect(venue)


cdef inline void expire(EventLoop loop, SimulatedVenue venue, uint64_t client_order_id) noexcept nogil:
    venue.expire(client_order_id, loop.stream_ns, REASON_TIME)
    loop.collect(venue)


cdef inline void close_venue(EventLoop loop, SimulatedVenue venue) noexcept nogil:
    venue.end_of_data(loop.stream_ns)
    loop.collect(venue)


cdef void finish_step(EventLoop loop) noexcept nogil:
    """After the last event: deliver what is under way, start nothing new."""
    cdef DueItem item
    cdef OrderCommand command
    cdef ExecutionReport report
    loop.due.pop(&item)
    if item.kind == DUE_ARRIVAL:
        loop.due.take_payload(item.place, &command)
        loop.set_clock(item.due_ns)
        arrive(loop, <SimulatedVenue>loop.venues[command.venue_id], &command)
    elif item.kind == DUE_REPORT:
        loop.due.take_payload(item.place, &report)
        loop.set_clock(item.due_ns)
        loop.receive(&report)

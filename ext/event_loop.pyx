"""The event loop: one engine, as Python makes, feeds and drains it; its path is `ext/tick_path.pyx`."""

cimport cython
from libc.stdint cimport INT64_MIN, int64_t, uint64_t

from ext.features cimport FEATURE_COUNT
from ext.histogram cimport Histogram
from ext.journal cimport JournalBuffer
from ext.layout cimport OrderCommand
from ext.loop_records cimport LoopRecords
from ext.ring cimport RING_DROP_OLDEST, Ring, ring_is_drained, ring_relax
from ext.ring_buffer cimport SpscRing
from ext.risk_gate cimport RiskGate
from ext.schedule cimport DUE_EQUITY, NO_PLACE, Schedule
from ext.signal_source cimport SignalSource
from ext.sim_venue cimport SimulatedVenue
from ext.tick_path cimport (
    EVENT_BATCH, JOURNAL_RESERVE, REASON_LIMIT, VENUE_LIMIT, Agent, TickPath, has_room, has_sample_room,
    set_clock,
)

from ext.event_array import EVENT_DTYPE


@cython.final
@cython.auto_pickle(False)
cdef class EventLoop(TickPath):
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
        self.records = LoopRecords()

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
            self.records.sample_stride = self.records.sample_left = sample_stride
            self.records.sample_horizon = sample_horizon
        if equity_interval_ns is not None:
            if equity_interval_ns <= 0:
                raise ValueError(f"equity_interval_ns must be positive, was {equity_interval_ns}")
            if self.equity_ns == 0:
                self.due.push(0, DUE_EQUITY, 0, NO_PLACE)
            self.equity_ns = equity_interval_ns
        if record_fills is not None:
            self.records.record_fills = record_fills

    def run(self, size_t count_max=16_384):
        """Handle up to `count_max` events that wait in the ring; return how many.

        Returns early when the journal, the samples, the fills or the equity curve have to be drained
        first, and 1 if that was before the first event: 0 is returned only when the ring is empty.
        `events` counts exactly.

        Raises
        ------
        RuntimeError
            Called again without the drain that the last call returned for, or while the loop is at work: from
            another thread, or from a callback.
        AssertionError
            A record was lost; the reserve is too small, or memory has run out.
        """
        cdef size_t handled
        self.require_idle(True)
        self.busy = True
        with nogil:
            self.start()
            handled = self.drain(count_max)
        self.busy = False
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
        self.require_idle(True)
        self.busy = True
        with nogil:
            self.start()
            while True:
                if self.drain(EVENT_BATCH) == 0:
                    if self.stalled or ring_is_drained(self.ring.ring):
                        break
                    ring_relax()
                elif self.stalled:
                    break
        self.busy = False
        self.raise_overflow()
        return not self.stalled

    cdef int require_idle(self, bint drained) except -1:
        """Refuse a second thread, a callback that calls its own loop and, if asked, a loop not drained."""
        if self.busy:
            raise RuntimeError("the loop is at work already, in another thread or for the callback that asks")
        if drained and self.stalled and not (has_room(self) and has_sample_room(self)):
            raise RuntimeError("drain the journal, samples, fills and equity before the loop goes on")
        return 0

    cdef raise_overflow(self):
        if self.records.overflowed:
            raise AssertionError("the loop reserves room for what it records, was an overflow")

    def finish(self):
        """End the run: what is on its way arrives, what rests is cancelled, answers are received.

        May be called when the ring is empty; returns True when all is done, False when the journal
        and the other buffers have to be drained and `finish` called again.
        """
        self.require_idle(False)
        self.ended = True
        self.busy = True
        with nogil:
            self.deliver_rest()
        self.busy = False
        self.raise_overflow()
        if not has_room(self):
            return False
        if self.due.count == 0 and self.stream_ns != INT64_MIN:
            # Events that nobody was called for have moved the stream but not our clock.
            set_clock(self, self.stream_ns)
            if self.equity_ns:
                self.sample_equity()
        return self.due.count == 0

    def take_samples(self):
        """Return the finished training samples as a SAMPLE_DTYPE array and forget them."""
        return self.records.take_samples()

    def take_equity(self):
        """Return the equity samples as an EQUITY_DTYPE array and forget them."""
        return self.records.take_equity()

    def take_fills(self):
        """Return the fills as raw bytes of ExecutionReport records, shape (n, 64), and forget them."""
        return self.records.take_fills()

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

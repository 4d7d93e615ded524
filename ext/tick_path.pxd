"""The tick-to-order path: ring -> venue book -> features -> agent -> risk gate -> journal -> venue.

Two clocks. The stream clock is the venues' own: events are applied in its order. Our clock runs
`feed_ns` behind it, the slowest venue's feed latency: what an agent sees when our clock says t is the
market up to t - feed_ns, never later, so no decision can look ahead. Orders reach a venue after its
order latency, answers reach us after its answer latency; both channels keep their order.

At one instant the market comes first: events up to and including ts are applied before anything of
ours that is due at ts (docs/adr/0003-one-pass-two-clocks.md).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from ext.feature_set cimport FeatureSet
from ext.features cimport FEATURE_COUNT, FeatureState
from ext.histogram cimport Histogram
from ext.journal cimport JournalBuffer, journal_has_room
from ext.layout cimport ExecutionReport, MarketEvent, OrderCommand
from ext.loop_records cimport Account, LoopRecords, records_have_room, records_have_sample_room
from ext.ring cimport Ring
from ext.ring_buffer cimport SpscRing
from ext.risk_gate cimport RiskGate
from ext.schedule cimport Schedule
from ext.signal_source cimport SignalSource
from ext.sim_venue cimport SimulatedVenue

# Room in the journal ahead of every due item and of every event an agent is called for; run() returns
# early to be drained when less is free. The worst one item can write is a strategy's: a report, and two
# callbacks of 1,024 commands with at most an order and a refusal each, 4,097 records. An executor's is
# below 100: a parent, a decision of 16 legs, two sweeps of 16, a reward, and the same for the close-out.
# Arrivals and expiries write nothing: whatever they trade comes back as one report, one item, per fill.
cdef enum:
    VENUE_LIMIT = 16
    REASON_LIMIT = 32
    JOURNAL_RESERVE = 8192
    EVENT_BATCH = 512


cdef class TickPath


cdef class Agent:
    """Whoever decides. Called by the loop; answers by `loop.send` and `loop.schedule`."""
    cdef TickPath loop
    cdef bint wants_events
    cdef check_venues(self, int venue_count)
    cdef void on_start(self) noexcept nogil
    cdef void on_event(self, const MarketEvent* event) noexcept nogil
    cdef void on_timer(self, uint64_t tag) noexcept nogil
    cdef void on_report(self, const ExecutionReport* report) noexcept nogil


cdef class TickPath:
    cdef readonly SpscRing ring
    cdef readonly RiskGate gate
    cdef readonly JournalBuffer journal
    cdef readonly Agent agent
    cdef readonly Schedule due
    cdef readonly Histogram tick_to_order
    cdef SignalSource source
    cdef list venue_list
    cdef void* venues[VENUE_LIMIT]         # borrowed from venue_list
    cdef readonly int venue_count
    cdef FeatureState features
    cdef Account account
    cdef LoopRecords records
    cdef readonly uint16_t instrument_id
    cdef readonly int64_t feed_ns
    cdef readonly int64_t decision_ns      # our own time from tick to order, without the model
    cdef int64_t model_ns                  # of the model's stored profile
    cdef int64_t pending_model_ns          # charged to the next orders of this decision
    cdef readonly int64_t stream_ns
    cdef readonly int64_t now_ns
    cdef readonly uint64_t events
    cdef readonly uint64_t signals
    cdef ExecutionReport refusal           # the last one; what `send` refused for
    cdef list order_ring_list
    cdef Ring* order_rings[VENUE_LIMIT]    # borrowed; NULL where nobody listens
    cdef bint live                         # tick to order counts from each event's recv_ns
    cdef uint64_t foreign                  # events of venues we do not have
    cdef int64_t[VENUE_LIMIT] order_channel_ns
    cdef int64_t[VENUE_LIMIT] report_channel_ns
    cdef uint64_t[REASON_LIMIT] refused
    cdef uint64_t latency_seed
    cdef int64_t tick_ns                   # wall clock when the current event was taken from the ring
    cdef bint started
    cdef bint ended                        # no event will come any more
    cdef bint stalled                      # the last run stopped for a drain
    cdef float signal_now
    cdef uint64_t signal_update
    cdef float[FEATURE_COUNT] feature_values
    cdef int64_t equity_ns                 # 0: no curve

    cdef void start(self) noexcept nogil
    cdef size_t drain(self, size_t count_max) noexcept nogil
    cdef bint advance(self, int64_t until_ns) noexcept nogil
    cdef uint8_t send(self, OrderCommand* command) noexcept nogil
    cdef uint8_t refuse(self, const OrderCommand* command, uint8_t reason) noexcept nogil
    cdef void collect(self, SimulatedVenue venue) noexcept nogil
    cdef void receive(self, const ExecutionReport* report) noexcept nogil
    cdef void schedule(self, int64_t local_ns, uint64_t tag) noexcept nogil
    cdef float signal(self) noexcept nogil
    cdef void fill_features(self, FeatureSet chosen, float* out) noexcept nogil
    cdef void sample_equity(self) noexcept nogil
    cdef void deliver_rest(self) noexcept nogil


cdef inline void set_clock(TickPath path, int64_t stream_ns) noexcept nogil:
    path.stream_ns = stream_ns
    path.now_ns = stream_ns + path.feed_ns


cdef inline bint has_room(TickPath path) noexcept nogil:
    """Tell whether one more item, whatever it is, can be written down."""
    return journal_has_room(path.journal, JOURNAL_RESERVE) and records_have_room(path.records)


cdef inline bint has_sample_room(TickPath path) noexcept nogil:
    """Tell whether each event of a batch may add a training sample."""
    return records_have_sample_room(path.records, EVENT_BATCH)

"""The tick-to-order path: ring -> venue book -> features -> agent -> risk gate -> journal -> venue.

Two clocks. The stream clock is the venues' own: events are applied in its order. Our clock runs
`feed_ns` behind it, the slowest venue's feed latency: what an agent sees when our clock says t is the
market up to t - feed_ns, never later, so no decision can look ahead. Orders reach a venue after its
order latency, answers reach us after its answer latency; both channels keep their order.

At one instant the market comes first: events up to and including ts are applied before anything of
ours that is due at ts (docs/adr/0003-one-pass-two-clocks.md).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.feature_set cimport FeatureSet
from ext.features cimport FEATURE_COUNT, FeatureState
from ext.histogram cimport Histogram
from ext.journal cimport JournalBuffer
from ext.layout cimport ExecutionReport, MarketEvent, OrderCommand
from ext.ring cimport Ring
from ext.ring_buffer cimport SpscRing
from ext.risk_gate cimport RiskGate
from ext.schedule cimport Schedule
from ext.signal_source cimport SignalSource
from ext.sim_venue cimport SimulatedVenue

cdef enum:
    VENUE_LIMIT = 16
    REASON_LIMIT = 32


cdef class EventLoop


cdef class Agent:
    """Whoever decides. Called by the loop; answers by `loop.send` and `loop.schedule`."""
    cdef EventLoop loop
    cdef bint wants_events
    cdef check_venues(self, int venue_count)
    cdef void on_start(self) noexcept nogil
    cdef void on_event(self, const MarketEvent* event) noexcept nogil
    cdef void on_timer(self, uint64_t tag) noexcept nogil
    cdef void on_report(self, const ExecutionReport* report) noexcept nogil


cdef struct Account:
    int64_t position_lots
    int64_t cash_ticklots          # -price * lots for buys, + for sells
    int64_t fee_nano
    int64_t filled_lots
    int64_t fills
    int64_t orders


cdef struct EquitySample:
    int64_t ts_ns
    int64_t mid_x2
    int64_t position_lots
    int64_t cash_ticklots
    int64_t fee_nano
    int64_t filled_lots


cdef struct FeatureSample:
    int64_t ts_ns
    int64_t label_ts_ns
    int64_t move_x2                # change of the mid (x2) until label_ts_ns
    float[FEATURE_COUNT] features


cdef class EventLoop:
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
    cdef bint overflowed                   # something was not recorded: our bug, run() raises
    cdef float signal_now
    cdef uint64_t signal_update
    cdef float[FEATURE_COUNT] feature_values
    # Training samples and the equity curve, drained by Python between calls of run().
    cdef FeatureSample* samples            # owned
    cdef uint32_t sample_count
    cdef uint32_t sample_capacity
    cdef int64_t sample_stride
    cdef int64_t sample_horizon
    cdef int64_t sample_left
    cdef bint sample_open
    cdef EquitySample* equity              # owned
    cdef uint32_t equity_count
    cdef uint32_t equity_capacity
    cdef int64_t equity_ns
    cdef ExecutionReport* fills            # owned
    cdef uint32_t fill_count
    cdef uint32_t fill_capacity
    cdef bint record_fills

    cdef size_t drain(self, size_t count_max) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef bint has_sample_room(self) noexcept nogil
    cdef raise_overflow(self)
    cdef bint advance(self, int64_t until_ns) noexcept nogil
    cdef void set_clock(self, int64_t stream_ns) noexcept nogil
    cdef uint8_t send(self, OrderCommand* command) noexcept nogil
    cdef uint8_t refuse(self, const OrderCommand* command, uint8_t reason) noexcept nogil
    cdef void fill_features(self, FeatureSet chosen, float* out) noexcept nogil
    cdef void schedule(self, int64_t local_ns, uint64_t tag) noexcept nogil
    cdef void collect(self, SimulatedVenue venue) noexcept nogil
    cdef void receive(self, const ExecutionReport* report) noexcept nogil
    cdef float signal(self) noexcept nogil
    cdef void sample(self) noexcept nogil
    cdef void sample_equity(self) noexcept nogil
    cdef void keep_fill(self, const ExecutionReport* report) noexcept nogil

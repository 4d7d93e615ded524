"""What a simulated venue charges, delays and models: a struct of numbers, read once from a mapping."""

from libc.stdint cimport int32_t, int64_t, uint32_t

cdef enum QueueMode:
    QUEUE_FLOW = 0
    QUEUE_OPTIMISTIC = 1
    QUEUE_PESSIMISTIC = 2

cdef enum:
    OFFER_MAX = 65          # the touch and 64 modelled levels


cdef struct VenueRules:
    int64_t order_latency_ns
    int64_t order_jitter_ns
    int64_t ack_latency_ns
    int64_t feed_latency_ns
    double taker_fee_bps             # of notional; negative is a rebate
    double maker_fee_bps
    double taker_fee_per_lot         # currency
    double maker_fee_per_lot
    uint32_t last_look_q16           # chance that a taker is declined, in 1/65536
    uint32_t last_look_stale_q16     # the same when the quote lags the market to the venue's loss
    uint32_t flow_q16                # FLOW: chance per quote and side of an aggressor at the touch
    int32_t depth_levels             # modelled levels behind a quoted touch; 0 = the book's own depth
    int32_t depth_step_q8            # their distance, as a share of the venue's spread
    int32_t depth_size_q8            # their size, as a share of the touch
    int queue_mode
    int32_t tick_size_ticks          # a resting price is a multiple of it


cdef int read_rules(rules, VenueRules* out) except -1

"""Order-book features, updated per event in O(venues) with no division and no library call.

What an event changes is accumulated here; ratios are formed only when somebody reads the features
(`features_fill`), which happens per decision, not per event. Averages are exponential in event
count, so that no `exp` of elapsed time stands on the path and results repeat bit for bit.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef enum:
    FEATURE_COUNT = 16
    VENUE_MAX = 16


cdef struct VenueTouch:
    int64_t bid_size_lots
    int64_t ask_size_lots
    int64_t ts_ns
    int32_t bid_price_ticks
    int32_t ask_price_ticks


cdef struct FeatureState:
    VenueTouch[VENUE_MAX] touch
    int venue_count
    int32_t best_bid_ticks       # over all venues; valid when two_sided
    int32_t best_ask_ticks
    int64_t mid_x2               # best bid + best ask
    bint two_sided
    uint64_t updates
    int64_t last_ts_ns
    int64_t last_move_ts_ns
    double last_move             # of mid_x2, in half ticks
    double mid_fast              # averages of mid_x2
    double mid_medium
    double mid_slow
    double volatility_fast       # averages of |change of mid_x2|
    double volatility_slow
    double spread_average        # ticks
    double flow_fast             # order-flow imbalance, lots
    double flow_slow
    double depth_average         # lots at one touch side
    double gap_fast_ns           # inter-arrival
    double gap_slow_ns
    double trade_sign


cdef inline double absolute(double value) noexcept nogil:
    return value if value >= 0.0 else -value


cdef inline void consolidate(FeatureState* state) noexcept nogil:
    """Find the best bid over the venues that bid and the best offer over those that offer."""
    cdef int venue
    cdef int32_t bid = -2147483647, ask = 2147483647
    cdef VenueTouch* touch
    for venue in range(state.venue_count):
        touch = &state.touch[venue]
        if touch.bid_size_lots > 0 and touch.bid_price_ticks > bid:
            bid = touch.bid_price_ticks
        if touch.ask_size_lots > 0 and touch.ask_price_ticks < ask:
            ask = touch.ask_price_ticks
    state.best_bid_ticks = bid
    state.best_ask_ticks = ask
    state.two_sided = bid != -2147483647 and ask != 2147483647


cdef inline void features_start(FeatureState* state, int64_t mid_x2, int64_t ts_ns) noexcept nogil:
    """Begin the averages at the first two-sided market instead of at zero."""
    state.mid_x2 = mid_x2
    state.mid_fast = state.mid_medium = state.mid_slow = <double>mid_x2
    state.spread_average = <double>(<int64_t>state.best_ask_ticks - state.best_bid_ticks)
    if state.spread_average < 1.0:
        state.spread_average = 1.0
    state.volatility_fast = state.volatility_slow = 1.0
    state.depth_average = 1.0
    state.gap_fast_ns = state.gap_slow_ns = 1e9
    state.last_move_ts_ns = ts_ns


cdef inline void features_update(
    FeatureState* state, int venue, int32_t bid, int64_t bid_size, int32_t ask, int64_t ask_size,
    int64_t ts_ns,
) noexcept nogil:
    """Take a venue's new touch. Sizes of 0 mean an absent side."""
    cdef VenueTouch* touch = &state.touch[venue]
    cdef double flow = 0.0, move, gap, spread
    cdef int64_t mid_x2
    # Order-flow imbalance of one touch change: Cont, Kukanov & Stoikov (2014), eq. 10. An absent side
    # is infinitely far away: it loses to any price, and what it loses or gains counts in full.
    if touch.bid_size_lots <= 0 or (bid_size > 0 and bid >= touch.bid_price_ticks):
        flow += <double>bid_size
    if bid_size <= 0 or (touch.bid_size_lots > 0 and bid <= touch.bid_price_ticks):
        flow -= <double>touch.bid_size_lots
    if touch.ask_size_lots <= 0 or (ask_size > 0 and ask <= touch.ask_price_ticks):
        flow -= <double>ask_size
    if ask_size <= 0 or (touch.ask_size_lots > 0 and ask >= touch.ask_price_ticks):
        flow += <double>touch.ask_size_lots
    touch.bid_price_ticks = bid
    touch.bid_size_lots = bid_size
    touch.ask_price_ticks = ask
    touch.ask_size_lots = ask_size
    touch.ts_ns = ts_ns
    consolidate(state)
    if not state.two_sided:
        return
    mid_x2 = <int64_t>state.best_bid_ticks + state.best_ask_ticks
    if state.updates == 0:
        features_start(state, mid_x2, ts_ns)
        flow = 0.0
        state.last_ts_ns = ts_ns
    state.updates += 1
    move = <double>(mid_x2 - state.mid_x2)
    if move != 0.0:
        state.last_move = move
        state.last_move_ts_ns = ts_ns
        state.mid_x2 = mid_x2
    state.mid_fast += (<double>mid_x2 - state.mid_fast) * (1.0 / 8.0)
    state.mid_medium += (<double>mid_x2 - state.mid_medium) * (1.0 / 64.0)
    state.mid_slow += (<double>mid_x2 - state.mid_slow) * (1.0 / 512.0)
    state.volatility_fast += (absolute(move) - state.volatility_fast) * (1.0 / 32.0)
    state.volatility_slow += (absolute(move) - state.volatility_slow) * (1.0 / 1024.0)
    spread = <double>(<int64_t>state.best_ask_ticks - state.best_bid_ticks)
    state.spread_average += (spread - state.spread_average) * (1.0 / 256.0)
    state.flow_fast += (flow - state.flow_fast) * (1.0 / 16.0)
    state.flow_slow += (flow - state.flow_slow) * (1.0 / 128.0)
    state.depth_average += (0.5 * <double>(bid_size + ask_size) - state.depth_average) * (1.0 / 256.0)
    gap = <double>(ts_ns - state.last_ts_ns)
    if gap > 6e10:              # a pause is a pause: sixty seconds and a weekend weigh the same
        gap = 6e10
    state.gap_fast_ns += (gap - state.gap_fast_ns) * (1.0 / 16.0)
    state.gap_slow_ns += (gap - state.gap_slow_ns) * (1.0 / 1024.0)
    state.last_ts_ns = ts_ns


cdef inline void features_trade(FeatureState* state, int side) noexcept nogil:
    """Take a print's aggressor side (+1, -1 or 0)."""
    state.trade_sign += (<double>side - state.trade_sign) * (1.0 / 16.0)


cdef void features_fill(const FeatureState* state, float* out) noexcept nogil

"""Order-book features, updated per event with no division, no library call and hardly a branch.

What an event changes is accumulated here; ratios are formed only when somebody reads the features
(`features_fill`), which happens per decision, not per event. Averages are exponential in event
count, so that no `exp` of elapsed time stands on the path and results repeat bit for bit. They lie side
by side, each with a rate and a target of its own, so that compilers update two at a time; one alone
would cost as much as three.

Quotes come in no order that a branch predictor could learn, so selections are masks and conditional
moves. The two branches left ask what usually stays as it is: whether the touch moved at all, and whether
a price did.
"""

from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint64_t

cdef enum:
    FEATURE_COUNT = 16
    VENUE_MAX = 16
    GAP_MAX_NS = 60_000_000_000     # a pause is a pause: sixty seconds and a weekend weigh the same


cdef enum:
    MID_FAST            # of mid_x2
    MID_MEDIUM
    MID_SLOW
    MOVE_FAST           # of |change of mid_x2|
    MOVE_SLOW
    SPREAD              # ticks
    FLOW_FAST           # order-flow imbalance, lots
    FLOW_SLOW
    DEPTH               # lots at one touch side
    GAP_FAST            # inter-arrival, ns
    GAP_SLOW
    MOVE_SQUARE         # of (change of mid_x2)^2
    BID_LOSS            # lots that left the best queue
    ASK_LOSS
    AVERAGES


cdef extern from *:
    """
    static const double average_rates[14] = {
        1.0 / 8, 1.0 / 64, 1.0 / 512, 1.0 / 32, 1.0 / 1024, 1.0 / 256, 1.0 / 16, 1.0 / 128, 1.0 / 256,
        1.0 / 16, 1.0 / 1024, 1.0 / 256, 1.0 / 64, 1.0 / 64,
    };
    """
    const double[AVERAGES] average_rates


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
    int64_t last_move            # of mid_x2, in half ticks
    double[AVERAGES] average
    double trade_sign


cdef inline void consolidate(FeatureState* state) noexcept nogil:
    """Find the best bid over the venues that bid and the best offer over those that offer."""
    cdef int venue
    cdef int32_t bid = -INT32_MAX, ask = INT32_MAX, price
    cdef VenueTouch* touch
    for venue in range(state.venue_count):
        touch = &state.touch[venue]
        price = touch.bid_price_ticks if touch.bid_size_lots > 0 else -INT32_MAX
        bid = max(bid, price)
        price = touch.ask_price_ticks if touch.ask_size_lots > 0 else INT32_MAX
        ask = min(ask, price)
    state.best_bid_ticks = bid
    state.best_ask_ticks = ask
    state.two_sided = bid != -INT32_MAX and ask != INT32_MAX


cdef inline void features_start(FeatureState* state, int64_t mid_x2, int64_t ts_ns) noexcept nogil:
    """Begin the averages at the first two-sided market instead of at zero."""
    state.mid_x2 = mid_x2
    state.average[MID_FAST] = state.average[MID_MEDIUM] = state.average[MID_SLOW] = <double>mid_x2
    state.average[SPREAD] = max(<double>(<int64_t>state.best_ask_ticks - state.best_bid_ticks), 1.0)
    state.average[MOVE_FAST] = state.average[MOVE_SLOW] = state.average[MOVE_SQUARE] = 1.0
    state.average[DEPTH] = 1.0
    state.average[GAP_FAST] = state.average[GAP_SLOW] = 1e9
    state.last_ts_ns = state.last_move_ts_ns = ts_ns


cdef inline int64_t queue_flow(
    bint stands_or_better, bint stands_or_worse, int64_t size, int64_t size_before
) noexcept nogil:
    """Return what a change brought one side's best queue: Cont, Kukanov & Stoikov (2014), eq. 10."""
    return (size & -<int64_t>stands_or_better) - (size_before & -<int64_t>stands_or_worse)


cdef inline void average(
    FeatureState* state, int64_t move, int64_t bid_flow, int64_t ask_flow, int64_t depth_x2, int64_t gap_ns
) noexcept nogil:
    """Move every average towards its new value."""
    # In a market that stands still averages of changes would halve until they are subnormal, and arithmetic
    # on those is a hundred times slower. What is far below any change keeps them off.
    cdef double nothing = 1e-100
    cdef double[AVERAGES] target
    cdef double size = <double>(move if move >= 0 else -move)
    cdef int lane
    target[MID_FAST] = target[MID_MEDIUM] = target[MID_SLOW] = <double>state.mid_x2
    target[MOVE_FAST] = target[MOVE_SLOW] = size + nothing
    target[MOVE_SQUARE] = size * size + nothing
    target[SPREAD] = <double>(<int64_t>state.best_ask_ticks - state.best_bid_ticks)
    target[FLOW_FAST] = target[FLOW_SLOW] = <double>(bid_flow - ask_flow) + nothing
    target[DEPTH] = 0.5 * <double>depth_x2 + nothing
    target[GAP_FAST] = target[GAP_SLOW] = <double>gap_ns + nothing
    target[BID_LOSS] = <double>max(-bid_flow, <int64_t>0) + nothing
    target[ASK_LOSS] = <double>max(-ask_flow, <int64_t>0) + nothing
    for lane in range(AVERAGES):
        state.average[lane] += (target[lane] - state.average[lane]) * average_rates[lane]


cdef inline void features_update(
    FeatureState* state, int venue, int32_t bid, int64_t bid_size, int32_t ask, int64_t ask_size,
    int64_t ts_ns,
) noexcept nogil:
    """Take a venue's new touch. Sizes of 0 mean an absent side."""
    cdef VenueTouch* touch = &state.touch[venue]
    cdef int64_t bid_flow = 0, ask_flow = 0, mid_x2, move, moved
    cdef bint had_bid = touch.bid_size_lots > 0, has_bid = bid_size > 0
    cdef bint had_ask = touch.ask_size_lots > 0, has_ask = ask_size > 0
    cdef bint same_prices = (
        (bid == touch.bid_price_ticks) & (ask == touch.ask_price_ticks)
        & (had_bid == has_bid) & (had_ask == has_ask)
    )
    touch.ts_ns = ts_ns
    if not same_prices or bid_size != touch.bid_size_lots or ask_size != touch.ask_size_lots:
        # An absent side is infinitely far away: it loses to any price, and what it loses or gains counts
        # in full.
        bid_flow = queue_flow(
            (not had_bid) | (has_bid & (bid >= touch.bid_price_ticks)),
            (not has_bid) | (had_bid & (bid <= touch.bid_price_ticks)), bid_size, touch.bid_size_lots,
        )
        ask_flow = queue_flow(
            (not had_ask) | (has_ask & (ask <= touch.ask_price_ticks)),
            (not has_ask) | (had_ask & (ask >= touch.ask_price_ticks)), ask_size, touch.ask_size_lots,
        )
        touch.bid_price_ticks = bid
        touch.bid_size_lots = bid_size
        touch.ask_price_ticks = ask
        touch.ask_size_lots = ask_size
        if not same_prices:
            consolidate(state)
    if not state.two_sided:
        return
    mid_x2 = <int64_t>state.best_bid_ticks + state.best_ask_ticks
    if state.updates == 0:
        features_start(state, mid_x2, ts_ns)
        bid_flow = ask_flow = 0
    state.updates += 1
    move = mid_x2 - state.mid_x2
    moved = -<int64_t>(move != 0)
    state.mid_x2 = mid_x2
    state.last_move = (move & moved) | (state.last_move & ~moved)
    state.last_move_ts_ns = (ts_ns & moved) | (state.last_move_ts_ns & ~moved)
    average(
        state, move, bid_flow, ask_flow, bid_size + ask_size,
        min(ts_ns - state.last_ts_ns, <int64_t>GAP_MAX_NS),
    )
    state.last_ts_ns = ts_ns


cdef inline void features_trade(FeatureState* state, int side) noexcept nogil:
    """Take a print's aggressor side (+1, -1 or 0)."""
    state.trade_sign += (<double>side + 1e-100 - state.trade_sign) * (1.0 / 16.0)


cdef void features_fill(const FeatureState* state, float* out) noexcept nogil

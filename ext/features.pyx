"""Order-book features: the names, the read-out and a Python handle for tests and research."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

import numpy as np

from ext.features cimport (
    DEPTH, FEATURE_COUNT, FLOW_FAST, FLOW_SLOW, GAP_FAST, GAP_SLOW, MID_FAST, MID_MEDIUM, MID_SLOW, MOVE_FAST,
    MOVE_SLOW, SPREAD, VENUE_MAX, FeatureState, VenueTouch, features_trade, features_update,
)

cnp.import_array()

FEATURE_NAMES = (
    "imbalance_all",          # (bid - ask) / (bid + ask) over the touches of all venues
    "imbalance_best",         # the same over the venues at the best prices only
    "microprice",             # size-weighted mid minus mid, in average spreads
    "flow_fast",              # order-flow imbalance over ~16 events, in average depths
    "flow_slow",              # over ~128 events
    "reversion_fast",         # mid minus its average over ~8 events, in average moves
    "reversion_medium",       # ~64 events
    "reversion_slow",         # ~512 events
    "volatility_ratio",       # fast / slow average move
    "spread_ratio",           # spread / average spread
    "volatility",             # slow average move, in average spreads
    "arrival_ratio",          # fast / slow inter-arrival time
    "trade_sign",             # average aggressor side over ~16 prints
    "dispersion",             # highest minus lowest venue mid, in average spreads
    "last_move",              # sign of the last move of the mid
    "still_time",             # since that move, in average inter-arrival times, capped at 16
)
assert len(FEATURE_NAMES) == FEATURE_COUNT


cdef inline double clip(double value, double bound) noexcept nogil:
    return bound if value > bound else (-bound if value < -bound else value)


cdef void features_fill(const FeatureState* state, float* out) noexcept nogil:
    """Write the FEATURE_COUNT features; zeros before the first two-sided market."""
    cdef int venue
    cdef double bid_all = 0.0, ask_all = 0.0, bid_best = 0.0, ask_best = 0.0
    cdef double spread, mid, venue_mid, lowest = 1e300, highest = -1e300, unit, gap, still
    cdef const VenueTouch* touch
    memset(out, 0, FEATURE_COUNT * sizeof(float))
    if not state.two_sided or state.updates == 0:
        return
    for venue in range(state.venue_count):
        touch = &state.touch[venue]
        if touch.bid_size_lots <= 0 or touch.ask_size_lots <= 0:
            continue
        bid_all += <double>touch.bid_size_lots
        ask_all += <double>touch.ask_size_lots
        if touch.bid_price_ticks == state.best_bid_ticks:
            bid_best += <double>touch.bid_size_lots
        if touch.ask_price_ticks == state.best_ask_ticks:
            ask_best += <double>touch.ask_size_lots
        venue_mid = 0.5 * (<double>touch.bid_price_ticks + <double>touch.ask_price_ticks)
        lowest = venue_mid if venue_mid < lowest else lowest
        highest = venue_mid if venue_mid > highest else highest
    mid = <double>state.mid_x2
    spread = state.average[SPREAD] if state.average[SPREAD] > 1.0 else 1.0
    unit = state.average[MOVE_SLOW] if state.average[MOVE_SLOW] > 1e-3 else 1e-3
    gap = state.average[GAP_SLOW] if state.average[GAP_SLOW] > 1.0 else 1.0
    if bid_all + ask_all > 0.0:
        out[0] = <float>((bid_all - ask_all) / (bid_all + ask_all))
    if bid_best + ask_best > 0.0:
        out[1] = <float>((bid_best - ask_best) / (bid_best + ask_best))
        # The microprice minus the mid is half the spread times the imbalance.
        out[2] = <float>clip(
            0.5 * (<int64_t>state.best_ask_ticks - state.best_bid_ticks) * out[1] / spread, 8.0
        )
    out[3] = <float>clip(state.average[FLOW_FAST] / state.average[DEPTH], 8.0)
    out[4] = <float>clip(state.average[FLOW_SLOW] / state.average[DEPTH], 8.0)
    out[5] = <float>clip((mid - state.average[MID_FAST]) / unit, 32.0)
    out[6] = <float>clip((mid - state.average[MID_MEDIUM]) / unit, 64.0)
    out[7] = <float>clip((mid - state.average[MID_SLOW]) / unit, 128.0)
    out[8] = <float>clip(state.average[MOVE_FAST] / unit, 16.0)
    out[9] = <float>clip((<int64_t>state.best_ask_ticks - state.best_bid_ticks) / spread, 8.0)
    out[10] = <float>clip(0.5 * unit / spread, 8.0)
    out[11] = <float>clip(state.average[GAP_FAST] / gap, 16.0)
    out[12] = <float>state.trade_sign
    if highest >= lowest:
        out[13] = <float>clip((highest - lowest) / spread, 8.0)
    out[14] = <float>(1.0 if state.last_move > 0 else (-1.0 if state.last_move < 0 else 0.0))
    still = <double>(state.last_ts_ns - state.last_move_ts_ns)
    out[15] = <float>clip(still / gap, 16.0)


@cython.final
@cython.auto_pickle(False)
cdef class FeatureTracker:
    """The features of one instrument over several venues, for tests and research.

    Parameters
    ----------
    venue_count : int
        1 to 16.
    """

    cdef FeatureState state

    def __cinit__(self, int venue_count=1):
        if not 1 <= venue_count <= VENUE_MAX:
            raise ValueError(f"venue_count must be 1 to {VENUE_MAX}, was {venue_count}")
        memset(&self.state, 0, sizeof(FeatureState))
        self.state.venue_count = venue_count

    def update(
        self, int venue, int32_t bid_price_ticks, int64_t bid_size_lots,
        int32_t ask_price_ticks, int64_t ask_size_lots, int64_t ts_ns,
    ):
        """Take a venue's new touch."""
        if not 0 <= venue < self.state.venue_count:
            raise ValueError(f"venue must be below {self.state.venue_count}, was {venue}")
        features_update(
            &self.state, venue, bid_price_ticks, bid_size_lots, ask_price_ticks, ask_size_lots, ts_ns
        )

    def trade(self, int side):
        """Take a print's aggressor side."""
        features_trade(&self.state, side)

    def values(self):
        """Return the features, float32, shape (16,), in the order of FEATURE_NAMES."""
        cdef cnp.ndarray out = np.zeros(FEATURE_COUNT, dtype=np.float32)
        features_fill(&self.state, <float*>cnp.PyArray_DATA(out))
        return out

    @property
    def mid_x2(self):
        """Best bid plus best ask, in ticks."""
        return self.state.mid_x2

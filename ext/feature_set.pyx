"""Choosing features, and reading those that look deeper than the touch.

What depends on the past is kept per event in `FeatureState`. What depends on the market as it stands is
read from the books when somebody asks: a walk over at most ten levels a side, whatever the book's size,
and nothing per event.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t

from .feature_set cimport FEATURES_MAX, OwnQueue
from .features cimport (
    ASK_LOSS, BID_LOSS, DEPTH, FEATURE_COUNT, MOVE_SQUARE, SPREAD, FeatureState, features_fill,
)
from .order_book cimport OrderBook

from ext.features import FEATURE_NAMES

cnp.import_array()

cdef enum:
    IMBALANCE_5 = FEATURE_COUNT
    IMBALANCE_10
    DEPLETION_BID
    DEPLETION_ASK
    REALISED_VOLATILITY
    QUEUE_AHEAD_BID
    QUEUE_AHEAD_ASK
    NEAR_LEVELS = 5
    FAR_LEVELS = 10

BOOK_FEATURE_NAMES = (
    "imbalance_5",            # (bid - ask) / (bid + ask) over the five best levels of every venue
    "imbalance_10",           # the same over ten
    "depletion_bid",          # lots that leave the best bid per event, over ~64 events, in average depths
    "depletion_ask",
    "realised_volatility",    # root of the mean squared move of the mid over ~256 events, in average spreads
    "queue_ahead_bid",        # share of its level ahead of our best resting buy; 1 where none rests
    "queue_ahead_ask",
)

ALL_FEATURE_NAMES = FEATURE_NAMES + BOOK_FEATURE_NAMES
assert len(ALL_FEATURE_NAMES) == QUEUE_AHEAD_ASK + 1 <= FEATURES_MAX


@cython.final
@cython.auto_pickle(False)
cdef class FeatureSet:
    """Features in the order of a model's input.

    Parameters
    ----------
    names : iterable of str
        Of ALL_FEATURE_NAMES, each at most once.

    Examples
    --------
    >>> FeatureSet(["microprice", "imbalance_5"]).size
    2
    """

    def __cinit__(self, names=FEATURE_NAMES):
        cdef int place, code
        self.names = tuple(names)
        unknown = [name for name in self.names if name not in ALL_FEATURE_NAMES]
        if unknown:
            known = ", ".join(ALL_FEATURE_NAMES)
            raise ValueError(f"features are {known}, was {', '.join(map(str, unknown))}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"a feature may be chosen once, was {', '.join(self.names)}")
        self.size = <int>len(self.names)
        for place in range(self.size):
            code = ALL_FEATURE_NAMES.index(self.names[place])
            self.codes[place] = code
            self.wants_touch = self.wants_touch or code < FEATURE_COUNT
            self.wants_queues = self.wants_queues or code >= QUEUE_AHEAD_BID

    cdef void fill(
        self, const FeatureState* state, void** books, const OwnQueue* queues, float* out
    ) noexcept nogil:
        """Write `size` values; zeros before the first two-sided market. `queues`: bid, ask, or NULL."""
        cdef float[FEATURE_COUNT] touch
        cdef int place, code
        cdef double unit
        if not state.two_sided or state.updates == 0:
            for place in range(self.size):
                out[place] = 0.0
            return
        if self.wants_touch:
            features_fill(state, touch)
        for place in range(self.size):
            code = self.codes[place]
            if code < FEATURE_COUNT:
                out[place] = touch[code]
            elif code == IMBALANCE_5:
                out[place] = level_imbalance(books, state.venue_count, NEAR_LEVELS)
            elif code == IMBALANCE_10:
                out[place] = level_imbalance(books, state.venue_count, FAR_LEVELS)
            elif code == DEPLETION_BID:
                out[place] = <float>min(state.average[BID_LOSS] / state.average[DEPTH], 8.0)
            elif code == DEPLETION_ASK:
                out[place] = <float>min(state.average[ASK_LOSS] / state.average[DEPTH], 8.0)
            elif code == REALISED_VOLATILITY:
                unit = max(state.average[SPREAD], 1.0)
                out[place] = <float>min(0.5 * sqrt(state.average[MOVE_SQUARE]) / unit, 8.0)
            elif code == QUEUE_AHEAD_BID:
                out[place] = share_ahead(queues)
            else:
                out[place] = share_ahead(queues + 1 if queues != NULL else NULL)


cdef inline float share_ahead(const OwnQueue* queue) noexcept nogil:
    if queue == NULL or queue.level_lots <= 0:
        return 1.0
    return <float>(<double>min(queue.ahead_lots, queue.level_lots) / <double>queue.level_lots)


cdef float level_imbalance(void** books, int venue_count, int levels) noexcept nogil:
    cdef int64_t bid = 0, ask = 0
    cdef int venue
    for venue in range(venue_count):
        bid += best_lots(<OrderBook>books[venue], 1, levels)
        ask += best_lots(<OrderBook>books[venue], -1, levels)
    return <float>(<double>(bid - ask) / <double>(bid + ask)) if bid + ask > 0 else <float>0.0


cdef inline int64_t best_lots(OrderBook book, int side, int levels) noexcept nogil:
    """Sum the lots of a side's best levels."""
    cdef int32_t[FAR_LEVELS] prices
    cdef int64_t[FAR_LEVELS] sizes
    cdef int64_t lots = 0
    cdef int level
    for level in range(book.depth(side, levels, prices, sizes)):
        lots += sizes[level]
    return lots

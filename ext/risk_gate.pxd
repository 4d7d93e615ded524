"""Pre-trade checks: the last function between a decision and a venue.

Everything is integer arithmetic on bounded values: limits stay below LOTS_BOUND, a reference beyond
what two 32-bit prices can give counts as absent, and products are compared by division, so an extreme
order is refused and nothing wraps. Worst case means that every open order of one side fills first.
"""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.layout cimport (
    ORDER_LIMIT,
    ORDER_PEG_MID,
    ORDER_PEG_PRIMARY,
    ORDER_STOP,
    ORDER_STOP_LIMIT,
    ExecutionReport,
    OrderCommand,
)


cdef extern from *:
    """
    /* Two lots bounds add up without wrapping. |bid + ask| of 32-bit prices stays within 2^32. */
    #define ANYTICK_LOTS_BOUND (INT64_C(1) << 61)
    #define ANYTICK_MID_X2_BOUND (INT64_C(1) << 32)
    """
    const int64_t LOTS_BOUND "ANYTICK_LOTS_BOUND"
    const int64_t MID_X2_BOUND "ANYTICK_MID_X2_BOUND"


cdef enum:
    INSTRUMENT_MAX = 8
    REASON_COUNT = 32


# An open order of ours. `leaves` is what the venue last said (the size sent before it spoke);
# `target` is the largest size that a replace on its way asks for, 0 without one.
ctypedef struct OpenOrder:
    uint64_t client_order_id    # 0: an empty place of the table
    int64_t leaves_lots
    int64_t target_lots
    uint32_t replaces_pending
    uint8_t instrument_index
    int8_t side
    uint8_t accepted
    uint8_t _reserved


ctypedef struct RiskInstrument:
    int64_t position_lots               # over all venues
    int64_t[2] open_lots                # worst case still to fill: buys, sells
    int64_t notional_lot_ticks_max      # lots x ticks; lots alone when inverse
    uint16_t instrument_id
    uint8_t inverse


cdef class RiskGate:
    cdef readonly int64_t order_size_lots_max
    cdef readonly int64_t price_band_ticks
    cdef readonly int64_t position_lots_max
    cdef readonly int64_t messages_per_second_max
    cdef readonly uint64_t order_capacity
    cdef readonly uint64_t unknown_reports      # named no open order of ours
    cdef uint64_t is_killed                     # read and written atomically: any thread may kill
    cdef RiskInstrument[INSTRUMENT_MAX] instruments
    cdef int instrument_count
    cdef uint64_t[REASON_COUNT] refused
    cdef int64_t* sent_ns           # owned: when the last messages left, a ring
    cdef readonly uint64_t message_count     # messages charged since the start
    cdef int64_t clock_ns           # latest instant seen; never runs back
    cdef OpenOrder* orders          # owned: open addressing, linear probing
    cdef uint64_t order_mask        # places of the table - 1
    cdef uint64_t order_count

    # `reference_mid_x2` is bid + ask in ticks, INT64_MIN when there is none. Return a Reason; 0 passes
    # and charges the message.
    cdef uint8_t risk_check(
        self, const OrderCommand* order, int64_t reference_mid_x2, int64_t now_ns
    ) noexcept nogil
    # After risk_check passed, before the order leaves.
    cdef void risk_on_sent(self, const OrderCommand* order) noexcept nogil
    # At receipt, in the order of receipt.
    cdef void risk_on_report(self, const ExecutionReport* report) noexcept nogil

    cdef uint8_t judge(
        self, const OrderCommand* order, int64_t reference_mid_x2, int64_t now_ns
    ) noexcept nogil
    cdef bint message_fits(self, int64_t now_ns) noexcept nogil
    cdef void charge_message(self, int64_t now_ns) noexcept nogil
    cdef int instrument_index(self, uint16_t instrument_id) noexcept nogil
    cdef OpenOrder* place_of(self, uint64_t client_order_id) noexcept nogil
    cdef void remove(self, OpenOrder* order) noexcept nogil
    cdef void resize(self, OpenOrder* order, int64_t leaves_lots, int64_t target_lots) noexcept nogil
    cdef bint conserves_exposure(self) noexcept nogil


cdef inline int64_t magnitude(int64_t value) noexcept nogil:
    return -value if value < 0 else value


cdef inline int64_t bounded(int64_t lots) noexcept nogil:
    return min(max(lots, -LOTS_BOUND), LOTS_BOUND)


cdef inline int64_t exposure_of(const OpenOrder* order) noexcept nogil:
    """Return the most that an open order may still fill, whichever of replace and fill comes first."""
    return max(order.leaves_lots, order.target_lots)


cdef inline int64_t collar_distance_x2(const OrderCommand* order, int64_t mid_x2) noexcept nogil:
    """Return how far an order's limit lies from its reference, in half ticks; 0 without a limit.

    A stop-limit wakes at its trigger, so its limit is held against that.
    """
    if order.order_type == ORDER_LIMIT:
        return magnitude(2 * <int64_t>order.price_ticks - mid_x2)
    if order.order_type == ORDER_STOP_LIMIT:
        return magnitude(2 * (<int64_t>order.price_ticks - order.stop_price_ticks))
    if order.order_type == ORDER_PEG_MID or order.order_type == ORDER_PEG_PRIMARY:
        return magnitude(2 * <int64_t>order.peg_offset_ticks)
    return 0


cdef inline int64_t valuation_x2(const OrderCommand* order, int64_t mid_x2) noexcept nogil:
    """Return the magnitude of the price an order is valued at, in half ticks."""
    if order.order_type == ORDER_LIMIT or order.order_type == ORDER_STOP_LIMIT:
        return 2 * magnitude(order.price_ticks)
    if order.order_type == ORDER_STOP:
        return max(2 * magnitude(order.stop_price_ticks), magnitude(mid_x2))
    return magnitude(mid_x2) + 2 * magnitude(order.peg_offset_ticks)


cdef inline uint64_t home_of(uint64_t client_order_id) noexcept nogil:
    # Fibonacci hashing: consecutive ids differ in their low bits only, the high bits spread them.
    return (client_order_id * <uint64_t>0x9E3779B97F4A7C15) >> 32

"""What each (venue, style) shows and would cost, and what taking everywhere at once would cost."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t

from ext.features cimport GAP_SLOW, MOVE_FAST, MOVE_SLOW, VenueTouch
from ext.parent_order cimport WorkingParent
from ext.routing cimport STYLE_TAKE, ArmView, RouteRequest
from ext.sim_venue cimport SimulatedVenue
from ext.tick_path cimport VENUE_LIMIT, TickPath
from ext.venue_rules cimport OFFER_MAX

CONTEXT_NAMES = (
    "one",            # intercept
    "gap",            # price against the mid, in average spreads; positive is worse
    "available",      # displayed size / child size, up to 4, over 4
    "age",            # of the venue's quote, in average inter-arrival times, up to 8, over 8
    "signal",         # forecast in the direction of the order: positive means the price runs away
    "turbulence",     # fast / slow volatility - 1, up to 4, over 4
    "volatility",     # average move in average spreads
    "urgency",        # share of the parent's slices gone
)


cdef void describe(
    TickPath loop, const WorkingParent* parent, int64_t size_lots, bint ask, double tick_value,
    RouteRequest* request,
) noexcept nogil:
    """Fill in the arms: what each (venue, style) shows and would cost; `ask` the model as well."""
    cdef double spread = spread_scale(loop)
    cdef double mid = 0.5 * <double>loop.features.mid_x2
    cdef double turbulence, volatility, urgency, age, signal = 0.0
    cdef int venue, style
    cdef ArmView* arm
    cdef const VenueTouch* touch
    if ask:
        signal = parent.side * <double>loop.signal()
    turbulence = loop.features.average[MOVE_SLOW]
    turbulence = loop.features.average[MOVE_FAST] / (turbulence if turbulence > 1e-3 else 1e-3) - 1.0
    turbulence = (turbulence if turbulence < 4.0 else 4.0) / 4.0
    volatility = 0.5 * loop.features.average[MOVE_SLOW] / spread
    urgency = <double>parent.slice / parent.slices
    request.decision_id = parent.decision_id
    request.now_ns = loop.now_ns
    request.size_lots = size_lots
    request.side = parent.side
    request.venue_count = loop.venue_count
    request.arm_count = 2 * loop.venue_count
    for venue in range(request.venue_count):
        touch = &loop.features.touch[venue]
        age = <double>(loop.stream_ns - touch.ts_ns) / loop.features.average[GAP_SLOW]
        age = (age if age < 8.0 else 8.0) / 8.0
        for style in range(2):
            arm = &request.arms[2 * venue + style]
            arm.venue = venue
            arm.style = style
            quote_arm(
                <SimulatedVenue>loop.venues[venue], parent.side, touch, mid, tick_value, arm
            )
            arm.context[0] = 1.0
            arm.context[1] = bounded((arm.quoted_cost_ticks) / spread, 8.0)
            arm.context[2] = bounded(<double>arm.available_lots / <double>size_lots, 4.0) / 4.0
            arm.context[3] = age
            arm.context[4] = signal
            arm.context[5] = turbulence
            arm.context[6] = volatility
            arm.context[7] = urgency


cdef double cost_of_taking(
    TickPath loop, int side, int64_t lots, int64_t mid_x2, double tick_value
) noexcept nogil:
    """Return what taking `lots` everywhere at once would cost now against a mid, fees included.

    In ticks times lots. Walks what all venues offer, displayed and modelled, by price with fee. What
    goes beyond all of it is priced one average spread past the last level.
    """
    cdef int32_t[VENUE_LIMIT][OFFER_MAX] prices
    cdef int64_t[VENUE_LIMIT][OFFER_MAX] sizes
    cdef int[VENUE_LIMIT] counts
    cdef int[VENUE_LIMIT] levels
    cdef int venue, best
    cdef int64_t piece
    cdef double mid = 0.5 * <double>mid_x2, total = 0.0, cost, cheapest
    # With nothing offered at all, the last level is where the last whole market had it.
    cdef int32_t touch = <int32_t>(
        0.5 * (<double>loop.features.mid_x2 + side * min(spread_scale(loop), 1e9))
    )
    cdef double last = INFINITY
    if lots <= 0:
        return 0.0
    for venue in range(loop.venue_count):
        last = min(last, cost_at(
            <SimulatedVenue>loop.venues[venue], side, touch, mid, tick_value, STYLE_TAKE
        ))
    for venue in range(loop.venue_count):
        levels[venue] = 0
        counts[venue] = offered_at(
            <SimulatedVenue>loop.venues[venue], side, prices[venue], sizes[venue]
        )
    while lots > 0:
        best = -1
        cheapest = 0.0
        for venue in range(loop.venue_count):
            if levels[venue] < counts[venue]:
                cost = cost_at(
                    <SimulatedVenue>loop.venues[venue], side, prices[venue][levels[venue]], mid,
                    tick_value, STYLE_TAKE,
                )
                if best < 0 or cost < cheapest:
                    cheapest = cost
                    best = venue
        if best < 0:
            break
        piece = min(lots, sizes[best][levels[best]])
        levels[best] += 1
        lots -= piece
        total += <double>piece * cheapest
        last = cheapest
    return total + <double>lots * (last + spread_scale(loop))


cdef inline void quote_arm(
    SimulatedVenue venue, int side, const VenueTouch* touch, double mid, double tick_value, ArmView* arm
) noexcept nogil:
    """What the arm displays, and its price against the mid with fees, in ticks per lot."""
    cdef bint take = arm.style == STYLE_TAKE
    cdef bint at_ask = (side > 0) == take
    arm.available_lots = touch.ask_size_lots if at_ask else touch.bid_size_lots
    if arm.available_lots <= 0:
        arm.quoted_cost_ticks = 1e9
        return
    arm.quoted_cost_ticks = cost_at(
        venue, side, touch.ask_price_ticks if at_ask else touch.bid_price_ticks, mid, tick_value, arm.style
    )


cdef inline double cost_at(
    SimulatedVenue venue, int side, int32_t price_ticks, double mid, double tick_value, int style
) noexcept nogil:
    """A price against a mid with the venue's fee, in ticks per lot."""
    cdef double price = <double>price_ticks
    cdef double fee = (price if price >= 0.0 else -price) * 1e-4
    if style == STYLE_TAKE:
        fee = fee * venue.rules.taker_fee_bps + venue.rules.taker_fee_per_lot / tick_value
    else:
        fee = fee * venue.rules.maker_fee_bps + venue.rules.maker_fee_per_lot / tick_value
    return side * (price - mid) + fee


cdef inline int offered_at(SimulatedVenue venue, int side, int32_t* prices, int64_t* sizes) noexcept nogil:
    return venue.offered(side, prices, sizes)

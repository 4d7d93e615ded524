"""The compiled execution agent: parent orders in, routed child orders out, costs by day.

Over 400 lines with its declarations because a parent's life (arrive, slice, route, compensate, close
out, account) is one state machine and reads best in one place.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

from ext.features cimport GAP_SLOW, MOVE_FAST, MOVE_SLOW, SPREAD, VenueTouch
from ext.journal cimport journal_append
from ext.layout cimport (
    ACTION_NEW, JOURNAL_DECISION, JOURNAL_PARENT, JOURNAL_REWARD, LIQUIDITY_TAKER, ORDER_LIMIT,
    ORDER_MARKET, ORDER_POST_ONLY, PARENT_CANCELLED, PARENT_DONE, PARENT_WORKING, REPORT_ACCEPTED,
    REPORT_FILL, TIF_GTD, TIF_IOC, DecisionPayload, ExecutionReport, OrderCommand, ParentPayload,
    RewardPayload, check,
)
from ext.order_id cimport order_parent, pack_order_id
from ext.routing cimport (
    CONTEXT_SIZE, STYLE_POST, STYLE_TAKE, ArmView, RouteAnswer, RouteLeg, Router, RouteRequest, sweep,
)
from ext.sim_venue cimport SimulatedVenue
from ext.tick_path cimport VENUE_LIMIT
from ext.venue_rules cimport OFFER_MAX

cnp.import_array()

PLAN_DTYPE = np.dtype([
    ("arrival_ns", "<i8"), ("deadline_ns", "<i8"), ("size_lots", "<i8"), ("slices", "<i4"), ("side", "i1"),
    ("_reserved", "u1", (3,)),
])
DAY_STATS_DTYPE = np.dtype([
    ("cost_ticklots", "<f8"), ("fee_ticklots", "<f8"), ("notional_ticklots", "<f8"),
    ("child_cost_ticklots", "<f8"), ("reward", "<f8"), ("parents", "<i8"), ("lots", "<i8"),
    ("cancelled_lots", "<i8"), ("taker_lots", "<i8"), ("decisions", "<i8"), ("child_lots", "<i8"),
])
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

cdef enum:
    TAG_ARRIVAL = 0
    TAG_SLICE = 1
    DAY_NS_DIVISOR = 86_400


@cython.final
@cython.auto_pickle(False)
cdef class ParentExecutor(Agent):
    """Execute a plan of parent orders through a routing policy.

    Parameters
    ----------
    router : Router
    plan : array of PLAN_DTYPE, shape (n_parents,)
        Ascending arrival; the parent id is the position. Fewer than 2**24.
    first_day, day_count : int
        Days since the Unix epoch that `stats` covers.
    tick_value : float
        Currency per tick and lot.
    run_id : int
        15 bits, of the client order ids.
    groups : int
        Statistics are kept per ``parent_id % groups``.
    post_ns : int
        How long a posted leg may rest.
    closed_ns : int
        A market silent for longer counts as closed: no slice is sent.
    protection : float
        Limit of a taking leg beyond the displayed price, in average spreads.
    use_signal : bool
        Ask the model at each decision.
    """

    def __cinit__(
        self, Router router not None, cnp.ndarray plan not None, *, int64_t first_day, int64_t day_count,
        double tick_value, uint32_t run_id, int groups=1, int64_t post_ns=60_000_000_000,
        int64_t closed_ns=600_000_000_000, double protection=1.0, bint use_signal=True, int window_max=512,
    ):
        if plan.dtype != PLAN_DTYPE or not cnp.PyArray_IS_C_CONTIGUOUS(plan):
            raise TypeError(f"plan must be a contiguous array of PLAN_DTYPE, was {plan.dtype}")
        if plan.size >= 1 << 24:
            raise ValueError(f"a plan has fewer than 2**24 parents, was {plan.size}")
        if plan.size and ((np.diff(plan["arrival_ns"]) < 0).any() or (plan["size_lots"] <= 0).any()
                          or (plan["slices"] <= 0).any() or (plan["deadline_ns"] <= plan["arrival_ns"]).any()
                          or (np.abs(plan["side"]) != 1).any()):
            raise ValueError("a plan needs ascending arrivals, positive sizes and slices, sides of +1 or -1")
        if day_count < 1 or groups < 1 or window_max < 1:
            raise ValueError("day_count, groups and window_max must be positive")
        if post_ns < 0 or not (isfinite(protection) and protection >= 0.0):
            raise ValueError(
                f"post_ns and protection must be finite and not negative, were {post_ns} and {protection}"
            )
        if not (isfinite(tick_value) and tick_value > 0.0):
            raise ValueError(f"tick_value must be finite and positive, was {tick_value}")
        self.router = router
        self.plan_count = <uint32_t>plan.size
        self.plan = <PlannedParent*>calloc(self.plan_count + 1, sizeof(PlannedParent))
        self.parents = <WorkingParent*>calloc(PARENT_SLOTS, sizeof(WorkingParent))
        self.stats = <DayStats*>calloc(<size_t>(groups * day_count), sizeof(DayStats))
        self.venue_lots = <int64_t*>calloc(<size_t>window_max * 16, sizeof(int64_t))
        if self.plan == NULL or self.parents == NULL or self.stats == NULL or self.venue_lots == NULL:
            raise MemoryError("ParentExecutor")
        memcpy(self.plan, cnp.PyArray_DATA(plan), self.plan_count * sizeof(PlannedParent))
        self.first_day = first_day
        self.day_count = day_count
        self.group_count = groups
        self.window_max = window_max
        self.run_id = run_id
        self.tick_value = tick_value
        self.post_ns = post_ns
        self.closed_ns = closed_ns
        self.protection = protection
        self.use_signal = use_signal
        self.wants_events = False

    def __dealloc__(self):
        free(self.plan)
        free(self.parents)
        free(self.stats)
        free(self.venue_lots)

    cdef check_venues(self, int venue_count):
        if self.router.arm_count not in (0, 2 * venue_count):
            raise ValueError(
                f"{self.router.name}: the router was made for {self.router.arm_count // 2} venues, but the "
                f"loop has {venue_count} venues"
            )

    # A parent's life.

    cdef void on_start(self) noexcept nogil:
        if self.plan_count > 0:
            self.loop.schedule(self.plan[0].arrival_ns, TAG_ARRIVAL)

    cdef void on_timer(self, uint64_t tag) noexcept nogil:
        cdef uint32_t parent_id = <uint32_t>(tag >> 1)
        cdef WorkingParent* parent
        if tag & 1 == TAG_ARRIVAL:
            if parent_id + 1 < self.plan_count:
                self.loop.schedule(
                    self.plan[parent_id + 1].arrival_ns, <uint64_t>(parent_id + 1) << 1 | TAG_ARRIVAL
                )
            self.begin_parent(parent_id)
        else:
            parent = &self.parents[parent_id & (PARENT_SLOTS - 1)]
            if parent.active and parent.parent_id == parent_id:
                self.begin_slice(parent)

    cdef bint market_closed(self) noexcept nogil:
        return (
            self.loop.ended
            or not self.loop.features.two_sided
            or self.loop.stream_ns - self.loop.features.last_ts_ns > self.closed_ns
        )

    cdef void begin_parent(self, uint32_t parent_id) noexcept nogil:
        cdef WorkingParent* parent = &self.parents[parent_id & (PARENT_SLOTS - 1)]
        cdef const PlannedParent* planned = &self.plan[parent_id]
        if parent.active or self.market_closed():
            self.skipped += 1
            return
        memset(parent, 0, sizeof(WorkingParent))
        parent.parent_id = parent_id
        parent.active = True
        parent.side = planned.side
        parent.slices = planned.slices
        parent.size_lots = parent.open_lots = planned.size_lots
        parent.arrival_ns = planned.arrival_ns
        parent.deadline_ns = planned.deadline_ns
        parent.interval_ns = (planned.deadline_ns - planned.arrival_ns) // planned.slices
        parent.arrival_mid_x2 = self.loop.features.mid_x2
        self.write_parent(parent, PARENT_WORKING)
        self.begin_slice(parent)

    cdef void begin_slice(self, WorkingParent* parent) noexcept nogil:
        cdef int64_t left = parent.size_lots - parent.filled_lots
        cdef int slices_left = parent.slices - parent.slice
        if slices_left <= 0:
            parent.closing = True
            if not parent.child_active:
                self.close_out(parent)
            return
        parent.slice += 1
        self.loop.schedule(
            parent.arrival_ns + parent.slice * parent.interval_ns, <uint64_t>parent.parent_id << 1 | TAG_SLICE
        )
        # A slice whose predecessor is still at work, or whose market is closed, joins the next one.
        if not parent.child_active and not self.market_closed():
            self.decide(parent, (left + slices_left - 1) // slices_left)

    cdef void decide(self, WorkingParent* parent, int64_t size_lots) noexcept nogil:
        cdef RouteRequest request
        cdef RouteAnswer answer
        parent.decision_id = <uint64_t>parent.parent_id << 16 | <uint64_t>parent.slice
        self.describe(parent, size_lots, True, &request)
        answer.leg_count = 0
        self.router.route(&request, &answer)
        if answer.leg_count == 0:
            return
        self.decisions += 1
        parent.child_active = True
        parent.arm = answer.arm
        parent.attempt = 0
        parent.outstanding = 0
        parent.child_lots = size_lots
        parent.child_filled = parent.child_cost_x2 = parent.child_fee_nano = 0
        parent.decision_mid_x2 = self.loop.features.mid_x2
        parent.scale_ticks = self.spread_scale()
        if answer.arm >= 0:
            memcpy(parent.context, request.arms[answer.arm].context, sizeof(parent.context))
        self.write_decision(
            parent, &request, &answer, self.loop.signal_now if self.use_signal else <float>0.0
        )
        self.send_legs(parent, &request, &answer, False)
        self.loop.pending_model_ns = 0
        if parent.outstanding == 0:
            self.continue_child(parent)

    cdef void write_decision(
        self, const WorkingParent* parent, const RouteRequest* request, const RouteAnswer* answer,
        float signal,
    ) noexcept nogil:
        cdef DecisionPayload payload
        cdef int index
        memset(&payload, 0, sizeof(payload))
        payload.decision_id = parent.decision_id
        payload.parent_id = parent.parent_id
        payload.model_version = self.model_version
        payload.arm = <uint8_t>(answer.arm if answer.arm >= 0 else 255)
        payload.arm_count = <uint8_t>request.arm_count
        payload.score = answer.score
        payload.propensity = answer.propensity
        payload.signal = signal
        if answer.arm >= 0:
            for index in range(CONTEXT_SIZE):
                payload.context[index] = <float>parent.context[index]
        journal_append(self.loop.journal, JOURNAL_DECISION, self.loop.now_ns, &payload)

    cdef void describe(
        self, WorkingParent* parent, int64_t size_lots, bint ask, RouteRequest* request
    ) noexcept nogil:
        """Fill in the arms: what each (venue, style) shows and would cost; `ask` the model as well."""
        cdef double spread = self.spread_scale()
        cdef double mid = 0.5 * <double>self.loop.features.mid_x2
        cdef double turbulence, volatility, urgency, age, signal = 0.0
        cdef int venue, style
        cdef ArmView* arm
        cdef const VenueTouch* touch
        if ask and self.use_signal:
            signal = parent.side * <double>self.loop.signal()
        turbulence = self.loop.features.average[MOVE_SLOW]
        turbulence = self.loop.features.average[MOVE_FAST] / (turbulence if turbulence > 1e-3 else 1e-3) - 1.0
        turbulence = (turbulence if turbulence < 4.0 else 4.0) / 4.0
        volatility = 0.5 * self.loop.features.average[MOVE_SLOW] / spread
        urgency = <double>parent.slice / parent.slices
        request.decision_id = parent.decision_id
        request.now_ns = self.loop.now_ns
        request.size_lots = size_lots
        request.side = parent.side
        request.venue_count = self.loop.venue_count
        request.arm_count = 2 * self.loop.venue_count
        for venue in range(request.venue_count):
            touch = &self.loop.features.touch[venue]
            age = <double>(self.loop.stream_ns - touch.ts_ns) / self.loop.features.average[GAP_SLOW]
            age = (age if age < 8.0 else 8.0) / 8.0
            for style in range(2):
                arm = &request.arms[2 * venue + style]
                arm.venue = venue
                arm.style = style
                quote_arm(
                    <SimulatedVenue>self.loop.venues[venue], parent.side, touch, mid, self.tick_value, arm
                )
                arm.context[0] = 1.0
                arm.context[1] = bounded((arm.quoted_cost_ticks) / spread, 8.0)
                arm.context[2] = bounded(<double>arm.available_lots / <double>size_lots, 4.0) / 4.0
                arm.context[3] = age
                arm.context[4] = signal
                arm.context[5] = turbulence
                arm.context[6] = volatility
                arm.context[7] = urgency

    cdef void send_legs(
        self, WorkingParent* parent, const RouteRequest* request, const RouteAnswer* answer, bint market
    ) noexcept nogil:
        cdef OrderCommand command
        cdef int index
        cdef const RouteLeg* leg
        cdef const VenueTouch* touch
        cdef int64_t slack = <int64_t>min(self.protection * parent.scale_ticks, <double>INT32_MAX)
        for index in range(answer.leg_count):
            leg = &answer.legs[index]
            touch = &self.loop.features.touch[leg.venue]
            memset(&command, 0, sizeof(command))
            command.client_order_id = pack_order_id(
                self.run_id, parent.parent_id, parent.legs & 0xFFFF, <uint32_t>parent.attempt
            )
            parent.legs += 1
            command.action = ACTION_NEW
            command.side = <signed char>parent.side
            command.size_lots = leg.size_lots
            command.venue_id = <uint8_t>leg.venue
            command.order_type = ORDER_LIMIT
            command.time_in_force = TIF_IOC
            if leg.style == STYLE_POST:
                command.price_ticks = touch.bid_price_ticks if parent.side > 0 else touch.ask_price_ticks
                command.time_in_force = TIF_GTD
                # Nothing rests beyond the deadline: what is left then is closed out.
                command.expire_ns = self.loop.now_ns + min(
                    self.post_ns, parent.deadline_ns - self.loop.now_ns
                )
                command.flags = ORDER_POST_ONLY
            else:
                command.price_ticks = touch.ask_price_ticks if parent.side > 0 else touch.bid_price_ticks
                command.price_ticks = <int32_t>min(
                    max(command.price_ticks + parent.side * slack, <int64_t>INT32_MIN), <int64_t>INT32_MAX
                )
                if market:
                    command.order_type = ORDER_MARKET
            check(leg.size_lots > 0, "a leg has a positive size")
            if self.loop.send(&command) == 0:
                parent.outstanding += 1
                parent.sent_lots += leg.size_lots
        check(
            parent.filled_lots + parent.sent_lots <= parent.size_lots,
            "no more is sent than the parent has open",
        )

    cdef void on_report(self, const ExecutionReport* report) noexcept nogil:
        cdef uint32_t parent_id = order_parent(report.client_order_id)
        cdef WorkingParent* parent = &self.parents[parent_id & (PARENT_SLOTS - 1)]
        cdef int64_t lots = report.size_lots
        if report.kind == REPORT_ACCEPTED or not parent.active or parent.parent_id != parent_id:
            return
        parent.sent_lots -= lots
        if report.kind == REPORT_FILL:
            parent.filled_lots += lots
            parent.open_lots -= lots
            parent.cost_x2 += parent.side * (2 * <int64_t>report.price_ticks - parent.arrival_mid_x2) * lots
            parent.fee_nano += report.fee_nano
            parent.child_filled += lots
            parent.child_cost_x2 += (
                parent.side * (2 * <int64_t>report.price_ticks - parent.decision_mid_x2) * lots
            )
            parent.child_fee_nano += report.fee_nano
            parent.version += 1
            self.venue_lots[self.window * 16 + report.venue_id] += lots
            if report.liquidity == LIQUIDITY_TAKER:
                parent.taker_lots += lots
            if parent.open_lots > 0:
                self.write_parent(parent, PARENT_WORKING)
            if report.leaves_lots > 0:
                return
        parent.outstanding -= 1
        check(parent.outstanding >= 0 and parent.sent_lots >= 0, "every leg ends once")
        if parent.outstanding == 0:
            self.continue_child(parent)

    cdef void continue_child(self, WorkingParent* parent) noexcept nogil:
        """All legs have ended: sweep what they left, or end the child."""
        cdef RouteRequest request
        cdef RouteAnswer answer
        cdef int64_t left = parent.child_lots - parent.child_filled
        if left > 0 and parent.attempt < SWEEPS_MAX and not self.market_closed():
            parent.attempt += 1
            # A sweep is no choice: the model is neither asked nor waited for.
            self.describe(parent, left, False, &request)
            answer.leg_count = 0
            sweep(&request, &answer)
            self.send_legs(parent, &request, &answer, parent.closing)
            if parent.outstanding > 0:
                return
        self.end_child(parent, False)
        if parent.filled_lots == parent.size_lots:
            self.end_parent(parent)
        elif parent.closing:
            self.close_out(parent)

    cdef void end_child(self, WorkingParent* parent, bint censored) noexcept nogil:
        """Price the child's outcome and teach the router."""
        cdef RewardPayload payload
        cdef DayStats* day = self.day_of(parent)
        cdef int64_t left = parent.child_lots - parent.child_filled
        cdef double cost
        parent.child_active = False
        cost = 0.5 * <double>parent.child_cost_x2 + <double>parent.child_fee_nano / (self.tick_value * 1e9)
        # Lots that were not filled are priced as if taken now: waiting is no way to look cheap.
        cost += self.cost_of_taking(parent.side, left, parent.decision_mid_x2)
        cost /= <double>parent.child_lots
        memset(&payload, 0, sizeof(payload))
        payload.decision_id = parent.decision_id
        payload.cost_ticks = cost
        payload.reward = bounded(-cost / parent.scale_ticks, 8.0)
        payload.filled_lots = parent.child_filled
        payload.size_lots = parent.child_lots
        payload.arm = <uint8_t>(parent.arm if parent.arm >= 0 else 255)
        payload.censored = censored
        journal_append(self.loop.journal, JOURNAL_REWARD, self.loop.now_ns, &payload)
        if censored:
            self.censored += 1
            return
        day.decisions += 1
        day.reward += payload.reward
        day.child_cost_ticklots += cost * <double>parent.child_lots
        day.child_lots += parent.child_lots
        if parent.arm >= 0:
            self.router.reward(parent.arm, parent.context, payload.reward)

    cdef void close_out(self, WorkingParent* parent) noexcept nogil:
        """The deadline has come: one last round of market orders, then what is left is cancelled."""
        cdef int64_t left = parent.size_lots - parent.filled_lots
        cdef RouteRequest request
        cdef RouteAnswer answer
        if left > 0 and not parent.last_round and not self.market_closed():
            parent.last_round = True
            # A decision of its own, one past the last slice's number.
            parent.decision_id = <uint64_t>parent.parent_id << 16 | <uint64_t>(parent.slices + 1)
            self.decisions += 1
            parent.arm = -1
            parent.attempt = SWEEPS_MAX   # continue_child sweeps no further
            parent.child_active = True
            parent.child_lots = left
            parent.child_filled = parent.child_cost_x2 = parent.child_fee_nano = 0
            parent.decision_mid_x2 = self.loop.features.mid_x2
            parent.scale_ticks = self.spread_scale()
            # A sweep is no choice: the model is neither asked nor waited for.
            self.describe(parent, left, False, &request)
            answer.leg_count = 0
            sweep(&request, &answer)
            self.write_decision(parent, &request, &answer, 0.0)
            self.send_legs(parent, &request, &answer, True)
            if parent.outstanding > 0:
                return
            self.end_child(parent, False)
        self.end_parent(parent)

    cdef void end_parent(self, WorkingParent* parent) noexcept nogil:
        cdef DayStats* day = self.day_of(parent)
        cdef int64_t left = parent.size_lots - parent.filled_lots
        cdef double fee = <double>parent.fee_nano / (self.tick_value * 1e9)
        check(parent.sent_lots == 0 and parent.outstanding == 0, "a parent ends when its legs have")
        parent.cancelled_lots += parent.open_lots
        parent.open_lots = 0
        parent.version += 1
        day.parents += 1
        day.lots += parent.filled_lots
        day.taker_lots += parent.taker_lots
        day.cancelled_lots += left
        # Cancelled lots cost what taking them would cost now.
        day.cost_ticklots += 0.5 * <double>parent.cost_x2 + fee + self.cost_of_taking(
            parent.side, left, parent.arrival_mid_x2
        )
        day.fee_ticklots += fee
        day.notional_ticklots += 0.5 * <double>parent.arrival_mid_x2 * <double>parent.size_lots
        self.write_parent(parent, PARENT_DONE if left == 0 else PARENT_CANCELLED)
        parent.active = False

    cdef void write_parent(self, WorkingParent* parent, uint8_t state) noexcept nogil:
        cdef ParentPayload payload
        check(
            parent.filled_lots + parent.open_lots + parent.cancelled_lots == parent.size_lots,
            "filled + open + cancelled = size",
        )
        check(parent.sent_lots <= parent.open_lots, "what is at venues is part of what is open")
        memset(&payload, 0, sizeof(payload))
        payload.parent_id = parent.parent_id
        payload.state = state
        payload.side = <signed char>parent.side
        payload.version = parent.version
        payload.size_lots = parent.size_lots
        payload.filled_lots = parent.filled_lots
        payload.cancelled_lots = parent.cancelled_lots
        payload.open_lots = parent.open_lots
        payload.arrival_mid_x2 = parent.arrival_mid_x2
        payload.deadline_ns = parent.deadline_ns
        journal_append(self.loop.journal, JOURNAL_PARENT, self.loop.now_ns, &payload)

    cdef DayStats* day_of(self, const WorkingParent* parent) noexcept nogil:
        cdef int64_t day = parent.arrival_ns // (<int64_t>DAY_NS_DIVISOR * 1_000_000_000) - self.first_day
        day = 0 if day < 0 else (self.day_count - 1 if day >= self.day_count else day)
        return &self.stats[(parent.parent_id % <uint32_t>self.group_count) * self.day_count + day]

    cdef double spread_scale(self) noexcept nogil:
        # Over several venues the average spread can be zero or negative.
        return self.loop.features.average[SPREAD] if self.loop.features.average[SPREAD] > 1.0 else 1.0

    cdef double cost_of_taking(self, int side, int64_t lots, int64_t mid_x2) noexcept nogil:
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
            0.5 * (<double>self.loop.features.mid_x2 + side * min(self.spread_scale(), 1e9))
        )
        cdef double last = INFINITY
        if lots <= 0:
            return 0.0
        for venue in range(self.loop.venue_count):
            last = min(last, cost_at(
                <SimulatedVenue>self.loop.venues[venue], side, touch, mid, self.tick_value, STYLE_TAKE
            ))
        for venue in range(self.loop.venue_count):
            levels[venue] = 0
            counts[venue] = offered_at(
                <SimulatedVenue>self.loop.venues[venue], side, prices[venue], sizes[venue]
            )
        while lots > 0:
            best = -1
            cheapest = 0.0
            for venue in range(self.loop.venue_count):
                if levels[venue] < counts[venue]:
                    cost = cost_at(
                        <SimulatedVenue>self.loop.venues[venue], side, prices[venue][levels[venue]], mid,
                        self.tick_value, STYLE_TAKE,
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
        return total + <double>lots * (last + self.spread_scale())

    # Python's side.

    def begin_window(self, int model_version=0):
        """Note that a walk-forward window begins: the router may fix its choices, a new model is live."""
        if self.window + 1 >= self.window_max:
            raise ValueError(f"at most {self.window_max} windows")
        self.window += 1
        self.model_version = <uint16_t>model_version
        self.router.begin_window()

    def day_stats(self):
        """Return the statistics by day of arrival, DAY_STATS_DTYPE, shape (groups, day_count)."""
        cdef cnp.ndarray out = np.empty((self.group_count, self.day_count), dtype=DAY_STATS_DTYPE)
        memcpy(cnp.PyArray_DATA(out), self.stats, out.nbytes)
        return out

    def lots_by_venue(self):
        """Return filled lots, int64, shape (windows so far + 1, venue_count)."""
        cdef cnp.ndarray out = np.empty((self.window + 1, 16), dtype=np.int64)
        memcpy(cnp.PyArray_DATA(out), self.venue_lots, out.nbytes)
        return out[:, :self.loop.venue_count].copy()

    def censor(self):
        """Count the decisions that the end of the data left without an outcome."""
        cdef int slot
        for slot in range(PARENT_SLOTS):
            if self.parents[slot].active and self.parents[slot].child_active:
                self.end_child(&self.parents[slot], True)
        return self.censored


cdef inline double bounded(double value, double bound) noexcept nogil:
    return bound if value > bound else (-bound if value < -bound else value)


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

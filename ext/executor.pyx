"""The compiled execution agent: parent orders in, routed child orders out, costs by day.

One file for a parent's life: arrive, slice, route, compensate, close out. What an order would cost is in
`ext/arm_costs.pyx`, what is journaled of a parent in `ext/parent_order.pxd`, the sums in
`ext/execution_stats.pyx`.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport isfinite
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

from ext.arm_costs cimport bounded, cost_of_taking, describe, spread_scale
from ext.execution_stats cimport ExecutionStats, add_fill
from ext.features cimport VenueTouch
from ext.layout cimport (
    ACTION_NEW, LIQUIDITY_TAKER, ORDER_LIMIT, ORDER_MARKET, ORDER_POST_ONLY,
    PARENT_CANCELLED, PARENT_DONE, PARENT_WORKING, REPORT_ACCEPTED, REPORT_FILL, TIF_GTD, TIF_IOC,
    ExecutionReport, OrderCommand, check,
)
from ext.order_id cimport order_parent, pack_order_id
from ext.parent_order cimport WorkingParent, write_decision, write_parent, write_reward
from ext.routing cimport STYLE_POST, RouteAnswer, RouteLeg, Router, RouteRequest, sweep

cnp.import_array()

PLAN_DTYPE = np.dtype([
    ("arrival_ns", "<i8"), ("deadline_ns", "<i8"), ("size_lots", "<i8"), ("slices", "<i4"), ("side", "i1"),
    ("_reserved", "u1", (3,)),
])

cdef enum:
    TAG_ARRIVAL = 0
    TAG_SLICE = 1


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
        if self.plan == NULL or self.parents == NULL:
            raise MemoryError("ParentExecutor")
        memcpy(self.plan, cnp.PyArray_DATA(plan), self.plan_count * sizeof(PlannedParent))
        self.stats = ExecutionStats(
            groups=groups, first_day=first_day, day_count=day_count, window_max=window_max
        )
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
        write_parent(self.loop.journal, self.loop.now_ns, parent, PARENT_WORKING)
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
        describe(self.loop, parent, size_lots, self.use_signal, self.tick_value, &request)
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
        parent.scale_ticks = spread_scale(self.loop)
        if answer.arm >= 0:
            memcpy(parent.context, request.arms[answer.arm].context, sizeof(parent.context))
        write_decision(
            self.loop.journal, self.loop.now_ns, parent, &request, &answer,
            self.loop.signal_now if self.use_signal else <float>0.0, self.model_version,
        )
        self.send_legs(parent, &request, &answer, False)
        self.loop.pending_model_ns = 0
        if parent.outstanding == 0:
            self.continue_child(parent)

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
            add_fill(self.stats, report.venue_id, lots)
            if report.liquidity == LIQUIDITY_TAKER:
                parent.taker_lots += lots
            if parent.open_lots > 0:
                write_parent(self.loop.journal, self.loop.now_ns, parent, PARENT_WORKING)
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
            describe(self.loop, parent, left, False, self.tick_value, &request)
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
        cdef int64_t left = parent.child_lots - parent.child_filled
        cdef double cost, reward
        parent.child_active = False
        cost = 0.5 * <double>parent.child_cost_x2 + <double>parent.child_fee_nano / (self.tick_value * 1e9)
        # Lots that were not filled are priced as if taken now: waiting is no way to look cheap.
        cost += cost_of_taking(self.loop, parent.side, left, parent.decision_mid_x2, self.tick_value)
        cost /= <double>parent.child_lots
        reward = bounded(-cost / parent.scale_ticks, 8.0)
        write_reward(self.loop.journal, self.loop.now_ns, parent, cost, reward, censored)
        if censored:
            self.censored += 1
            return
        self.stats.add_child(parent, cost, reward)
        if parent.arm >= 0:
            self.router.reward(parent.arm, parent.context, reward)

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
            parent.scale_ticks = spread_scale(self.loop)
            # A sweep is no choice: the model is neither asked nor waited for.
            describe(self.loop, parent, left, False, self.tick_value, &request)
            answer.leg_count = 0
            sweep(&request, &answer)
            write_decision(
                self.loop.journal, self.loop.now_ns, parent, &request, &answer, 0.0, self.model_version
            )
            self.send_legs(parent, &request, &answer, True)
            if parent.outstanding > 0:
                return
            self.end_child(parent, False)
        self.end_parent(parent)

    cdef void end_parent(self, WorkingParent* parent) noexcept nogil:
        cdef int64_t left = parent.size_lots - parent.filled_lots
        cdef double fee = <double>parent.fee_nano / (self.tick_value * 1e9)
        check(parent.sent_lots == 0 and parent.outstanding == 0, "a parent ends when its legs have")
        parent.cancelled_lots += parent.open_lots
        parent.open_lots = 0
        parent.version += 1
        # Cancelled lots cost what taking them would cost now.
        self.stats.add_parent(parent, 0.5 * <double>parent.cost_x2 + fee + cost_of_taking(
            self.loop, parent.side, left, parent.arrival_mid_x2, self.tick_value
        ), fee)
        write_parent(
            self.loop.journal, self.loop.now_ns, parent, PARENT_DONE if left == 0 else PARENT_CANCELLED
        )
        parent.active = False

    # Python's side.

    @property
    def window(self):
        """Walk-forward windows begun, after the first."""
        return self.stats.window

    def begin_window(self, int model_version=0):
        """Note that a walk-forward window begins: the router may fix its choices, a new model is live."""
        self.stats.begin_window()
        self.model_version = <uint16_t>model_version
        self.router.begin_window()

    def day_stats(self):
        """Return the statistics by day of arrival, DAY_STATS_DTYPE, shape (groups, day_count)."""
        return self.stats.day_array()

    def lots_by_venue(self):
        """Return filled lots, int64, shape (windows so far + 1, venue_count)."""
        return self.stats.lots_by_venue(self.loop.venue_count)

    def censor(self):
        """Count the decisions that the end of the data left without an outcome."""
        cdef int slot
        for slot in range(PARENT_SLOTS):
            if self.parents[slot].active and self.parents[slot].child_active:
                self.end_child(&self.parents[slot], True)
        return self.censored

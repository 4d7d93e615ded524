"""The simulated venue: arrival, taking, resting, queue position, cancel and expiry of our orders.

Over 400 lines because the three queue models differ in a line here and there of one order's life.

Orders of ours are few, so they hang in one list by arrival; what one of them takes from an event is
gone for the next (two orders never fill from the same lots).
"""

cimport cython
from libc.math cimport isfinite
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from ext.layout cimport (
    ACTION_CANCEL, ACTION_REPLACE, EVENT_ADD, EVENT_CANCEL, EVENT_EXECUTE, EVENT_LEVEL,
    EVENT_QUOTE, EVENT_REDUCE, EVENT_TRADE, FLAG_HIDDEN, FLAG_SNAPSHOT, LIQUIDITY_MAKER, LIQUIDITY_NONE,
    LIQUIDITY_TAKER, ORDER_MARKET, ORDER_POST_ONLY, REASON_BAD_PRICE, REASON_BAD_SIZE, REASON_CAPACITY,
    REASON_DUPLICATE_ID, REASON_END_OF_DATA, REASON_LAST_LOOK, REASON_NO_LIQUIDITY, REASON_NONE,
    REASON_TIME, REASON_UNKNOWN_ORDER, REASON_USER, REASON_WOULD_CROSS, REPORT_ACCEPTED,
    REPORT_CANCELLED, REPORT_EXPIRED, REPORT_FILL, REPORT_REJECTED, TIF_FOK, TIF_IOC,
    ExecutionReport, MarketEvent, OrderCommand, check,
)
from ext.order_book cimport OrderBook, OrderView
from ext.rng cimport draw64

cdef tuple FEES = ("taker_fee_bps", "maker_fee_bps", "taker_fee_per_lot", "maker_fee_per_lot")
QUEUE_MODES = {"flow": QUEUE_FLOW, "optimistic": QUEUE_OPTIMISTIC, "pessimistic": QUEUE_PESSIMISTIC}

cdef double FEE_NANO_MAX = 9e18

# Random streams: what the venue decides about an order, and when aggressors reach its touch.
cdef enum:
    STREAM_LAST_LOOK = 1001
    STREAM_FLOW = 2001
    STREAM_FLOW_SIZE = 3001


cdef inline bint reaches(const OrderCommand* command, int64_t price_ticks) noexcept nogil:
    """Tell whether an order may trade at a price."""
    return command.order_type == ORDER_MARKET or command.side * (price_ticks - command.price_ticks) <= 0


@cython.final
@cython.auto_pickle(False)
cdef class SimulatedVenue:
    """One venue's market with our orders in it.

    Parameters
    ----------
    rules : mapping
        The fields of VenueRules; ``queue_mode`` by name. Shares and probabilities as floats under
        the names ``last_look``, ``last_look_stale``, ``flow``, ``depth_step``, ``depth_size``.
    venue_id : int
    tick_value : float
        Currency per tick and lot.
    seed : int
    book : OrderBook
    """

    def __cinit__(self, rules, *, int venue_id, double tick_value, uint64_t seed, OrderBook book not None):
        cdef uint32_t slot
        self.book = book
        self.venue_id = venue_id
        self.tick_value = tick_value
        self.seed = seed
        memset(&self.rules, 0, sizeof(VenueRules))
        self.rules.order_latency_ns = rules["order_latency_ns"]
        self.rules.order_jitter_ns = rules.get("order_jitter_ns", 0)
        self.rules.ack_latency_ns = rules["ack_latency_ns"]
        self.rules.feed_latency_ns = rules["feed_latency_ns"]
        self.rules.taker_fee_bps = rules.get("taker_fee_bps", 0.0)
        self.rules.maker_fee_bps = rules.get("maker_fee_bps", 0.0)
        self.rules.taker_fee_per_lot = rules.get("taker_fee_per_lot", 0.0)
        self.rules.maker_fee_per_lot = rules.get("maker_fee_per_lot", 0.0)
        self.rules.last_look_q16 = round(rules.get("last_look", 0.0) * 65536)
        self.rules.last_look_stale_q16 = round(rules.get("last_look_stale", 0.0) * 65536)
        self.rules.flow_q16 = round(rules.get("flow", 0.0) * 65536)
        self.rules.depth_levels = rules.get("depth_levels", 0)
        self.rules.depth_step_q8 = round(rules.get("depth_step", 0.0) * 256)
        self.rules.depth_size_q8 = round(rules.get("depth_size", 0.0) * 256)
        self.rules.queue_mode = QUEUE_MODES[rules.get("queue_mode", "flow")]
        self.rules.tick_size_ticks = rules.get("tick_size_ticks", 1)
        if not 0 <= self.rules.depth_levels < OFFER_MAX:
            raise ValueError(f"depth_levels must be 0 to {OFFER_MAX - 1}, was {self.rules.depth_levels}")
        for name in FEES:
            if not isfinite(rules.get(name, 0.0)):
                raise ValueError(f"{name} must be finite, was {rules[name]}")
        if not isfinite(tick_value):
            raise ValueError(f"tick_value must be finite, was {tick_value}")
        for name in ("order_latency_ns", "order_jitter_ns", "ack_latency_ns", "feed_latency_ns"):
            if rules.get(name, 0) < 0:
                raise ValueError(f"{name} must not be negative, was {rules[name]}")
        if self.rules.tick_size_ticks < 1:
            raise ValueError(f"tick_size_ticks must be positive, was {self.rules.tick_size_ticks}")
        self.order_capacity = 1024
        self.orders = <OwnOrder*>calloc(self.order_capacity, sizeof(OwnOrder))
        self.out_capacity = 1024
        self.out = <ExecutionReport*>calloc(self.out_capacity, sizeof(ExecutionReport))
        if self.orders == NULL or self.out == NULL:
            raise MemoryError("SimulatedVenue")
        for slot in range(self.order_capacity):
            self.orders[slot].next = slot + 1 if slot + 1 < self.order_capacity else NO_ORDER
        self.free_list = 0
        self.first = self.last = NO_ORDER

    def __dealloc__(self):
        free(self.orders)
        free(self.out)

    cdef void answer(
        self, const OrderCommand* command, uint8_t kind, uint8_t reason, int64_t ts_ns,
        int64_t size_lots, int64_t leaves_lots, int32_t price_ticks, uint8_t liquidity,
    ) noexcept nogil:
        cdef ExecutionReport* report
        cdef void* grown
        cdef double fee = 0.0, bps, per_lot
        if self.out_count == self.out_capacity:
            # The loop collects after every call, so this grows only inside one sweep of many levels.
            grown = realloc(self.out, 2 * self.out_capacity * sizeof(ExecutionReport))
            if grown == NULL:
                return
            self.out = <ExecutionReport*>grown
            self.out_capacity *= 2
        report = &self.out[self.out_count]
        self.out_count += 1
        memset(report, 0, sizeof(ExecutionReport))
        report.client_order_id = command.client_order_id
        report.ts_ns = ts_ns
        report.size_lots = size_lots
        report.leaves_lots = leaves_lots
        report.price_ticks = price_ticks
        report.instrument_id = command.instrument_id
        report.venue_id = <uint8_t>self.venue_id
        report.kind = kind
        report.side = command.side
        report.reason = reason
        report.liquidity = liquidity
        if kind == REPORT_FILL:
            bps = self.rules.maker_fee_bps if liquidity == LIQUIDITY_MAKER else self.rules.taker_fee_bps
            per_lot = self.rules.taker_fee_per_lot
            if liquidity == LIQUIDITY_MAKER:
                per_lot = self.rules.maker_fee_per_lot
            # Notional in ticks can pass 2^53 only beyond any limit the risk gate lets through.
            fee = <double>price_ticks * <double>size_lots * self.tick_value * bps * 1e5
            fee = (-fee if price_ticks < 0 else fee) + <double>size_lots * per_lot * 1e9
            # Beyond that many nano the cast would be undefined; such a fee is absurd, and stays so.
            fee = min(max(fee, -FEE_NANO_MAX), FEE_NANO_MAX)
            report.fee_nano = <int64_t>(fee + 0.5) if fee >= 0.0 else -<int64_t>(0.5 - fee)

    cdef uint32_t find(self, uint64_t client_order_id) noexcept nogil:
        cdef uint32_t slot = self.first
        while slot != NO_ORDER and self.orders[slot].command.client_order_id != client_order_id:
            slot = self.orders[slot].next
        return slot

    cdef void remove(self, uint32_t slot) noexcept nogil:
        cdef OwnOrder* order = &self.orders[slot]
        if order.previous == NO_ORDER:
            self.first = order.next
        else:
            self.orders[order.previous].next = order.next
        if order.next == NO_ORDER:
            self.last = order.previous
        else:
            self.orders[order.next].previous = order.previous
        order.next = self.free_list
        self.free_list = slot
        self.resting_count -= 1

    # Arrival.

    cdef void arrive(self, const OrderCommand* command, int64_t ts_ns, int64_t market_mid_x2) noexcept nogil:
        """Take one of our commands at the venue's door."""
        cdef uint32_t slot = self.find(command.client_order_id)
        cdef int64_t leaves = command.size_lots
        cdef bint crosses
        if command.action == ACTION_CANCEL:
            if slot == NO_ORDER:
                self.answer(command, REPORT_REJECTED, REASON_UNKNOWN_ORDER, ts_ns, 0, 0, 0, LIQUIDITY_NONE)
            else:
                self.expire(command.client_order_id, ts_ns, REASON_USER)
            return
        if command.action == ACTION_REPLACE:
            if slot == NO_ORDER:
                self.answer(command, REPORT_REJECTED, REASON_UNKNOWN_ORDER, ts_ns, 0, 0, 0, LIQUIDITY_NONE)
                return
            self.remove(slot)          # a replace gives up its place in the queue
        elif slot != NO_ORDER:
            # A resend of an order we have: answer again, change nothing.
            self.answer(
                command, REPORT_ACCEPTED, REASON_DUPLICATE_ID, ts_ns, 0, self.orders[slot].leaves_lots,
                command.price_ticks, LIQUIDITY_NONE,
            )
            return
        if leaves <= 0:
            self.answer(command, REPORT_REJECTED, REASON_BAD_SIZE, ts_ns, leaves, 0, 0, LIQUIDITY_NONE)
            return
        if (
            command.order_type != ORDER_MARKET and command.time_in_force != TIF_IOC
            and command.time_in_force != TIF_FOK and command.price_ticks % self.rules.tick_size_ticks != 0
        ):
            self.answer(
                command, REPORT_REJECTED, REASON_BAD_PRICE, ts_ns, leaves, 0, command.price_ticks,
                LIQUIDITY_NONE,
            )
            return
        if command.side > 0:
            crosses = self.book.ask_size_lots > 0 and (
                command.order_type == ORDER_MARKET or command.price_ticks >= self.book.ask_price_ticks
            )
        else:
            crosses = self.book.bid_size_lots > 0 and (
                command.order_type == ORDER_MARKET or command.price_ticks <= self.book.bid_price_ticks
            )
        if crosses:
            if command.flags & ORDER_POST_ONLY:
                self.answer(command, REPORT_REJECTED, REASON_WOULD_CROSS, ts_ns, leaves, 0, 0, LIQUIDITY_NONE)
                return
            if self.declines(command, market_mid_x2):
                self.answer(command, REPORT_REJECTED, REASON_LAST_LOOK, ts_ns, leaves, 0, 0, LIQUIDITY_NONE)
                return
            self.take(command, &leaves, ts_ns)
        if leaves == 0:
            return
        if (
            command.order_type == ORDER_MARKET or command.time_in_force == TIF_IOC
            or command.time_in_force == TIF_FOK
        ):
            self.answer(command, REPORT_CANCELLED, REASON_NO_LIQUIDITY, ts_ns, leaves, 0, 0, LIQUIDITY_NONE)
            return
        self.rest(command, leaves, ts_ns)

    cdef bint declines(self, const OrderCommand* command, int64_t market_mid_x2) noexcept nogil:
        """Last look: a venue declines at random, and more when its own quote is stale to its loss."""
        cdef uint32_t chance = self.rules.last_look_q16
        cdef int64_t lag_x2, spread
        if self.book.bid_size_lots > 0 and self.book.ask_size_lots > 0:
            spread = <int64_t>self.book.ask_price_ticks - self.book.bid_price_ticks
            lag_x2 = command.side * (market_mid_x2 - self.book.ask_price_ticks - self.book.bid_price_ticks)
            if 2 * lag_x2 > spread:        # the market is a quarter spread beyond the venue's mid
                chance += self.rules.last_look_stale_q16
        return (draw64(self.seed, command.client_order_id, STREAM_LAST_LOOK) & 0xFFFF) < chance

    cdef int offered(self, int side, int32_t* prices, int64_t* sizes) noexcept nogil:
        """Write down what an order of `side` would meet, best first, without what we had of it already.

        Returns the number of levels, at most OFFER_MAX: the book's own, or its touch and the modelled
        levels behind it. A size can be 0.
        """
        cdef int hit = 0 if side > 0 else 1, count, level, deepest
        cdef int64_t used = self.taken_lots[hit], size, price, step
        if self.rules.depth_levels == 0:
            count = self.book.depth(-side, DEPTH_MAX, prices, sizes)
        else:
            size = self.book.ask_size_lots if side > 0 else self.book.bid_size_lots
            price = self.book.ask_price_ticks if side > 0 else self.book.bid_price_ticks
            step = <int64_t>self.book.ask_price_ticks - self.book.bid_price_ticks
            step = max((step * self.rules.depth_step_q8) >> 8, 1)
            # Levels stand at shares of the spread; without another side there is none to share.
            deepest = self.rules.depth_levels
            if self.book.bid_size_lots == 0 or self.book.ask_size_lots == 0:
                deepest = 0
            count = 0
            while size > 0 and count <= deepest and INT32_MIN <= price <= INT32_MAX:
                prices[count] = <int32_t>price
                sizes[count] = size
                price += side * step
                if count == 0:
                    size = (size * self.rules.depth_size_q8) >> 8
                count += 1
        for level in range(count):
            size = sizes[level]
            sizes[level] = size - used if size > used else 0
            used = used - size if used > size else 0
        return count

    cdef void take(self, const OrderCommand* command, int64_t* leaves, int64_t ts_ns) noexcept nogil:
        """Trade with what is offered within the limit."""
        cdef int32_t[OFFER_MAX] prices
        cdef int64_t[OFFER_MAX] sizes
        cdef int level, hit = 0 if command.side > 0 else 1
        cdef int count = self.offered(command.side, prices, sizes)
        cdef int64_t piece, available = 0
        if command.time_in_force == TIF_FOK:
            for level in range(count):
                if reaches(command, prices[level]):
                    available += sizes[level]
            if available < leaves[0]:
                return
        for level in range(count):
            if leaves[0] == 0 or not reaches(command, prices[level]):
                break
            piece = min(sizes[level], leaves[0])
            if piece == 0:
                continue
            leaves[0] -= piece
            self.taken_lots[hit] += piece
            self.answer(
                command, REPORT_FILL, REASON_NONE, ts_ns, piece, leaves[0], prices[level], LIQUIDITY_TAKER
            )

    cdef int64_t ahead_at(self, int side, int32_t price_ticks, int64_t known_lots) noexcept nogil:
        """Return how many lots can be ahead of us at a price; `known_lots` is -1 on arrival.

        At the touch or behind it a level tells. At a price better than the touch nobody is ahead.
        Behind the touch a feed may be blind (quotes, a window of levels): then what we knew stays,
        and on arrival the touch stands in for the level we can't see.
        """
        cdef int64_t level = self.book.level_size(side, price_ticks)
        cdef int64_t touch_size = self.book.bid_size_lots if side > 0 else self.book.ask_size_lots
        cdef int32_t touch = self.book.bid_price_ticks if side > 0 else self.book.ask_price_ticks
        if level == 0 and touch_size > 0 and side * (<int64_t>touch - price_ticks) > 0:
            return touch_size if known_lots < 0 else known_lots
        return level if known_lots < 0 or level < known_lots else known_lots

    cdef void rest(self, const OrderCommand* command, int64_t leaves, int64_t ts_ns) noexcept nogil:
        cdef uint32_t slot = self.free_list
        cdef OwnOrder* order
        if slot == NO_ORDER:
            self.answer(command, REPORT_REJECTED, REASON_CAPACITY, ts_ns, leaves, 0, 0, LIQUIDITY_NONE)
            return
        order = &self.orders[slot]
        self.free_list = order.next
        order.command = command[0]
        order.leaves_lots = leaves
        order.entry_sequence = self.book.resting.entries
        order.ahead_lots = self.ahead_at(command.side, command.price_ticks, -1)
        order.next = NO_ORDER
        order.previous = self.last
        if self.last == NO_ORDER:
            self.first = slot
        else:
            self.orders[self.last].next = slot
        self.last = slot
        self.resting_count += 1
        self.answer(
            command, REPORT_ACCEPTED, REASON_NONE, ts_ns, 0, leaves, command.price_ticks, LIQUIDITY_NONE
        )

    cdef void expire(self, uint64_t client_order_id, int64_t ts_ns, uint8_t reason) noexcept nogil:
        """End a resting order; nothing happens when it is gone already."""
        cdef uint32_t slot = self.find(client_order_id)
        cdef OwnOrder* order
        if slot == NO_ORDER:
            return
        order = &self.orders[slot]
        self.answer(
            &order.command, REPORT_EXPIRED if reason == REASON_TIME else REPORT_CANCELLED, reason, ts_ns,
            order.leaves_lots, 0, order.command.price_ticks, LIQUIDITY_NONE,
        )
        self.remove(slot)

    cdef void end_of_data(self, int64_t ts_ns) noexcept nogil:
        while self.first != NO_ORDER:
            self.expire(self.orders[self.first].command.client_order_id, ts_ns, REASON_END_OF_DATA)

    # Resting orders against the market.

    cdef void fill_resting(self, uint32_t slot, int64_t size_lots, int64_t ts_ns) noexcept nogil:
        cdef OwnOrder* order = &self.orders[slot]
        check(0 < size_lots <= order.leaves_lots, "a fill is positive and within what is left")
        order.leaves_lots -= size_lots
        self.answer(
            &order.command, REPORT_FILL, REASON_NONE, ts_ns, size_lots, order.leaves_lots,
            order.command.price_ticks, LIQUIDITY_MAKER,
        )
        if order.leaves_lots == 0:
            self.remove(slot)

    cdef void before_event(self, const MarketEvent* event) noexcept nogil:
        """See an event before the book does, while the order it names is still there."""
        if self.rules.queue_mode != QUEUE_FLOW and (event.kind == EVENT_CANCEL or event.kind == EVENT_REDUCE):
            self.recorded_leave(event)

    cdef void after_event(self, const MarketEvent* event) noexcept nogil:
        """See an event after the book took it."""
        cdef bint pessimistic = self.rules.queue_mode == QUEUE_PESSIMISTIC
        if event.kind == EVENT_QUOTE:
            self.crossed_by_touch(event)
            if self.rules.queue_mode == QUEUE_FLOW and self.resting_count > 0:
                self.flow_event(event)
        elif event.kind == EVENT_EXECUTE:
            self.recorded_trade(event, event.side, True)
            self.cap_queue(event)
        elif event.kind == EVENT_CANCEL or event.kind == EVENT_REDUCE:
            self.cap_queue(event)
        elif event.kind == EVENT_TRADE:
            # A print names the aggressor; without one, it may have hit either side.
            self.recorded_trade(
                event, -event.side, not (pessimistic and (event.side == 0 or event.flags & FLAG_HIDDEN))
            )
        elif event.kind == EVENT_ADD:
            # An arrival that would have met our order, had the recording had it, trades with us.
            self.recorded_trade(event, -event.side, True)
        elif event.kind == EVENT_LEVEL:
            self.crossed_by_touch(event)

    cdef void recorded_leave(self, const MarketEvent* event) noexcept nogil:
        """An order left the queue: were its lots ahead of ours?"""
        cdef uint32_t slot = self.first
        cdef OwnOrder* order
        cdef OrderView view
        cdef bint known = self.book.find_order(event.order_id, &view), was_ahead
        cdef int64_t gone = event.size_lots
        if known and event.kind == EVENT_CANCEL:
            gone = view.size_lots
        while slot != NO_ORDER:
            order = &self.orders[slot]
            if order.command.side == event.side and order.command.price_ticks == event.price_ticks:
                if known:
                    was_ahead = view.entry < order.entry_sequence
                else:
                    was_ahead = self.rules.queue_mode == QUEUE_OPTIMISTIC
                if was_ahead:
                    order.ahead_lots = order.ahead_lots - gone if order.ahead_lots > gone else 0
            slot = order.next

    cdef void cap_queue(self, const MarketEvent* event) noexcept nogil:
        """No more can be ahead of us than the level still holds."""
        cdef uint32_t slot = self.first
        cdef OwnOrder* order
        while slot != NO_ORDER:
            order = &self.orders[slot]
            if order.command.side == event.side and order.command.price_ticks == event.price_ticks:
                order.ahead_lots = self.ahead_at(event.side, event.price_ticks, order.ahead_lots)
            slot = order.next

    cdef void recorded_trade(self, const MarketEvent* event, int resting_side, bint at_price) noexcept nogil:
        """Lots traded (or would have): through our price always, at our price once the queue is served."""
        cdef uint32_t slot = self.first, following
        cdef OwnOrder* order
        cdef int64_t left = event.size_lots, piece
        cdef int64_t beyond
        while slot != NO_ORDER and left > 0:
            order = &self.orders[slot]
            following = order.next
            beyond = order.command.side * (<int64_t>order.command.price_ticks - event.price_ticks)
            if (
                (resting_side != 0 and order.command.side != resting_side)
                or beyond < 0 or (beyond == 0 and not at_price)
            ):
                slot = following
                continue
            if beyond == 0 and event.kind != EVENT_ADD:
                piece = order.ahead_lots if order.ahead_lots < left else left
                order.ahead_lots -= piece
                # What traded ahead of our first order traded ahead of the next as well: each order
                # counts it from its own queue, so only fills reduce what is left of the print.
                piece = left - piece
            else:
                piece = left
            piece = piece if piece < order.leaves_lots else order.leaves_lots
            if piece > 0:
                left -= piece
                if event.kind == EVENT_ADD:
                    # What traded with us still stands in the recorded book.
                    self.taken_lots[1 if event.side > 0 else 0] += piece
                self.fill_resting(slot, piece, event.ts_ns)
            slot = following

    cdef void crossed_by_touch(self, const MarketEvent* event) noexcept nogil:
        """The opposite touch reached our price: it trades with us, up to what we have not had of it.

        A snapshot tells what stands already; nobody arrives with it.
        """
        cdef uint32_t slot = self.first, following
        cdef OwnOrder* order
        cdef bint arrives = event.flags & FLAG_SNAPSHOT == 0, crossed
        cdef int64_t left, piece
        cdef int hit
        while slot != NO_ORDER:
            order = &self.orders[slot]
            following = order.next
            if order.command.side > 0:
                hit = 0
                left = self.book.ask_size_lots
                crossed = left > 0 and self.book.ask_price_ticks <= order.command.price_ticks
            else:
                hit = 1
                left = self.book.bid_size_lots
                crossed = left > 0 and self.book.bid_price_ticks >= order.command.price_ticks
            left -= self.taken_lots[hit]
            if crossed and arrives and left > 0:
                piece = left if left < order.leaves_lots else order.leaves_lots
                self.taken_lots[hit] += piece
                self.fill_resting(slot, piece, event.ts_ns)
            elif not crossed:
                order.ahead_lots = self.ahead_at(
                    order.command.side, order.command.price_ticks, order.ahead_lots
                )
            slot = following

    cdef void flow_event(self, const MarketEvent* event) noexcept nogil:
        """FLOW: an aggressor may reach the touch of either side of a venue that only quotes."""
        cdef uint32_t slot = self.first, following
        cdef OwnOrder* order
        cdef uint64_t bits = draw64(self.seed, event.seq, STREAM_FLOW + self.venue_id)
        cdef uint64_t share = draw64(self.seed, event.seq, STREAM_FLOW_SIZE + self.venue_id)
        cdef int64_t[2] volume
        cdef int64_t piece
        cdef int index
        # Volume is uniform up to the displayed size; index 0 hits bids, 1 lifts asks.
        volume[0] = volume[1] = 0
        if (bits & 0xFFFF) < self.rules.flow_q16:
            volume[0] = 1 + ((self.book.bid_size_lots * <int64_t>(share & 0xFFFF)) >> 16)
        if ((bits >> 16) & 0xFFFF) < self.rules.flow_q16:
            volume[1] = 1 + ((self.book.ask_size_lots * <int64_t>((share >> 16) & 0xFFFF)) >> 16)
        if volume[0] == 0 and volume[1] == 0:
            return
        while slot != NO_ORDER:
            order = &self.orders[slot]
            following = order.next
            index = 0 if order.command.side > 0 else 1
            if index == 0 and order.command.price_ticks < self.book.bid_price_ticks:
                slot = following
                continue
            if index == 1 and order.command.price_ticks > self.book.ask_price_ticks:
                slot = following
                continue
            piece = order.ahead_lots if order.ahead_lots < volume[index] else volume[index]
            order.ahead_lots -= piece
            piece = volume[index] - piece
            piece = piece if piece < order.leaves_lots else order.leaves_lots
            if piece > 0:
                volume[index] -= piece
                self.fill_resting(slot, piece, event.ts_ns)
            slot = following

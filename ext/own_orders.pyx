"""Our resting orders at one venue: place in the queue, fills, cancel and expiry.

They are few, so they hang in one list by arrival; what one of them takes from an event is gone for the
next (two orders never fill from the same lots).
"""

cimport cython
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from ext.layout cimport (
    EVENT_ADD, EVENT_CANCEL, EVENT_EXECUTE, EVENT_LEVEL, EVENT_QUOTE, EVENT_REDUCE, EVENT_TRADE,
    FLAG_HIDDEN, FLAG_SNAPSHOT, LIQUIDITY_MAKER, LIQUIDITY_NONE, REASON_CAPACITY, REASON_NONE, REASON_TIME,
    REPORT_ACCEPTED, REPORT_CANCELLED, REPORT_EXPIRED, REPORT_FILL, REPORT_REJECTED, ExecutionReport,
    MarketEvent, OrderCommand, check,
)
from ext.order_book cimport OrderBook, OrderView
from ext.rng cimport draw64
from ext.venue_rules cimport QUEUE_FLOW, QUEUE_OPTIMISTIC, QUEUE_PESSIMISTIC, read_rules

cdef double FEE_NANO_MAX = 9e18

# Random streams: when aggressors reach the touch, and with how much.
cdef enum:
    STREAM_FLOW = 2001
    STREAM_FLOW_SIZE = 3001


@cython.auto_pickle(False)
cdef class OwnOrders:
    """What a simulated venue and its orders share; `ext.sim_venue.SimulatedVenue` is the whole."""

    def __cinit__(self, rules, *, int venue_id, double tick_value, uint64_t seed, OrderBook book not None):
        cdef uint32_t slot
        if not isfinite(tick_value):
            raise ValueError(f"tick_value must be finite, was {tick_value}")
        read_rules(rules, &self.rules)
        self.book = book
        self.venue_id = venue_id
        self.tick_value = tick_value
        self.seed = seed
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

    # A resting order's life.

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

    cdef bint queue_at_best(
        self, int side, int32_t* price_ticks, int64_t* ahead, int64_t* level
    ) noexcept nogil:
        """Describe the queue before our best order of a side, the oldest at its price; False: none."""
        cdef uint32_t slot = self.first, best = NO_ORDER
        cdef OwnOrder* order
        while slot != NO_ORDER:
            order = &self.orders[slot]
            if order.command.side == side and (
                best == NO_ORDER
                or side * (<int64_t>order.command.price_ticks - self.orders[best].command.price_ticks) > 0
            ):
                best = slot
            slot = order.next
        if best == NO_ORDER:
            return False
        price_ticks[0] = self.orders[best].command.price_ticks
        ahead[0] = self.orders[best].ahead_lots
        level[0] = self.book.level_size(side, price_ticks[0])
        return True

    cdef void expire(self, uint64_t client_order_id, int64_t ts_ns, uint8_t reason) noexcept nogil:
        """End a resting order; nothing happens when it is gone already."""
        cdef uint32_t slot = self.find(client_order_id)
        if slot != NO_ORDER:
            self.end_order(slot, ts_ns, reason)

    cdef void end_all(self, uint32_t owner, int side, int64_t ts_ns, uint8_t reason) noexcept nogil:
        """End the orders of one owner (0: all) on one side (0: both), oldest first."""
        cdef uint32_t slot = self.first, following
        cdef const OrderCommand* command
        while slot != NO_ORDER:
            following = self.orders[slot].next
            command = &self.orders[slot].command
            if (owner == 0 or command.owner == owner) and (side == 0 or command.side == side):
                self.end_order(slot, ts_ns, reason)
            slot = following

    cdef void end_order(self, uint32_t slot, int64_t ts_ns, uint8_t reason) noexcept nogil:
        cdef OwnOrder* order = &self.orders[slot]
        self.answer(
            &order.command, REPORT_EXPIRED if reason == REASON_TIME else REPORT_CANCELLED, reason, ts_ns,
            order.leaves_lots, 0, order.command.price_ticks, LIQUIDITY_NONE,
        )
        self.remove(slot)

    # Against the market.

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

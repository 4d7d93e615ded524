"""The simulated venue: what becomes of a command at its door."""

cimport cython
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, int64_t, uint32_t

from ext.layout cimport (
    ACTION_CANCEL, ACTION_MASS_CANCEL, ACTION_REPLACE, LIQUIDITY_NONE, LIQUIDITY_TAKER, ORDER_LIMIT,
    ORDER_MARKET, ORDER_POST_ONLY, REASON_BAD_ORDER, REASON_BAD_PRICE, REASON_BAD_SIZE,
    REASON_DUPLICATE_ID, REASON_END_OF_DATA, REASON_LAST_LOOK, REASON_NONE, REASON_NO_LIQUIDITY,
    REASON_UNKNOWN_ORDER, REASON_USER, REASON_WOULD_CROSS, REPORT_ACCEPTED, REPORT_CANCELLED, REPORT_FILL,
    REPORT_REJECTED, TIF_DAY, TIF_FOK, TIF_IOC, OrderCommand,
)
from ext.own_orders cimport NO_ORDER, OwnOrders
from ext.rng cimport draw64
from ext.venue_rules cimport OFFER_MAX

# Random stream: what the venue decides about an order.
cdef enum:
    STREAM_LAST_LOOK = 1001


cdef inline bint is_served(const OrderCommand* command) noexcept nogil:
    """Tell whether the venue does all that an order asks for."""
    return (
        (command.order_type == ORDER_LIMIT or command.order_type == ORDER_MARKET)
        and command.time_in_force != TIF_DAY and command.flags & ~ORDER_POST_ONLY == 0
        and command.display_size_lots == 0 and command.minimum_size_lots == 0
    )


cdef inline bint reaches(const OrderCommand* command, int64_t price_ticks) noexcept nogil:
    """Tell whether an order may trade at a price."""
    return command.order_type == ORDER_MARKET or command.side * (price_ticks - command.price_ticks) <= 0


@cython.final
@cython.auto_pickle(False)
cdef class SimulatedVenue(OwnOrders):
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

    cdef void arrive(self, const OrderCommand* command, int64_t ts_ns, int64_t market_mid_x2) noexcept nogil:
        """Take one of our commands at the venue's door."""
        cdef uint32_t slot = self.find(command.client_order_id)
        cdef int64_t leaves = command.size_lots
        cdef bint crosses
        if command.action == ACTION_MASS_CANCEL:
            self.end_all(command.owner, command.side, ts_ns, REASON_USER)
            return
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
        if not is_served(command):
            self.answer(command, REPORT_REJECTED, REASON_BAD_ORDER, ts_ns, leaves, 0, 0, LIQUIDITY_NONE)
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

    cdef void end_of_data(self, int64_t ts_ns) noexcept nogil:
        self.end_all(0, 0, ts_ns, REASON_END_OF_DATA)

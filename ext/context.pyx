"""What a strategy written in Python sees, and its verbs."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import numpy as np

from ext.feature_set cimport FeatureSet
from ext.features cimport FEATURE_COUNT, VenueTouch, features_fill
from ext.layout cimport (
    ACTION_CANCEL, ACTION_MASS_CANCEL, ACTION_NEW, ACTION_REPLACE, ORDER_LIMIT, ORDER_MARKET,
    ORDER_POST_ONLY, REPORT_ACCEPTED, REPORT_FILL, TIF_GTC, TIF_GTD, TIF_IOC, ExecutionReport, OrderCommand,
)
from ext.order_id cimport pack_order_id
from ext.strategy_orders cimport Order
from ext.tick_path cimport TickPath

cnp.import_array()

cdef enum:
    PARENT_MASK = 0xFFFFFF


@cython.final
@cython.auto_pickle(False)
cdef class Context:
    """What a strategy sees and does; valid inside its callbacks.

    Everything is as known to us: the market as of the last packet received, the position and the open
    orders as of the last report. Verbs take effect when the callback has returned.

    Attributes
    ----------
    tick_value : float
        Currency per tick and lot.
    tick_size_ticks : int
        Resting prices must be a multiple of it.
    timer_tag : int
        In `on_timer`: 0 for the periodic timer, otherwise the tag given to `schedule`.
    """

    def __cinit__(self):
        self.commands = <OrderCommand*>calloc(COMMAND_MAX, sizeof(OrderCommand))
        if self.commands == NULL:
            raise MemoryError("Context")
        self.orders = {}
        self.feature_array = np.zeros(FEATURE_COUNT, dtype=np.float32)

    def __init__(self):
        raise TypeError("a context is made by its agent")

    def __dealloc__(self):
        free(self.commands)

    # The market.

    @property
    def now_ns(self):
        """Our clock, ns since the Unix epoch."""
        return self.loop.now_ns

    @property
    def venue_count(self):
        return self.loop.venue_count

    @property
    def two_sided(self):
        """Whether there is a best bid and a best offer over all venues."""
        return bool(self.loop.features.two_sided)

    @property
    def bid_price_ticks(self):
        """Best bid over all venues; meaningless unless `two_sided`."""
        return self.loop.features.best_bid_ticks

    @property
    def ask_price_ticks(self):
        """Best offer over all venues; meaningless unless `two_sided`."""
        return self.loop.features.best_ask_ticks

    @property
    def bid_size_lots(self):
        """Lots at the best bid, over all venues; 0 unless `two_sided`."""
        return best_size(self.loop, 1)

    @property
    def ask_size_lots(self):
        """Lots at the best offer, over all venues; 0 unless `two_sided`."""
        return best_size(self.loop, -1)

    @property
    def mid_ticks(self):
        """Middle of the best bid and offer, in ticks; NaN unless `two_sided`."""
        return 0.5 * <double>self.loop.features.mid_x2 if self.loop.features.two_sided else float("nan")

    @property
    def spread_ticks(self):
        """Best offer minus best bid; 0 unless `two_sided`, negative where venues cross."""
        if not self.loop.features.two_sided:
            return 0
        return <int64_t>self.loop.features.best_ask_ticks - self.loop.features.best_bid_ticks

    def touch(self, int venue=0):
        """Return (bid price, bid size, ask price, ask size) of one venue; a size of 0 is an absent side."""
        cdef const VenueTouch* touch
        if not 0 <= venue < self.loop.venue_count:
            raise ValueError(f"venue must be below {self.loop.venue_count}, was {venue}")
        touch = &self.loop.features.touch[venue]
        return touch.bid_price_ticks, touch.bid_size_lots, touch.ask_price_ticks, touch.ask_size_lots

    @property
    def features(self):
        """The order-book features, float32, shape (16,), in the order of `ext.features.FEATURE_NAMES`.

        One read-only array, renewed by each access: copy it to keep it.
        """
        features_fill(&self.loop.features, <float*>cnp.PyArray_DATA(self.feature_array))
        view = self.feature_array.view()
        view.flags.writeable = False
        return view

    def fill_features(self, FeatureSet chosen not None, cnp.ndarray out not None):
        """Write chosen features into a float32 array of shape (chosen.size,), such as a model's input.

        Those of `ext.feature_set.ALL_FEATURE_NAMES`: also imbalance over several levels, depletion of the
        best queues, realised volatility and the place of our own orders.
        """
        if (
            cnp.PyArray_TYPE(out) != cnp.NPY_FLOAT32 or not cnp.PyArray_ISCARRAY(out)
            or cnp.PyArray_SIZE(out) != chosen.size
        ):
            raise ValueError(f"needs a writable float32 array of {chosen.size}, was {out.dtype}")
        self.loop.fill_features(chosen, <float*>cnp.PyArray_DATA(out))

    @property
    def signal(self):
        """The model's forecast in [-1, 1]: P(up) - P(down); 0 without a model.

        Asking charges the model's latency to the orders of this callback.
        """
        return self.loop.signal()

    # What is ours.

    @property
    def position_lots(self):
        return self.loop.account.position_lots

    @property
    def equity(self):
        """Cash plus position at mid, after fees, in the instrument's currency."""
        cdef double ticklots = <double>self.loop.account.cash_ticklots
        ticklots += 0.5 * <double>self.loop.features.mid_x2 * <double>self.loop.account.position_lots
        return ticklots * self.tick_value - <double>self.loop.account.fee_nano * 1e-9

    @property
    def open_orders(self):
        """Our orders that may still fill, oldest first; those of this callback included."""
        return tuple(self.orders.values())

    def order(self, client_order_id):
        """Return an open order, or None when it has ended."""
        return self.orders.get(client_order_id)

    # Verbs.

    def buy(
        self, int64_t size_lots, price_ticks=None, *, int venue=0, bint post_only=False, ttl_ns=None,
        bint ioc=False,
    ):
        """Order to buy and return the client order id.

        Parameters
        ----------
        size_lots : int
        price_ticks : int, optional
            Limit; without one it is a market order.
        venue : int
        post_only : bool
            Be refused rather than take.
        ttl_ns : int, optional
            How long it may rest, by our clock; until cancelled if left out.
        ioc : bool
            What does not trade at once is cancelled.

        Returns
        -------
        int
            0 when the data has ended: nothing is sent any more.
        """
        return self.submit(1, size_lots, price_ticks, venue, post_only, ttl_ns, ioc)

    def sell(
        self, int64_t size_lots, price_ticks=None, *, int venue=0, bint post_only=False, ttl_ns=None,
        bint ioc=False,
    ):
        """Order to sell and return the client order id; parameters as in `buy`."""
        return self.submit(-1, size_lots, price_ticks, venue, post_only, ttl_ns, ioc)

    def cancel(self, client_order_id):
        """Ask for an order's end; False when it has ended already.

        Fills may still arrive until the venue answers.
        """
        cdef Order order = self.orders.get(client_order_id)
        cdef OrderCommand* command
        if order is None:
            return False
        if not order.cancelling and not self.closed:
            command = self.next_command()
            command[0] = order.command
            command.action = ACTION_CANCEL
            order.cancelling = True
        return True

    def cancel_all(self):
        """Cancel every open order; return how many there are."""
        for client_order_id in tuple(self.orders):
            self.cancel(client_order_id)
        return len(self.orders)

    def mass_cancel(self, int venue=0, *, int side=0):
        """Ask a venue, in one message, for the end of all our orders there; return how many are open.

        Parameters
        ----------
        venue : int
        side : int
            +1 our buys, -1 our sells, 0 both.
        """
        cdef OrderCommand* command
        cdef Order order
        cdef int open_orders = 0
        if not 0 <= venue < self.loop.venue_count or not -1 <= side <= 1:
            raise ValueError(
                f"venue must be below {self.loop.venue_count} and side -1, 0 or 1, were {venue} and {side}"
            )
        for order in self.orders.values():
            if order.command.venue_id == venue and (side == 0 or order.command.side == side):
                open_orders += 1
                order.cancelling = order.cancelling or not self.closed
        if open_orders and not self.closed:
            command = self.next_command()
            command.action = ACTION_MASS_CANCEL
            command.venue_id = <uint8_t>venue
            command.side = <signed char>side
        return open_orders

    def replace(self, client_order_id, *, size_lots=None, price_ticks=None):
        """Ask for another price or open size; False when the order has ended or is being cancelled.

        It gives up its place in the queue. A refused replace ends the order. A fill that is on its way
        comes on top of the new size: where that matters, cancel and wait for the answer.

        Parameters
        ----------
        size_lots : int, optional
            What shall be open from then on, whatever has filled before.
        price_ticks : int, optional
        """
        cdef Order order = self.orders.get(client_order_id)
        cdef OrderCommand* command
        if order is None or order.cancelling or self.closed:
            return False
        if order.command.order_type == ORDER_MARKET:
            raise ValueError("a market order can not be replaced")
        if size_lots is not None and size_lots <= 0:
            raise ValueError(f"size_lots must be positive, was {size_lots}")
        command = self.next_command()
        command[0] = order.command
        command.action = ACTION_REPLACE
        command.size_lots = order.leaves_lots if size_lots is None else size_lots
        if price_ticks is not None:
            command.price_ticks = price_ticks
        return True

    def schedule(self, int64_t ts_ns, uint64_t tag=1):
        """Call `on_timer` once when our clock says `ts_ns` (at the earliest a nanosecond from now).

        Parameters
        ----------
        ts_ns : int
        tag : int
            1 to 2^63 - 1; the callback finds it in `timer_tag`.
        """
        if not 1 <= tag < <uint64_t>1 << 63:
            raise ValueError(f"tag must be 1 to 2**63 - 1, was {tag}")
        if not self.closed:
            self.loop.schedule(max(ts_ns, self.loop.now_ns + 1), tag)

    # Their machinery.

    cdef OrderCommand* next_command(self) except NULL:
        cdef OrderCommand* command = &self.commands[self.command_count]
        if self.command_count == COMMAND_MAX:
            raise RuntimeError(
                f"at most {COMMAND_MAX} commands at one instant; is a refused order sent again at once?"
            )
        self.command_count += 1
        memset(command, 0, sizeof(OrderCommand))
        return command

    cdef submit(self, int side, int64_t size_lots, price_ticks, int venue, bint post_only, ttl_ns, bint ioc):
        cdef OrderCommand* command
        cdef Order order
        if size_lots <= 0:
            raise ValueError(f"size_lots must be positive, was {size_lots}")
        if not 0 <= venue < self.loop.venue_count:
            raise ValueError(f"venue must be below {self.loop.venue_count}, was {venue}")
        if post_only and (price_ticks is None or ioc):
            raise ValueError("post_only needs a limit price and excludes ioc")
        if ttl_ns is not None and (ttl_ns <= 0 or price_ticks is None or ioc):
            raise ValueError(f"ttl_ns must be positive, for a limit order without ioc, was {ttl_ns}")
        expire_ns = 0 if ttl_ns is None else int(self.loop.now_ns) + int(ttl_ns)
        if expire_ns > INT64_MAX:
            raise ValueError(f"ttl_ns must end within 64 bits of ns, before the year 2262, was {ttl_ns}")
        if self.closed:
            return 0
        command = self.next_command()
        self.order_count += 1
        # Beyond 2^24 orders the count goes on in the leg.
        command.client_order_id = pack_order_id(
            self.run_id, <uint32_t>(self.order_count & PARENT_MASK), <uint32_t>(self.order_count >> 24), 0
        )
        command.action = ACTION_NEW
        command.ts_ns = self.loop.now_ns
        command.side = <signed char>side
        command.size_lots = size_lots
        command.venue_id = <uint8_t>venue
        command.flags = ORDER_POST_ONLY if post_only else 0
        command.time_in_force = TIF_IOC if ioc or price_ticks is None else TIF_GTC
        command.order_type = ORDER_MARKET
        if price_ticks is not None:
            command.order_type = ORDER_LIMIT
            command.price_ticks = price_ticks
        if ttl_ns is not None:
            command.time_in_force = TIF_GTD
            command.expire_ns = expire_ns
        order = Order.__new__(Order)
        order.command = command[0]
        order.leaves_lots = size_lots
        self.orders[command.client_order_id] = order
        return command.client_order_id

    cdef void settle(self, const ExecutionReport* report):
        """Bring the open orders up to date."""
        cdef Order order = self.orders.get(report.client_order_id)
        if order is None:
            return
        if report.kind == REPORT_ACCEPTED:
            order.accepted = True
            order.leaves_lots = report.leaves_lots
        elif report.kind == REPORT_FILL and report.leaves_lots > 0:
            order.leaves_lots = report.leaves_lots
        else:
            del self.orders[report.client_order_id]


cdef int64_t best_size(TickPath loop, int side):
    cdef int venue
    cdef int64_t lots = 0
    cdef const VenueTouch* touch
    if not loop.features.two_sided:
        return 0
    for venue in range(loop.venue_count):
        touch = &loop.features.touch[venue]
        if side > 0 and touch.bid_price_ticks == loop.features.best_bid_ticks:
            lots += touch.bid_size_lots
        elif side < 0 and touch.ask_price_ticks == loop.features.best_ask_ticks:
            lots += touch.ask_size_lots
    return lots

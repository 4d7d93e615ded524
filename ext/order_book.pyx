"""One venue's book of one instrument, built from its feed: by quote, by level or by order.

Over 400 lines because one class answers for every kind of feed, and a third of it is documentation.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from .book_fetch cimport FETCH_EVENTS, FETCH_ORDERS_MIN, FetchLists, fetch_begin, fetch_home, fetch_large_book
from .book_memory cimport BookMemory
from .book_order cimport apply_by_order, replace_level, side_of
from .book_snapshot cimport EventWriter, write_book
from .branch_hint cimport unlikely
from .event_array cimport events_empty, events_pointer
from .layout cimport (
    EVENT_CLEAR,
    MarketEvent,
    cycle_stamp,
    monotonic_ns,
)
from .order_index cimport Order
from .price_index cimport price_of
from .resting_book cimport (
    ASK,
    BID,
    Level,
    OrderSeat,
    book_close,
    book_hash,
    book_open,
    level_behind,
    level_find,
    mix,
    order_seek,
)

cnp.import_array()

cdef Py_ssize_t CAPACITY_MAX = 1 << 30

cdef enum:
    DEPTH_ROWS_MIN = 16


cdef inline void apply_events(OrderBook book, const MarketEvent* events, Py_ssize_t count) noexcept nogil:
    cdef FetchLists lists
    cdef Py_ssize_t first = 0, row, some
    while first < count:
        some = min(count - first, <Py_ssize_t>FETCH_EVENTS)
        if book.resting.order_count >= FETCH_ORDERS_MIN:
            fetch_begin(&lists)
            for row in range(first, first + some):
                fetch_home(&lists, &book.resting, events + row)
            fetch_large_book(&lists)
        for row in range(first, first + some):
            book_apply(book, events + row)
        first += some


cdef int replace_state(OrderBook book, const MarketEvent* events, Py_ssize_t count) except -1:
    """Apply events to the emptied book. 0 where it took issue with one; the counters are as before."""
    cdef uint64_t applied = book.applied, crossed = book.crossed, refused = book.refused
    cdef uint64_t unknown = book.unknown_orders, duplicate = book.duplicate_orders, lost = book.lost
    cdef MarketEvent clear
    cdef bint taken, complete
    memset(&clear, 0, sizeof(MarketEvent))
    clear.kind = EVENT_CLEAR
    book.memory.enter()
    with nogil:
        book_apply(book, &clear)
        apply_events(book, events, count)
    taken = (
        book.refused == refused and book.unknown_orders == unknown and book.duplicate_orders == duplicate
    )
    complete = book.lost == lost
    if not complete:
        book_apply(book, &clear)
    book.applied, book.crossed, book.refused, book.lost = applied, crossed, refused, lost
    book.unknown_orders, book.duplicate_orders = unknown, duplicate
    book.memory.leave()
    if not complete:
        raise MemoryError(f"no memory for a book of {count} events")
    return taken


cdef int require_side(int side) except -1:
    if side == 1:
        return BID
    if side == -1:
        return ASK
    raise ValueError(f"side must be +1 for bids or -1 for asks, was {side}")


# The collector may clear what an object refers to before it frees it, and the memory must outlive the book.
@cython.no_gc
@cython.final
@cython.auto_pickle(False)
cdef class OrderBook:
    """One venue's book of one instrument, built from its feed.

    The kinds of event mean, for identified orders (L3), levels (L2) and quotes (L1):

    ADD
        An order joins the end of its level's queue. A second ADD of a live id is counted in
        `duplicate_orders` and changes nothing; id 0 adds to the level only.
    REDUCE, EXECUTE, CANCEL
        The order, and its level's total, lose `size_lots` (CANCEL: all it had left), at the price
        and side it was added with. An id never announced is counted in `unknown_orders` and lowers the
        level at the event's price; id 0 does that without being counted.
    LEVEL
        The total of a level is now `size_lots`; 0 removes it with its orders. A total below
        the sum of the identified orders stands as given, and the orders stay.
    QUOTE
        Sets the touch alone. The next event that concerns a side's levels takes that side's touch
        back from them. A side without levels answers depth questions from its quote.
    CLEAR
        Empties the book.
    TRADE, STATUS, and order events flagged HIDDEN
        Change nothing.

    A level's total never goes below 0; at 0 the level leaves with the orders still on it. Events
    that break a rule (no side, a size that is not 1 to 2^48 lots, a level of more than 2^62, an unknown
    kind) change nothing and are counted in `refused`. Any int32 price is legal, negative ones too. While
    one thread works on the book without the GIL, every call from another is refused with RuntimeError.

    Parameters
    ----------
    order_capacity, level_capacity : int
        Live orders and levels that fit without allocating. Beyond, the pools double.
    memory : BookMemory, optional
        Shared with other books; without it the book has its own.

    Attributes
    ----------
    bid_price_ticks, ask_price_ticks : int
        The touch; 0 where the side is empty.
    bid_size_lots, ask_size_lots : int
        Lots at the touch; 0 where the side is empty.
    applied : int
        Events given to the book, of every kind.
    crossed : int
        Events ending a packet (LAST_IN_PACKET) after which bid >= ask.
    lost : int
        Events dropped because memory ran out; the book is then wrong.
    """

    def __cinit__(
        self, Py_ssize_t order_capacity=65_536, Py_ssize_t level_capacity=4_096, BookMemory memory=None
    ):
        if not 0 < order_capacity <= CAPACITY_MAX:
            raise ValueError(f"order_capacity must be 1 to {CAPACITY_MAX}, was {order_capacity}")
        if not 0 < level_capacity <= CAPACITY_MAX:
            raise ValueError(f"level_capacity must be 1 to {CAPACITY_MAX}, was {level_capacity}")
        self.memory = BookMemory() if memory is None else memory
        self.memory.require_idle()
        self.resting.arena = &self.memory.arena
        self.resting.owner = self.memory.number_owner()
        self.resting.window = self.memory.window if self.resting.owner else NULL
        if not book_open(&self.resting, order_capacity, level_capacity):
            raise MemoryError(f"no memory for a book of {order_capacity} orders, {level_capacity} levels")
        self.depth_rows = [None, None]

    def __dealloc__(self):
        book_close(&self.resting)

    cdef void apply_other(self, const MarketEvent* event) noexcept nogil:
        if unlikely(self.resting.window != NULL):
            self.memory.apply_windowed(<PyObject*>self, event)
        else:
            apply_by_order(self, event, False)

    cdef void set_level(self, const MarketEvent* event) noexcept nogil:
        self.applied += 1
        replace_level(self, event, side_of(event))
        count_crossed(self, event)

    cdef int64_t level_size(self, int side, int32_t price_ticks) noexcept nogil:
        """Return the lots on side +1 or -1 at a price; 0 where there is no level."""
        cdef int index = BID if side > 0 else ASK
        if self.resting.best[index]:
            return self.resting.levels[level_find(&self.resting, index, price_ticks)].total_lots
        if index == BID:
            return self.bid_size_lots if price_ticks == self.bid_price_ticks else 0
        return self.ask_size_lots if price_ticks == self.ask_price_ticks else 0

    cdef int depth(self, int side, int count, int32_t* prices, int64_t* sizes) noexcept nogil:
        """Write at most `count` levels of side +1 or -1, best first; return how many there are."""
        cdef int index = BID if side > 0 else ASK
        cdef uint32_t level = self.resting.best[index]
        cdef int written = 0
        if level == 0 and count > 0:
            prices[0] = self.bid_price_ticks if index == BID else self.ask_price_ticks
            sizes[0] = self.bid_size_lots if index == BID else self.ask_size_lots
            return sizes[0] > 0
        while level and written < count:
            prices[written] = price_of(self.resting.levels[level].rank, index)
            sizes[written] = self.resting.levels[level].total_lots
            written += 1
            level = level_behind(&self.resting, level)
        return written

    cdef bint find_order(self, uint64_t order_id, OrderView* out) noexcept nogil:
        """Describe a live order; False when the book has none of that id."""
        cdef OrderSeat seat
        cdef uint32_t number = order_seek(&self.resting, order_id, &seat) if order_id else 0
        cdef const Order* order = &self.resting.orders[number]
        cdef const Level* level = &self.resting.levels[order.level]
        if number == 0:
            return False
        # Only the low half is kept: right while an order rests for fewer than 2^32 entries.
        out.entry = self.resting.entries - <uint32_t>(<uint32_t>self.resting.entries - order.mark)
        out.size_lots = order.size_lots
        out.price_ticks = price_of(level.rank, level.side)
        out.side = 1 if level.side == BID else -1
        return True

    @property
    def live_orders(self):
        """Identified orders in the book."""
        return self.resting.order_count

    @property
    def entries(self):
        """Identified orders ever entered; `entry` of the next one."""
        return self.resting.entries

    def level_count(self, int side):
        """Return the number of levels on side +1 or -1."""
        return self.resting.level_count[require_side(side)]

    def apply(self, cnp.ndarray events not None):
        """Apply events in order, without the GIL; return how many there were.

        Parameters
        ----------
        events : array of EVENT_DTYPE, shape (n,)
            Of one venue and instrument; the book does not look at either.

        Raises
        ------
        MemoryError
            If memory ran out: the events counted in `lost` are missing from the book.
        """
        cdef const MarketEvent* first = events_pointer(events)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(events)
        cdef uint64_t lost_before = self.lost
        self.memory.enter()
        with nogil:
            apply_events(self, first, count)
        self.memory.leave()
        if self.lost != lost_before:
            raise MemoryError(f"no memory for {self.lost - lost_before} of {count} events")
        return count

    def time_events(self, cnp.ndarray events not None):
        """Apply events as `apply` does, and return what each took, for benchmarks.

        Returns
        -------
        array of float64, shape (n,)
            Nanoseconds, with a reading of the processor's clock in each; they sum up to the whole.
        """
        cdef const MarketEvent* first = events_pointer(events)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(events), row
        stamps = np.zeros(count + 1, np.uint64)
        cdef uint64_t[::1] stamp = stamps
        cdef int64_t begun_ns = monotonic_ns(), ended_ns
        self.memory.require_idle()
        stamp[0] = cycle_stamp()
        for row in range(count):
            book_apply(self, first + row)
            stamp[row + 1] = cycle_stamp()
        ended_ns = monotonic_ns()
        stamps -= stamps[0]
        return np.diff(stamps) * (<double>(ended_ns - begun_ns) / max(int(stamps[count]), 1))

    def size_at(self, int side, int32_t price_ticks):
        """Return the lots on side +1 or -1 at a price; 0 where there is no level."""
        self.memory.require_idle()
        require_side(side)
        return self.level_size(side, price_ticks)

    def depth_array(self, int side, int count):
        """Return the best levels of one side.

        Parameters
        ----------
        side : int
            +1 for bids, -1 for asks.
        count : int
            Levels wanted at most.

        Returns
        -------
        array of int64, shape (n, 2)
            Price in ticks and size in lots, best first.
        """
        cdef int index = require_side(side)
        self.memory.require_idle()
        if count < 0:
            raise ValueError(f"count must not be negative, was {count}")
        cdef int rows = min(count, max(<int>self.resting.level_count[index], 1))
        prices = np.empty(rows, np.int32)
        sizes = np.empty(rows, np.int64)
        rows = self.depth(side, rows, <int32_t*>cnp.PyArray_DATA(prices), <int64_t*>cnp.PyArray_DATA(sizes))
        return np.column_stack((prices[:rows], sizes[:rows]))

    def depth_view(self, int side, int count):
        """Return the best levels of one side as a view of memory that the book owns.

        Nothing is allocated but the view itself once `count` was asked for before. The next call for the same
        side overwrites the rows.

        Parameters
        ----------
        side : int
            +1 for bids, -1 for asks.
        count : int
            Levels wanted at most.

        Returns
        -------
        array of int64, shape (n, 2)
            Price in ticks and size in lots, best first; read-only.
        """
        cdef int index = require_side(side), rows = 0
        cdef uint32_t level
        self.memory.require_idle()
        if count < 0:
            raise ValueError(f"count must not be negative, was {count}")
        level = self.resting.best[index]
        held = self.depth_rows[index]
        if held is None or len(held) < count:
            held = self.depth_rows[index] = np.empty((max(count, DEPTH_ROWS_MIN), 2), np.int64)
        cdef int64_t* out = <int64_t*>cnp.PyArray_DATA(<cnp.ndarray>held)
        if level == 0 and count > 0:
            out[0] = self.bid_price_ticks if index == BID else self.ask_price_ticks
            out[1] = self.bid_size_lots if index == BID else self.ask_size_lots
            rows = out[1] > 0
        while level and rows < count:
            out[2 * rows] = price_of(self.resting.levels[level].rank, index)
            out[2 * rows + 1] = self.resting.levels[level].total_lots
            rows += 1
            level = level_behind(&self.resting, level)
        view = held[:rows]
        view.flags.writeable = False
        return view

    def queue_array(self, int side, int32_t price_ticks):
        """Return the identified orders of one level, first to trade first.

        Returns
        -------
        array of uint64, shape (n, 2)
            Order id and the lots it has left.
        """
        cdef uint32_t level, order
        self.memory.require_idle()
        level = level_find(&self.resting, require_side(side), price_ticks)
        order = self.resting.levels[level].first if level else 0
        rows = []
        while order:
            rows.append((self.resting.orders[order].order_id, self.resting.orders[order].size_lots))
            order = self.resting.orders[order].next
        return np.array(rows, np.uint64).reshape(-1, 2)

    def order(self, uint64_t order_id):
        """Return a live order as ``{entry, size_lots, price_ticks, side}``, or None."""
        cdef OrderView view
        self.memory.require_idle()
        if self.find_order(order_id, &view):
            return view
        return None

    def snapshot(self):
        """Return the events that make this book again, from an empty one.

        Returns
        -------
        array of EVENT_DTYPE, shape (n,)
            One per identified order, level without orders and quote; times and numbers are 0. `restore` and
            `apply` both take them.
        """
        cdef EventWriter out
        self.memory.require_idle()
        out.events, out.count = NULL, 0
        write_book(&out, self)
        events = events_empty(out.count)
        out.events, out.count = <MarketEvent*>cnp.PyArray_DATA(events), 0
        write_book(&out, self)
        return events

    def restore(self, cnp.ndarray events not None):
        """Replace the book's state by what events from `snapshot` make; the counters stay.

        `state_hash()` is then that of the book the snapshot was taken of; `entry` counts from here.

        Parameters
        ----------
        events : array of EVENT_DTYPE, shape (n,)

        Raises
        ------
        ValueError
            An event breaks a rule of the book, which then stands as it stood before.
        MemoryError
            If memory ran out; the book is then empty.
        """
        cdef const MarketEvent* first = events_pointer(events)
        before = self.snapshot()
        if replace_state(self, first, cnp.PyArray_SIZE(events)):
            return
        replace_state(self, events_pointer(before), cnp.PyArray_SIZE(before))
        raise ValueError("a snapshot must hold events that an empty book takes, was otherwise")

    def state_hash(self):
        """Return 64 bits that identify the touch, every level, and every order in its place.

        Two books with the same state have the same hash however they came to it: counters,
        capacities and entry numbers stay out of it.
        """
        cdef uint64_t state
        self.memory.enter()
        with nogil:
            state = book_hash(&self.resting)
            state = mix(state, <uint64_t><int64_t>self.bid_price_ticks)
            state = mix(state, self.bid_size_lots)
            state = mix(state, <uint64_t><int64_t>self.ask_price_ticks)
            state = mix(state, self.ask_size_lots)
        self.memory.leave()
        return state

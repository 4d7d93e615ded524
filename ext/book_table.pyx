"""Books of many instruments, and events completed from them.

Feeds by order name an order by its id alone when it trades or leaves. Strategies and queue models want
to know where that was, so each event is completed from the book of its instrument before it is
applied there. One pass does both, without the GIL, looking a few events ahead of itself.
"""

cimport cython
cimport numpy as cnp
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from .event_array cimport events_pointer
from .layout cimport EVENT_ADD, EVENT_CANCEL, EVENT_EXECUTE, FLAG_HIDDEN, MarketEvent
from .order_book cimport OrderBook, book_apply
from .order_index cimport Order, order_index_guess, order_index_home
from .price_index cimport LEAF_BITS, LEAF_SLOTS, PriceIndex, price_of, rank_of
from .resting_book cimport ASK, BID, order_find

from .order_book import OrderBook as MadeBook

cnp.import_array()

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void* line) noexcept nogil

cdef enum:
    INSTRUMENTS = 65_536
    # How many events ahead each step of an event's walk is asked for.
    FAR = 18
    MIDDLE = 12
    NEAR = 6


@cython.final
@cython.auto_pickle(False)
cdef class BookTable:
    """One book per instrument_id, made when its first event comes.

    Parameters
    ----------
    order_capacity, level_capacity : int
        Of each book, as for `OrderBook`; they grow.

    Attributes
    ----------
    unknown_orders : int
        Events that named an order no book has. They are left as they were.
    overdrawn : int
        Events that took more from an order than it had left; the book takes what there is.
    duplicate_orders : int
        ADDs of a live id.
    first_fault : int or None
        ``seq`` of the first event that named an unknown order or took too much.
    """

    cdef readonly uint64_t unknown_orders
    cdef readonly uint64_t overdrawn
    cdef int64_t first_seq
    cdef uint64_t lost          # not 0 once a book ran out of memory
    cdef PyObject** books       # borrowed from `made`
    cdef dict made
    cdef Py_ssize_t order_capacity
    cdef Py_ssize_t level_capacity

    def __cinit__(self, Py_ssize_t order_capacity=64, Py_ssize_t level_capacity=64):
        self.books = <PyObject**>calloc(INSTRUMENTS, sizeof(void*))
        if self.books == NULL:
            raise MemoryError("no memory for a table of books")
        self.made = {}
        self.first_seq = -1
        self.order_capacity, self.level_capacity = order_capacity, level_capacity

    def __dealloc__(self):
        free(self.books)

    @property
    def duplicate_orders(self):
        return sum(book.duplicate_orders for book in self.made.values())

    @property
    def first_fault(self):
        return self.first_seq if self.first_seq >= 0 else None

    @property
    def crossed(self):
        """Events ending a packet after which their book had bid >= ask."""
        return sum(book.crossed for book in self.made.values())

    def book(self, int instrument_id):
        """Return the book of an instrument, made if need be."""
        if not 0 <= instrument_id < INSTRUMENTS:
            raise ValueError(f"instrument_id must fit 16 bits, was {instrument_id}")
        self.require(instrument_id)
        return self.made[instrument_id]

    def instruments(self):
        """Return the ids that have a book."""
        return sorted(self.made)

    cdef int require(self, int instrument_id) except -1:
        if self.books[instrument_id] == NULL:
            book = MadeBook(self.order_capacity, self.level_capacity)
            self.made[instrument_id] = book
            self.books[instrument_id] = <PyObject*>book
        return 0

    def complete(self, cnp.ndarray events not None):
        """Fill in what events leave out, in place, and apply them; return how many orders were unknown.

        EXECUTE and REDUCE get the order's side, and its price where they have none; CANCEL gets side,
        price and all the order had left; an ADD without a side, which follows the CANCEL it replaces
        in the same array, gets that one's.

        Parameters
        ----------
        events : array of EVENT_DTYPE, shape (n,)
            Writable.

        Raises
        ------
        MemoryError
            If memory ran out for a book.
        """
        cdef MarketEvent* first = <MarketEvent*>events_pointer(events)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(events)
        cdef uint64_t unknown_before = self.unknown_orders
        if not cnp.PyArray_ISWRITEABLE(events):
            raise ValueError("events must be writable, was read-only")
        # Books are made before the GIL goes: a pass over 16-bit ids is cheap beside the books.
        cdef Py_ssize_t row
        for row in range(count):
            if self.books[first[row].instrument_id] == NULL:
                self.require(first[row].instrument_id)
        with nogil:
            complete_events(self, first, count)
        if self.lost:
            raise MemoryError(f"no memory for an event of instruments {self.instruments()[:8]} or others")
        return self.unknown_orders - unknown_before


cdef void complete_events(BookTable self, MarketEvent* events, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t row
    cdef MarketEvent* event
    for row in range(count):
        event = events + row
        if row + FAR < count:
            want_bucket(self.books[event[FAR].instrument_id], event + FAR)
            want_order(self.books[event[MIDDLE].instrument_id], event + MIDDLE)
            want_level(self.books[event[NEAR].instrument_id], event + NEAR)
        book_complete(self, self.books[event.instrument_id], event, row > 0)
        self.lost |= (<OrderBook>self.books[event.instrument_id]).lost


# A book of thousands of orders lies in memory, not in the cache, and an event walks from its id's slot to
# its order to its level. Each step is asked for before the next one needs it. What is found there
# now may have changed by then: a hint can be wrong, never the book.

cdef inline void want_bucket(PyObject* known, const MarketEvent* event) noexcept nogil:
    prefetch(order_index_home(&(<OrderBook>known).resting.by_id, event.order_id))


cdef inline uint32_t order_guess(PyObject* known, const MarketEvent* event) noexcept nogil:
    return order_index_guess(
        order_index_home(&(<OrderBook>known).resting.by_id, event.order_id), event.order_id
    )


cdef inline void want_order(PyObject* known, const MarketEvent* event) noexcept nogil:
    cdef uint32_t number = order_guess(known, event)
    if event.kind == EVENT_ADD:
        number = (<OrderBook>known).resting.free_order
        if event.side:
            want_price(known, BID if event.side > 0 else ASK, event.price_ticks)
    prefetch(&(<OrderBook>known).resting.orders[number])


cdef inline void want_level(PyObject* known, const MarketEvent* event) noexcept nogil:
    cdef uint32_t number
    cdef const Order* order
    if event.kind != EVENT_ADD:
        number = order_guess(known, event)
        order = &(<OrderBook>known).resting.orders[number]
        prefetch(&(<OrderBook>known).resting.levels[order.level])
        prefetch(&(<OrderBook>known).resting.orders[order.previous])
        prefetch(&(<OrderBook>known).resting.orders[order.next])
    elif event.side:
        number = price_guess(known, BID if event.side > 0 else ASK, event.price_ticks)
        prefetch(&(<OrderBook>known).resting.levels[number])
        prefetch(&(<OrderBook>known).resting.orders[(<OrderBook>known).resting.levels[number].last])


cdef inline uint32_t price_guess(PyObject* known, int side, int32_t price_ticks) noexcept nogil:
    """Return the level of a price in the leaf used last, or 0."""
    cdef const PriceIndex* index = &(<OrderBook>known).resting.prices[side]
    cdef uint32_t rank = rank_of(price_ticks, side)
    if index.leaf == NULL or index.leaf_key != rank >> LEAF_BITS:
        return 0
    return index.leaf.levels[rank & (LEAF_SLOTS - 1)]


cdef inline void want_price(PyObject* known, int side, int32_t price_ticks) noexcept nogil:
    cdef const PriceIndex* index = &(<OrderBook>known).resting.prices[side]
    cdef uint32_t rank = rank_of(price_ticks, side)
    if index.leaf != NULL:
        prefetch(&index.leaf.levels[rank & (LEAF_SLOTS - 1)])


cdef void note_fault(BookTable self, const MarketEvent* event) noexcept nogil:
    if self.first_seq < 0:
        self.first_seq = event.seq


cdef inline void book_complete(
    BookTable self, PyObject* known, MarketEvent* event, bint follows
) noexcept nogil:
    cdef uint32_t number
    cdef const Order* order
    if EVENT_CANCEL <= event.kind <= EVENT_EXECUTE and event.flags & FLAG_HIDDEN == 0 and event.order_id:
        number = order_find(&(<OrderBook>known).resting, event.order_id)
        if number == 0:
            self.unknown_orders += 1
            note_fault(self, event)
        else:
            order = &(<OrderBook>known).resting.orders[number]
            event.side = 1 if (<OrderBook>known).resting.levels[order.level].side == BID else -1
            if event.price_ticks == 0:
                event.price_ticks = price_of(
                    (<OrderBook>known).resting.levels[order.level].rank,
                    (<OrderBook>known).resting.levels[order.level].side,
                )
            if event.kind == EVENT_CANCEL:
                event.size_lots = order.size_lots
            if event.size_lots > order.size_lots:
                self.overdrawn += 1
                note_fault(self, event)
    elif event.kind == EVENT_ADD and event.side == 0 and follows:
        if (event - 1).kind == EVENT_CANCEL and (event - 1).instrument_id == event.instrument_id:
            event.side = (event - 1).side
    book_apply(<OrderBook>known, event)

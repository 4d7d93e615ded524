"""Books of many instruments, and events completed from them.

Feeds by order name an order by its id alone when it trades or leaves. Strategies and queue models want
to know where that was, so each event is completed from the book of its instrument before it is
applied there. One pass does both, without the GIL, looking a few events ahead of itself.
"""

cimport cython
cimport numpy as cnp
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from .book_fetch cimport (
    FETCH_EVENTS,
    FetchLists,
    fetch,
    fetch_begin,
    fetch_home,
    fetch_join,
    fetch_many_books,
)
from .book_memory cimport BookMemory
from .book_order cimport add_order, apply_by_order, lower_known, side_of
from .event_array cimport events_pointer
from .layout cimport EVENT_ADD, EVENT_CANCEL, EVENT_EXECUTE, FLAG_HIDDEN, MarketEvent
from .order_book cimport OrderBook, book_apply, count_crossed
from .order_index cimport Order
from .order_window cimport window_place, window_take
from .price_index cimport price_of
from .resting_book cimport Level, OrderSeat, RestingBook, order_seek, window_join

from .order_book import OrderBook as MadeBook

cnp.import_array()

cdef enum:
    INSTRUMENTS = 65_536
    BOOK_LINES = 6              # of an OrderBook, that events by order touch
    REVIEW_ENTRIES = 64
    NEAR_IDS = 16               # for each order entered: ids this close are worth a window


@cython.final
@cython.auto_pickle(False)
cdef class BookTable:
    """One book per instrument_id, made when its first event comes.

    An order id may be live in several books, and names an order of its event's instrument.

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
    ids_counted : bool
        Whether order ids proved to be counted through all books, which then share one table of them.
    first_fault : int or None
        ``seq`` of the first event that named an unknown order or took too much.
    """

    cdef readonly uint64_t unknown_orders
    cdef readonly uint64_t overdrawn
    cdef int64_t first_seq
    cdef uint64_t lost          # not 0 where a book that ran out of memory, now or before, had an event
    cdef uint64_t lost_told     # of the events that books lost, those an exception told of
    cdef PyObject** books       # borrowed from `made`
    cdef dict made
    cdef BookMemory memory
    cdef Py_ssize_t order_capacity
    cdef Py_ssize_t level_capacity
    cdef uint64_t reviewed_id   # of the first ADD since ids were judged last
    cdef uint64_t reviewed_entries

    def __cinit__(self, Py_ssize_t order_capacity=64, Py_ssize_t level_capacity=64):
        self.books = <PyObject**>calloc(INSTRUMENTS, sizeof(void*))
        if self.books == NULL:
            raise MemoryError("no memory for a table of books")
        self.made = {}
        self.memory = BookMemory()
        self.first_seq = -1
        self.order_capacity, self.level_capacity = order_capacity, level_capacity

    def __dealloc__(self):
        free(self.books)

    @property
    def duplicate_orders(self):
        return sum(book.duplicate_orders for book in self.made.values())

    @property
    def ids_counted(self):
        return self.memory.window != NULL

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
            book = MadeBook(self.order_capacity, self.level_capacity, self.memory)
            self.made[instrument_id] = book
            self.books[instrument_id] = <PyObject*>book
        return 0

    cdef int tell_loss(self, Py_ssize_t count) except -1:
        cdef uint64_t total = sum([book.lost for book in self.made.values()])
        cdef uint64_t now = total - self.lost_told
        self.lost, self.lost_told = 0, total
        if now:
            wrong = [instrument for instrument in self.instruments() if self.made[instrument].lost]
            raise MemoryError(
                f"no memory for {now} of {count} events, which {len(wrong)} books miss: {wrong[:8]}"
            )
        return 0

    cdef void share_window(self):
        """Give all books a window for their ids. Without memory for it, ids stay where they are."""
        cdef uint64_t* window = window_take()
        self.memory.window = window
        self.memory.apply_windowed = apply_windowed
        for book in self.made.values():
            if window != NULL and (<OrderBook>book).resting.owner:
                window_join(&(<OrderBook>book).resting, window)

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
            If memory ran out: the events counted in `lost` of their books are missing there. All others were
            applied, and the table goes on with the next call.
        """
        cdef MarketEvent* first = <MarketEvent*>events_pointer(events)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(events)
        cdef uint64_t unknown_before = self.unknown_orders
        if not cnp.PyArray_ISWRITEABLE(events):
            raise ValueError("events must be writable, was read-only")
        self.memory.require_idle()
        # Books are made before the GIL goes: a pass over 16-bit ids is cheap beside the books.
        cdef Py_ssize_t row
        for row in range(count):
            if self.books[first[row].instrument_id] == NULL:
                self.require(first[row].instrument_id)
        if self.memory.window == NULL and ids_are_counted(self, first, count):
            self.share_window()
        self.memory.enter()
        with nogil:
            complete_events(self, first, count)
        self.memory.leave()
        if self.lost:
            self.tell_loss(count)
        return self.unknown_orders - unknown_before


cdef bint ids_are_counted(BookTable self, const MarketEvent* events, Py_ssize_t count) noexcept nogil:
    """Judge whether ids entered one after another are close to one another, whatever book they are of."""
    cdef Py_ssize_t row
    cdef bint counted = False
    for row in range(count):
        if events[row].kind != EVENT_ADD or events[row].order_id == 0:
            continue
        if self.reviewed_entries == 0:
            self.reviewed_id = events[row].order_id
        self.reviewed_entries += 1
        if self.reviewed_entries == REVIEW_ENTRIES:
            # Unsigned, so that ids that went back are as far as can be.
            counted |= events[row].order_id - self.reviewed_id < NEAR_IDS * REVIEW_ENTRIES
            self.reviewed_entries = 0
    return counted


cdef void apply_windowed(PyObject* book, const MarketEvent* event) noexcept nogil:
    apply_by_order(<OrderBook>book, event, True)


cdef void complete_events(BookTable self, MarketEvent* events, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t first = 0, last, row
    cdef FetchLists lists
    while first < count:
        last = min(count, first + FETCH_EVENTS)
        fetch_begin(&lists)
        if self.memory.window != NULL:
            for row in range(first, last):
                fetch_book(self, events + row)
                fetch_join(
                    &lists, resting_of(self, events + row), events + row,
                    window_place(self.memory.window, events[row].order_id),
                )
        else:
            for row in range(first, last):
                fetch_book(self, events + row)
            for row in range(first, last):
                fetch_home(&lists, resting_of(self, events + row), events + row)
        fetch_many_books(&lists)
        for row in range(first, last):
            book_complete(self, <OrderBook>self.books[events[row].instrument_id], events + row, row > 0)
        first = last


cdef inline RestingBook* resting_of(BookTable self, const MarketEvent* event) noexcept nogil:
    return &(<OrderBook>self.books[event.instrument_id]).resting


cdef inline void fetch_book(BookTable self, const MarketEvent* event) noexcept nogil:
    cdef char* book = <char*>self.books[event.instrument_id]
    cdef int line
    for line in range(BOOK_LINES):
        fetch(book + 64 * line)


cdef void note_fault(BookTable self, const MarketEvent* event) noexcept nogil:
    if self.first_seq < 0:
        self.first_seq = event.seq


cdef inline void book_complete(
    BookTable self, OrderBook book, MarketEvent* event, bint follows
) noexcept nogil:
    """Fill in what an event leaves out, and apply it."""
    if event.order_id == 0 or event.flags & FLAG_HIDDEN:
        book_apply(book, event)
        self.lost |= book.lost
    elif event.kind == EVENT_ADD:
        # Without a side it replaces the order of the cancel before it.
        if event.side == 0 and follows and (event - 1).kind == EVENT_CANCEL:
            if (event - 1).instrument_id == event.instrument_id:
                event.side = (event - 1).side
        book.applied += 1
        add_order(book, event, side_of(event), True)
        count_crossed(book, event)
        self.lost |= book.lost
    elif EVENT_CANCEL <= event.kind <= EVENT_EXECUTE:
        named_complete(self, book, event)
    else:
        book_apply(book, event)
        self.lost |= book.lost


cdef inline void named_complete(BookTable self, OrderBook book, MarketEvent* event) noexcept nogil:
    """Complete and apply an event that names an order."""
    cdef OrderSeat seat
    cdef uint32_t number = order_seek(&book.resting, event.order_id, &seat)
    cdef const Order* order = &book.resting.orders[number]
    cdef const Level* level = &book.resting.levels[order.level]
    if number == 0:
        self.unknown_orders += 1
        note_fault(self, event)
        book_apply(book, event)
        return
    event.side = 1 - 2 * <int>level.side
    if event.price_ticks == 0:
        event.price_ticks = price_of(level.rank, level.side)
    if event.kind == EVENT_CANCEL:
        event.size_lots = order.size_lots
    elif event.size_lots > order.size_lots:
        self.overdrawn += 1
        note_fault(self, event)
    book.applied += 1
    lower_known(book, event, number, &seat, True)
    count_crossed(book, event)

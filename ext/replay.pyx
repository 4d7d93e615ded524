"""The replay: merged events through each venue's book and, if wanted, the features.

The next event is merged before the book takes the present one. Neither waits for the other, so that a core
can work on both at once.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport INT64_MIN, int64_t, uint64_t

import numpy as np

from .book_fetch cimport FETCH_EVENTS, FETCH_ORDERS_MIN, FetchLists, fetch_begin, fetch_home, fetch_large_book
from .book_memory cimport BookMemory
from .busy cimport refuse_busy
from .event_array cimport events_pointer
from .feature_set cimport FeatureSet
from .features cimport VENUE_MAX, features_trade, features_update
from .layout cimport EVENT_TRADE, MarketEvent
from .merge cimport EventMerge, Merge, merge_next
from .order_book cimport OrderBook, book_apply
from .resting_book cimport RestingBook

cnp.import_array()

cdef enum:
    SMALL_EVENTS = 4_096        # between two looks at how large the books are


@cython.final
@cython.auto_pickle(False)
cdef class Replay:
    """Books and features of one instrument at several venues, fed without a loop around them.

    While one thread feeds it, feeding or reading it from another is refused with RuntimeError.

    Parameters
    ----------
    venue_count : int
        1 to 16. An event of another venue is left out and counted in `foreign`.
    features : FeatureSet, optional
        What `fill` writes. Without it no feature is kept, and none is paid for.
    order_capacity, level_capacity : int
        Of each book, without allocating.

    Attributes
    ----------
    books : tuple of OrderBook
        By venue.
    events, foreign, backwards : int
        Events taken; those of unknown venues; those earlier than the one before.
    stream_ns : int
        Time of the last event.
    """

    def __cinit__(
        self, int venue_count=1, *, FeatureSet features=None, Py_ssize_t order_capacity=65_536,
        Py_ssize_t level_capacity=4_096,
    ):
        if not 1 <= venue_count <= VENUE_MAX:
            raise ValueError(f"venue_count must be 1 to {VENUE_MAX}, was {venue_count}")
        if features is not None and features.wants_queues:
            raise ValueError("nobody trades in a replay, so there is no place in a queue")
        self.memory = BookMemory()
        self.books = tuple(
            OrderBook(order_capacity, level_capacity, self.memory) for _ in range(venue_count)
        )
        for venue, book in enumerate(self.books):
            self.places[venue] = <void*>book
        self.venue_count = venue_count
        # Features look at the venues that have spoken: more are only slower.
        self.state.venue_count = 1
        self.features = features
        self.stream_ns = INT64_MIN

    def apply(self, cnp.ndarray events not None):
        """Take events that are in order already; return how many.

        Parameters
        ----------
        events : array of EVENT_DTYPE, shape (n,)

        Raises
        ------
        MemoryError
            A book ran out of memory; its state is wrong from there on.
        """
        cdef const MarketEvent* first = events_pointer(events)
        cdef size_t count = cnp.PyArray_SIZE(events)
        cdef uint64_t lost_before = self.begin()
        cdef bint featured = self.features is not None
        with nogil:
            if featured:
                take_rows(self, first, count, True)
            else:
                take_rows(self, first, count, False)
        self.end(lost_before)
        return count

    def apply_merged(self, EventMerge merge not None, size_t count_max):
        """Take the next events of a merge, at most `count_max`, without copying them; return how many.

        Fewer come when a stream of the merge has run dry, or all have ended.
        """
        refuse_busy(merge.busy, "merge")
        cdef uint64_t lost_before = self.begin()
        cdef bint featured = self.features is not None
        cdef size_t done
        merge.busy = True
        with nogil:
            if featured:
                done = take_merged(self, merge.merge, count_max, True)
            else:
                done = take_merged(self, merge.merge, count_max, False)
        merge.busy = False
        self.end(lost_before)
        return done

    cdef int64_t begin(self) except -1:
        """Refuse a second thread; return what the books have lost so far."""
        refuse_busy(self.busy, "replay")
        self.memory.enter()
        self.busy = True
        return self.lost()

    cdef uint64_t lost(self) noexcept:
        cdef int venue
        cdef uint64_t found = 0
        for venue in range(self.venue_count):
            found += (<OrderBook>self.places[venue]).lost
        return found

    cdef end(self, uint64_t lost_before):
        self.busy = False
        self.memory.leave()
        if self.lost() != lost_before:
            raise MemoryError(f"no memory for {self.lost() - lost_before} events of the books")

    def fill(self, cnp.ndarray out not None):
        """Write the features as the market stands into a float32 array of shape (features.size,)."""
        if self.features is None:
            raise ValueError("needs a replay made with features, was one without")
        refuse_busy(self.busy, "replay")
        if (
            cnp.PyArray_TYPE(out) != cnp.NPY_FLOAT32 or not cnp.PyArray_ISCARRAY(out)
            or cnp.PyArray_SIZE(out) != self.features.size
        ):
            raise ValueError(f"needs a writable float32 array of {self.features.size}, was {out.dtype}")
        self.features.fill(&self.state, self.places, NULL, <float*>cnp.PyArray_DATA(out))

    def values(self):
        """Return the features as the market stands, float32, shape (features.size,)."""
        out = np.zeros(0 if self.features is None else self.features.size, np.float32)
        self.fill(out)
        return out

    def state_hash(self):
        """Return 64 bits over the books that took an event, in the order of venues.

        FNV-1a over each one's venue, a byte, and hash: how many silent books stand beside them does not
        matter.
        """
        cdef uint64_t folded = 0xCBF29CE484222325, word
        cdef int place, venue
        refuse_busy(self.busy, "replay")
        for venue, book in enumerate(self.books):
            if book.applied == 0:
                continue
            folded = (folded ^ venue) * <uint64_t>0x100000001B3
            word = book.state_hash()
            for place in range(8):
                folded = (folded ^ ((word >> (8 * place)) & 0xFF)) * <uint64_t>0x100000001B3
        return folded


# Free functions, because a nogil block may pass a borrowed object on but not name it. `featured` is a
# constant where they are called, so that each loop holds one of its branches.

cdef inline void take_rows(
    Replay replay, const MarketEvent* first, size_t count, bint featured
) noexcept nogil:
    cdef FetchLists lists
    cdef size_t row = 0, ahead, last
    while row < count:
        last = min(row + FETCH_EVENTS, count)
        if books_are_large(replay):
            fetch_begin(&lists)
            for ahead in range(row, last):
                fetch_event(&lists, replay, first + ahead)
            fetch_large_book(&lists)
        while row < last:
            take(replay, first + row, featured)
            row += 1


cdef inline size_t take_merged(Replay replay, Merge* merge, size_t count_max, bint featured) noexcept nogil:
    cdef size_t done = 0, some = 0, wanted = 0
    while some == wanted and done < count_max:
        if books_are_large(replay):
            wanted = min(count_max - done, <size_t>FETCH_EVENTS)
            some = take_window(replay, merge, wanted, featured)
        else:
            wanted = min(count_max - done, <size_t>SMALL_EVENTS)
            some = take_coming(replay, merge, wanted, featured)
        done += some
    return done


cdef inline size_t take_window(Replay replay, Merge* merge, size_t wanted, bint featured) noexcept nogil:
    """Take events whose orders are fetched ahead."""
    cdef const MarketEvent* window[FETCH_EVENTS]
    cdef FetchLists lists
    cdef size_t count = 0, row
    fetch_begin(&lists)
    while count < wanted:
        window[count] = merge_next(merge)
        if window[count] == NULL:
            break
        fetch_event(&lists, replay, window[count])
        count += 1
    fetch_large_book(&lists)
    for row in range(count):
        take(replay, window[row], featured)
    return count


cdef inline size_t take_coming(Replay replay, Merge* merge, size_t wanted, bint featured) noexcept nogil:
    """Take events, each while the next is merged."""
    cdef size_t done = 0
    cdef const MarketEvent* event = merge_next(merge)
    cdef const MarketEvent* coming
    while event != NULL:
        done += 1
        coming = merge_next(merge) if done < wanted else NULL
        take(replay, event, featured)
        event = coming
    return done


cdef inline bint books_are_large(Replay replay) noexcept nogil:
    cdef int venue
    for venue in range(replay.venue_count):
        if is_large(<OrderBook>replay.places[venue]):
            return True
    return False


cdef inline bint is_large(OrderBook book) noexcept nogil:
    return book.resting.order_count >= FETCH_ORDERS_MIN


cdef inline void fetch_event(FetchLists* lists, Replay replay, const MarketEvent* event) noexcept nogil:
    if event.venue_id < replay.venue_count:
        fetch_home(lists, resting_of(<OrderBook>replay.places[event.venue_id]), event)


cdef inline RestingBook* resting_of(OrderBook book) noexcept nogil:
    return &book.resting


cdef inline void take(Replay replay, const MarketEvent* event, bint featured) noexcept nogil:
    replay.backwards += event.ts_ns < replay.stream_ns
    replay.stream_ns = event.ts_ns
    replay.events += 1
    if event.venue_id >= replay.venue_count:
        replay.foreign += 1
    elif featured:
        into_book_and_features(replay, <OrderBook>replay.places[event.venue_id], event)
    else:
        into_book(<OrderBook>replay.places[event.venue_id], event)


cdef inline void into_book(OrderBook book, const MarketEvent* event) noexcept nogil:
    book_apply(book, event)


cdef inline void into_book_and_features(
    Replay replay, OrderBook book, const MarketEvent* event
) noexcept nogil:
    book_apply(book, event)
    if event.venue_id >= replay.state.venue_count:
        replay.state.venue_count = event.venue_id + 1
    if event.kind == EVENT_TRADE:
        features_trade(&replay.state, event.side)
    else:
        features_update(
            &replay.state, event.venue_id, book.bid_price_ticks, book.bid_size_lots,
            book.ask_price_ticks, book.ask_size_lots, event.ts_ns,
        )

"""What events will touch, asked for ahead of them.

An event by order walks from its id's bucket to the order, to that order's level and to its neighbours in
the queue; a new order goes from its price to a level and to the last order there. Each step is asked for
some events before the next one needs it, whatever the event's kind: a branch on that would go wrong more
often than a fetch is in vain. What is found ahead may have changed by the time its event comes: a hint can
be wrong, never the book.
"""

from libc.stdint cimport uint32_t, uint64_t

from .layout cimport EVENT_ADD, MarketEvent
from .order_index cimport Order, OrderBucket, order_index_guess
from .order_window cimport place_guess
from .price_index cimport LEAF_BITS, Leaf, PriceIndex, index_guess, index_hint, rank_of, unit_of
from .resting_book cimport Level, RestingBook, chosen, home_of

cdef extern from *:
    """
    #define anytick_fetch(address) __builtin_prefetch((address), 1, 3)
    """
    void fetch "anytick_fetch"(const void* address) noexcept nogil

cdef enum:
    # In a smaller book everything is in the second-level cache, and asking again only costs.
    FETCH_ORDERS_MIN = 16_384
    FETCH_EVENTS = 32           # looked at together: what they touch fills half of the first-level cache


cdef struct Fetch:
    RestingBook* book
    const MarketEvent* event
    const void* home            # what a search for the id reads first
    uint32_t order
    uint32_t level


cdef struct FetchList:
    Fetch[FETCH_EVENTS] rows
    Py_ssize_t count


cdef struct FetchLists:
    FetchList adding            # events that enter an order
    FetchList naming            # events that name one


cdef inline void fetch_begin(FetchLists* lists) noexcept nogil:
    lists.adding.count = lists.naming.count = 0


cdef inline void fetch_join(
    FetchLists* lists, RestingBook* book, const MarketEvent* event, const void* home
) noexcept nogil:
    """Enter an event on both lists, and keep it on the one where it belongs."""
    cdef bint adds = event.kind == EVENT_ADD
    cdef Fetch* own = &lists.adding.rows[lists.adding.count]
    fetch(home)
    own.book = book
    own.event = event
    own = &lists.naming.rows[lists.naming.count]
    own.book = book
    own.event = event
    own.home = home
    lists.adding.count += adds
    lists.naming.count += not adds


cdef inline void fetch_home(FetchLists* lists, RestingBook* book, const MarketEvent* event) noexcept nogil:
    fetch_join(lists, book, event, home_of(book, event.order_id))


cdef inline void fetch_slot(const Fetch* own) noexcept nogil:
    cdef int side = own.event.side < 0
    fetch(index_hint(&own.book.prices[side], rank_of(own.event.price_ticks, side)))


cdef inline void fetch_order(Fetch* own) noexcept nogil:
    if own.book.window != NULL:
        own.order = place_guess((<const uint64_t*>own.home)[0], own.book.owner)
    else:
        own.order = order_index_guess(<const OrderBucket*>own.home, own.event.order_id)
    fetch(&own.book.orders[own.order])


cdef inline void fetch_level(Fetch* own) noexcept nogil:
    """Ask for the level that an order will join, and for what changes if it is new."""
    cdef const RestingBook* book = own.book
    cdef int side = own.event.side < 0
    cdef uint32_t rank = rank_of(own.event.price_ticks, side)
    own.level = index_guess(&book.prices[side], rank)
    fetch(&book.levels[chosen(own.level == 0, book.free_level, own.level)])
    fetch(&book.orders[book.free_order])
    fetch_bitmap(&book.prices[side], rank)


cdef inline void fetch_last(const Fetch* own) noexcept nogil:
    fetch(&own.book.orders[own.book.levels[own.level].last])


cdef inline void fetch_queue(const Fetch* own) noexcept nogil:
    """Ask for the order that a new one will stand behind, in a book whose levels are in the cache."""
    cdef int side = own.event.side < 0
    cdef uint32_t level = index_guess(&own.book.prices[side], rank_of(own.event.price_ticks, side))
    fetch(&own.book.orders[own.book.levels[level].last])


cdef inline void fetch_neighbours(Fetch* own) noexcept nogil:
    cdef const RestingBook* book = own.book
    cdef const Order* order = &book.orders[own.order]
    own.level = order.level
    fetch(&book.orders[order.next])
    fetch(&book.orders[order.previous])
    fetch(&book.levels[own.level])


cdef inline void fetch_place(const Fetch* own) noexcept nogil:
    """Ask for what changes if an order leaves its level empty."""
    cdef const RestingBook* book = own.book
    cdef const Level* level = &book.levels[own.level]
    fetch(index_hint(&book.prices[level.side], level.rank))
    fetch_bitmap(&book.prices[level.side], level.rank)


cdef inline void fetch_bitmap(const PriceIndex* index, uint32_t rank) noexcept nogil:
    cdef uint32_t unit = unit_of(index, rank)
    cdef const Leaf* leaf = index.units.leaves[unit >> LEAF_BITS & 1]
    if leaf != NULL:
        fetch(&leaf.used.summary)
        fetch(&leaf.used.words[unit >> 6 & 63])


cdef inline void fetch_many_books(FetchLists* lists) noexcept nogil:
    """Ask for what events of many small books touch, each step while the one before is under way."""
    cdef Py_ssize_t row
    for row in range(lists.naming.count):
        fetch_order(&lists.naming.rows[row])
    for row in range(lists.adding.count):
        fetch_slot(&lists.adding.rows[row])
    for row in range(lists.naming.count):
        fetch_neighbours(&lists.naming.rows[row])
    for row in range(lists.adding.count):
        fetch_level(&lists.adding.rows[row])
    for row in range(lists.naming.count):
        fetch_place(&lists.naming.rows[row])
    for row in range(lists.adding.count):
        fetch_last(&lists.adding.rows[row])


cdef inline void fetch_large_book(FetchLists* lists) noexcept nogil:
    """Ask for what events of a large book touch: its orders, since its levels are in the cache."""
    cdef Py_ssize_t row
    for row in range(lists.naming.count):
        fetch_order(&lists.naming.rows[row])
    for row in range(lists.adding.count):
        fetch_queue(&lists.adding.rows[row])
    for row in range(lists.naming.count):
        fetch_neighbours(&lists.naming.rows[row])

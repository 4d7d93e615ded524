"""Where the orders of many books stand, by ids that a venue counts through all of them: a place an id.

ITCH names an order by a number that the exchange counts upward over all stocks. Hash tables, one in each
book, scatter those; here an id has its place at the id modulo the window's length, so that ids of one moment
share cache lines whatever book they are of, and finding one is a load and a comparison.

A place is one word: an order's number in the pool of its book, that book's number, and above them how many
ids of this place stand elsewhere, since an older order was there first. Those are in the index of their own
book, which is asked only where that count is not 0. Nothing is ever moved, and any id is found.
"""

from libc.stdint cimport uint32_t, uint64_t

from .node_arena cimport pool_give, pool_take

cdef enum:
    WINDOW_BITS = 22            # ids: an order that stands while so many come keeps one of them out
    OWNER_SHIFT = 32
    OWNERS_MAX = 0xffffff
    AWAY_SHIFT = 56
    AWAY_MAX = 0xff             # a count that got here stays, and its place's ids are asked for twice

cdef extern from *:
    """
    #define ANYTICK_WINDOW_MASK ((1ull << 22) - 1)
    #define ANYTICK_PLACE_OWNER 0x00ffffff00000000ull
    #define ANYTICK_PLACE_AWAY 0xff00000000000000ull
    """
    const uint64_t WINDOW_MASK "ANYTICK_WINDOW_MASK"
    const uint64_t PLACE_OWNER "ANYTICK_PLACE_OWNER"
    const uint64_t PLACE_AWAY "ANYTICK_PLACE_AWAY"


cdef inline uint64_t* window_take() noexcept nogil:
    """Return an empty window, whose pages are touched as ids come; NULL when memory is out."""
    return <uint64_t*>pool_take(NULL, sizeof(uint64_t) << WINDOW_BITS)


cdef inline void window_give(uint64_t* window) noexcept nogil:
    if window != NULL:
        pool_give(NULL, window, sizeof(uint64_t) << WINDOW_BITS)


cdef inline uint64_t* window_place(uint64_t* window, uint64_t order_id) noexcept nogil:
    return &window[order_id & WINDOW_MASK]


cdef inline bint place_is_of(uint64_t place, uint64_t owner) noexcept nogil:
    return (place ^ owner) & PLACE_OWNER == 0


cdef inline uint32_t place_guess(uint64_t place, uint64_t owner) noexcept nogil:
    """Return the number of an owner's order in a place, without a branch; 0 where there is none of it."""
    return <uint32_t>place & <uint32_t>-<int>place_is_of(place, owner)


cdef inline uint64_t place_away(uint64_t place) noexcept nogil:
    """Return how many ids of a place stand elsewhere."""
    return place >> AWAY_SHIFT


cdef inline bint place_enter(uint64_t* place, uint64_t owner, uint32_t number) noexcept nogil:
    """Put an order there. False where another one is, and then it is counted as being elsewhere."""
    if place[0] & ~PLACE_AWAY == 0:
        place[0] |= owner | number
        return True
    if place[0] >> AWAY_SHIFT < AWAY_MAX:
        place[0] += <uint64_t>1 << AWAY_SHIFT
    return False


cdef inline void place_leave(uint64_t* place) noexcept nogil:
    place[0] &= PLACE_AWAY


cdef inline void place_forget(uint64_t* place) noexcept nogil:
    """Take note that an order which was elsewhere has left."""
    if place[0] >> AWAY_SHIFT < AWAY_MAX:
        place[0] -= <uint64_t>1 << AWAY_SHIFT

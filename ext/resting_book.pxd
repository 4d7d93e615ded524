"""Levels of two sides with their queues of identified orders: the state every kind of book rests on.

A level's total is authoritative: feeds by level, and orders never announced, put lots on a level that no
identified order accounts for. Identified orders hang on the level in time order, first to trade first.
Levels and orders are pooled 32-byte nodes linked by number, 0 meaning none. Pools double without copying,
but for small ones, and never shrink; a book given enough capacity never allocates.

Invariant: a level stands in its side's price index exactly while its total is positive, and an order
stands in the order index, or in the window of books that share one, exactly while its level does.

Over 400 lines because orders, levels and where an id stands change together, in one struct.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from .branch_hint cimport likely, unlikely
from .layout cimport check
from .node_arena cimport NodeArena, pool_give, pool_grow, pool_take
from .order_index cimport (
    MOVED_BUCKETS,
    Order,
    OrderIndex,
    OrderPlace,
    index_room,
    order_index_advance,
    order_index_close,
    order_index_enter,
    order_index_erase,
    order_index_erase_at,
    order_index_find,
    order_index_find_at,
    order_index_home,
    order_index_resize,
    order_index_tidy,
)
from .order_window cimport place_away, place_enter, place_forget, place_is_of, place_leave, window_place
from .price_index cimport (
    PriceIndex,
    index_below,
    index_close,
    index_erase,
    index_find,
    index_insert,
    index_open,
    price_of,
    rank_of,
)

cdef enum:
    BID = 0
    ASK = 1


cdef struct Level:
    int64_t total_lots
    uint32_t rank
    uint32_t side               # BID or ASK
    uint32_t first              # oldest order; the next free level when in the pool
    uint32_t last
    uint32_t order_count
    uint32_t _unused


cdef struct RestingBook:
    # What an event touches stands together: a table of many books asks for it ahead.
    Level* levels               # [0] is never used and stays zero
    Order* orders               # [0] takes links that lead nowhere, and is zero otherwise
    uint64_t* window            # borrowed, shared with other books; NULL without one
    uint64_t owner              # the book's number there, in its bits of a place
    uint32_t[2] best            # level nearest the other side
    uint32_t free_level
    uint32_t free_order
    uint32_t orders_made        # nodes below this number were used before
    uint32_t order_capacity
    uint32_t order_count
    uint32_t levels_made
    uint64_t entries            # orders ever appended
    uint32_t[2] level_count
    PriceIndex[2] prices
    uint32_t level_capacity
    NodeArena* arena            # borrowed; NULL where the book has its memory for itself
    OrderIndex by_id


cdef struct OrderSeat:
    uint64_t* place             # of the id in the window; NULL in a book without one
    bint elsewhere              # not there but in the book's own index
    OrderPlace at


cdef inline size_t pool_bytes(uint64_t capacity) noexcept nogil:
    """Return what a pool of orders or levels takes, node 0 included."""
    return (capacity + 1) * sizeof(Order)


cdef inline bint book_open(
    RestingBook* book, uint32_t order_capacity, uint32_t level_capacity
) noexcept nogil:
    """Make a book usable that is zeroed but for its arena. False when memory is out; book_close is due
    either way."""
    book.level_capacity = level_capacity
    book.order_capacity = order_capacity
    book.levels_made = book.orders_made = 1
    book.levels = <Level*>pool_take(book.arena, pool_bytes(level_capacity))
    book.orders = <Order*>pool_take(book.arena, pool_bytes(order_capacity))
    return (
        book.levels != NULL and book.orders != NULL
        and order_index_resize(&book.by_id, book.orders, order_capacity)
        and index_open(&book.prices[BID], book.arena) and index_open(&book.prices[ASK], book.arena)
    )


cdef inline uint32_t level_find(RestingBook* book, int side, int32_t price_ticks) noexcept nogil:
    return index_find(&book.prices[side], rank_of(price_ticks, side))


cdef inline uint32_t level_behind(RestingBook* book, uint32_t level) noexcept nogil:
    """Return the next level away from the touch, or 0."""
    return index_below(&book.prices[book.levels[level].side], book.levels[level].rank)


cdef inline bint levels_extend(RestingBook* book, uint64_t capacity) noexcept nogil:
    """Make the pool of levels larger. False, and nothing changed, when memory is out."""
    cdef void* larger
    if capacity > 0x7fffffff:
        return False
    larger = pool_grow(book.arena, book.levels, pool_bytes(book.level_capacity), pool_bytes(capacity))
    if larger == NULL:
        return False
    book.levels = <Level*>larger
    book.level_capacity = <uint32_t>capacity
    return True


cdef inline bint orders_extend(RestingBook* book, uint64_t capacity) noexcept nogil:
    """Make the pool of orders, and the index of their ids, larger. False when memory is out."""
    cdef void* larger
    if capacity > 0x7fffffff:
        return False
    # An index that grew where the pool then could not is not made again for each order that comes.
    if index_room(&book.by_id) < capacity and not order_index_resize(&book.by_id, book.orders, capacity):
        return False
    larger = pool_grow(book.arena, book.orders, pool_bytes(book.order_capacity), pool_bytes(capacity))
    if larger == NULL:
        return False
    book.orders = <Order*>larger
    book.order_capacity = <uint32_t>capacity
    return True


cdef inline uint32_t level_take(RestingBook* book) noexcept nogil:
    """Take a level node from the pool; 0 when memory is out."""
    cdef uint32_t level = book.free_level
    if level:
        book.free_level = book.levels[level].first
        return level
    if unlikely(book.levels_made > book.level_capacity):
        if not levels_extend(book, <uint64_t>book.level_capacity * 2):
            return 0
    level = book.levels_made
    book.levels_made += 1
    return level


cdef inline uint32_t level_require(RestingBook* book, int side, int32_t price_ticks) noexcept nogil:
    """Return the level of a price, making it if need be; 0 when memory is out.

    A new level has no lots yet: the caller owes it a positive total.
    """
    cdef uint32_t rank = rank_of(price_ticks, side)
    cdef uint32_t number = index_find(&book.prices[side], rank)
    return number if number else level_make(book, side, rank)


cdef inline uint32_t level_make(RestingBook* book, int side, uint32_t rank) noexcept nogil:
    """Return a new level at a rank that has none; 0 when memory is out."""
    cdef uint32_t number = level_take(book), best = book.best[side]
    cdef Level* level
    if number == 0:
        return 0
    level = &book.levels[number]
    memset(level, 0, sizeof(Level))
    if unlikely(not index_insert(&book.prices[side], rank, number)):
        level.first = book.free_level
        book.free_level = number
        return 0
    level.rank = rank
    level.side = side
    if best == 0 or rank > book.levels[best].rank:
        book.best[side] = number
    book.level_count[side] += 1
    return number


cdef inline void order_drop(RestingBook* book, uint32_t number) noexcept nogil:
    """Forget an order's id and give its node back; its level's queue is the caller's business."""
    cdef Order* order = &book.orders[number]
    order_index_erase(&book.by_id, book.orders, order.order_id)
    node_drop(book, order, number)


cdef inline void node_drop(RestingBook* book, Order* order, uint32_t number) noexcept nogil:
    order.next = book.free_order
    book.free_order = number
    book.order_count -= 1


cdef inline uint32_t order_seek(RestingBook* book, uint64_t order_id, OrderSeat* seat) noexcept nogil:
    """Return the order of an id, or 0; `seat` is where it stands, or would."""
    cdef uint32_t number
    if book.window == NULL:
        seat.place = NULL
        seat.elsewhere = True
        return order_index_find_at(&book.by_id, book.orders, order_id, &seat.at)
    memset(seat, 0, sizeof(OrderSeat))
    seat.place = window_place(book.window, order_id)
    number = <uint32_t>seat.place[0]
    # A place of this book's tells the number of a live order: only the id can be another's.
    if place_is_of(seat.place[0], book.owner) and likely(book.orders[number].order_id == order_id):
        return number
    if likely(place_away(seat.place[0]) == 0):
        return 0
    seat.elsewhere = True
    return order_index_find_at(&book.by_id, book.orders, order_id, &seat.at)


cdef inline const void* home_of(const RestingBook* book, uint64_t order_id) noexcept nogil:
    """Return what order_seek reads first."""
    if book.window != NULL:
        return window_place(book.window, order_id)
    return order_index_home(&book.by_id, order_id)


cdef inline void seat_enter(
    RestingBook* book, const OrderSeat* seat, uint64_t order_id, uint32_t number
) noexcept nogil:
    if seat.place == NULL or not likely(place_enter(seat.place, book.owner, number)):
        order_index_enter(&book.by_id, order_id, number)
        if unlikely(book.by_id.older != NULL):
            order_index_advance(&book.by_id, book.orders, MOVED_BUCKETS)


cdef inline void seat_leave(RestingBook* book, const OrderSeat* seat) noexcept nogil:
    if not seat.elsewhere:
        place_leave(seat.place)
        return
    if seat.place != NULL:
        place_forget(seat.place)
    order_index_erase_at(&book.by_id, seat.at)


cdef inline void window_join(RestingBook* book, uint64_t* window) noexcept nogil:
    """Let a book that had no window seat its orders in one."""
    cdef uint32_t level, number
    cdef OrderSeat seat
    cdef int side
    book.window = window
    for side in range(2):
        level = book.best[side]
        while level:
            number = book.levels[level].first
            while number:
                seat.place = window_place(window, book.orders[number].order_id)
                if place_enter(seat.place, book.owner, number):
                    order_index_erase(&book.by_id, book.orders, book.orders[number].order_id)
                number = book.orders[number].next
            level = level_behind(book, level)


cdef inline void order_forget(RestingBook* book, uint32_t number) noexcept nogil:
    """Do what order_drop does in a book that may have a window."""
    cdef Order* order = &book.orders[number]
    cdef OrderSeat seat
    if order_seek(book, order.order_id, &seat):
        seat_leave(book, &seat)
    node_drop(book, order, number)


cdef inline void level_remove(RestingBook* book, uint32_t number) noexcept nogil:
    """Remove a level with every order on it."""
    cdef Level* level = &book.levels[number]
    cdef uint32_t order = level.first, behind
    while order:
        behind = book.orders[order].next
        order_forget(book, order)
        order = behind
    if book.best[level.side] == number:
        book.best[level.side] = level_behind(book, number)
    index_erase(&book.prices[level.side], level.rank)
    book.level_count[level.side] -= 1
    level.first = book.free_level
    book.free_level = number


cdef inline void level_lower(RestingBook* book, uint32_t number, int64_t lots) noexcept nogil:
    """Take lots off a level's total; nothing left removes the level with the orders still on it."""
    cdef Level* level = &book.levels[number]
    if level.total_lots > lots:
        level.total_lots -= lots
    else:
        level_remove(book, number)


cdef inline bint order_reserve(RestingBook* book) noexcept nogil:
    """Make sure that one more order fits. False when memory is out."""
    if book.window == NULL:
        order_index_tidy(&book.by_id)
    if book.free_order or book.orders_made <= book.order_capacity:
        return True
    return orders_extend(book, <uint64_t>book.order_capacity * 2)


cdef inline uint32_t order_find(const RestingBook* book, uint64_t order_id) noexcept nogil:
    """Return the order of an id, or 0."""
    return order_index_find(&book.by_id, book.orders, order_id)


cdef inline uint32_t chosen(bint condition, uint32_t yes, uint32_t no) noexcept nogil:
    # In arithmetic, because compilers make a branch of the conditional expression.
    return no ^ ((yes ^ no) & <uint32_t>-<int>condition)


cdef inline uint32_t node_take(RestingBook* book) noexcept nogil:
    """Take an order's node, after order_reserve."""
    cdef uint32_t number = book.free_order
    if number:
        book.free_order = book.orders[number].next
    else:
        number = book.orders_made
        book.orders_made += 1
    check(number <= book.order_capacity, "an order was reserved before it is appended")
    return number


cdef inline void node_queue(
    RestingBook* book, uint32_t number, uint32_t level_number, int64_t size_lots, uint32_t mark
) noexcept nogil:
    cdef Level* level = &book.levels[level_number]
    cdef Order* order = &book.orders[number]
    order.size_lots = size_lots
    order.next = 0
    order.previous = level.last
    order.level = level_number
    order.mark = mark
    # Whether the level was empty is a coin's toss: node 0 takes the link that nobody needs.
    book.orders[level.last].next = number
    level.first = chosen(level.last == 0, number, level.first)
    level.last = number
    level.order_count += 1
    book.order_count += 1
    book.entries += 1


cdef inline void order_append(
    RestingBook* book, uint32_t level_number, uint64_t order_id, int64_t size_lots, uint32_t mark
) noexcept nogil:
    """Queue a new order last on its level, after order_reserve. The caller raises the total."""
    cdef uint32_t number
    check(order_find(book, order_id) == 0, "an order id is live once")
    number = node_take(book)
    book.orders[number].order_id = order_id
    order_index_enter(&book.by_id, order_id, number)
    if unlikely(book.by_id.older != NULL):
        order_index_advance(&book.by_id, book.orders, MOVED_BUCKETS)
    node_queue(book, number, level_number, size_lots, mark)


cdef inline void order_join(
    RestingBook* book, OrderSeat* seat, uint32_t level_number, uint64_t order_id, int64_t size_lots
) noexcept nogil:
    """Do what order_append does, with the id looked for already; the mark is the entry's number."""
    cdef uint32_t number = node_take(book)
    book.orders[number].order_id = order_id
    seat_enter(book, seat, order_id, number)
    node_queue(book, number, level_number, size_lots, <uint32_t>book.entries)


cdef inline void order_unlink(RestingBook* book, Level* level, const Order* order) noexcept nogil:
    """Take an order out of its level's queue; as in order_append, node 0 takes the links of the ends."""
    cdef uint32_t following = order.next, previous = order.previous
    book.orders[previous].next = following
    book.orders[following].previous = previous
    level.first = chosen(previous == 0, following, level.first)
    level.last = chosen(following == 0, previous, level.last)


cdef inline void order_remove(RestingBook* book, uint32_t number) noexcept nogil:
    """Take an order out of its queue and forget it; the level's total is the caller's business."""
    cdef Order* order = &book.orders[number]
    cdef Level* level = &book.levels[order.level]
    order_unlink(book, level, order)
    level.order_count -= 1
    order_drop(book, number)


cdef inline void order_remove_at(RestingBook* book, uint32_t number, const OrderPlace* at) noexcept nogil:
    """Do what order_remove does, with the order's place in the index found already."""
    cdef Order* order = &book.orders[number]
    cdef Level* level = &book.levels[order.level]
    order_unlink(book, level, order)
    level.order_count -= 1
    order_index_erase_at(&book.by_id, at[0])
    node_drop(book, order, number)


cdef inline void order_leave(RestingBook* book, uint32_t number, const OrderSeat* seat) noexcept nogil:
    """Do what order_remove does, with the order's seat found already."""
    cdef Order* order = &book.orders[number]
    cdef Level* level = &book.levels[order.level]
    order_unlink(book, level, order)
    level.order_count -= 1
    seat_leave(book, seat)
    node_drop(book, order, number)


cdef inline void book_clear(RestingBook* book) noexcept nogil:
    """Remove every level and order; the memory stays."""
    cdef int side
    for side in range(2):
        while book.best[side]:
            level_remove(book, book.best[side])


cdef inline uint64_t mix(uint64_t state, uint64_t word) noexcept nogil:
    # Steele, Lea & Flood 2014 (splitmix64), folded over the words.
    state = (state + <uint64_t>0x9E3779B97F4A7C15) ^ word
    state = (state ^ (state >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    state = (state ^ (state >> 27)) * <uint64_t>0x94D049BB133111EB
    return state ^ (state >> 31)


cdef inline uint64_t book_hash(RestingBook* book) noexcept nogil:
    """Return 64 bits that identify every level, best first, and every order in its place."""
    cdef uint64_t state = 0
    cdef uint32_t number, order
    cdef const Level* level
    cdef int side
    for side in range(2):
        state = mix(state, book.level_count[side])
        number = book.best[side]
        while number:
            level = &book.levels[number]
            state = mix(state, <uint64_t><int64_t>price_of(level.rank, side))
            state = mix(state, level.total_lots)
            state = mix(state, level.order_count)
            order = level.first
            while order:
                state = mix(state, book.orders[order].order_id)
                state = mix(state, book.orders[order].size_lots)
                order = book.orders[order].next
            number = level_behind(book, number)
    return state


cdef inline void book_close(RestingBook* book) noexcept nogil:
    """Free everything that a zeroed or opened book owns."""
    cdef int side
    for side in range(2):
        # The price indexes free what is empty; orders need no visit, their pool goes as a whole.
        while book.arena == NULL and book.best[side]:
            book.levels[book.best[side]].first = 0
            level_remove(book, book.best[side])
    if book.levels != NULL:
        pool_give(book.arena, book.levels, pool_bytes(book.level_capacity))
    if book.orders != NULL:
        pool_give(book.arena, book.orders, pool_bytes(book.order_capacity))
    order_index_close(&book.by_id)
    index_close(&book.prices[BID])
    index_close(&book.prices[ASK])

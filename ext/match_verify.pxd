"""The rules that a matching engine's state always obeys, and the state as a hash."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .match_memory cimport peg_find
from .match_order cimport is_peg
from .match_state cimport PHASE_CONTINUOUS, MatchState, OrderDetail
from .match_sweep cimport level_first
from .order_index cimport Order
from .price_index cimport price_of
from .resting_book cimport ASK, BID, Level, RestingBook, book_hash, level_behind, mix

cdef enum:
    BOOK_COUNT = 3


cdef inline RestingBook* state_book(MatchState* state, int book) noexcept nogil:
    return &state.lit if book == 0 else &state.dark if book == 1 else &state.stops


cdef inline uint64_t state_orders(const MatchState* state) noexcept nogil:
    return <uint64_t>state.lit.order_count + state.dark.order_count + state.stops.order_count


cdef inline const char* state_fault(MatchState* state) noexcept nogil:
    """Walk everything and return an invariant that does not hold, or NULL."""
    cdef RestingBook* book
    cdef const Level* level
    cdef const Order* order
    cdef uint32_t number, order_number, previous
    cdef uint64_t details = 0, orders, count, resting = 0
    cdef int64_t total
    cdef uint32_t[2] demanding
    cdef int book_index, side
    demanding[BID] = demanding[ASK] = 0
    for book_index in range(BOOK_COUNT):
        book = state_book(state, book_index)
        orders = 0
        for side in range(2):
            number = book.best[side]
            while number:
                level = &book.levels[number]
                total = count = 0
                order_number, previous = level.first, 0
                while order_number:
                    order = &book.orders[order_number]
                    if order.size_lots <= 0 or order.level != number or order.previous != previous:
                        return "orders hang on their level in both directions and hold lots"
                    total += order.size_lots
                    resting += order.size_lots + state.details[order.mark].reserve_lots
                    details += order.mark != 0
                    demanding[side] += book == &state.dark and state.details[order.mark].minimum_lots != 0
                    count += 1
                    previous, order_number = order_number, order.next
                if total != level.total_lots or count != level.order_count or level.last != previous:
                    return "a level's totals are the sums over its orders"
                orders += count
                number = level_behind(book, number)
                if number and book.levels[number].rank >= level.rank:
                    return "levels stand best first"
        if orders != book.order_count:
            return "every order stands on a level"
    if details != state.detail_count:
        return "every detail belongs to an order"
    if demanding[BID] != state.minimums[BID] or demanding[ASK] != state.minimums[ASK]:
        return "hidden orders that demand a minimum are counted"
    if state.lots_in - state.lots_out != resting:
        return "lots accepted are traded, cancelled or resting"
    if state.phase == PHASE_CONTINUOUS and state_is_crossed(state):
        return "the book is not crossed in continuous trading"
    return NULL


cdef inline bint state_is_crossed(MatchState* state) noexcept nogil:
    """Tell whether the best buy and the best sell, hidden ones included, could trade.

    Orders that demand a minimum may stand crossed with others that do not bring it, and do not count.
    """
    cdef uint32_t[2] rank
    cdef bint[2] found
    cdef uint32_t dark
    cdef int side
    for side in range(2):
        dark = state.dark.best[side]
        while dark and state.minimums[side] and level_first(state, &state.dark, dark, 0) == 0:
            dark = level_behind(&state.dark, dark)
        found[side] = state.lit.best[side] != 0 or dark != 0
        # Of a side without orders, and so of level 0, the rank is 0: the furthest from the other side.
        rank[side] = max(state.lit.levels[state.lit.best[side]].rank, state.dark.levels[dark].rank)
    return found[BID] and found[ASK] and price_of(rank[BID], BID) >= price_of(rank[ASK], ASK)


cdef inline uint64_t details_hash(MatchState* state, RestingBook* book, uint64_t hashed) noexcept nogil:
    cdef const OrderDetail* detail
    cdef uint32_t level, number
    cdef int side
    for side in range(2):
        level = book.best[side]
        while level:
            number = book.levels[level].first
            while number:
                if book.orders[number].mark:
                    detail = &state.details[book.orders[number].mark]
                    hashed = mix(hashed, book.orders[number].order_id)
                    hashed = mix(hashed, detail.reserve_lots)
                    hashed = mix(hashed, detail.expire_ns)
                    hashed = mix(hashed, detail.owner | <uint64_t>detail.display_lots << 32)
                    if is_peg(detail.order_type):
                        hashed = mix(hashed, <uint64_t><int64_t>detail.peg_offset_ticks)
                    if book == &state.stops or is_peg(detail.order_type):
                        hashed = mix(hashed, <uint64_t><int64_t>detail.price_ticks)
                    hashed = mix(
                        hashed,
                        detail.order_type | <uint64_t>detail.time_in_force << 8
                        | <uint64_t>detail.flags << 16
                        | <uint64_t>(detail.minimum_lots if book != &state.lit else 0) << 32,
                    )
                number = book.orders[number].next
            level = level_behind(book, level)
    return hashed


cdef inline uint64_t state_hash(MatchState* state) noexcept nogil:
    """Return 64 bits that identify every order in its place with all that decides its future."""
    cdef uint64_t hashed = 0, place
    cdef int book
    cdef bint pegged = False
    for book in range(BOOK_COUNT):
        hashed = mix(hashed, book_hash(state_book(state, book)))
        hashed = details_hash(state, state_book(state, book), hashed)
    for place in range(state.peg_count):
        if peg_find(state, &state.pegs[place]):
            hashed = mix(hashed, state.pegs[place].order_id)
            pegged = True
    if pegged:
        hashed = mix(hashed, state.pegged_bid)
        hashed = mix(hashed, state.pegged_ask)
    hashed = mix(hashed, state.now_ns)
    hashed = mix(hashed, <uint64_t><uint32_t>state.band_low_ticks | <uint64_t>state.band_high_ticks << 32)
    hashed = mix(hashed, <uint64_t><int64_t>state.last_price_ticks if state.traded else <uint64_t>1 << 63)
    return mix(hashed, state.phase | state.self_trade << 8)

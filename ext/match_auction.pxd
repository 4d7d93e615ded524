"""A call auction: the price it executes at, and the execution, best buys with best sells.

Each side executes in its usual order. Orders that demand a minimum wait for continuous trading.
"""

from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, int64_t, uint32_t

from .layout cimport LIQUIDITY_NONE, REASON_NONE, REPORT_FILL
from .match_state cimport MatchState, is_refused, lots_left, lots_taken, report
from .match_sweep cimport level_first, trade_record
from .order_index cimport Order
from .price_index cimport price_of, rank_of
from .resting_book cimport ASK, BID, RestingBook, level_behind


cdef inline Order* auction_first(
    MatchState* state, int side, int32_t price_ticks, RestingBook** book, uint32_t* number
) noexcept nogil:
    """Return the order of a side that executes next at the auction's price, or NULL."""
    cdef uint32_t lit = state.lit.best[side], dark = state.dark.best[side]
    while dark and state.minimums[side] and level_first(state, &state.dark, dark, 0) == 0:
        dark = level_behind(&state.dark, dark)
    book[0] = &state.lit
    if dark and (lit == 0 or state.dark.levels[dark].rank > state.lit.levels[lit].rank):
        book[0], lit = &state.dark, dark
    if lit == 0 or book[0].levels[lit].rank < rank_of(price_ticks, side):
        return NULL
    number[0] = level_first(state, book[0], lit, 0)
    return &book[0].orders[number[0]]


cdef inline void auction_execute(MatchState* state, int32_t price_ticks) noexcept nogil:
    """Trade at one price until one side has nothing left that accepts it."""
    cdef RestingBook* buys
    cdef RestingBook* sells
    cdef Order* buy
    cdef Order* sell
    cdef uint32_t buy_number, sell_number
    cdef int64_t lots
    while True:
        buy = auction_first(state, BID, price_ticks, &buys, &buy_number)
        sell = auction_first(state, ASK, price_ticks, &sells, &sell_number)
        if buy == NULL or sell == NULL:
            return
        lots = min(buy.size_lots, sell.size_lots)
        trade_record(state, buy.order_id, sell.order_id, lots, price_ticks)
        report(
            state, buy.order_id, REPORT_FILL, REASON_NONE, BID, lots, lots_left(state, buy) - lots,
            price_ticks, LIQUIDITY_NONE,
        )
        report(
            state, sell.order_id, REPORT_FILL, REASON_NONE, ASK, lots, lots_left(state, sell) - lots,
            price_ticks, LIQUIDITY_NONE,
        )
        lots_taken(state, buys, buy_number, lots)
        lots_taken(state, sells, sell_number, lots)


cdef inline list auction_interest(MatchState* state, int side):
    """Return (price, lots with hidden and reserve) of one side, ascending by price."""
    cdef RestingBook* book
    cdef uint32_t level, number
    cdef int place
    found = []
    for place in range(2):
        book = &state.dark if place else &state.lit
        level = book.best[side]
        while level:
            lots = 0
            number = book.levels[level].first
            while number:
                if not place or not is_refused(state, &book.orders[number], 0):
                    lots += lots_left(state, &book.orders[number])
                number = book.orders[number].next
            found.append((price_of(book.levels[level].rank, side), lots))
            level = level_behind(book, level)
    found.sort()
    return found


cdef inline int pressed_price(dict left, int reference_ticks) except? -1:
    """Return the auction's price of several that trade as much, given with what each leaves over.

    Buyers left over press the price up, sellers down.
    """
    cdef int price
    cdef int64_t low = INT32_MIN, high = INT32_MAX
    if min(left.values()) > 0:
        return max(left)
    if max(left.values()) < 0:
        return min(left)
    for price in left:
        if left[price] > 0:
            low = price
        elif left[price] < 0:
            high = min(high, <int64_t>price)
    return max([
        (-abs(price - <int64_t>reference_ticks), price) for price in left if low <= price <= high
    ])[1]


cdef inline object auction_price(MatchState* state, int32_t reference_ticks):
    """Return what `MatchingEngine.indicative` does: price, lots and lots left over, or None."""
    buys, sells = auction_interest(state, BID), auction_interest(state, ASK)
    demand, supply = sum([lots for _, lots in buys]), 0
    place_buy = place_sell = 0
    best = {}
    most = over = 0
    # Ascending, so that demand only falls and supply only grows.
    for price in sorted({reference_ticks, *[price for price, _ in buys], *[price for price, _ in sells]}):
        while place_buy < len(buys) and buys[place_buy][0] < price:
            demand -= buys[place_buy][1]
            place_buy += 1
        while place_sell < len(sells) and sells[place_sell][0] <= price:
            supply += sells[place_sell][1]
            place_sell += 1
        lots, left = min(demand, supply), demand - supply
        if lots > most or (lots == most and abs(left) < over):
            best, most, over = {}, lots, abs(left)
        if lots == most and abs(left) == over:
            best[price] = left
    if most == 0:
        return None
    price = pressed_price(best, reference_ticks)
    return price, most, best[price]

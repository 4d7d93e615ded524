"""Executing a call auction at one price: best buys with best sells, each side in its usual order."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from .layout cimport LIQUIDITY_NONE, REASON_NONE, REPORT_FILL
from .match_state cimport MatchState, lots_left, lots_taken, report
from .match_sweep cimport level_first, trade_record
from .order_index cimport Order
from .price_index cimport rank_of
from .resting_book cimport ASK, BID, RestingBook, level_behind


cdef inline Order* auction_first(
    MatchState* state, int side, int32_t price_ticks, RestingBook** book, uint32_t* number
) noexcept nogil:
    """Return the order of a side that executes next at the auction's price, or NULL."""
    cdef uint32_t lit = state.lit.best[side], dark = state.dark.best[side]
    # Orders that demand a minimum wait for continuous trading.
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

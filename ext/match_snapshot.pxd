"""A matching engine's whole state as bytes and back, as a hash, and the rules it always obeys.

A snapshot is a header and one 96-byte record per order: displayed orders, hidden ones, stops; of each
book bids before asks, best price first, oldest first. Restoring fills a fresh state and checks every
record on the way, so a damaged snapshot never touches the engine that reads it.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from .expiry_heap cimport Expiry, expiry_push
from .match_memory cimport peg_find, state_reserve
from .match_order cimport SIZE_LOTS_MAX, book_append, is_peg, is_stop
from .match_state cimport (
    PHASE_AUCTION,
    PHASE_CONTINUOUS,
    SELF_TRADE_DECREMENT,
    MatchState,
    OrderDetail,
    Peg,
    state_find,
)
from .match_sweep cimport Entry, level_first
from .order_index cimport Order
from .price_index cimport price_of
from .resting_book cimport ASK, BID, Level, RestingBook, book_hash, level_behind, mix, order_find

cdef extern from "crc32c.h" nogil:
    uint32_t crc32c_of(const void* data, size_t byte_count)

cdef enum:
    SNAPSHOT_VERSION = 2            # since 2 the minimum of a hidden order holds while it rests
    BOOK_COUNT = 3

cdef extern from *:
    """
    #define ANYTICK_SNAPSHOT_MAGIC 0x3148435441545941ull    /* "AYTATCH1" */
    """
    const uint64_t SNAPSHOT_MAGIC "ANYTICK_SNAPSHOT_MAGIC"


cdef struct SnapshotHeader:             # 128 bytes
    uint64_t magic
    uint32_t version
    uint32_t crc32c                     # of the whole snapshot with this field 0
    uint64_t order_count
    int64_t now_ns
    uint64_t fill_hash
    uint64_t fill_count
    uint64_t traded_lots
    uint64_t lots_in
    uint64_t lots_out
    int32_t last_price_ticks
    int32_t band_low_ticks
    int32_t band_high_ticks
    int32_t tick_size_ticks
    uint16_t instrument_id
    uint8_t venue_id
    uint8_t phase
    uint8_t self_trade
    uint8_t traded
    uint16_t _unused
    uint64_t peg_sequence
    int64_t pegged_bid
    int64_t pegged_ask


cdef struct SnapshotOrder:              # 96 bytes
    uint64_t order_id
    int64_t size_lots                   # in the book, without reserve
    int32_t price_ticks                 # of its level: of a stop the trigger
    uint8_t book                        # 0 lit, 1 dark, 2 stops
    uint8_t side                        # of its level, BID or ASK
    uint8_t special                     # 1: the detail counts
    uint8_t _unused
    uint64_t _reserved
    OrderDetail detail


cdef inline RestingBook* state_book(MatchState* state, int book) noexcept nogil:
    return &state.lit if book == 0 else &state.dark if book == 1 else &state.stops


cdef inline uint64_t state_orders(const MatchState* state) noexcept nogil:
    return <uint64_t>state.lit.order_count + state.dark.order_count + state.stops.order_count


cdef inline void snapshot_write(MatchState* state, SnapshotHeader* header) noexcept nogil:
    """Fill a zeroed block that holds the header and every order."""
    cdef SnapshotOrder* out = <SnapshotOrder*>(header + 1)
    cdef RestingBook* book
    cdef const Order* order
    cdef uint32_t level, number
    cdef int book_index, side
    header.magic = SNAPSHOT_MAGIC
    header.version = SNAPSHOT_VERSION
    header.order_count = state_orders(state)
    header.now_ns = state.now_ns
    header.fill_hash = state.fill_hash
    header.fill_count = state.fill_count
    header.traded_lots = state.traded_lots
    header.lots_in = state.lots_in
    header.lots_out = state.lots_out
    header.last_price_ticks = state.last_price_ticks
    header.band_low_ticks = state.band_low_ticks
    header.band_high_ticks = state.band_high_ticks
    header.tick_size_ticks = state.tick_size_ticks
    header.instrument_id = state.instrument_id
    header.venue_id = state.venue_id
    header.phase = <uint8_t>state.phase
    header.self_trade = <uint8_t>state.self_trade
    header.traded = state.traded
    header.peg_sequence = state.peg_sequence
    header.pegged_bid = state.pegged_bid
    header.pegged_ask = state.pegged_ask
    for book_index in range(BOOK_COUNT):
        book = state_book(state, book_index)
        for side in range(2):
            level = book.best[side]
            while level:
                number = book.levels[level].first
                while number:
                    order = &book.orders[number]
                    out.order_id = order.order_id
                    out.size_lots = order.size_lots
                    out.price_ticks = price_of(book.levels[level].rank, side)
                    out.book = <uint8_t>book_index
                    out.side = <uint8_t>side
                    if order.mark:
                        out.special = 1
                        out.detail = state.details[order.mark]
                        out.detail.next_free = 0
                    out += 1
                    number = order.next
                level = level_behind(book, level)
    header.crc32c = crc32c_of(header, sizeof(SnapshotHeader) + header.order_count * sizeof(SnapshotOrder))


cdef inline const char* header_fault(const SnapshotHeader* header, uint64_t byte_count) noexcept nogil:
    """Return the rule that a snapshot's header or checksum breaks, or NULL."""
    cdef SnapshotHeader* block = <SnapshotHeader*>header
    cdef uint32_t crc = header.crc32c, found
    if header.magic != SNAPSHOT_MAGIC:
        return "a snapshot begins with its magic number"
    if header.version != SNAPSHOT_VERSION:
        return "the version is one this build reads"
    if (byte_count - sizeof(SnapshotHeader)) // sizeof(SnapshotOrder) != header.order_count or (
        (byte_count - sizeof(SnapshotHeader)) % sizeof(SnapshotOrder)
    ):
        return "the length is that of the orders it announces"
    block.crc32c = 0
    found = crc32c_of(header, byte_count)
    block.crc32c = crc
    if found != crc:
        return "the checksum is that of the content"
    if header.phase > PHASE_AUCTION or header.self_trade > SELF_TRADE_DECREMENT or header.traded > 1:
        return "modes are known"
    if header.tick_size_ticks < 1 or header.band_low_ticks > header.band_high_ticks:
        return "the tick size is positive and the band not empty"
    return NULL


cdef inline const char* order_fault(MatchState* state, const SnapshotOrder* item) noexcept nogil:
    """Return the rule that one record breaks beside the orders before it, or NULL."""
    cdef uint32_t number
    cdef const OrderDetail* detail = &item.detail
    cdef bint stop, pegged
    if item.book >= BOOK_COUNT or item.side > ASK or item.special > 1:
        return "book, side and kind are known"
    if item.order_id == 0 or state_find(state, item.order_id, &number) != NULL:
        return "order ids are unique and not 0"
    if not 0 < item.size_lots <= SIZE_LOTS_MAX:
        return "sizes are positive"
    stop = item.special != 0 and is_stop(detail.order_type)
    if stop != (item.book == 2):
        return "stops, and nothing else, stand in the book of stops"
    pegged = item.special != 0 and is_peg(detail.order_type)
    if pegged and (detail.peg_sequence == 0 or item.book != 1):
        return "pegged orders are numbered and hidden"
    if item.special and not pegged and detail.peg_sequence:
        return "only pegged orders have a peg's number"
    if item.special and not 0 <= detail.reserve_lots <= SIZE_LOTS_MAX:
        return "reserves are not negative"
    if item.special and detail.reserve_lots and (item.book or not 0 < item.size_lots <= detail.display_lots):
        return "an order with a reserve shows a slice of it"
    return NULL


cdef inline void peg_enter(MatchState* state, const SnapshotOrder* item) noexcept nogil:
    """List a pegged order where its time belongs."""
    cdef uint64_t place = state.peg_count
    while place and state.pegs[place - 1].sequence > item.detail.peg_sequence:
        state.pegs[place] = state.pegs[place - 1]
        place -= 1
    state.pegs[place] = Peg(item.order_id, item.detail.peg_sequence)
    state.peg_count += 1


cdef inline bint order_restore(MatchState* state, const SnapshotOrder* item) noexcept nogil:
    """Append one checked record. False when it no longer fits."""
    cdef Entry entry
    cdef RestingBook* book = state_book(state, item.book)
    cdef uint32_t number
    memset(&entry, 0, sizeof(Entry))
    entry.order_id = item.order_id
    entry.leaves_lots = item.size_lots
    entry.special = item.special != 0
    if entry.special:
        entry.detail = item.detail
        entry.detail.display_lots = 0       # the slice is as recorded, not cut anew
    if not book_append(state, book, item.side, item.price_ticks, &entry):
        return False
    if entry.special:
        number = order_find(book, item.order_id)
        state.details[book.orders[number].mark] = item.detail
        if item.detail.peg_sequence:
            peg_enter(state, item)
        if item.detail.expire_ns != INT64_MAX:
            expiry_push(&state.expiries, Expiry(item.detail.expire_ns, item.order_id))
    return True


cdef inline const char* snapshot_read(
    MatchState* state, const SnapshotHeader* header, uint64_t* row
) noexcept nogil:
    """Fill an opened, empty state from a snapshot whose header is sound; return the rule broken, or NULL."""
    cdef const SnapshotOrder* item = <const SnapshotOrder*>(header + 1)
    cdef const char* fault
    if not state_reserve(state, header.order_count):
        return "it fits in memory"
    for row[0] in range(header.order_count):
        fault = order_fault(state, &item[row[0]])
        if fault != NULL:
            return fault
        if not order_restore(state, &item[row[0]]):
            return "a level's lots stay in range"
    state.now_ns = header.now_ns
    state.fill_hash = header.fill_hash
    state.fill_count = header.fill_count
    state.traded_lots = header.traded_lots
    state.lots_in = header.lots_in
    state.lots_out = header.lots_out
    state.last_price_ticks = header.last_price_ticks
    state.band_low_ticks = header.band_low_ticks
    state.band_high_ticks = header.band_high_ticks
    state.tick_size_ticks = header.tick_size_ticks
    state.instrument_id = header.instrument_id
    state.venue_id = header.venue_id
    state.origin = <uint64_t>header.instrument_id << 32 | <uint64_t>header.venue_id << 48
    state.phase = header.phase
    state.self_trade = header.self_trade
    state.traded = header.traded
    state.peg_sequence = header.peg_sequence
    state.pegged_bid = header.pegged_bid
    state.pegged_ask = header.pegged_ask
    return state_fault(state)


cdef inline const char* state_fault(MatchState* state) noexcept nogil:
    """Walk everything and return an invariant that does not hold, or NULL."""
    cdef RestingBook* book
    cdef const Level* level
    cdef const Order* order
    cdef uint32_t number, order_number, previous
    cdef uint64_t details = 0, orders, count, resting = 0
    cdef int64_t total
    cdef int book_index, side
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

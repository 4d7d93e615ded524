"""A matching engine's whole state as bytes and back.

A snapshot is a header and one record per order: displayed orders, hidden ones, stops; of each
book bids before asks, best price first, oldest first. Restoring fills a fresh state and checks every
record on the way, so a damaged snapshot never touches the engine that reads it.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from .expiry_heap cimport Expiry, expiry_push
from .layout cimport (
    ORDER_HIDDEN,
    ORDER_LIMIT,
    ORDER_MARKET,
    ORDER_PEG_PRIMARY,
    TIF_DAY,
    TIF_FOK,
    TIF_GTC,
    TIF_GTD,
    TIF_IOC,
)
from .lots cimport SIZE_LOTS_MAX
from .match_memory cimport pegs_compact, state_reserve
from .match_order cimport FLAGS_KNOWN, book_append, detail_rest, is_peg, is_stop, size_is_valid
from .match_state cimport (
    NO_PRICE,
    PHASE_AUCTION,
    SELF_TRADE_DECREMENT,
    MatchState,
    OrderDetail,
    Peg,
    state_find,
)
from .match_sweep cimport Entry
from .match_verify cimport BOOK_COUNT, state_book, state_fault, state_orders
from .order_index cimport Order
from .price_index cimport price_of
from .resting_book cimport ASK, RestingBook, level_behind, level_find, order_find

cdef extern from "crc32c.h" nogil:
    uint32_t crc32c_of(const void* data, size_t byte_count)

cdef enum:
    SNAPSHOT_VERSION = 2            # since 2 the minimum of a hidden order holds while it rests

cdef extern from *:
    """
    #define ANYTICK_SNAPSHOT_MAGIC 0x3148435441545941ull    /* "AYTATCH1" */
    static const char anytick_no_memory[] = "it fits in memory";
    """
    const uint64_t SNAPSHOT_MAGIC "ANYTICK_SNAPSHOT_MAGIC"
    const char* NO_MEMORY "anytick_no_memory"           # by address: what is no fault of the snapshot's


cdef struct SnapshotHeader:
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


cdef struct SnapshotOrder:
    uint64_t order_id
    int64_t size_lots                   # in the book, without reserve
    int32_t price_ticks                 # of its level: of a stop the trigger
    uint8_t book                        # 0 lit, 1 dark, 2 stops
    uint8_t side                        # of its level, BID or ASK
    uint8_t special                     # 1: the detail counts
    uint8_t _unused
    uint64_t _reserved
    OrderDetail detail


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
    pegs_compact(state)
    header.pegged_bid = state.pegged_bid if state.peg_count else NO_PRICE
    header.pegged_ask = state.pegged_ask if state.peg_count else NO_PRICE
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


cdef inline const char* detail_fault(const SnapshotHeader* header, const SnapshotOrder* item) noexcept nogil:
    """Return the rule that an order's detail breaks, or NULL."""
    cdef const OrderDetail* detail = &item.detail
    cdef bint pegged = is_peg(detail.order_type)
    if not ORDER_LIMIT <= detail.order_type <= ORDER_PEG_PRIMARY or detail.order_type == ORDER_MARKET:
        return "orders that rest have a type that rests"
    if not TIF_GTC <= detail.time_in_force <= TIF_DAY or detail.flags & ~FLAGS_KNOWN:
        return "times in force and flags are known"
    if item.book != 2 and (detail.time_in_force == TIF_IOC or detail.time_in_force == TIF_FOK):
        return "orders that end at once do not rest"
    if item.book != 2 and (item.book == 1) != (pegged or detail.flags & ORDER_HIDDEN != 0):
        return "hidden and pegged orders, and nothing else, stand in the book of hidden ones"
    if pegged != (detail.peg_sequence != 0) or detail.peg_sequence > header.peg_sequence:
        return "pegged orders, and nothing else, are numbered"
    if detail.expire_ns != INT64_MAX and (
        detail.time_in_force != TIF_GTD or detail.expire_ns <= header.now_ns
    ):
        return "orders with a time end before it is over"
    if not 0 <= detail.reserve_lots <= SIZE_LOTS_MAX - item.size_lots:
        return "reserves are not negative, and sizes in range"
    if detail.display_lots and item.book == 1:
        return "hidden orders show nothing"
    if item.book == 0 and detail.display_lots and item.size_lots > detail.display_lots:
        return "an iceberg shows a slice of it"
    if detail.reserve_lots and (item.book or not detail.display_lots):
        return "an order with a reserve is an iceberg"
    if not size_is_valid(item.size_lots + detail.reserve_lots, detail.display_lots):
        return "an iceberg shows at least one lot in 65,536"
    return NULL


cdef inline const char* order_fault(
    MatchState* state, const SnapshotHeader* header, const SnapshotOrder* item
) noexcept nogil:
    """Return the rule that one record breaks beside the orders before it, or NULL."""
    cdef uint32_t number
    cdef bint stop = item.special != 0 and is_stop(item.detail.order_type)
    if item.book >= BOOK_COUNT or item.side > ASK or item.special > 1:
        return "book, side and kind are known"
    if item.order_id == 0 or state_find(state, item.order_id, &number) != NULL:
        return "order ids are unique and not 0"
    if not 0 < item.size_lots <= SIZE_LOTS_MAX:
        return "sizes are positive"
    if stop != (item.book == 2):
        return "stops, and nothing else, stand in the book of stops"
    if item.price_ticks % header.tick_size_ticks and not (item.special and is_peg(item.detail.order_type)):
        return "prices are multiples of the tick size"
    return detail_fault(header, item) if item.special else NULL


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
        detail_rest(&state.details[book.orders[number].mark], book == &state.lit, item.price_ticks)
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
    cdef RestingBook* book
    cdef const char* fault
    if not state_reserve(state, header.order_count):
        return NO_MEMORY
    for row[0] in range(header.order_count):
        fault = order_fault(state, header, &item[row[0]])
        if fault != NULL:
            return fault
        if not order_restore(state, &item[row[0]]):
            book = state_book(state, item[row[0]].book)
            # Only a level that stands can hold too much; one that is missing could not be made.
            if level_find(book, item[row[0]].side, item[row[0]].price_ticks) == 0:
                return NO_MEMORY
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

"""The five ITCH 5.0 messages that make up nearly all of a day, decoded without asking which of them it is.

Which message comes next is what a branch predictor guesses worst. Add, add with attribution, execute, reduce
and delete differ in where a field stands and whether there is one: a table says that by type, and a field
that a type does not have is read where the message has bytes, and masked away.
"""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .layout cimport (
    EVENT_ADD,
    EVENT_CANCEL,
    EVENT_EXECUTE,
    EVENT_REDUCE,
    FLAG_LAST_IN_PACKET,
    MarketEvent,
)

cdef extern from *:
    """
    #define ANYTICK_ITCH_CLOCK 0xffffffffffffull
    #define ANYTICK_ITCH_DAY_NS 86400000000000ll
    #define ANYTICK_ITCH_FIELD_MAX 0x7fffffffu
    """
    uint16_t swap16 "__builtin_bswap16"(uint16_t) noexcept nogil
    uint32_t swap32 "__builtin_bswap32"(uint32_t) noexcept nogil
    uint64_t swap64 "__builtin_bswap64"(uint64_t) noexcept nogil

    const uint64_t CLOCK_BITS "ANYTICK_ITCH_CLOCK"
    const int64_t DAY_NS "ANYTICK_ITCH_DAY_NS"
    const uint32_t FIELD_MAX "ANYTICK_ITCH_FIELD_MAX"

cdef enum:
    LOCATE_AT = 1
    CLOCK_AT = 3                # six bytes of time behind two of a tracking number
    ORDER_AT = 11
    NO_SIDE = 2
    SIDE_SHIFT = 32             # of the side within an event's last eight bytes


cdef struct OrderLayout:
    uint64_t name_mask          # of a field that the type does not have, a mask is 0
    uint32_t size_mask
    uint32_t price_mask
    uint32_t size_min
    uint16_t side_row           # of the letters' meanings, below
    uint8_t name_at
    uint8_t size_at
    uint8_t price_at
    uint8_t side_at
    # An event's last eight bytes, but for stock and side; 0 for every other type of message.
    uint64_t tail


cdef struct OrderLayouts:
    OrderLayout[256] types
    int8_t[512] sides           # by letter: what types with a side mean by it, then what others do


cdef inline uint16_t u16(const uint8_t* at) noexcept nogil:
    cdef uint16_t word
    memcpy(&word, at, 2)
    return swap16(word)


cdef inline uint32_t u32(const uint8_t* at) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, at, 4)
    return swap32(word)


cdef inline uint64_t u64(const uint8_t* at) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, at, 8)
    return swap64(word)


cdef inline uint64_t tail_of(uint8_t venue_id, uint8_t kind) noexcept nogil:
    cdef MarketEvent event
    cdef uint64_t tail
    memset(&event, 0, sizeof(event))
    event.venue_id, event.kind, event.flags = venue_id, kind, FLAG_LAST_IN_PACKET
    memcpy(&tail, &event.instrument_id, sizeof(tail))
    return tail


cdef inline void layouts_fill(OrderLayouts* layouts, uint8_t venue_id) noexcept nogil:
    """Describe the five types in a zeroed table."""
    cdef OrderLayout layout
    memset(&layout, 0, sizeof(layout))
    memset(layouts.sides, NO_SIDE, 256)
    layouts.sides[<uint8_t>c'B'], layouts.sides[<uint8_t>c'S'] = 1, -1
    # What a type lacks is read from the order's id, which all of them have.
    layout.name_at = layout.size_at = layout.price_at = layout.side_at = ORDER_AT
    layout.side_row = 256
    layout.tail = tail_of(venue_id, EVENT_CANCEL)
    layouts.types[<uint8_t>c'D'] = layout
    layout.size_at, layout.size_mask, layout.size_min = 19, 0xffffffff, 1
    layout.tail = tail_of(venue_id, EVENT_REDUCE)
    layouts.types[<uint8_t>c'X'] = layout
    layout.tail = tail_of(venue_id, EVENT_EXECUTE)
    layouts.types[<uint8_t>c'E'] = layout
    layout.side_at, layout.side_row = 19, 0
    layout.size_at = 20
    layout.name_at, layout.name_mask = 24, <uint64_t>-1
    layout.price_at, layout.price_mask = 32, 0xffffffff
    layout.tail = tail_of(venue_id, EVENT_ADD)
    layouts.types[<uint8_t>c'A'] = layouts.types[<uint8_t>c'F'] = layout


cdef inline bint order_decode(
    const OrderLayouts* layouts,
    const OrderLayout* layout,
    const uint8_t* body,
    const uint64_t* names,
    int64_t last_ns,
    int64_t midnight_ns,
    MarketEvent* out,
) noexcept nogil:
    """Write an order message's event, but for what is the same in all events of a call.

    False where a rule may be broken or a stock's symbol is new; the event is worth nothing then.
    """
    cdef uint16_t locate = u16(body + LOCATE_AT)
    cdef int64_t clock_ns = u64(body + CLOCK_AT) & CLOCK_BITS
    cdef uint32_t shares = u32(body + layout.size_at) & layout.size_mask
    cdef uint32_t price = u32(body + layout.price_at) & layout.price_mask
    cdef int8_t side = layouts.sides[layout.side_row + body[layout.side_at]]
    cdef uint64_t other_name = (u64(body + layout.name_at) ^ names[locate]) & layout.name_mask
    # Each rule as a sign that must not be set: one test for all of them.
    cdef uint32_t beyond = (shares | price | (shares - layout.size_min)) >> 31
    cdef uint64_t untimely = <uint64_t>((clock_ns - last_ns) | (DAY_NS - 1 - clock_ns)) >> 63
    cdef uint64_t tail = layout.tail | locate | <uint64_t><uint8_t>side << SIDE_SHIFT
    out.ts_ns = midnight_ns + clock_ns
    out.order_id = u64(body + ORDER_AT)
    out.size_lots = shares
    out.price_ticks = price
    memcpy(&out.instrument_id, &tail, sizeof(tail))
    return (other_name | untimely | beyond | (side == NO_SIDE)) == 0

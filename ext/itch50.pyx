"""NASDAQ TotalView-ITCH 5.0 messages as events.

One pass over bytes: each message is two bytes of length and a body whose first byte tells its type and
so its only legal length. A body is touched only after all of it is known to lie inside the buffer. What
a message does not say (E, X and D name an order by id alone) stays 0 here; `ext.book_table` fills it in.
Every rule that fails stops the decoder at the message's first byte with `fault` set; nothing is skipped.

Over 400 lines because the specification's types, their lengths, their rules and their events are one table.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from .branch_hint cimport likely
from .event_array cimport events_pointer
from .itch_orders cimport (
    CLOCK_AT,
    CLOCK_BITS,
    DAY_NS,
    FIELD_MAX,
    LOCATE_AT,
    ORDER_AT,
    OrderLayout,
    OrderLayouts,
    layouts_fill,
    order_decode,
    u16,
    u32,
    u64,
)
from .layout cimport (
    EVENT_ADD,
    EVENT_CANCEL,
    EVENT_EXECUTE,
    EVENT_REDUCE,
    EVENT_STATUS,
    EVENT_TRADE,
    FLAG_AUCTION,
    FLAG_HIDDEN,
    FLAG_LAST_IN_PACKET,
    RECV_NOT_RECORDED,
    MarketEvent,
)

cnp.import_array()

LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36,
    "F": 40, "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19, "I": 50, "N": 20,
    "O": 48,
}

cdef enum:
    LOCATES = 65_536
    LOCATE_ALL = -1
    LOCATE_SOUGHT = -2          # the symbol's locate code was not told yet
    FRAME_BYTES = 2
    EVENTS_PER_MESSAGE = 2      # a replace is two

cdef enum Fault:
    FAULT_TYPE = 1              # 0: none
    FAULT_LENGTH
    FAULT_CLOCK
    FAULT_BACKWARDS
    FAULT_SIDE
    FAULT_SIZE
    FAULT_PRICE
    FAULT_STATE
    FAULT_NAME

RULES = {
    FAULT_TYPE: "message type must be one of ITCH 5.0",
    FAULT_LENGTH: "length before a message must be its type's, and 0 before all or before none",
    FAULT_CLOCK: "time must lie within the day, in ns after midnight",
    FAULT_BACKWARDS: "time must not run backwards",
    FAULT_SIDE: "side must be B or S",
    FAULT_SIZE: "shares must be from 1 to 2^31, of a cross to 2^48",
    FAULT_PRICE: "price must fit 31 bits of 0.0001",
    FAULT_STATE: "trading state must be H, P, Q or T",
    FAULT_NAME: "a stock locate must keep its symbol for the day",
}

cdef uint64_t CROSS_SHARES_MAX = <uint64_t>1 << 48
cdef uint32_t NO_LENGTH = 0xffffffff


cdef inline int64_t status_code(uint8_t kind, uint8_t detail) noexcept nogil:
    return <int64_t>kind << 8 | detail


@cython.final
@cython.auto_pickle(False)
cdef class Itch50Decoder:
    """Decode ITCH 5.0 messages of one day.

    ==========  =====================================================================================
    message     event
    ==========  =====================================================================================
    A F         ADD
    E           EXECUTE; price and side are the order's, 0 here
    C           EXECUTE at the message's price; AUCTION when not printable (part of a cross)
    X           REDUCE; price and side 0 here
    D           CANCEL; size, price and side 0 here
    U           CANCEL of the old id, then ADD of the new one with side 0 here
    P           TRADE, HIDDEN, side 0 (the field always says B)
    Q           TRADE, AUCTION, side 0; none for a cross without shares
    H           STATUS with size_lots -1 halted or paused, 0 quoting, 1 trading
    S Y h W K J STATUS with size_lots 256 × type + detail; K and J carry their price
    others      counted only: R L V I N B O
    ==========  =====================================================================================

    Each message leaves a whole book, so its last event carries LAST_IN_PACKET. ``seq`` is the low
    half of the message's number. Prices are ticks of 0.0001, sizes are shares.

    Parameters
    ----------
    midnight_ns : int
        Midnight at the exchange, ns since the Unix epoch.
    symbol : bytes, optional
        Only this stock's messages, and those about the whole system, become events. Without it all do.
    instrument_id : int
        Of the events of `symbol`; without one it is the stock locate.
    venue_id : int

    Attributes
    ----------
    messages : int
        Decoded so far.
    fault : str or None
        The rule that the message at the returned position breaks.
    locate : int or None
        Stock locate of `symbol`, once a message told it.
    """

    cdef readonly uint64_t messages
    cdef int64_t midnight_ns
    cdef int64_t last_ns        # of an event; ns after midnight
    cdef uint64_t wanted        # the symbol as the feed writes it
    cdef int32_t only
    cdef int broken             # enum Fault
    cdef uint16_t instrument_id
    cdef uint8_t venue_id
    cdef bint unframed          # the two length bytes are always 0
    cdef uint32_t[256] prefix   # what the length bytes before a type must say
    cdef uint8_t[256] body      # a type's length
    cdef uint64_t[256] counted
    cdef OrderLayouts orders
    cdef uint64_t* names        # symbol by stock locate, 0 where none was told

    def __cinit__(self, *, int64_t midnight_ns=0, symbol=None, uint16_t instrument_id=0, uint8_t venue_id=0):
        cdef int place
        self.names = <uint64_t*>calloc(LOCATES, sizeof(uint64_t))
        if self.names == NULL:
            raise MemoryError("no memory for the stock directory")
        for place in range(256):
            self.prefix[place] = NO_LENGTH
        memset(&self.orders, 0, sizeof(self.orders))
        layouts_fill(&self.orders, venue_id)
        for kind, length in LENGTHS.items():
            self.prefix[ord(kind)] = self.body[ord(kind)] = length
        self.midnight_ns, self.instrument_id, self.venue_id = midnight_ns, instrument_id, venue_id
        self.only = LOCATE_ALL
        if symbol is not None:
            if not isinstance(symbol, bytes) or not 1 <= len(symbol) <= 8:
                raise ValueError(f"symbol must be 1 to 8 bytes, was {symbol!r}")
            self.wanted = int.from_bytes(symbol.ljust(8), "big")
            self.only = LOCATE_SOUGHT

    def __dealloc__(self):
        free(self.names)

    @property
    def fault(self):
        return RULES[self.broken] if self.broken else None

    @property
    def locate(self):
        return self.only if self.only >= 0 else None

    @property
    def zero_lengths(self):
        """Whether the file's length bytes are all 0, so that types alone tell lengths."""
        return self.unframed

    def counts(self):
        """Return how many messages of each type were decoded."""
        return {chr(kind): self.counted[kind] for kind in range(256) if self.counted[kind]}

    def symbols(self):
        """Return the symbols told so far by stock locate."""
        return {
            locate: int(self.names[locate]).to_bytes(8, "big").rstrip().decode("ascii", "backslashreplace")
            for locate in range(LOCATES)
            if self.names[locate]
        }

    def decode(
        self,
        const uint8_t[::1] data not None,
        cnp.ndarray out not None,
        *,
        Py_ssize_t start=0,
        int64_t recv_ns=RECV_NOT_RECORDED,
    ):
        """Decode messages until the data, the room in `out`, or the rules give out.

        Parameters
        ----------
        data : bytes-like
            Framed messages; a message that is not whole stays for the next call.
        out : array of EVENT_DTYPE, shape (n,)
            At least 2.
        start : int
            Where in `data` the next message begins.
        recv_ns : int
            Receipt of all of them, ns since the Unix epoch.

        Returns
        -------
        (int, int)
            Events written and the position after the last whole message. When `fault` is set, that is
            where the message stands that breaks it.
        """
        cdef MarketEvent* events = <MarketEvent*>events_pointer(out)
        cdef Py_ssize_t room = cnp.PyArray_SIZE(out), size = data.shape[0], position = start, written
        if not cnp.PyArray_ISWRITEABLE(out) or room < EVENTS_PER_MESSAGE:
            raise ValueError(f"out must be writable with room for {EVENTS_PER_MESSAGE} events, was {room}")
        if not 0 <= start <= size:
            raise ValueError(f"start must lie within the data's {size} bytes, was {start}")
        if size == 0:
            return 0, 0
        with nogil:
            written = decode_messages(self, &data[0], size, &position, events, room, recv_ns)
        return written, position


cdef Py_ssize_t decode_messages(
    Itch50Decoder self,
    const uint8_t* data,
    Py_ssize_t size,
    Py_ssize_t* position,
    MarketEvent* out,
    Py_ssize_t room,
    int64_t recv_ns,
) noexcept nogil:
    """Write events from `position` on and move it behind the last whole message."""
    cdef Py_ssize_t at = position[0], written = 0
    cdef const uint8_t* body
    cdef const OrderLayout* layout
    cdef MarketEvent* event
    cdef uint8_t kind
    cdef int count
    cdef bint all_stocks = self.only == LOCATE_ALL
    # Invariant: `at` is a message's first byte, and no byte at or beyond `size` was read.
    while at + FRAME_BYTES < size and written + EVENTS_PER_MESSAGE <= room:
        body = data + at + FRAME_BYTES
        kind = body[0]
        if u16(data + at) != self.prefix[kind] and not frame_starts(self, u16(data + at), kind):
            break
        if size - at - FRAME_BYTES < self.body[kind]:
            break
        event = out + written
        layout = &self.orders.types[kind]
        if likely(layout.tail and all_stocks) and likely(
            order_decode(&self.orders, layout, body, self.names, self.last_ns, self.midnight_ns, event)
        ):
            event.recv_ns = recv_ns
            event.seq = <uint32_t>self.messages
            self.last_ns = event.ts_ns - self.midnight_ns
            count = 1
        else:
            count = decode_message(self, body, kind, event, recv_ns)
            if count < 0:
                break
        self.counted[kind] += 1
        self.messages += 1
        written += count
        at += FRAME_BYTES + self.body[kind]
    position[0] = at
    return written


cdef bint frame_starts(Itch50Decoder self, uint16_t length, uint8_t kind) noexcept nogil:
    """Judge an unexpected length: the first message of all may say that lengths are left 0."""
    cdef int place
    if self.body[kind] and length == 0 and self.messages == 0 and not self.unframed:
        self.unframed = True
        for place in range(256):
            if self.body[place]:
                self.prefix[place] = 0
        return True
    self.broken = FAULT_LENGTH if self.body[kind] else FAULT_TYPE
    return False


cdef inline int refuse(Itch50Decoder self, int fault) noexcept nogil:
    self.broken = fault
    return -1


cdef inline bint name_kept(Itch50Decoder self, uint16_t locate, uint64_t name) noexcept nogil:
    """Note a stock locate's symbol; False where it had another."""
    if self.names[locate] == name:
        return True
    if self.names[locate]:
        return False
    self.names[locate] = name
    if self.only == LOCATE_SOUGHT and name == self.wanted:
        self.only = locate
    return True


cdef inline uint64_t stock_name(const uint8_t* body, uint8_t kind) noexcept nogil:
    """Return the symbol in a message, 0 for types whose symbol is not needed."""
    if kind == c'A' or kind == c'F' or kind == c'P':
        return u64(body + 24)
    if kind == c'Q':
        return u64(body + 19)
    return u64(body + 11) if kind in (c'R', c'H', c'Y', c'J', c'K', c'h') else 0


cdef int decode_message(
    Itch50Decoder self, const uint8_t* body, uint8_t kind, MarketEvent* out, int64_t recv_ns
) noexcept nogil:
    """Write a whole message's events; return how many, or -1 with `broken` set."""
    cdef uint16_t locate = u16(body + LOCATE_AT)
    cdef uint64_t name
    if self.only < 0 or self.only == locate:
        name = stock_name(body, kind)
        if name and not name_kept(self, locate, name):
            return refuse(self, FAULT_NAME)
    if self.only != LOCATE_ALL and self.only != locate and kind != c'S' and kind != c'W':
        return 0
    cdef int64_t clock_ns = u64(body + CLOCK_AT) & CLOCK_BITS
    if clock_ns >= DAY_NS:
        return refuse(self, FAULT_CLOCK)
    if clock_ns < self.last_ns:
        return refuse(self, FAULT_BACKWARDS)
    self.last_ns = clock_ns
    out.ts_ns = self.midnight_ns + clock_ns
    out.recv_ns = recv_ns
    out.seq = <uint32_t>self.messages
    out.instrument_id = locate if self.only == LOCATE_ALL else self.instrument_id
    out.venue_id = self.venue_id
    out.side = 0
    out._reserved = 0
    out.flags = FLAG_LAST_IN_PACKET
    if kind == c'A' or kind == c'F':
        return decode_add(self, body, out)
    if kind == c'D':
        out.kind = EVENT_CANCEL
        out.order_id = u64(body + ORDER_AT)
        out.size_lots = out.price_ticks = 0
        return 1
    if kind == c'E' or kind == c'X':
        out.kind = EVENT_EXECUTE if kind == c'E' else EVENT_REDUCE
        out.order_id = u64(body + ORDER_AT)
        out.size_lots = u32(body + 19)
        out.price_ticks = 0
        return 1 if <uint64_t>(out.size_lots - 1) < FIELD_MAX else refuse(self, FAULT_SIZE)
    if kind == c'U':
        return decode_replace(self, body, out)
    return decode_rare(self, body, kind, out)


cdef inline int decode_add(Itch50Decoder self, const uint8_t* body, MarketEvent* out) noexcept nogil:
    cdef uint32_t shares = u32(body + 20), price = u32(body + 32)
    cdef uint8_t side = body[19]
    if side != c'B' and side != c'S':
        return refuse(self, FAULT_SIDE)
    if shares - 1 >= FIELD_MAX:
        return refuse(self, FAULT_SIZE)
    if price > FIELD_MAX:
        return refuse(self, FAULT_PRICE)
    out.kind = EVENT_ADD
    out.order_id = u64(body + ORDER_AT)
    out.size_lots = shares
    out.price_ticks = <int32_t>price
    out.side = 1 if side == c'B' else -1
    return 1


cdef inline int decode_replace(Itch50Decoder self, const uint8_t* body, MarketEvent* out) noexcept nogil:
    cdef uint32_t shares = u32(body + 27), price = u32(body + 31)
    if shares - 1 >= FIELD_MAX:
        return refuse(self, FAULT_SIZE)
    if price > FIELD_MAX:
        return refuse(self, FAULT_PRICE)
    out.kind = EVENT_CANCEL
    out.flags = 0
    out.order_id = u64(body + ORDER_AT)
    out.size_lots = out.price_ticks = 0
    out[1] = out[0]
    out[1].kind = EVENT_ADD
    out[1].flags = FLAG_LAST_IN_PACKET
    out[1].order_id = u64(body + 19)
    out[1].size_lots = shares
    out[1].price_ticks = <int32_t>price
    return 2


cdef int decode_rare(
    Itch50Decoder self, const uint8_t* body, uint8_t kind, MarketEvent* out
) noexcept nogil:
    """Write the event of any type but the five that make up nearly all of a day."""
    cdef uint64_t shares = 0, shares_max = FIELD_MAX
    cdef uint32_t price = 0
    cdef uint8_t state
    out.order_id = 0
    out.kind = EVENT_STATUS
    if kind == c'C':
        out.kind = EVENT_EXECUTE
        out.order_id = u64(body + ORDER_AT)
        shares, price = u32(body + 19), u32(body + 32)
        if body[31] != c'Y':
            out.flags |= FLAG_AUCTION
        if shares == 0:
            return refuse(self, FAULT_SIZE)
    elif kind == c'P':
        out.kind = EVENT_TRADE
        out.flags |= FLAG_HIDDEN
        shares, price = u32(body + 20), u32(body + 32)
        if shares == 0:
            return refuse(self, FAULT_SIZE)
    elif kind == c'Q':
        out.kind = EVENT_TRADE
        out.flags |= FLAG_AUCTION
        shares, price = u64(body + 11), u32(body + 27)
        if shares == 0:
            return 0
        # The only count of eight bytes: an opening cross of a stock of pennies may well exceed four.
        shares_max = CROSS_SHARES_MAX
    elif kind == c'H':
        state = body[19]
        if state != c'H' and state != c'P' and state != c'Q' and state != c'T':
            return refuse(self, FAULT_STATE)
        out.size_lots = 1 if state == c'T' else 0 if state == c'Q' else -1
        out.price_ticks = 0
        return 1
    elif kind == c'S' or kind == c'W':
        shares = status_code(kind, body[11])
    elif kind == c'Y':
        shares = status_code(kind, body[19])
    elif kind == c'h':
        shares = status_code(kind, body[20])
    elif kind == c'K':
        shares, price = status_code(kind, body[23]), u32(body + 24)
    elif kind == c'J':
        shares, price = status_code(kind, 0), u32(body + 19)
    else:
        return 0
    if shares > shares_max:
        return refuse(self, FAULT_SIZE)
    if price > FIELD_MAX:
        return refuse(self, FAULT_PRICE)
    out.size_lots = <int64_t>shares
    out.price_ticks = <int32_t>price
    return 1

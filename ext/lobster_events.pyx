"""The rows of a LOBSTER day as events; what they become is told in data/lobster.py.

A message explains the change of one level. Everything else that differs between the book before and after
it is stated as LEVEL events, found in one pass over each side, since both are best first.
"""

cimport numpy as cnp
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from ext.event_array cimport events_pointer
from ext.layout cimport (
    EVENT_ADD,
    EVENT_CANCEL,
    EVENT_CLEAR,
    EVENT_EXECUTE,
    EVENT_LEVEL,
    EVENT_REDUCE,
    EVENT_STATUS,
    EVENT_TRADE,
    FLAG_AUCTION,
    FLAG_HIDDEN,
    FLAG_LAST_IN_PACKET,
    FLAG_SNAPSHOT,
    RECV_NOT_RECORDED,
    MarketEvent,
)

cnp.import_array()

cdef enum:
    MESSAGE_COLUMNS = 6
    STATUS_TYPE = 7

# Columns of a message.
cdef enum:
    CLOCK_NS
    TYPE
    ORDER_ID
    SIZE
    PRICE
    SIDE

# By type 1 to 7: the event's kind and flag, what the file's direction and size count for.
cdef uint8_t[8] KIND = [
    0, EVENT_ADD, EVENT_REDUCE, EVENT_CANCEL, EVENT_EXECUTE, EVENT_TRADE, EVENT_TRADE, EVENT_STATUS,
]
cdef uint8_t[8] FLAG = [0, 0, 0, 0, 0, FLAG_HIDDEN, FLAG_AUCTION, 0]
cdef int8_t[8] SIDE_SIGN = [0, 1, 1, 1, 1, -1, 0, 0]
cdef int8_t[8] LEVEL_SIGN = [0, 1, -1, -1, -1, 0, 0, 0]


def fill_events(
    const int64_t[:, ::1] messages not None, const int64_t[:, ::1] books not None, previous, Py_ssize_t row,
    uint64_t seq, int64_t midnight_ns, uint32_t instrument_id, cnp.ndarray out not None,
):
    """Write the events of rows from `row` on, until they end or `out` has no room for a row's most.

    Parameters
    ----------
    messages, books : arrays of int64, shapes (n, 6) and (n, 4 * levels)
        As parsed.
    previous : array of int64, shape (4 * levels,), or None
        The book before the first row; None at the start of a day.
    row : int
        To start with.
    seq : int
        Of the first row of the arrays.
    out : array of EVENT_DTYPE
        `events_most(levels)` at least.

    Returns
    -------
    row : int
        The next one.
    count : int
        Events written.
    """
    cdef Py_ssize_t rows = messages.shape[0], room = cnp.PyArray_SIZE(out), count = 0
    cdef int columns = <int>books.shape[1]
    cdef Py_ssize_t most = events_most(columns // 4)
    if messages.shape[1] != MESSAGE_COLUMNS or books.shape[0] != rows or columns < 4 or columns % 4:
        raise ValueError("messages and books must be rows of one recording, were otherwise")
    if room < most:
        raise ValueError(f"out must hold {most} events, was {room}")
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out must be writable, was read-only")
    cdef MarketEvent* target = <MarketEvent*>events_pointer(out)
    cdef const int64_t[::1] before
    cdef const int64_t* old = NULL
    cdef MarketEvent blank
    if not 0 <= row <= rows:
        raise ValueError(f"row must be 0 to {rows}, was {row}")
    if row:
        old = &books[row - 1, 0]
    elif previous is not None:
        before = previous
        if before.shape[0] != columns:
            raise ValueError(f"previous must have {columns} columns, was {before.shape[0]}")
        old = &before[0]
    with nogil:
        while row < rows and room - count >= most:
            _blank(
                &blank, messages[row, CLOCK_NS] + midnight_ns, <uint32_t>(seq + <uint64_t>row), instrument_id
            )
            count += _row(&messages[row, 0], old, &books[row, 0], columns, &blank, target + count)
            old = &books[row, 0]
            row += 1
    return row, count


def events_most(int levels):
    """Return the most events that one row can have: a clear, a message, and every level gone and new."""
    return 2 + 2 * (2 * levels + 1)


cdef inline void _blank(
    MarketEvent* event, int64_t ts_ns, uint32_t seq, uint32_t instrument_id
) noexcept nogil:
    """A level to be stated; what differs is filled in."""
    event.ts_ns, event.recv_ns = ts_ns, RECV_NOT_RECORDED
    event.order_id, event.size_lots, event.price_ticks = 0, 0, 0
    event.seq = seq
    event.instrument_id, event.venue_id = <unsigned short>instrument_id, 0
    event.kind, event.side, event.flags = EVENT_LEVEL, 0, FLAG_SNAPSHOT
    event._reserved = 0


cdef inline Py_ssize_t _row(
    const int64_t* message, const int64_t* old, const int64_t* new, int columns, const MarketEvent* blank,
    MarketEvent* out,
) noexcept nogil:
    """Write one row's events: its message, then what the message leaves wrong; return how many."""
    cdef int64_t kind = message[TYPE], delta = LEVEL_SIGN[kind] * message[SIZE]
    cdef bint status = kind == STATUS_TYPE
    cdef MarketEvent* event = out
    if old == NULL:
        event[0] = blank[0]
        event.kind = EVENT_CLEAR
        event += 1
    event[0] = blank[0]
    event.kind, event.flags = KIND[kind], FLAG[kind]
    event.side = <int8_t>(SIDE_SIGN[kind] * message[SIDE])
    # A halt's code stands where other messages have a price; a cross carries order id -1.
    event.size_lots = message[PRICE] if status else message[SIZE]
    if not status:
        event.price_ticks = <int32_t>message[PRICE]
        event.order_id = <uint64_t>max(message[ORDER_ID], 0)
    event += 1
    event = _side(-1, message[PRICE], delta if message[SIDE] == -1 else 0, old, new, columns, blank, event)
    if old != NULL:
        old += 2
    event = _side(1, message[PRICE], delta if message[SIDE] == 1 else 0, old, new + 2, columns, blank, event)
    (event - 1).flags |= FLAG_LAST_IN_PACKET
    return event - out


cdef inline MarketEvent* _side(
    int side, int64_t message_price, int64_t delta, const int64_t* old, const int64_t* new, int columns,
    const MarketEvent* blank, MarketEvent* event,
) noexcept nogil:
    """State every level of a side that the message does not explain: those gone, then those wrong.

    Both sides of the comparison are best first, so one pass over each finds them.
    """
    cdef int level, other = 0
    cdef int64_t price, size
    # What the message adds at a price that no old level has; the book makes a level of it.
    cdef int64_t made = max(delta, 0)
    cdef bint explained = old != NULL
    for level in range(0, columns if old != NULL else 0, 4):
        size = old[level + 1]
        if old[level] == message_price:
            size, made = max(size + delta, 0), 0
        explained = explained and old[level] == new[level] and size == new[level + 1]
    if explained and not made:
        return event
    if made and _size_at(new, columns, message_price, &level) == 0:
        event = _stated(event, blank, side, message_price, 0)
    for level in range(0, columns if old != NULL else 0, 4):
        price, size = old[level], old[level + 1]
        if price == message_price:
            size = max(size + delta, 0)
        if size and _size_from(new, columns, price, side, &other) == 0:
            event = _stated(event, blank, side, price, 0)
    other = 0
    for level in range(0, columns, 4):
        price = new[level]
        if new[level + 1] == 0:
            continue
        size = 0
        if old != NULL:
            size = _size_from(old, columns, price, side, &other)
        if price == message_price:
            size = max(size + delta, 0) if size else made
        if size != new[level + 1]:
            event = _stated(event, blank, side, price, new[level + 1])
    return event


cdef inline int64_t _size_from(
    const int64_t* levels, int columns, int64_t price, int side, int* place
) noexcept nogil:
    """Return the size at a price; prices asked for come best first, so `place` only moves on."""
    while place[0] < columns and levels[place[0] + 1] and (levels[place[0]] - price) * side > 0:
        place[0] += 4
    if place[0] < columns and levels[place[0]] == price:
        return levels[place[0] + 1]
    return 0


cdef inline int64_t _size_at(const int64_t* levels, int columns, int64_t price, int* place) noexcept nogil:
    for place[0] in range(0, columns, 4):
        if levels[place[0]] == price:
            return levels[place[0] + 1]
    return 0


cdef inline MarketEvent* _stated(
    MarketEvent* event, const MarketEvent* blank, int side, int64_t price, int64_t size
) noexcept nogil:
    event[0] = blank[0]
    event.side, event.price_ticks, event.size_lots = <int8_t>side, <int32_t>price, size
    return event + 1

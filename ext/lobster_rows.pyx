"""The rows of LOBSTER's two files: from text to integers, from integers to events.

Both files are a few integers a line, so one loop over the bytes that also checks every rule costs less than
a table library's pass over the text. What a row may hold and what its events are is told in
data/lobster_rows.py and data/lobster.py. A broken rule comes back by name, with its row and column; nothing
is read beyond the last line end of the text.
"""

cimport numpy as cnp
from libc.stdint cimport INT64_MAX, int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

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
    ZERO = 48                   # "0"
    COMMA = 44
    LINE_END = 10
    RETURN = 13
    DIGITS_MAX = 18             # so many always fit an int64
    MESSAGE_COLUMNS = 6
    STATUS_TYPE = 7
    ORDER_TYPES = 4             # types 1 to 4 change a resting order

# Columns of a message.
cdef enum:
    CLOCK_NS
    TYPE
    ORDER_ID
    SIZE
    PRICE
    SIDE

cdef int64_t DAY_NS = 86_400_000_000_000
cdef int64_t SIZE_TOP = 1 << 48
cdef int64_t PRICE_TOP = (1 << 30) - 1
cdef int64_t ABSENT = 9_999_999_999

cdef enum Rule:
    RULE_NONE
    RULE_NUMBER
    RULE_COLUMNS
    RULE_DAY
    RULE_BACKWARDS
    RULE_TYPE
    RULE_SIZE
    RULE_DIRECTION
    RULE_PRICE
    RULE_ASKS
    RULE_BIDS

cdef tuple RULES = (
    "", "number", "columns", "day", "backwards", "type", "size", "direction", "price", "asks", "bids",
)

# By type 1 to 7: the event's kind and flag, what the file's direction and size count for.
cdef uint8_t[8] KIND = [
    0, EVENT_ADD, EVENT_REDUCE, EVENT_CANCEL, EVENT_EXECUTE, EVENT_TRADE, EVENT_TRADE, EVENT_STATUS,
]
cdef uint8_t[8] FLAG = [0, 0, 0, 0, 0, FLAG_HIDDEN, FLAG_AUCTION, 0]
cdef int8_t[8] SIDE_SIGN = [0, 1, 1, 1, 1, -1, 0, 0]
cdef int8_t[8] LEVEL_SIGN = [0, 1, -1, -1, -1, 0, 0, 0]


def parse_messages(
    const uint8_t[::1] text not None, int64_t[:, ::1] out not None, int64_t previous_ns, bint extra
):
    """Read whole lines of a message file until they end or `out` is full.

    Parameters
    ----------
    text : bytes
        Ends with a line end.
    out : array of int64, shape (n, 6)
        Time in ns after midnight, type, order id, size, price, direction.
    previous_ns : int
        Time of the row before.
    extra : bool
        Whether lines carry one more column, which is passed over.

    Returns
    -------
    rows : int
        Filled.
    taken : int
        Bytes of `text` that they used; the next line starts there.
    rule : str
        That the next line breaks, empty where none does.
    column : int
        Zero-based, of the cell that breaks it.
    """
    cdef Py_ssize_t rows = 0, taken = 0, length = _whole(text), room = out.shape[0]
    cdef int column = 0
    cdef Rule rule = RULE_NONE
    if out.shape[1] != MESSAGE_COLUMNS:
        raise ValueError(f"out must have {MESSAGE_COLUMNS} columns, was {out.shape[1]}")
    if length == 0 or room == 0:
        return 0, 0, "", 0
    cdef const uint8_t* first = &text[0]
    cdef const uint8_t* at = first
    cdef const uint8_t* end = first + length
    with nogil:
        while rows < room:
            at = _line(at, end)
            taken = at - first
            if at == end:
                break
            rule = _message(&at, &out[rows, 0], previous_ns, extra, &column)
            if rule != RULE_NONE:
                break
            previous_ns = out[rows, CLOCK_NS]
            rows += 1
            taken = at - first
    return rows, taken, RULES[rule], column


def parse_books(const uint8_t[::1] text not None, int64_t[:, ::1] out not None):
    """Read whole lines of an orderbook file; `out` has shape (n, 4 * levels), else as `parse_messages`."""
    cdef Py_ssize_t rows = 0, taken = 0, length = _whole(text), room = out.shape[0]
    cdef int column = 0, columns = <int>out.shape[1]
    cdef Rule rule = RULE_NONE
    if columns < 4 or columns % 4:
        raise ValueError(f"out must have four columns a level, was {columns}")
    if length == 0 or room == 0:
        return 0, 0, "", 0
    cdef const uint8_t* first = &text[0]
    cdef const uint8_t* at = first
    cdef const uint8_t* end = first + length
    with nogil:
        while rows < room:
            at = _line(at, end)
            taken = at - first
            if at == end:
                break
            rule = _book(&at, &out[rows, 0], columns, &column)
            if rule != RULE_NONE:
                break
            rows += 1
            taken = at - first
    return rows, taken, RULES[rule], column


cdef Py_ssize_t _whole(const uint8_t[::1] text) noexcept:
    """Return the bytes up to and with the last line end, which stops every scan below."""
    cdef Py_ssize_t length = text.shape[0]
    while length and text[length - 1] != LINE_END:
        length -= 1
    return length


cdef inline const uint8_t* _line(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Pass over empty lines."""
    while at < end and (at[0] == LINE_END or (at[0] == RETURN and at[1] == LINE_END)):
        at += 1
    return at


cdef inline bint _integer(const uint8_t** place, int64_t* out) noexcept nogil:
    """Read digits with perhaps a minus in front."""
    cdef const uint8_t* at = place[0]
    cdef bint negative = at[0] == b"-"
    at += negative
    cdef const uint8_t* first = at
    cdef int64_t value = 0
    cdef uint32_t digit = <uint32_t>at[0] - ZERO
    while digit < 10 and at - first < DIGITS_MAX:
        value = 10 * value + digit
        at += 1
        digit = <uint32_t>at[0] - ZERO
    out[0] = -value if negative else value
    place[0] = at
    return at != first and digit >= 10


cdef inline bint _clock(const uint8_t** place, int64_t* out) noexcept nogil:
    """Read seconds with perhaps decimals, rounded to nanoseconds: some files were printed from doubles."""
    cdef int64_t seconds = 0, fraction = 0, unit = 1_000_000_000
    cdef uint32_t digit
    cdef int decimals = 0
    cdef const uint8_t* at
    if place[0][0] == b"-" or not _integer(place, &seconds):
        # A decimal point ends the integer like anything else that is no digit.
        return False
    at = place[0]
    if at[0] == b".":
        at += 1
        digit = <uint32_t>at[0] - ZERO
        while digit < 10 and decimals < DIGITS_MAX:
            if decimals < 9:
                unit //= 10
                fraction += digit * unit
            elif decimals == 9:
                fraction += digit >= 5
            decimals += 1
            at += 1
            digit = <uint32_t>at[0] - ZERO
        if decimals == 0 or digit < 10:
            return False
        place[0] = at
    # Beyond a day the exact number does not matter, only that it cannot overflow.
    out[0] = min(seconds, 1_000_000) * 1_000_000_000 + fraction
    return True


cdef inline bint _ended(const uint8_t** place) noexcept nogil:
    """Step over a line end."""
    cdef const uint8_t* at = place[0]
    at += at[0] == RETURN
    place[0] = at + 1
    return at[0] == LINE_END


cdef inline Rule _message(
    const uint8_t** place, int64_t* row, int64_t previous_ns, bint extra, int* column
) noexcept nogil:
    cdef int index
    column[0] = CLOCK_NS
    if not _clock(place, &row[CLOCK_NS]):
        return RULE_NUMBER
    for index in range(TYPE, MESSAGE_COLUMNS):
        if place[0][0] != COMMA:
            return RULE_NUMBER if place[0][0] != RETURN and place[0][0] != LINE_END else RULE_COLUMNS
        place[0] += 1
        column[0] = index
        if not _integer(place, &row[index]):
            return RULE_NUMBER
    if extra:
        if place[0][0] != COMMA:
            return RULE_COLUMNS
        while place[0][0] != LINE_END:
            place[0] += 1
    if place[0][0] != COMMA and place[0][0] != RETURN and place[0][0] != LINE_END:
        return RULE_NUMBER
    if not _ended(place):
        return RULE_COLUMNS
    return _broken(row, previous_ns, column)


cdef inline Rule _broken(const int64_t* row, int64_t previous_ns, int* column) noexcept nogil:
    """Return the rule that a message's numbers break."""
    cdef bint is_order = row[TYPE] <= ORDER_TYPES
    column[0] = CLOCK_NS
    if row[CLOCK_NS] >= DAY_NS:
        return RULE_DAY
    if row[CLOCK_NS] < previous_ns:
        return RULE_BACKWARDS
    column[0] = TYPE
    if row[TYPE] < 1 or row[TYPE] > STATUS_TYPE:
        return RULE_TYPE
    column[0] = SIZE
    if is_order and (row[SIZE] <= 0 or row[SIZE] > SIZE_TOP):
        return RULE_SIZE
    column[0] = SIDE
    if (row[SIDE] != 1 and row[SIDE] != -1) and (is_order or row[SIDE] != 0):
        return RULE_DIRECTION
    column[0] = PRICE
    if row[TYPE] != STATUS_TYPE and (row[PRICE] <= 0 or row[PRICE] > PRICE_TOP):
        return RULE_PRICE
    return RULE_NONE


cdef inline Rule _book(const uint8_t** place, int64_t* row, int columns, int* column) noexcept nogil:
    cdef int index, level
    cdef int64_t price, before
    for index in range(columns):
        if index:
            if place[0][0] != COMMA:
                return RULE_NUMBER if place[0][0] != RETURN and place[0][0] != LINE_END else RULE_COLUMNS
            place[0] += 1
        column[0] = index
        if not _integer(place, &row[index]):
            return RULE_NUMBER
    if place[0][0] != COMMA and place[0][0] != RETURN and place[0][0] != LINE_END:
        return RULE_NUMBER
    if not _ended(place):
        return RULE_COLUMNS
    for index in range(0, 4, 2):
        before = 0 if index == 0 else INT64_MAX
        for level in range(index, columns, 4):
            column[0] = level
            price = row[level]
            if price == ABSENT or price == -ABSENT:
                if row[level + 1] != 0:
                    return RULE_BIDS if index else RULE_ASKS
                # Nothing but absent levels may follow.
                before = INT64_MAX if index == 0 else 0
                continue
            if (
                price <= 0 or price > PRICE_TOP or row[level + 1] <= 0 or row[level + 1] > SIZE_TOP
                or (price <= before if index == 0 else price >= before)
            ):
                return RULE_BIDS if index else RULE_ASKS
            before = price
    return RULE_NONE


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

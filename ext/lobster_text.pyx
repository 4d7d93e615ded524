"""The rows of LOBSTER's two files: from text to integers.

Both files are a few integers a line, so one loop over the bytes that also checks every rule costs less than
a table library's pass over the text. What a row may hold is told in data/lobster_rows.py. A broken rule
comes back by name, with its row and column; nothing is read beyond the last line end of the text.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t

from .lots cimport SIZE_LOTS_MAX

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
# Stub quotes stand at 199,999.99 USD, which 30 bits do not hold.
cdef int64_t PRICE_TOP = (<int64_t>1 << 31) - 1
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
    if is_order and (row[SIZE] <= 0 or row[SIZE] > SIZE_LOTS_MAX):
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
                price <= 0 or price > PRICE_TOP or row[level + 1] <= 0 or row[level + 1] > SIZE_LOTS_MAX
                or (price <= before if index == 0 else price >= before)
            ):
                return RULE_BIDS if index else RULE_ASKS
            before = price
    return RULE_NONE

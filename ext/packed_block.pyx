"""Packing events into blocks and back: the codec of the store's packed cache.

Damage and hostility are refused by block and rule; a buffer is never read, nor an array written, beyond
its end.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ext.event_array cimport events_pointer
from ext.layout cimport RECV_NOT_RECORDED

cnp.import_array()

EVENTS_MAX = PACKED_EVENTS_MAX
HEADER_BYTES = sizeof(PackedHeader)

cdef enum Rule:
    RULE_NONE
    RULE_HEADER
    RULE_LENGTH
    RULE_CHECKSUM
    RULE_TAIL
    RULE_ROOM

cdef tuple RULES = (
    "",
    "a packed block header",
    "a block as long as its header says, within the buffer",
    "matching checksums",
    "tail indexes within their table",
    "no more events than there is room for",
)


def crc32c(const uint8_t[::1] data, uint32_t start=0):
    """Return the CRC-32C of some bytes; pass the result as `start` to go on with the next ones."""
    cdef uint32_t crc = ~start
    cdef Py_ssize_t place = 0, length = data.shape[0]
    if length == 0:
        return start
    cdef const uint8_t* first = &data[0]
    with nogil:
        while place + 8 <= length:
            crc = crc32c_word(crc, load_word(first + place))
            place += 8
        while place < length:
            crc = crc32c_byte(crc, first[place])
            place += 1
    return ~crc


def pack(cnp.ndarray events not None):
    """Return one block that holds `events`, 1 to EVENTS_MAX of them, bit for bit."""
    cdef const EventWords* source = <const EventWords*>events_pointer(events)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(events)
    if not 1 <= count <= PACKED_EVENTS_MAX:
        raise ValueError(f"a block holds 1 to {PACKED_EVENTS_MAX} events, was {count}")
    cdef PackedHeader header
    memset(&header, 0, sizeof(header))
    header.magic = PACKED_MAGIC
    header.count = <uint32_t>count
    # Twice as many slots as events: the search for a tail ends soon.
    cdef uint32_t slot_count = 2
    while slot_count < 2 * count:
        slot_count *= 2
    cdef uint32_t* slots = <uint32_t*>calloc(slot_count, sizeof(uint32_t))
    cdef uint64_t* tails = <uint64_t*>calloc(count, sizeof(uint64_t))
    cdef uint16_t* tail_index = <uint16_t*>calloc(count, sizeof(uint16_t))
    cdef bytearray block
    cdef uint8_t[::1] view
    try:
        if slots == NULL or tails == NULL or tail_index == NULL:
            raise MemoryError(f"no memory to pack {count} events")
        with nogil:
            _number_tails(source, &header, slots, slot_count, tails, tail_index)
            _choose_widths(source, &header)
            header.block_bytes = <uint32_t>packed_bytes_of(&header)
        block = bytearray(header.block_bytes)
        view = block
        with nogil:
            _write(source, &header, tails, tail_index, &view[0])
        del view
        return bytes(block)
    finally:
        free(slots)
        free(tails)
        free(tail_index)


def unpack(const uint8_t[::1] data, cnp.ndarray out not None):
    """Decode consecutive blocks until `data` ends; return how many events stand in `out`.

    Raises
    ------
    ValueError
        A block is damaged, or `out` is too small; names the byte at which the block starts.
    """
    cdef EventWords* target = <EventWords*>events_pointer(out)
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out must be writable, was read-only")
    cdef uint64_t room = cnp.PyArray_SIZE(out), taken = 0
    cdef uint64_t length = data.shape[0], place = 0
    cdef const uint8_t* first = &data[0] if length else NULL
    cdef PackedHeader header
    cdef Rule rule = RULE_NONE
    with nogil:
        while place < length:
            rule = _check(first + place, length - place, &header)
            if rule == RULE_NONE and header.count > room - taken:
                rule = RULE_ROOM
            if rule == RULE_NONE and not packed_decode(&header, first + place, target + taken):
                rule = RULE_TAIL
            if rule != RULE_NONE:
                break
            taken += header.count
            place += header.block_bytes
    if rule != RULE_NONE:
        raise ValueError(f"byte {place}: expected {RULES[rule]}, was otherwise")
    return taken


cdef Rule _check(const uint8_t* block, uint64_t available, PackedHeader* header) noexcept nogil:
    """Copy a block's header out and refuse what does not fit its buffer."""
    cdef uint32_t[4] crcs
    if available < sizeof(PackedHeader):
        return RULE_LENGTH
    memcpy(header, block, sizeof(PackedHeader))
    if header.magic != PACKED_MAGIC or header._reserved or header._padding or header.recv_relative > 1:
        return RULE_HEADER
    if not 1 <= header.count <= PACKED_EVENTS_MAX or not 1 <= header.tail_count <= header.count:
        return RULE_HEADER
    for column in range(PACKED_COLUMNS):
        if header.width[column] > _width_most(column):
            return RULE_HEADER
    if header.block_bytes > available or header.block_bytes != packed_bytes_of(header):
        return RULE_LENGTH
    packed_checksums(block, header.block_bytes, crcs)
    for lane in range(4):
        if crcs[lane] != header.crc32c[lane]:
            return RULE_CHECKSUM
    return RULE_NONE


cdef inline int _width_most(int column) noexcept nogil:
    if column == PACKED_TAIL:
        return 2
    return 8 if column in (PACKED_TS, PACKED_RECV, PACKED_SIZE) else 4


cdef inline uint8_t _width_of(uint64_t most) noexcept nogil:
    """Return how many bytes hold every value up to `most`."""
    cdef uint8_t width = 0
    while width < 8 and most >> (8 * width):
        width += 1
    return width


cdef inline uint32_t _seq_step(const EventWords* event) noexcept nogil:
    """Return seq minus that of the event before, which must be there."""
    return <uint32_t>((event[0].price_and_seq >> 32) - ((event - 1).price_and_seq >> 32))


cdef void _number_tails(
    const EventWords* source, PackedHeader* header, uint32_t* slots, uint32_t slot_count,
    uint64_t* tails, uint16_t* tail_index,
) noexcept nogil:
    """Number the distinct tails in order of appearance; a slot holds number + 1, 0 is free."""
    cdef uint32_t place, slot, found = 0
    cdef uint64_t tail
    for place in range(header.count):
        tail = source[place].tail
        slot = <uint32_t>((tail * <uint64_t>0x9E3779B97F4A7C15) >> 32) & (slot_count - 1)
        while slots[slot] and tails[slots[slot] - 1] != tail:
            slot = (slot + 1) & (slot_count - 1)
        if slots[slot] == 0:
            tails[found] = tail
            found += 1
            slots[slot] = found
        tail_index[place] = <uint16_t>(slots[slot] - 1)
    header.tail_count = found
    header.width[PACKED_TAIL] = _width_of(found - 1)


cdef void _choose_widths(const EventWords* source, PackedHeader* header) noexcept nogil:
    """Find each column's base and the bytes that its values need."""
    cdef uint64_t ts_most = 0, recv_most = 0, size_most = 0, latency
    cdef uint32_t seq_most = 0, low, high, price, place
    cdef uint32_t low_least = 0xFFFFFFFF, low_top = 0, high_least = 0xFFFFFFFF, high_top = 0
    cdef int32_t price_least = 0x7FFFFFFF, price_top = -0x7FFFFFFF - 1
    cdef int64_t size_least = 0x7FFFFFFFFFFFFFFF, size_top = -size_least - 1
    cdef int64_t recv_least = size_least, recv_top = size_top
    cdef int64_t latency_least = size_least, latency_top = size_top
    cdef bint recorded = True
    for place in range(header.count):
        if place:
            ts_most |= source[place].ts_ns - source[place - 1].ts_ns
            seq_most |= _seq_step(source + place)
        low, high = <uint32_t>source[place].order_id, <uint32_t>(source[place].order_id >> 32)
        low_least, low_top = min(low_least, low), max(low_top, low)
        high_least, high_top = min(high_least, high), max(high_top, high)
        price = <uint32_t>source[place].price_and_seq
        price_least, price_top = min(price_least, <int32_t>price), max(price_top, <int32_t>price)
        size_least = min(size_least, <int64_t>source[place].size_lots)
        size_top = max(size_top, <int64_t>source[place].size_lots)
        recv_least = min(recv_least, <int64_t>source[place].recv_ns)
        recv_top = max(recv_top, <int64_t>source[place].recv_ns)
        recorded = recorded and <int64_t>source[place].recv_ns != RECV_NOT_RECORDED
        latency = source[place].recv_ns - source[place].ts_ns
        latency_least, latency_top = min(latency_least, <int64_t>latency), max(latency_top, <int64_t>latency)
    header.ts_base = source[0].ts_ns
    header.seq_base = <uint32_t>(source[0].price_and_seq >> 32)
    header.id_low_base, header.id_high_base = low_least, high_least
    header.price_base, header.size_base = <uint32_t>price_least, <uint64_t>size_least
    header.recv_relative = recorded
    header.recv_base = <uint64_t>(latency_least if recorded else recv_least)
    recv_most = (<uint64_t>latency_top if recorded else <uint64_t>recv_top) - header.recv_base
    size_most = <uint64_t>size_top - header.size_base
    header.width[PACKED_TS] = _width_of(ts_most)
    header.width[PACKED_RECV] = _width_of(recv_most)
    header.width[PACKED_ID_LOW] = _width_of(low_top - low_least)
    header.width[PACKED_ID_HIGH] = _width_of(high_top - high_least)
    header.width[PACKED_SIZE] = _width_of(size_most)
    header.width[PACKED_PRICE] = _width_of(<uint32_t>price_top - header.price_base)
    header.width[PACKED_SEQ] = _width_of(seq_most)


cdef void _write(
    const EventWords* source, PackedHeader* header, const uint64_t* tails, const uint16_t* tail_index,
    uint8_t* block,
) noexcept nogil:
    """Write columns behind one another, then the checksums into the header in front."""
    cdef uint8_t* place = block + sizeof(PackedHeader)
    cdef uint32_t index
    cdef int column
    memcpy(place, tails, 8 * <size_t>header.tail_count)
    place += 8 * <size_t>header.tail_count
    for column in range(PACKED_COLUMNS):
        for index in range(header.count):
            _store(_value(source, header, tail_index, column, index), place, header.width[column])
            place += header.width[column]
    memcpy(block, header, sizeof(PackedHeader))
    packed_checksums(block, header.block_bytes, header.crc32c)
    memcpy(block, header, sizeof(PackedHeader))


cdef inline void _store(uint64_t value, uint8_t* place, uint8_t width) noexcept nogil:
    # Little-endian like everything here, so the low bytes come first.
    memcpy(place, &value, width)


cdef inline uint64_t _value(
    const EventWords* source, const PackedHeader* header, const uint16_t* tail_index, int column,
    uint32_t index,
) noexcept nogil:
    """Return what a column stores for an event; the inverse of packed_decode."""
    cdef const EventWords* event = source + index
    if column == PACKED_TS:
        return event.ts_ns - source[index - 1].ts_ns if index else 0
    if column == PACKED_RECV:
        return event.recv_ns - (event.ts_ns if header.recv_relative else 0) - header.recv_base
    if column == PACKED_ID_LOW:
        return <uint32_t>event.order_id - header.id_low_base
    if column == PACKED_ID_HIGH:
        return <uint32_t>(event.order_id >> 32) - header.id_high_base
    if column == PACKED_SIZE:
        return event.size_lots - header.size_base
    if column == PACKED_PRICE:
        return <uint32_t>event.price_and_seq - header.price_base
    if column == PACKED_SEQ:
        return _seq_step(event) if index else 0
    return tail_index[index]

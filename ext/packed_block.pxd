"""Decoding one packed block into events; see packed_block.h for the layout.

Every length is checked once per block against what the buffer holds, so the loop itself needs no bounds.
It goes event by event, not column by column: six stores fill an event while its line is in L1, where
eight passes over the block would each touch all of it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ext.layout cimport MarketEvent


cdef extern from "crc32c.h" nogil:
    uint32_t crc32c_word(uint32_t crc, uint64_t word)
    uint32_t crc32c_byte(uint32_t crc, uint8_t byte)

cdef extern from "packed_block.h" nogil:
    const uint32_t PACKED_MAGIC
    const int PACKED_EVENTS_MAX
    const int PACKED_CRC_START
    const int PACKED_GRAIN
    const int PACKED_SLACK

    # Members of enum PackedColumn; a named enum cannot index an array.
    const int PACKED_TS
    const int PACKED_RECV
    const int PACKED_ID_LOW
    const int PACKED_ID_HIGH
    const int PACKED_SIZE
    const int PACKED_PRICE
    const int PACKED_SEQ
    const int PACKED_TAIL
    const int PACKED_COLUMNS

    ctypedef struct PackedHeader:
        uint32_t magic
        uint32_t block_bytes
        uint32_t[4] crc32c
        uint64_t _reserved
        uint64_t ts_base
        uint64_t recv_base
        uint64_t size_base
        uint32_t id_low_base
        uint32_t id_high_base
        uint32_t price_base
        uint32_t seq_base
        uint8_t[8] width
        uint32_t count
        uint32_t tail_count
        uint64_t recv_relative
        uint64_t _padding


# An event as six words: what a store can write at once.
ctypedef struct EventWords:
    uint64_t ts_ns
    uint64_t recv_ns
    uint64_t order_id
    uint64_t size_lots
    uint64_t price_and_seq
    uint64_t tail


cdef inline uint64_t width_mask(uint32_t width) noexcept nogil:
    return <uint64_t>0xFFFFFFFFFFFFFFFF if width == 8 else (<uint64_t>1 << (8 * width)) - 1


cdef inline uint64_t load_word(const uint8_t* place) noexcept nogil:
    """Read eight bytes from anywhere; compilers make it one load."""
    cdef uint64_t word
    memcpy(&word, place, 8)
    return word


cdef inline uint64_t packed_bytes_of(const PackedHeader* header) noexcept nogil:
    """Return the length that a block with these counts and widths must have."""
    cdef uint64_t length = sizeof(PackedHeader) + 8 * <uint64_t>header.tail_count + PACKED_SLACK
    cdef int column
    for column in range(PACKED_COLUMNS):
        length += <uint64_t>header.count * header.width[column]
    return (length + PACKED_GRAIN - 1) // PACKED_GRAIN * PACKED_GRAIN


cdef inline void packed_checksums(const uint8_t* block, uint32_t block_bytes, uint32_t* crcs) noexcept nogil:
    """Fill the four interleaved CRC-32C of a block."""
    cdef uint32_t one = block_bytes, two = ~block_bytes, three = block_bytes, four = ~block_bytes
    cdef uint32_t place = PACKED_CRC_START
    while place < block_bytes:
        one = crc32c_word(one, load_word(block + place))
        two = crc32c_word(two, load_word(block + place + 8))
        three = crc32c_word(three, load_word(block + place + 16))
        four = crc32c_word(four, load_word(block + place + 24))
        place += 32
    crcs[0], crcs[1], crcs[2], crcs[3] = one, two, three, four


cdef inline bint packed_decode(
    const PackedHeader* header, const uint8_t* block, EventWords* target
) noexcept nogil:
    """Write header.count events; False when a tail index lies outside its table.

    The header has passed every check, so all reads stay within header.block_bytes.
    """
    cdef uint64_t count = header.count, tail_count = header.tail_count, index
    cdef const uint8_t* tails = block + sizeof(PackedHeader)
    cdef const uint8_t* ts = tails + 8 * tail_count
    cdef uint64_t ts_width = header.width[PACKED_TS]
    cdef const uint8_t* recv = ts + count * ts_width
    cdef uint64_t recv_width = header.width[PACKED_RECV]
    cdef const uint8_t* low = recv + count * recv_width
    cdef uint64_t low_width = header.width[PACKED_ID_LOW]
    cdef const uint8_t* high = low + count * low_width
    cdef uint64_t high_width = header.width[PACKED_ID_HIGH]
    cdef const uint8_t* size = high + count * high_width
    cdef uint64_t size_width = header.width[PACKED_SIZE]
    cdef const uint8_t* price = size + count * size_width
    cdef uint64_t price_width = header.width[PACKED_PRICE]
    cdef const uint8_t* seq = price + count * price_width
    cdef uint64_t seq_width = header.width[PACKED_SEQ]
    cdef const uint8_t* tail = seq + count * seq_width
    cdef uint64_t tail_width = header.width[PACKED_TAIL]
    cdef uint64_t ts_mask = width_mask(ts_width), recv_mask = width_mask(recv_width)
    cdef uint64_t low_mask = width_mask(low_width), high_mask = width_mask(high_width)
    cdef uint64_t size_mask = width_mask(size_width), price_mask = width_mask(price_width)
    cdef uint64_t seq_mask = width_mask(seq_width), tail_mask = width_mask(tail_width)
    cdef uint64_t ts_ns = header.ts_base, recv_base = header.recv_base, size_base = header.size_base
    cdef uint64_t follow_ts = 0 - header.recv_relative
    cdef uint32_t low_base = header.id_low_base, high_base = header.id_high_base
    cdef uint32_t price_base = header.price_base, seq_now = header.seq_base
    cdef const EventWords* end = target + count
    cdef bint whole = True
    while target < end:
        ts_ns += load_word(ts) & ts_mask
        seq_now += <uint32_t>(load_word(seq) & seq_mask)
        index = load_word(tail) & tail_mask
        if index >= tail_count:
            whole, index = False, 0
        target.ts_ns = ts_ns
        target.recv_ns = (ts_ns & follow_ts) + recv_base + (load_word(recv) & recv_mask)
        target.order_id = (
            <uint32_t>(low_base + (load_word(low) & low_mask))
            | <uint64_t><uint32_t>(high_base + (load_word(high) & high_mask)) << 32
        )
        target.size_lots = size_base + (load_word(size) & size_mask)
        target.price_and_seq = (
            <uint32_t>(price_base + (load_word(price) & price_mask)) | <uint64_t>seq_now << 32
        )
        target.tail = load_word(tails + 8 * index)
        target += 1
        ts += ts_width
        recv += recv_width
        low += low_width
        high += high_width
        size += size_width
        price += price_width
        seq += seq_width
        tail += tail_width
    return whole

"""Append to the journal: 96-byte records, CRC-32C each, chained.

The loop reserves room (`journal_has_room`) before it takes events that may write, so an append is a
copy and twelve CRC steps. The chain is a checksum, not a signature: it finds lost,
swapped or edited records, while the file's SHA-256 (engine/journal.py) identifies it.
"""

from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ext.layout cimport JournalRecord


cdef extern from "crc32c.h" nogil:
    const char* CRC32C_VARIANT
    uint32_t crc32c_word(uint32_t crc, uint64_t word)
    uint32_t crc32c_of(const void* data, size_t byte_count)
    uint32_t crc32c_of_portable(const void* data, size_t byte_count)


cdef enum:
    RECORD_VERSION = 1


cdef class JournalBuffer:
    cdef JournalRecord* records         # owned, freed in __dealloc__
    cdef uint64_t count                 # records waiting to be drained
    cdef readonly uint64_t capacity
    cdef readonly uint64_t sequence     # of the next record
    cdef readonly uint64_t chain        # of the last record; of the run id before the first
    cdef readonly uint64_t run_id
    cdef readonly bint overflowed       # an append found no room: our bug, drain() raises


cdef inline uint64_t mix_chain(uint64_t chain, uint32_t crc) noexcept nogil:
    """Return the chain after a record whose checksum is `crc`.

    The murmur3 finaliser over chain + odd constant x (crc + 1). For one crc it is a bijection of the
    chain, for one chain injective in the crc: a break never heals over intact records.
    """
    cdef uint64_t mixed = chain + <uint64_t>0x9E3779B97F4A7C15 * (<uint64_t>crc + 1)
    mixed = (mixed ^ (mixed >> 33)) * <uint64_t>0xFF51AFD7ED558CCD
    mixed = (mixed ^ (mixed >> 33)) * <uint64_t>0xC4CEB9FE1A85EC53
    return mixed ^ (mixed >> 33)


cdef inline uint32_t frame_crc(
    uint64_t sequence, int64_t ts_ns, uint64_t tail, const void* payload
) noexcept nogil:
    """Return the CRC-32C of a record whose crc32c and chain are 0; `tail` is the frame's last word.

    The frame comes in registers: loading a word that was just stored in smaller pieces would stall.
    """
    cdef uint64_t[8] words
    cdef uint32_t crc = UINT32_MAX
    memcpy(words, payload, sizeof(words))
    crc = crc32c_word(crc, sequence)
    crc = crc32c_word(crc, <uint64_t>ts_ns)
    crc = crc32c_word(crc, 0)
    crc = crc32c_word(crc, tail)
    crc = crc32c_word(crc, words[0])
    crc = crc32c_word(crc, words[1])
    crc = crc32c_word(crc, words[2])
    crc = crc32c_word(crc, words[3])
    crc = crc32c_word(crc, words[4])
    crc = crc32c_word(crc, words[5])
    crc = crc32c_word(crc, words[6])
    crc = crc32c_word(crc, words[7])
    return ~crc


cdef inline bint journal_has_room(JournalBuffer buffer, uint64_t record_count) noexcept nogil:
    """Return whether `record_count` more records fit before the next drain."""
    return buffer.capacity - buffer.count >= record_count


cdef inline void journal_append(
    JournalBuffer buffer, uint8_t kind, int64_t ts_ns, const void* payload64
) noexcept nogil:
    """Append one record with 64 bytes of payload. Engine thread only; room was reserved before."""
    cdef JournalRecord* record
    cdef uint64_t tail = (<uint64_t>RECORD_VERSION << 32) | (<uint64_t>kind << 48)
    if buffer.count == buffer.capacity:
        buffer.overflowed = True
        return
    record = &buffer.records[buffer.count]
    record.sequence = buffer.sequence
    record.ts_ns = ts_ns
    record.crc32c = frame_crc(buffer.sequence, ts_ns, tail, payload64)
    record.chain = mix_chain(buffer.chain, record.crc32c)
    record.version = RECORD_VERSION
    record.kind = kind
    record._reserved = 0
    memcpy(record.payload, payload64, sizeof(record.payload))
    buffer.chain = record.chain
    buffer.sequence += 1
    buffer.count += 1

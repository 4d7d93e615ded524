"""Which of up to 4,096 places are taken, and which is the next lower one: two words to look at."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    int count_leading_zeros "__builtin_clzll"(uint64_t word) noexcept nogil


cdef struct Bitmap:
    uint64_t summary            # bit w is set where words[w] is not 0
    uint64_t[64] words


cdef inline void bitmap_set(Bitmap* bitmap, uint32_t position) noexcept nogil:
    bitmap.words[position >> 6] |= <uint64_t>1 << (position & 63)
    bitmap.summary |= <uint64_t>1 << (position >> 6)


cdef inline void bitmap_clear(Bitmap* bitmap, uint32_t position) noexcept nogil:
    cdef uint32_t word = position >> 6
    bitmap.words[word] &= ~(<uint64_t>1 << (position & 63))
    if bitmap.words[word] == 0:
        bitmap.summary &= ~(<uint64_t>1 << word)


cdef inline int bitmap_below(const Bitmap* bitmap, uint32_t position) noexcept nogil:
    """Return the greatest set position below `position`, or -1."""
    cdef uint32_t word = position >> 6
    cdef uint64_t left = bitmap.words[word] & ((<uint64_t>1 << (position & 63)) - 1)
    if left:
        return <int>(word << 6) + 63 - count_leading_zeros(left)
    left = bitmap.summary & ((<uint64_t>1 << word) - 1)
    if left == 0:
        return -1
    word = 63 - count_leading_zeros(left)
    return <int>(word << 6) + 63 - count_leading_zeros(bitmap.words[word])


cdef inline int bitmap_last(const Bitmap* bitmap) noexcept nogil:
    """Return the greatest set position of a bitmap that has one."""
    cdef uint32_t word = 63 - count_leading_zeros(bitmap.summary)
    return <int>(word << 6) + 63 - count_leading_zeros(bitmap.words[word])

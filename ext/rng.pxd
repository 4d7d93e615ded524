"""Counter-based randomness: every draw is a pure function of (seed, counters).

There is no state to carry, so a result never depends on block sizes, threads or the order in which
venues were asked. The mixer is the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
"""

from libc.stdint cimport uint64_t


cdef inline uint64_t mix64(uint64_t value) noexcept nogil:
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline uint64_t draw64(uint64_t seed, uint64_t counter, uint64_t stream) noexcept nogil:
    """Return 64 random bits for (seed, counter, stream)."""
    cdef uint64_t place = counter * <uint64_t>0x9E3779B97F4A7C15 + stream * <uint64_t>0xD1B54A32D192ED03
    return mix64(seed + mix64(place + 1))


cdef inline double uniform_of(uint64_t bits) noexcept nogil:
    """Return a double in [0, 1) from the upper 53 bits."""
    return <double>(bits >> 11) * (1.0 / 9007199254740992.0)

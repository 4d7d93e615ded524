"""How large a size may be: no market comes near, and within these bounds no sum leaves an int64.

Sums of a few thousand sizes of 2^48 fit; a level refuses what would exceed half the range.
"""

from libc.stdint cimport int64_t

cdef extern from *:
    """
    #define ANYTICK_SIZE_LOTS_MAX ((int64_t)1 << 48)
    #define ANYTICK_LEVEL_LOTS_MAX ((int64_t)1 << 62)
    """
    const int64_t SIZE_LOTS_MAX "ANYTICK_SIZE_LOTS_MAX"
    const int64_t LEVEL_LOTS_MAX "ANYTICK_LEVEL_LOTS_MAX"

"""Where nodes and index slots live: aligned to cache lines, in huge pages where they fill some.

A book of a million orders would miss the TLB on every order it touches.
"""

from posix.stdlib cimport posix_memalign

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/mman.h>
    #define anytick_advise_huge_pages(block, bytes) ((void)madvise((block), (bytes), MADV_HUGEPAGE))
    #else
    #define anytick_advise_huge_pages(block, bytes) ((void)(block))
    #endif
    """
    void advise_huge_pages "anytick_advise_huge_pages"(void* block, size_t byte_count) noexcept nogil

cdef enum:
    NODE_ALIGNMENT = 64         # two nodes share a cache line, none straddles two
    HUGE_PAGE = 1 << 21


cdef inline void* nodes_take(size_t bytes_wanted) noexcept nogil:
    """Allocate a block for nodes, uninitialised; NULL when memory is out. free() releases it."""
    cdef void* nodes = NULL
    cdef bint large = bytes_wanted >= 2 * HUGE_PAGE
    if posix_memalign(&nodes, HUGE_PAGE if large else NODE_ALIGNMENT, bytes_wanted):
        return NULL
    if large:
        advise_huge_pages(nodes, bytes_wanted)
    return nodes

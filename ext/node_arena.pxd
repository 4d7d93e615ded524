"""Where pools of nodes live: aligned to cache lines, in huge pages where they fill some.

Five hundred books of a hundred orders each would miss the TLB as a single one of a million would. Small
blocks come from an arena, if there is one, which packs those of many books into the same huge pages. Large
blocks are pages of their own, which grow without being copied. Every block is zeroed when it is new.

An arena keeps what it gave out until all of it is closed: of a block that grew beyond its place, at most
as much again is lost, and large ones never come from it.
"""

from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from posix.stdlib cimport posix_memalign

cdef extern from "node_map.h" nogil:
    void* node_map_take(size_t bytes)
    void* node_map_grow(void* block, size_t bytes_now, size_t bytes_wanted)
    void node_map_give(void* block, size_t bytes)

cdef enum:
    NODE_ALIGNMENT = 64         # two nodes share a cache line, none straddles two
    MAPPED_BYTES_MIN = 1 << 17
    CHUNK_BYTES_MIN = 1 << 15   # of an arena; doubling, so that a single small book stays small
    CHUNK_BYTES_MAX = 1 << 22


cdef struct ArenaChunk:
    ArenaChunk* older
    size_t size


cdef struct NodeArena:
    ArenaChunk* newest          # owned; each starts with its header
    char* at                    # free from here on
    size_t left


cdef inline size_t nodes_round(size_t byte_count) noexcept nogil:
    return (byte_count + NODE_ALIGNMENT - 1) & ~<size_t>(NODE_ALIGNMENT - 1)


cdef inline void* nodes_aligned(size_t byte_count) noexcept nogil:
    cdef void* block = NULL
    if posix_memalign(&block, NODE_ALIGNMENT, byte_count):
        return NULL
    memset(block, 0, byte_count)
    return block


cdef inline bint arena_extend(NodeArena* arena) noexcept nogil:
    """Begin a new chunk. False when memory is out."""
    cdef size_t size = CHUNK_BYTES_MIN
    cdef ArenaChunk* chunk
    if arena.newest != NULL:
        size = min(2 * arena.newest.size, <size_t>CHUNK_BYTES_MAX)
    chunk = <ArenaChunk*>(node_map_take(size) if size >= MAPPED_BYTES_MIN else nodes_aligned(size))
    if chunk == NULL:
        return False
    chunk.older = arena.newest
    chunk.size = size
    arena.newest = chunk
    arena.at = <char*>chunk + NODE_ALIGNMENT
    arena.left = size - NODE_ALIGNMENT
    return True


cdef inline void arena_close(NodeArena* arena) noexcept nogil:
    """Free everything that came from the arena."""
    cdef ArenaChunk* chunk
    while arena.newest != NULL:
        chunk = arena.newest
        arena.newest = chunk.older
        pool_give(NULL, chunk, chunk.size)
    arena.left = 0


cdef inline void* pool_take(NodeArena* arena, size_t byte_count) noexcept nogil:
    """Return a zeroed block, from the arena where there is one; NULL when memory is out."""
    cdef void* block
    byte_count = nodes_round(byte_count)
    if byte_count >= MAPPED_BYTES_MIN:
        return node_map_take(byte_count)
    if arena == NULL:
        return nodes_aligned(byte_count)
    while byte_count > arena.left:
        if not arena_extend(arena):
            return NULL
    block = arena.at
    arena.at += byte_count
    arena.left -= byte_count
    return block


cdef inline void pool_give(NodeArena* arena, void* block, size_t byte_count) noexcept nogil:
    """Give a block back, of the size it was taken with."""
    byte_count = nodes_round(byte_count)
    if byte_count >= MAPPED_BYTES_MIN:
        node_map_give(block, byte_count)
    elif arena == NULL:
        free(block)


cdef inline void* pool_grow(
    NodeArena* arena, void* block, size_t bytes_now, size_t bytes_wanted
) noexcept nogil:
    """Make a block larger; NULL, with the old one kept, when memory is out."""
    cdef void* larger
    if nodes_round(bytes_now) >= MAPPED_BYTES_MIN:
        return node_map_grow(block, nodes_round(bytes_now), nodes_round(bytes_wanted))
    larger = pool_take(arena, bytes_wanted)
    if larger == NULL:
        return NULL
    memcpy(larger, block, bytes_now)
    pool_give(arena, block, bytes_now)
    return larger

"""Which prices of one side hold a level, and which comes next behind the touch.

A rank is a price as an unsigned number that grows towards the touch: price + 2^31 for bids, the
complement of that for asks. The best level therefore has the greatest rank on either side, and one code
serves both. Ranks live in a radix tree of three steps (10 + 10 + 12 bits) whose nodes carry a two-word
occupancy bitmap: finding, adding, removing and stepping each cost a bounded number of bit scans at
any int32 price. There is no window around the touch, so nothing is ever recentred; the leaf used last is
remembered, which makes the common case one array access. Emptied nodes are recycled: a price that
walks for ever does not grow memory.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from .layout cimport check

cdef extern from *:
    int count_leading_zeros "__builtin_clzll"(uint64_t word) noexcept nogil

cdef enum:
    LEAF_BITS = 12
    BRANCH_BITS = 10
    LEAF_SLOTS = 4096
    BRANCH_SLOTS = 1024


cdef struct Bitmap:
    uint64_t summary            # bit w is set where words[w] is not 0
    uint64_t[64] words


cdef struct Leaf:
    Bitmap used
    Leaf* next_free
    uint32_t[LEAF_SLOTS] levels     # a level's number, 0 where there is none


cdef struct Branch:
    Bitmap used
    Branch* next_free
    void* children[BRANCH_SLOTS]    # Branch* in the root, Leaf* below it


cdef struct PriceIndex:
    Leaf* leaf                  # used last, of ranks leaf_key << LEAF_BITS and up; NULL at first
    uint32_t leaf_key
    Branch* root
    Leaf* free_leaves
    Branch* free_branches


cdef inline uint32_t rank_of(int32_t price_ticks, int side) noexcept nogil:
    """Return the rank of a price; side is 0 for bids and 1 for asks."""
    return (<uint32_t>price_ticks ^ <uint32_t>0x80000000) ^ <uint32_t>-side


cdef inline int32_t price_of(uint32_t rank, int side) noexcept nogil:
    return <int32_t>(rank ^ <uint32_t>-side ^ <uint32_t>0x80000000)


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


cdef inline Leaf* index_leaf(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the leaf of a rank, or NULL where no level is near."""
    cdef uint32_t key = rank >> LEAF_BITS
    cdef Branch* branch
    cdef Leaf* leaf
    if index.leaf != NULL and index.leaf_key == key:
        return index.leaf
    branch = <Branch*>index.root.children[key >> BRANCH_BITS]
    if branch == NULL:
        return NULL
    leaf = <Leaf*>branch.children[key & (BRANCH_SLOTS - 1)]
    if leaf != NULL:
        index.leaf = leaf
        index.leaf_key = key
    return leaf


cdef inline uint32_t index_find(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the level of a rank, or 0."""
    cdef Leaf* leaf = index_leaf(index, rank)
    return 0 if leaf == NULL else leaf.levels[rank & (LEAF_SLOTS - 1)]


cdef inline uint32_t index_near(const PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the level of a rank if the leaf used last has it, else 0."""
    if index.leaf == NULL or index.leaf_key != rank >> LEAF_BITS:
        return 0
    return index.leaf.levels[rank & (LEAF_SLOTS - 1)]


cdef inline uint32_t index_guess(const PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return what index_near would, or any other level: for fetching ahead, without a branch to go wrong."""
    return 0 if index.leaf == NULL else index.leaf.levels[rank & (LEAF_SLOTS - 1)]


cdef inline uint32_t index_below(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the level of the next lower rank, which is one step away from the touch, or 0."""
    cdef uint32_t key = rank >> LEAF_BITS
    cdef Leaf* leaf = index_leaf(index, rank)
    cdef Branch* branch
    cdef int position
    if leaf != NULL:
        position = bitmap_below(&leaf.used, rank & (LEAF_SLOTS - 1))
        if position >= 0:
            return leaf.levels[position]
    branch = <Branch*>index.root.children[key >> BRANCH_BITS]
    position = -1 if branch == NULL else bitmap_below(&branch.used, key & (BRANCH_SLOTS - 1))
    if position < 0:
        position = bitmap_below(&index.root.used, key >> BRANCH_BITS)
        if position < 0:
            return 0
        branch = <Branch*>index.root.children[position]
        position = bitmap_last(&branch.used)
    leaf = <Leaf*>branch.children[position]
    return leaf.levels[bitmap_last(&leaf.used)]


cdef inline Leaf* index_grow(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the leaf of a rank, making the nodes that lead there; NULL when memory is out."""
    cdef uint32_t key = rank >> LEAF_BITS
    cdef uint32_t root_slot = key >> BRANCH_BITS, branch_slot = key & (BRANCH_SLOTS - 1)
    cdef Branch* branch = <Branch*>index.root.children[root_slot]
    cdef Leaf* leaf = index.free_leaves
    if leaf == NULL:
        leaf = <Leaf*>calloc(1, sizeof(Leaf))
        if leaf == NULL:
            return NULL
        index.free_leaves = leaf
    if branch == NULL:
        branch = index.free_branches
        if branch == NULL:
            branch = <Branch*>calloc(1, sizeof(Branch))
            if branch == NULL:
                return NULL
        index.free_branches = branch.next_free
        branch.next_free = NULL
        index.root.children[root_slot] = branch
        bitmap_set(&index.root.used, root_slot)
    index.free_leaves = leaf.next_free
    leaf.next_free = NULL
    branch.children[branch_slot] = leaf
    bitmap_set(&branch.used, branch_slot)
    index.leaf = leaf
    index.leaf_key = key
    return leaf


cdef inline bint index_insert(PriceIndex* index, uint32_t rank, uint32_t level) noexcept nogil:
    """Enter a level at a rank that has none. False when memory is out."""
    cdef Leaf* leaf = index_leaf(index, rank)
    if leaf == NULL:
        leaf = index_grow(index, rank)
        if leaf == NULL:
            return False
    check(leaf.levels[rank & (LEAF_SLOTS - 1)] == 0, "a price has one level")
    leaf.levels[rank & (LEAF_SLOTS - 1)] = level
    bitmap_set(&leaf.used, rank & (LEAF_SLOTS - 1))
    return True


cdef inline void index_erase(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Remove the level of a rank that has one; nodes it leaves empty are kept for reuse."""
    cdef uint32_t key = rank >> LEAF_BITS
    cdef Leaf* leaf = index_leaf(index, rank)
    cdef Branch* branch
    check(leaf != NULL and leaf.levels[rank & (LEAF_SLOTS - 1)] != 0, "an erased price has a level")
    leaf.levels[rank & (LEAF_SLOTS - 1)] = 0
    bitmap_clear(&leaf.used, rank & (LEAF_SLOTS - 1))
    if leaf.used.summary:
        return
    index.leaf = NULL
    branch = <Branch*>index.root.children[key >> BRANCH_BITS]
    branch.children[key & (BRANCH_SLOTS - 1)] = NULL
    bitmap_clear(&branch.used, key & (BRANCH_SLOTS - 1))
    leaf.next_free = index.free_leaves
    index.free_leaves = leaf
    if branch.used.summary == 0:
        index.root.children[key >> BRANCH_BITS] = NULL
        bitmap_clear(&index.root.used, key >> BRANCH_BITS)
        branch.next_free = index.free_branches
        index.free_branches = branch


cdef inline bint index_open(PriceIndex* index) noexcept nogil:
    """Make a zeroed index usable. False when memory is out; index_close is due either way."""
    index.root = <Branch*>calloc(1, sizeof(Branch))
    return index.root != NULL


cdef inline void index_close(PriceIndex* index) noexcept nogil:
    """Free an index from which every level was erased."""
    cdef Leaf* leaf
    cdef Branch* branch
    while index.free_leaves != NULL:
        leaf = index.free_leaves
        index.free_leaves = leaf.next_free
        free(leaf)
    while index.free_branches != NULL:
        branch = index.free_branches
        index.free_branches = branch.next_free
        free(branch)
    free(index.root)
    index.root = NULL

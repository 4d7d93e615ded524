"""Which prices of one side hold a level, and which comes next behind the touch.

A rank is a price as an unsigned number that grows towards the touch: price + 2^31 for bids, the
complement of that for asks. The best level therefore has the greatest rank on either side, and one code
serves both. Ranks live in a radix tree of three steps (10 + 10 + 12 bits) whose nodes carry a two-word
occupancy bitmap: finding, adding, removing and stepping each cost a bounded number of bit scans at
any int32 price. There is no window around the touch, so nothing is ever recentred; of even and of odd
leaves the one used last is remembered, which makes the common case one array access on either side of a
leaf's edge. Emptied nodes are recycled: a price that walks for ever does not grow memory.

Prices of many feeds stand a hundred units apart, which would give each level a cache line of its own. Once
the grid is known, as the greatest common divisor of the first few levels' distances, the tree counts in
units of it; a price off the grid, whenever one comes, stands in a second tree of plain ranks, which most
books never make.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memset

from .bitmap cimport Bitmap, bitmap_below, bitmap_clear, bitmap_last, bitmap_set
from .branch_hint cimport likely, unlikely
from .layout cimport check
from .node_arena cimport NodeArena, pool_give, pool_take

cdef extern from *:
    """
    #define ANYTICK_NO_KEY UINT32_MAX
    """
    const uint32_t NO_KEY "ANYTICK_NO_KEY"

cdef enum:
    LEAF_BITS = 12
    BRANCH_BITS = 10
    LEAF_SLOTS = 4096
    BRANCH_SLOTS = 1024
    GRID_SAMPLES = 16           # levels entered before the grid is judged: all that are ever moved


cdef struct Leaf:
    Bitmap used                     # by rank
    Leaf* next_free
    uint64_t[6] _unused             # up to a cache line
    uint32_t[LEAF_SLOTS] levels     # by slot: a level's number, 0 where there is none


cdef struct Branch:
    Bitmap used
    Branch* next_free
    void* children[BRANCH_SLOTS]    # Branch* in the root, Leaf* below it


cdef struct PriceTree:
    # The leaves used last, by the lowest bit of their keys. A leaf is of units key << LEAF_BITS and up.
    Leaf* leaves[2]
    uint32_t[2] keys            # NO_KEY without a leaf
    Branch* root                # NULL in a tree that was not opened


cdef struct PriceIndex:
    PriceTree units             # of ranks on the grid, counted in units of it
    uint32_t first              # the lowest rank on the grid
    uint32_t inverse            # of the grid's odd part, modulo 2^32
    uint32_t turn               # the grid's power of two, as a number of bits
    uint32_t units_max
    uint32_t shift              # from a unit to its slot, which brings the first levels next to the bitmap
    uint32_t grid               # 1 until it is known
    uint32_t samples            # levels looked at for it, up to GRID_SAMPLES
    uint32_t divisor            # greatest common, of their distances from `anchor`
    uint32_t anchor
    PriceTree others            # of ranks off the grid, as they are
    Leaf* free_leaves
    Branch* free_branches
    NodeArena* arena            # borrowed, or NULL


cdef inline uint32_t rank_of(int32_t price_ticks, int side) noexcept nogil:
    """Return the rank of a price; side is 0 for bids and 1 for asks."""
    return (<uint32_t>price_ticks ^ <uint32_t>0x80000000) ^ <uint32_t>-side


cdef inline int32_t price_of(uint32_t rank, int side) noexcept nogil:
    return <int32_t>(rank ^ <uint32_t>-side ^ <uint32_t>0x80000000)


cdef inline Leaf* tree_leaf(PriceTree* tree, uint32_t unit) noexcept nogil:
    """Return the leaf of a unit, or NULL where no level is near."""
    cdef uint32_t key = unit >> LEAF_BITS
    cdef Branch* branch
    cdef Leaf* leaf
    if likely(tree.keys[key & 1] == key):
        return tree.leaves[key & 1]
    branch = <Branch*>tree.root.children[key >> BRANCH_BITS]
    if branch == NULL:
        return NULL
    leaf = <Leaf*>branch.children[key & (BRANCH_SLOTS - 1)]
    if leaf != NULL:
        tree.leaves[key & 1] = leaf
        tree.keys[key & 1] = key
    return leaf


cdef inline uint32_t* leaf_slot(Leaf* leaf, const PriceIndex* index, uint32_t unit) noexcept nogil:
    """Return where in its leaf a unit's level stands."""
    return &leaf.levels[(unit + index.shift) & (LEAF_SLOTS - 1)]


cdef inline uint32_t tree_find(PriceTree* tree, const PriceIndex* index, uint32_t unit) noexcept nogil:
    """Return the level of a unit, or 0."""
    cdef uint32_t key = unit >> LEAF_BITS
    cdef Leaf* leaf
    if likely(tree.keys[key & 1] == key):
        return leaf_slot(tree.leaves[key & 1], index, unit)[0]
    leaf = tree_leaf(tree, unit)
    return 0 if leaf == NULL else leaf_slot(leaf, index, unit)[0]


cdef inline bint tree_step(PriceTree* tree, uint32_t* unit) noexcept nogil:
    """Move a unit to the next lower one that has a level. False, and nothing moved, where there is none."""
    cdef uint32_t key = unit[0] >> LEAF_BITS
    cdef Leaf* leaf = tree_leaf(tree, unit[0])
    cdef Branch* branch
    cdef int position
    if likely(leaf != NULL):
        position = bitmap_below(&leaf.used, unit[0] & (LEAF_SLOTS - 1))
        if likely(position >= 0):
            unit[0] = key << LEAF_BITS | <uint32_t>position
            return True
    branch = <Branch*>tree.root.children[key >> BRANCH_BITS]
    position = -1 if branch == NULL else bitmap_below(&branch.used, key & (BRANCH_SLOTS - 1))
    if position < 0:
        position = bitmap_below(&tree.root.used, key >> BRANCH_BITS)
        if position < 0:
            return False
        branch = <Branch*>tree.root.children[position]
        key = <uint32_t>position << BRANCH_BITS
        position = bitmap_last(&branch.used)
    key = key >> BRANCH_BITS << BRANCH_BITS | <uint32_t>position
    leaf = <Leaf*>branch.children[position]
    unit[0] = key << LEAF_BITS | <uint32_t>bitmap_last(&leaf.used)
    return True


cdef inline bint tree_open(PriceTree* tree, PriceIndex* index) noexcept nogil:
    tree.keys[0] = tree.keys[1] = NO_KEY
    tree.root = <Branch*>pool_take(index.arena, sizeof(Branch))
    return tree.root != NULL


cdef inline Leaf* tree_grow(PriceTree* tree, PriceIndex* index, uint32_t unit) noexcept nogil:
    """Return the leaf of a unit, making the nodes that lead there; NULL when memory is out."""
    cdef uint32_t key = unit >> LEAF_BITS
    cdef uint32_t root_slot = key >> BRANCH_BITS, branch_slot = key & (BRANCH_SLOTS - 1)
    cdef Branch* branch = <Branch*>tree.root.children[root_slot]
    cdef Leaf* leaf = index.free_leaves
    if leaf == NULL:
        leaf = <Leaf*>pool_take(index.arena, sizeof(Leaf))
        if leaf == NULL:
            return NULL
        index.free_leaves = leaf
    if branch == NULL:
        branch = index.free_branches
        if branch == NULL:
            branch = <Branch*>pool_take(index.arena, sizeof(Branch))
            if branch == NULL:
                return NULL
        index.free_branches = branch.next_free
        branch.next_free = NULL
        tree.root.children[root_slot] = branch
        bitmap_set(&tree.root.used, root_slot)
    index.free_leaves = leaf.next_free
    leaf.next_free = NULL
    branch.children[branch_slot] = leaf
    bitmap_set(&branch.used, branch_slot)
    tree.leaves[key & 1] = leaf
    tree.keys[key & 1] = key
    return leaf


cdef inline bint tree_insert(
    PriceTree* tree, PriceIndex* index, uint32_t unit, uint32_t level
) noexcept nogil:
    cdef Leaf* leaf = tree_leaf(tree, unit)
    if unlikely(leaf == NULL):
        leaf = tree_grow(tree, index, unit)
        if leaf == NULL:
            return False
    check(leaf_slot(leaf, index, unit)[0] == 0, "a price has one level")
    leaf_slot(leaf, index, unit)[0] = level
    bitmap_set(&leaf.used, unit & (LEAF_SLOTS - 1))
    return True


cdef inline void tree_prune(PriceTree* tree, PriceIndex* index, uint32_t key, Leaf* leaf) noexcept nogil:
    """Take an empty leaf out, and its branch if that is empty then; both are kept for reuse."""
    cdef Branch* branch = <Branch*>tree.root.children[key >> BRANCH_BITS]
    tree.keys[key & 1] = NO_KEY
    branch.children[key & (BRANCH_SLOTS - 1)] = NULL
    bitmap_clear(&branch.used, key & (BRANCH_SLOTS - 1))
    leaf.next_free = index.free_leaves
    index.free_leaves = leaf
    if branch.used.summary == 0:
        tree.root.children[key >> BRANCH_BITS] = NULL
        bitmap_clear(&tree.root.used, key >> BRANCH_BITS)
        branch.next_free = index.free_branches
        index.free_branches = branch


cdef inline void tree_erase(PriceTree* tree, PriceIndex* index, uint32_t unit) noexcept nogil:
    cdef Leaf* leaf = tree_leaf(tree, unit)
    check(leaf != NULL and leaf_slot(leaf, index, unit)[0] != 0, "an erased price has a level")
    leaf_slot(leaf, index, unit)[0] = 0
    bitmap_clear(&leaf.used, unit & (LEAF_SLOTS - 1))
    if unlikely(leaf.used.summary == 0):
        tree_prune(tree, index, unit >> LEAF_BITS, leaf)


cdef inline uint32_t unit_of(const PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return a rank's place on the grid; more than `units_max` for a rank off it.

    Multiplying by an odd number's inverse divides what it divides, and turning right divides by a power of
    two; what they do not divide ends up above every quotient (Granlund & Montgomery 1994).
    """
    cdef uint32_t quotient = (rank - index.first) * index.inverse
    return quotient >> index.turn | quotient << (-index.turn & 31)


cdef inline uint32_t index_near(const PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the level of a rank if a leaf used last has it, else 0."""
    cdef uint32_t unit = unit_of(index, rank), key = unit >> LEAF_BITS
    # Of no leaf is the key that of a quotient which is none, or else its slot is empty.
    return leaf_slot(index.units.leaves[key & 1], index, unit)[0] if index.units.keys[key & 1] == key else 0


cdef inline uint32_t index_find(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the level of a rank, or 0."""
    cdef uint32_t unit = unit_of(index, rank)
    if likely(unit <= index.units_max):
        return tree_find(&index.units, index, unit)
    return tree_find(&index.others, index, rank) if index.others.root != NULL else 0


cdef inline const uint32_t* index_hint(const PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the place that index_near would read, or that of another level: for fetching ahead."""
    cdef uint32_t unit = unit_of(index, rank)
    cdef Leaf* leaf = index.units.leaves[unit >> LEAF_BITS & 1]
    return NULL if leaf == NULL else leaf_slot(leaf, index, unit)


cdef inline uint32_t index_guess(const PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return what index_near would, or any other level: for fetching ahead, without a branch to go wrong."""
    cdef const uint32_t* place = index_hint(index, rank)
    return 0 if place == NULL else place[0]


cdef inline bint index_step(PriceIndex* index, uint32_t* rank) noexcept nogil:
    """Move a rank to the next lower one that has a level. False, and nothing moved, where there is none."""
    cdef uint32_t unit = unit_of(index, rank[0]), other = rank[0]
    cdef bint found
    if unit > index.units_max:
        # Below the first rank of the grid there is no unit; else the one at or below, which is lower.
        unit = (rank[0] - index.first) // index.grid + 1
        if rank[0] < index.first:
            unit = 0
    found = tree_step(&index.units, &unit)
    if index.others.root != NULL and tree_step(&index.others, &other):
        rank[0] = max(other, index.first + unit * index.grid) if found else other
        return True
    if found:
        rank[0] = index.first + unit * index.grid
    return found


cdef inline uint32_t index_below(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Return the level of the next rank lower than a level's, which is one step away from the touch, or 0."""
    cdef uint32_t unit = unit_of(index, rank)
    if likely(index.others.root == NULL):
        return tree_find(&index.units, index, unit) if tree_step(&index.units, &unit) else 0
    return index_find(index, rank) if index_step(index, &rank) else 0


cdef inline void index_count_in(PriceIndex* index, uint32_t grid, uint32_t anchor) noexcept nogil:
    """Count in units of a grid on which `anchor` lies."""
    cdef uint32_t odd = grid
    cdef int _step
    index.grid = grid
    index.first = anchor % grid
    index.units_max = (<uint32_t>0xffffffff - index.first) // grid
    index.turn = 0
    while odd & 1 == 0:
        odd >>= 1
        index.turn += 1
    index.inverse = odd
    for _step in range(4):
        index.inverse *= 2 - odd * index.inverse      # Newton: right to 3, 6, 12, 24, 48 bits
    index.shift = LEAF_SLOTS // 16 - unit_of(index, anchor)


cdef inline bint index_settle(PriceIndex* index, uint32_t grid) noexcept nogil:
    """Count in units of the grid from now on, and move the few levels there are.

    That takes no memory: in units they fill no more leaves than before, and those are free again.
    """
    cdef uint32_t[GRID_SAMPLES] ranks
    cdef uint32_t[GRID_SAMPLES] levels
    cdef uint32_t rank = 0xffffffff, count = 0, row
    levels[0] = index_find(index, rank)
    ranks[0] = rank
    count += levels[0] != 0
    # No more levels than samples: each was one when it came.
    while index_step(index, &rank):
        ranks[count] = rank
        levels[count] = index_find(index, rank)
        count += 1
    for row in range(count):
        tree_erase(&index.units, index, ranks[row])
    index_count_in(index, grid, index.anchor)
    for row in range(count):
        if not tree_insert(&index.units, index, unit_of(index, ranks[row]), levels[row]):
            return False
    return True


cdef inline uint32_t common_divisor(uint32_t one, uint32_t other) noexcept nogil:
    while other:
        one, other = other, one % other
    return one


cdef inline bint index_sample(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Look at a rank that is about to get a level, for the grid. False when memory is out."""
    if index.samples == 0:
        index.anchor = rank
    elif rank == index.anchor:
        return True
    index.divisor = common_divisor(max(rank, index.anchor) - min(rank, index.anchor), index.divisor)
    index.samples += 1
    return index.samples < GRID_SAMPLES or index_settle(index, index.divisor)


cdef inline bint index_insert(PriceIndex* index, uint32_t rank, uint32_t level) noexcept nogil:
    """Enter a level at a rank that has none. False when memory is out."""
    cdef uint32_t unit
    if unlikely(index.samples < GRID_SAMPLES) and not index_sample(index, rank):
        return False
    unit = unit_of(index, rank)
    if likely(unit <= index.units_max):
        return tree_insert(&index.units, index, unit, level)
    if index.others.root == NULL and not tree_open(&index.others, index):
        return False
    return tree_insert(&index.others, index, rank, level)


cdef inline void index_erase(PriceIndex* index, uint32_t rank) noexcept nogil:
    """Remove the level of a rank that has one; nodes it leaves empty are kept for reuse."""
    cdef uint32_t unit = unit_of(index, rank)
    if likely(unit <= index.units_max):
        tree_erase(&index.units, index, unit)
    else:
        tree_erase(&index.others, index, rank)


cdef inline bint index_open(PriceIndex* index, NodeArena* arena) noexcept nogil:
    """Make a zeroed index usable. False when memory is out; index_close is due either way."""
    index.arena = arena
    index_count_in(index, 1, 0)
    return tree_open(&index.units, index)


cdef inline void index_close(PriceIndex* index) noexcept nogil:
    """Free an index from which every level was erased."""
    cdef Leaf* leaf
    cdef Branch* branch
    while index.free_leaves != NULL:
        leaf = index.free_leaves
        index.free_leaves = leaf.next_free
        pool_give(index.arena, leaf, sizeof(Leaf))
    while index.free_branches != NULL:
        branch = index.free_branches
        index.free_branches = branch.next_free
        pool_give(index.arena, branch, sizeof(Branch))
    pool_give(index.arena, index.units.root, sizeof(Branch))
    pool_give(index.arena, index.others.root, sizeof(Branch))
    memset(index, 0, sizeof(PriceIndex))

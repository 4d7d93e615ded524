"""Where the order of an id stands: open addressing with linear probing.

A slot is eight bytes: the order's number and the high half of id × 2^64/φ (Fibonacci hashing, Knuth
TAOCP 6.4), whose top bits are the slot's home. A probe compares that tag and touches the order itself
only on a match, and growing or closing a gap needs no id. Removal shifts later entries back instead of
leaving tombstones, so a table that lived through a billion orders probes like a new one.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from .layout cimport check
from .node_memory cimport nodes_take

cdef enum:
    ORDER_INDEX_SLOTS_MIN = 64


cdef struct Order:
    uint64_t order_id
    int64_t size_lots           # still resting
    uint32_t next               # behind it on the level, 0 for the last
    uint32_t previous           # ahead of it on the level, 0 for the first
    uint32_t level
    uint32_t mark               # the book's owner's: an entry number in OrderBook, a detail in matching


cdef struct OrderSlot:
    uint32_t tag
    uint32_t order              # 0: a free slot


cdef struct OrderIndex:
    OrderSlot* slots
    uint32_t mask
    uint32_t home_shift


cdef inline uint32_t order_tag(uint64_t order_id) noexcept nogil:
    return <uint32_t>((order_id * <uint64_t>0x9E3779B97F4A7C15) >> 32)


cdef inline OrderSlot* order_index_slot(
    const OrderIndex* index, const Order* orders, uint64_t order_id
) noexcept nogil:
    """Return the slot that holds an id, or the free slot where it belongs."""
    cdef uint32_t tag = order_tag(order_id)
    cdef uint32_t position = tag >> index.home_shift
    cdef OrderSlot* slot = &index.slots[position]
    while slot.order and not (slot.tag == tag and orders[slot.order].order_id == order_id):
        position = (position + 1) & index.mask
        slot = &index.slots[position]
    return slot


cdef inline void order_index_erase(OrderIndex* index, uint64_t order_id, uint32_t order) noexcept nogil:
    """Remove an entry that is there."""
    cdef uint32_t hole = order_tag(order_id) >> index.home_shift
    while index.slots[hole].order != order:
        check(index.slots[hole].order != 0, "an erased order is in the index")
        hole = (hole + 1) & index.mask
    order_index_free(index, hole)


cdef inline void order_index_free(OrderIndex* index, uint32_t hole) noexcept nogil:
    """Free an occupied slot."""
    cdef uint32_t position = (hole + 1) & index.mask, home
    while index.slots[position].order:
        home = index.slots[position].tag >> index.home_shift
        # An entry may move back into the hole unless that would put it before its home.
        if ((position - home) & index.mask) >= ((position - hole) & index.mask):
            index.slots[hole] = index.slots[position]
            hole = position
        position = (position + 1) & index.mask
    index.slots[hole].order = 0


cdef inline bint order_index_resize(OrderIndex* index, uint64_t orders_max) noexcept nogil:
    """Make room for `orders_max` ids at half load or less. False, and nothing changed, when memory is out."""
    cdef uint64_t slot_count = ORDER_INDEX_SLOTS_MIN
    cdef uint32_t bits = 6
    cdef OrderIndex larger
    cdef OrderSlot* slot
    cdef uint32_t position, target
    # A small table is cheap to keep sparse, and sparse it is probed once: fewer branches go wrong.
    while slot_count < (8 if orders_max <= 4096 else 4 if orders_max <= 262_144 else 2) * orders_max:
        slot_count *= 2
        bits += 1
    if bits > 32:
        return False
    larger.mask = <uint32_t>(slot_count - 1)
    larger.home_shift = 32 - bits
    larger.slots = <OrderSlot*>nodes_take(slot_count * sizeof(OrderSlot))
    if larger.slots == NULL:
        return False
    memset(larger.slots, 0, slot_count * sizeof(OrderSlot))
    if index.slots != NULL:
        for position in range(index.mask + 1):
            slot = &index.slots[position]
            if slot.order:
                target = slot.tag >> larger.home_shift
                while larger.slots[target].order:
                    target = (target + 1) & larger.mask
                larger.slots[target] = slot[0]
        free(index.slots)
    index[0] = larger
    return True

"""Client order ids: one bit of ours | run 15 | parent 24 | leg 16 | attempt 8.

Bit 63 keeps ours apart from a venue's ids in one book. engine/order_ids.py is the same in Python and
says what the parts mean.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from ext.layout cimport check


cdef enum:
    ORDER_RUN_BITS = 15
    ORDER_PARENT_BITS = 24
    ORDER_LEG_BITS = 16
    ORDER_ATTEMPT_BITS = 8


cdef inline uint64_t pack_order_id(
    uint32_t run, uint32_t parent, uint32_t leg, uint32_t attempt
) noexcept nogil:
    """Return the id of one new order. Every part fits its bits: the caller bounds its counters."""
    check(run >> ORDER_RUN_BITS == 0, "a run id fits 15 bits")
    check(parent >> ORDER_PARENT_BITS == 0, "a parent id fits 24 bits")
    check(leg >> ORDER_LEG_BITS == 0, "a leg fits 16 bits")
    check(attempt >> ORDER_ATTEMPT_BITS == 0, "an attempt fits 8 bits")
    return (
        <uint64_t>1 << 63
        | <uint64_t>run << (ORDER_PARENT_BITS + ORDER_LEG_BITS + ORDER_ATTEMPT_BITS)
        | <uint64_t>parent << (ORDER_LEG_BITS + ORDER_ATTEMPT_BITS)
        | <uint64_t>leg << ORDER_ATTEMPT_BITS
        | attempt
    )


cdef inline uint16_t order_run(uint64_t client_order_id) noexcept nogil:
    return <uint16_t>(client_order_id >> 48) & 0x7FFF


cdef inline uint32_t order_parent(uint64_t client_order_id) noexcept nogil:
    return <uint32_t>(client_order_id >> 24) & 0xFFFFFF


cdef inline uint16_t order_leg(uint64_t client_order_id) noexcept nogil:
    return <uint16_t>(client_order_id >> 8)


cdef inline uint8_t order_attempt(uint64_t client_order_id) noexcept nogil:
    return <uint8_t>client_order_id

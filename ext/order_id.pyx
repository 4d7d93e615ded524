"""The compiled id packing, callable from Python so that a test can hold it against the Python form."""

from libc.stdint cimport uint32_t, uint64_t


def pack(uint32_t run, uint32_t parent, uint32_t leg, uint32_t attempt):
    """Return the client order id of (run, parent, leg, attempt); ranges are checked in debug builds."""
    return pack_order_id(run, parent, leg, attempt)


def unpack(uint64_t client_order_id):
    """Return (run, parent, leg, attempt)."""
    return (
        order_run(client_order_id),
        order_parent(client_order_id),
        order_leg(client_order_id),
        order_attempt(client_order_id),
    )

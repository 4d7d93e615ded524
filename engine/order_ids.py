"""Client order ids, unique by construction.

====== ======= ============================================================================
bits   part    meaning
====== ======= ============================================================================
63     1       ours; a venue's own ids stay below 2^63
48-62  run     from the configuration and the seed, see `run_id_of`
24-47  parent  the parent order within the run; 0 for orders without one
8-23   leg     the child's place within its parent
0-7    attempt new orders sent for that leg; a resend is no new order and keeps its id
====== ======= ============================================================================

``ext/order_id.pxd`` packs the same on the hot path.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError

OURS: Final = 1 << 63

RUN_BITS: Final = 15
PARENT_BITS: Final = 24
LEG_BITS: Final = 16
ATTEMPT_BITS: Final = 8

_RUN_SHIFT: Final = PARENT_BITS + LEG_BITS + ATTEMPT_BITS
_PARENT_SHIFT: Final = LEG_BITS + ATTEMPT_BITS
_LEG_SHIFT: Final = ATTEMPT_BITS

ORDER_ID_DTYPE: Final = np.dtype(
    [("run", "<u2"), ("parent", "<u4"), ("leg", "<u2"), ("attempt", "u1"), ("ours", "?")]
)
"""The parts of many ids, as `unpack_order_ids` returns them."""


class OrderId(NamedTuple):
    """The parts of one client order id."""

    run: int
    parent: int
    leg: int
    attempt: int

    def __str__(self) -> str:
        return f"run {self.run} parent {self.parent} leg {self.leg} attempt {self.attempt}"


def run_id_of(config_hash: str, *, seed: int) -> int:
    """Return the 15-bit run id of a configuration and a seed.

    Two runs share an id with probability 2^-15: it keeps the orders of concurrent runs apart at a
    venue, it does not name a run for ever (the configuration hash does).
    """
    digest = hashlib.sha256(f"{config_hash}:{seed}".encode()).digest()
    return int.from_bytes(digest[:2], "little") >> 1


def pack_order_id(run: int, parent: int, leg: int, attempt: int) -> int:
    """Return the client order id of its parts.

    Raises
    ------
    ConfigError
        Where a part does not fit its bits: a run outgrew the id.

    Examples
    --------
    >>> hex(pack_order_id(1, 2, 3, 4))
    '0x8001000002000304'
    """
    for name, value, bits in (
        ("run", run, RUN_BITS),
        ("parent", parent, PARENT_BITS),
        ("leg", leg, LEG_BITS),
        ("attempt", attempt, ATTEMPT_BITS),
    ):
        if not 0 <= value < 1 << bits:
            raise ConfigError(f"the {name} of an order id must fit {bits} bits, was {value}")
    return OURS | run << _RUN_SHIFT | parent << _PARENT_SHIFT | leg << _LEG_SHIFT | attempt


def unpack_order_id(client_order_id: int) -> OrderId:
    """Return the parts of one of our ids.

    Raises
    ------
    ConfigError
        Where the id is not ours.
    """
    if not OURS <= client_order_id < OURS << 1:
        raise ConfigError(f"a client order id must have bit 63 and no higher, was {client_order_id:#x}")
    return OrderId(
        run=client_order_id >> _RUN_SHIFT & (1 << RUN_BITS) - 1,
        parent=client_order_id >> _PARENT_SHIFT & (1 << PARENT_BITS) - 1,
        leg=client_order_id >> _LEG_SHIFT & (1 << LEG_BITS) - 1,
        attempt=client_order_id & (1 << ATTEMPT_BITS) - 1,
    )


def unpack_order_ids(client_order_ids: NDArray[np.uint64]) -> NDArray[np.void]:
    """Return the parts of many ids.

    Parameters
    ----------
    client_order_ids : array of uint64, any shape

    Returns
    -------
    array of ORDER_ID_DTYPE, same shape
        `ours` is False where bit 63 is not set; the other parts mean nothing there.
    """
    ids = np.asarray(client_order_ids, dtype=np.uint64)
    parts = np.empty(ids.shape, dtype=ORDER_ID_DTYPE)
    for name, shift, bits in (
        ("run", _RUN_SHIFT, RUN_BITS),
        ("parent", _PARENT_SHIFT, PARENT_BITS),
        ("leg", _LEG_SHIFT, LEG_BITS),
        ("attempt", 0, ATTEMPT_BITS),
    ):
        parts[name] = ids >> np.uint64(shift) & np.uint64((1 << bits) - 1)
    parts["ours"] = ids >> np.uint64(63) == 1
    return parts

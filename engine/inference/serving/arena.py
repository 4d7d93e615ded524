"""What front and workers share: memory with payload slots and a line of status for each, and a bell.

The memory has no name. The front makes it, workers inherit its descriptor, and it is gone with the last
process that holds it, however that ends. Only the front hands slots out and takes them back; workers read a
slot between a request and its answer. Everybody writes their own status line and nothing else.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from contextlib import ExitStack, suppress
from secrets import token_hex
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from ext.ring_buffer import MpscRing
from ext.ring_memory import unlink_ring

from ..arrays import Floats32
from ..ladder import Variant
from .forecast import CostTable
from .planning import PlanLimits
from .request import ANSWER_DTYPE
from .spec import WorkerSpec
from .supervise import RING_PREFIX, remove_abandoned_rings

STATUS_DTYPE: Final = np.dtype(
    {
        "names": [
            *("beat", "busy_until_ns", "slowdown", "runs", "trips", "ready", "queued"),
            *("ladder", "tripped", "rolled_back"),
        ],
        "formats": ["<u8", "<i8", "<f8", "<u8", "<u8", "<u4", "<u4", "<u8", "(32,)u1", "(32,)u1"],
        "offsets": [0, 8, 16, 24, 32, 40, 44, 48, 56, 88],
        # Two cache lines: a worker's beat must not slow its neighbour's.
        "itemsize": 128,
    }
)
FRONT_DTYPE: Final = np.dtype(
    {"names": ["guard_ns", "load_rise", "sleeps"], "formats": ["<i8", "<f8", "<u8"], "itemsize": 128}
)
PLACES: Final = 64
"""Status lines, as many as a ring of answers has lanes."""
WORKERS_MAX: Final = PLACES // 2 - 1
"""So that there is room for two crews and their spares, which is what a change of ladders takes."""


class Arena:
    """Slots of float32 rows and the status lines, in anonymous shared memory.

    Parameters
    ----------
    slots : int
        Requests that can be open at once.
    row_shape : tuple of int
        (window, features) of one payload.
    descriptor : int, optional
        Of an arena that another process made.
    """

    def __init__(self, *, slots: int, row_shape: tuple[int, int], descriptor: int | None = None) -> None:
        if slots < 1 or min(row_shape) < 1:
            raise ConfigError(f"an arena needs slots and rows, was {slots} of {row_shape}")
        status_bytes = PLACES * STATUS_DTYPE.itemsize
        head_bytes = FRONT_DTYPE.itemsize + status_bytes
        total = head_bytes + slots * row_shape[0] * row_shape[1] * 4
        if descriptor is None:
            self.descriptor = _anonymous_file()
            os.ftruncate(self.descriptor, total)
        else:
            self.descriptor = descriptor
            found = os.fstat(descriptor).st_size
            if found != total:
                raise ConfigError(f"an arena of this shape has {total} bytes, was {found}")
        self._map = mmap.mmap(self.descriptor, total)
        self.front: NDArray[Any] = np.frombuffer(self._map, FRONT_DTYPE, 1)
        self.status: NDArray[Any] = np.frombuffer(self._map, STATUS_DTYPE, PLACES, FRONT_DTYPE.itemsize)
        self.rows: Floats32 = np.frombuffer(self._map, np.float32, offset=head_bytes).reshape(
            slots, *row_shape
        )
        self._free = np.arange(slots - 1, -1, -1)
        self.free_slots = slots

    def take(self, count: int) -> NDArray[np.int64]:
        """Return free slots, fewer than `count` when no more are free. Front only."""
        left = max(self.free_slots - count, 0)
        taken = self._free[left : self.free_slots][::-1].copy()
        self.free_slots = left
        return taken

    def give_back(self, slots: NDArray[np.integer[Any]]) -> None:
        """Free slots. Front only."""
        self._free[self.free_slots : self.free_slots + len(slots)] = slots
        self.free_slots += len(slots)

    def close(self) -> None:
        """Give the descriptor back. The mapping goes with the last array that looks at it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Doorbell:
    """A descriptor at which the front sleeps while it waits for other things as well; workers ring it.

    They do so only when it said that it sleeps, so that answers to a front that is awake cost nothing more.

    Parameters
    ----------
    descriptor : int, optional
        The end that is rung, of a bell that another process made.
    """

    _ONE: Final = (1).to_bytes(8, sys.byteorder)

    def __init__(self, arena: Arena, *, descriptor: int | None = None) -> None:
        self._sleeps: NDArray[np.uint64] = arena.front["sleeps"]
        if descriptor is not None:
            self.waits = self.rings = descriptor
        elif hasattr(os, "eventfd"):
            self.waits = self.rings = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.waits, self.rings = os.pipe()
            os.set_blocking(self.waits, False)
            os.set_blocking(self.rings, False)

    def sleep(self) -> None:
        """Say that the front is about to sleep. It looks for answers once more before it does. Front only."""
        self._sleeps[0] = 1

    def wake(self) -> None:
        """Say that it is awake, and take in whatever was rung. Front only."""
        if self._sleeps[0]:
            self._sleeps[0] = 0
            with suppress(BlockingIOError):
                os.read(self.waits, 4_096)

    def ring(self) -> None:
        """Wake the front if it sleeps; after the answers were pushed."""
        if self._sleeps[0]:
            # One that has not been taken in yet is as good as another.
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(self.rings, self._ONE)

    def close(self) -> None:
        """Give the descriptors back; again is harmless."""
        for descriptor in {self.waits, self.rings} - {-1}:
            os.close(descriptor)
        self.waits = self.rings = -1


class SharedState:
    """All that a front shares with its processes: made together, and given back together.

    Parameters
    ----------
    workers : int
        Of a crew.
    """

    def __init__(self, *, slots: int, row_shape: tuple[int, int], workers: int) -> None:
        remove_abandoned_rings()
        # An id alone may be that of a front in another container, or of one that this container had.
        self.name = f"{RING_PREFIX}{os.getpid()}-{token_hex(8)}"
        with ExitStack() as made:
            self.arena = Arena(slots=slots, row_shape=row_shape)
            made.callback(self.arena.close)
            self.bell = Doorbell(self.arena)
            made.callback(self.bell.close)
            self.answers = MpscRing(
                slots,
                # Of the ladder that serves, and of one that comes or goes.
                producers_max=2 * (workers + 1),
                dtype=ANSWER_DTYPE,
                name=f"{self.name}-answers",
                wait="block",
            )
            made.callback(self._forget_ring)
            self._made = made.pop_all()

    def spec(
        self,
        variants: tuple[Variant, ...],
        previous: tuple[Variant | None, ...],
        costs: CostTable,
        limits: PlanLimits,
    ) -> WorkerSpec:
        """Return what the workers of a first ladder are told, but for their places and rings."""
        slots, *row_shape = self.arena.rows.shape
        return WorkerSpec(
            place=0,
            parent=os.getpid(),
            requests=f"{self.name}-requests",
            answers=f"{self.name}-answers",
            arena_descriptor=self.arena.descriptor,
            bell_descriptor=self.bell.rings,
            slots=slots,
            row_shape=(row_shape[0], row_shape[1]),
            ladder=1,
            variants=variants,
            previous=previous,
            times_ns=costs.times_ns,
            limits=limits,
        )

    def close(self) -> None:
        """Give everything back; again is harmless."""
        self._made.close()

    def _forget_ring(self) -> None:
        with suppress(FileNotFoundError):
            unlink_ring(f"{self.name}-answers")


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("anytick-arena", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

from typing import Literal, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .ring_ends import RingConsumer, RingProducer
from .ring_handle import RingHandle, SoleProducerRing

_Mode = Literal["index", "stamped"]
_WhenFull = Literal["refuse", "block", "drop-oldest"]
_Wait = Literal["spin", "yield", "block"]
_Role = Literal["producer", "consumer"]

@final
class SpscRing(SoleProducerRing):
    def __new__(
        cls,
        capacity: int,
        *,
        dtype: DTypeLike | None = None,
        mode: _Mode = "index",
        when_full: _WhenFull = "refuse",
        wait: _Wait = "yield",
        first_cursor: int = 0,
        name: str | None = None,
        role: _Role = "producer",
    ) -> SpscRing: ...
    @staticmethod
    def attach(name: str, role: _Role, *, dtype: DTypeLike | None = None) -> SpscRing: ...
    def __len__(self) -> int: ...
    @property
    def drained(self) -> bool: ...
    @property
    def held(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def peer_alive(self) -> bool: ...
    def pop(self, count_max: int) -> NDArray[np.void]: ...
    def wait(self, *, timeout_s: float | None = None) -> bool: ...

@final
class BroadcastRing(SoleProducerRing):
    def __new__(
        cls,
        capacity: int,
        *,
        consumers_max: int = 8,
        dtype: DTypeLike | None = None,
        mode: _Mode = "index",
        when_full: _WhenFull = "refuse",
        wait: _Wait = "yield",
        first_cursor: int = 0,
        name: str | None = None,
        role: _Role = "producer",
    ) -> BroadcastRing: ...
    @staticmethod
    def attach(name: str, role: _Role = "consumer", *, dtype: DTypeLike | None = None) -> BroadcastRing: ...
    @property
    def consumers(self) -> tuple[tuple[bool, int, int, int], ...]: ...
    def subscribe(self) -> RingConsumer: ...
    def reap(self) -> None: ...

@final
class MpscRing(RingHandle):
    def __new__(
        cls,
        capacity: int,
        *,
        producers_max: int = 8,
        dtype: DTypeLike | None = None,
        mode: _Mode = "index",
        when_full: _WhenFull = "refuse",
        wait: _Wait = "yield",
        first_cursor: int = 0,
        name: str | None = None,
        role: _Role = "consumer",
    ) -> MpscRing: ...
    @staticmethod
    def attach(name: str, role: _Role = "producer", *, dtype: DTypeLike | None = None) -> MpscRing: ...
    def __len__(self) -> int: ...
    @property
    def drained(self) -> bool: ...
    @property
    def lanes_lost(self) -> tuple[int, ...]: ...
    def producer(self) -> RingProducer: ...
    def pop(self, count_max: int) -> NDArray[np.void]: ...
    def look(self) -> bool: ...
    def wait(self, *, timeout_s: float | None = None) -> bool: ...

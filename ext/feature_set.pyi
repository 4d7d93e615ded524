from collections.abc import Iterable
from typing import Final, final

BOOK_FEATURE_NAMES: Final[tuple[str, ...]]
ALL_FEATURE_NAMES: Final[tuple[str, ...]]

FEATURE_NAMES: tuple[str, ...]

@final
class FeatureSet:
    def __new__(cls, names: Iterable[str] = ...) -> FeatureSet: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def wants_touch(self) -> bool: ...
    @property
    def wants_queues(self) -> bool: ...

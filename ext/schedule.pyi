from collections.abc import Iterable
from typing import final

@final
class Schedule:
    @property
    def next_ns(self) -> int: ...
    @property
    def count(self) -> int: ...
    def drain_order(self, items: Iterable[tuple[int, int]]) -> list[tuple[int, int]]: ...

"""Work beside: the next blocks are made while the last are used, the last written while more come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Block = TypeVar("Block")


def read_ahead(blocks: Iterator[Block], *, depth: int = 2) -> Generator[Block]:
    """Yield what an iterator yields; a thread of its own runs it, up to `depth` blocks ahead.

    This pays where making a block is work that leaves Python alone: unpacking, parsing, decoding, checksums.
    Close the generator where it may be left early: its thread ends with it.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        ahead = deque(pool.submit(next, blocks, end) for _ in range(depth))
        while (block := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, blocks, end))
            yield block  # type: ignore[misc]


class WorkBehind:
    """Runs calls beside the caller, each thread in order; an error comes out at a later call or `wait`.

    Parameters
    ----------
    threads : int
        With one, calls run in the order in which they were made.
    depth : int
        Calls that may be under way or wait; one more waits for the oldest.
    """

    def __init__(self, *, threads: int = 1, depth: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="work-behind")
        self._depth = depth
        self._pending: deque[Future[Any]] = deque()

    def __enter__(self) -> WorkBehind:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def do(self, call: Callable[..., Any], *args: Any) -> None:
        """Have a call made."""
        self._pending.append(self._pool.submit(call, *args))
        while len(self._pending) > self._depth:
            self._pending.popleft().result()

    def wait(self) -> None:
        """Return when every call has been made."""
        while self._pending:
            self._pending.popleft().result()

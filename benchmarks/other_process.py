"""The other side of a measurement that takes two processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Final

# Fresh interpreters: a forked child would share the locks that say who has which end of a ring.
SPAWN: Final = multiprocessing.get_context("spawn")


@contextmanager
def other_process(work: Callable[..., object], *arguments: Any) -> Iterator[BaseProcess]:
    """Run a function in a process of its own while the block runs; it has ended afterwards.

    An interrupt from the terminal is ours alone, from its first instruction on: it inherits the mask.
    """
    process = SPAWN.Process(target=work, args=arguments, daemon=True)
    # Its start, which the first process's start would bring, takes the mask off again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield process
    finally:
        process.kill()
        process.join()

"""What a front needs of the system, where the system refuses it."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from data.errors import AnytickError

from .request import ANSWER_DTYPE, REQUEST_DTYPE
from .supervise import SHARED

# Beside the workers and their spare: the starter and the original.
_NO_WORKERS: Final = 2
# Two channels' ends, a ring and the process itself; the front's own, with what starting a process takes.
_DESCRIPTORS_EACH: Final = 4
_DESCRIPTORS_OWN: Final = 12


class SystemShortage(AnytickError):
    """The system has not, or does not give, what a front needs."""


@contextmanager
def says_what_is_short(*, workers: int, slots: int, row_shape: tuple[int, int]) -> Iterator[None]:
    """Turn the system's refusals into errors that say how much a front needs, and where there was less.

    Parameters
    ----------
    slots : int
        Requests open at once, with rows of `row_shape` each.

    Raises
    ------
    SystemShortage
        No room in shared memory, no descriptor, no process or no memory.
    """
    processes = workers + 1

    def of_rings() -> tuple[str, str]:
        records = processes * slots * (REQUEST_DTYPE.itemsize + 2 * ANSWER_DTYPE.itemsize)
        free = shutil.disk_usage(SHARED).free if SHARED.is_dir() else 0
        return f"{records} bytes of {SHARED} for its rings", f"{free} free"

    def of_descriptors() -> tuple[str, str]:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{_DESCRIPTORS_OWN + _DESCRIPTORS_EACH * processes} descriptors", f"RLIMIT_NOFILE {limit}"

    def of_processes() -> tuple[str, str]:
        limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
        of_user = "without limit" if limit == resource.RLIM_INFINITY else str(limit)
        found = f"RLIMIT_NPROC {of_user}, or a container's limit"
        return f"{processes + _NO_WORKERS} processes", found

    def of_memory() -> tuple[str, str]:
        return f"{slots * row_shape[0] * row_shape[1] * 4} bytes of memory for payloads", "less"

    causes: dict[int, Callable[[], tuple[str, str]]] = {
        errno.ENOSPC: of_rings,
        errno.EMFILE: of_descriptors,
        errno.ENFILE: of_descriptors,
        errno.EAGAIN: of_processes,
        errno.ENOMEM: of_memory,
    }
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in causes:
            raise
        needed, found = causes[error.errno]()
        raise SystemShortage(
            f"a front of {workers} workers and {slots} open requests needs {needed}, "
            f"was {found} ({os.strerror(error.errno)})"
        ) from error

"""The kernel's accounts of cores and of who waits for them; a kept descriptor each, one system call a read.

Where a kernel keeps no such account (not Linux, left out of the build, a sandbox) a reader says so by its
neutral answer for ever: no delay, no crowd, no stall, and of idle time that it is not known.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

STEP_NS: Final = 10_000_000
"""Idle times are told in hundredths of a second (USER_HZ)."""
# A read of /proc/stat has a line for each core of the machine, and one for all its interrupts.
_STAT_CORES_MAX: Final = 16
_STAT_LINE_BYTES: Final = 256
# Linux: the clock of all threads of a process (include/linux/posix-timers.h, CPUCLOCK_SCHED).
_CLOCK_OF_PROCESS: Final = 2


class RunDelayReader:
    """Reads how long one thread has waited for a core."""

    def __init__(self, *, thread_id: int | None = None) -> None:
        thread_id = threading.get_native_id() if thread_id is None else thread_id
        self._descriptor = _open(f"/proc/self/task/{thread_id}/schedstat")

    def read_ns(self) -> int:
        """Return the thread's run-delay since it started, in ns."""
        if self._descriptor < 0:
            return 0
        return int(os.pread(self._descriptor, 64, 0).split()[1])

    def close(self) -> None:
        """Give the descriptor back; again is harmless."""
        self._descriptor = _close(self._descriptor)


class CrowdReader:
    """Reads how many threads of the machine run or want to; 0 where it does not say."""

    def __init__(self, path: str | Path = "/proc/loadavg") -> None:
        self._descriptor = _open(str(path))

    def read(self) -> int:
        """Return the number of runnable threads, this one included."""
        if self._descriptor < 0:
            return 0
        return int(os.pread(self._descriptor, 64, 0).split(b"/")[0].rpartition(b" ")[2])

    def close(self) -> None:
        """Give the descriptor back; again is harmless."""
        self._descriptor = _close(self._descriptor)


class StallReader:
    """Reads the machine's CPU pressure (PSI)."""

    def __init__(self, path: str | Path = "/proc/pressure/cpu") -> None:
        self._descriptor = _open(str(path))

    def read_ns(self) -> int:
        """Return the time in which some task waited for a core, since the machine started, in ns."""
        if self._descriptor < 0:
            return 0
        first = os.pread(self._descriptor, 256, 0).partition(b"\n")[0]
        return int(first.rpartition(b"total=")[2] or 0) * 1_000

    def close(self) -> None:
        """Give the descriptor back; again is harmless."""
        self._descriptor = _close(self._descriptor)


class IdleReader:
    """Reads how long some cores have been idle, all together; None where that is not known.

    Of all cores `/proc/uptime` tells, at half a microsecond. Of some, `/proc/stat`, where the machine has at
    most 16: what it takes grows with the machine.

    Parameters
    ----------
    cores : collection of int
        Their numbers.
    machine_cores : int
        How many the machine has.
    folder : Path
        Where the kernel tells.
    """

    def __init__(self, cores: Collection[int], *, machine_cores: int, folder: str | Path = "/proc") -> None:
        self._wanted: frozenset[bytes] = frozenset()
        self.cores, self.step_ns = len(cores), STEP_NS
        name = "uptime"
        if len(cores) < machine_cores:
            # Each core's own time is rounded.
            self._wanted, self.step_ns = frozenset(b"cpu%d" % core for core in cores), STEP_NS * len(cores)
            name = "stat"
        self._read_bytes = _STAT_LINE_BYTES * (1 + machine_cores)
        is_cheap = name == "uptime" or machine_cores <= _STAT_CORES_MAX
        self._descriptor = _open(f"{folder}/{name}") if is_cheap else -1

    def read_ns(self) -> int | None:
        """Return the idle time of these cores since the machine started, in ns."""
        if self._descriptor < 0:
            return None
        if not self._wanted:
            # "48241.31 27609.92": the point is always there, and two digits after it.
            second = os.pread(self._descriptor, 64, 0).split()[1]
            return int(second[:-3] + second[-2:]) * STEP_NS
        steps = 0
        for line in os.pread(self._descriptor, self._read_bytes, 0).split(b"\n")[1:]:
            name, *times = line.split(None, 6)
            if name in self._wanted:
                # Idle, and idle while somebody waited for a disk.
                steps += int(times[3]) + int(times[4])
            elif not name.startswith(b"cpu"):
                break
        return steps * STEP_NS

    def close(self) -> None:
        """Give the descriptor back; again is harmless."""
        self._descriptor = _close(self._descriptor)


def usable_cores() -> frozenset[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def process_time_ns(process: int) -> int | None:
    """Return the time that all threads of a process have run, up to now; None where that is not known."""
    try:
        return time.clock_gettime_ns(~process << 3 | _CLOCK_OF_PROCESS)
    except OSError:
        return None


def _open(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        os.pread(descriptor, 256, 0)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def _close(descriptor: int) -> int:
    if descriptor >= 0:
        os.close(descriptor)
    return -1

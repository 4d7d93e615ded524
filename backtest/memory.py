"""Memory in use, as the kernel accounts it."""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path


def resident_bytes() -> int:
    """Return this process's proportional set size; its peak resident size where PSS is not told."""
    try:
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class PeakMemory:
    """The largest `resident_bytes` seen while the context is open, looked at four times a second."""

    interval_seconds = 0.25

    def __init__(self) -> None:
        self.peak_bytes = resident_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Take one more look."""
        self.peak_bytes = max(self.peak_bytes, resident_bytes())

    def _watch(self) -> None:
        while not self._over.wait(self.interval_seconds):
            self.look()

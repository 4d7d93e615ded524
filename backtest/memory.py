"""Memory in use, as the kernel accounts it."""

from __future__ import annotations

import resource
import sys
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
    """The largest `resident_bytes` seen by `look`."""

    def __init__(self) -> None:
        self.peak_bytes = resident_bytes()

    def look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, resident_bytes())

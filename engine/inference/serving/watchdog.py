"""Telling a process that hangs from a watcher that was itself away."""

from __future__ import annotations

from typing import Final

SILENCE_NS_MAX: Final = 300_000_000
_GLANCE_NS_MAX: Final = 50_000_000


class Watchdog:
    """Counts silence. Holds no clock.

    The silence that counts is the time between glances, at most 50 ms of it each: when the whole machine
    stood still, or this process did, one glance cannot condemn a worker.
    """

    def __init__(self, *, silence_ns_max: int = SILENCE_NS_MAX) -> None:
        self._silence_ns_max = silence_ns_max
        self._beat, self._last_ns = -1, 0
        self.silence_ns = 0
        """How long it has been silent."""

    def hangs(self, now_ns: int, *, beat: int, busy_until_ns: int = 0) -> bool:
        """Take one glance; return whether the process has been silent for too long.

        Parameters
        ----------
        beat : int
            Its counter of turns, from 0 up.
        busy_until_ns : int
            Until then it said it would be busy with one run.
        """
        if beat != self._beat or now_ns < busy_until_ns:
            self._beat, self.silence_ns = beat, 0
        else:
            self.silence_ns += min(now_ns - self._last_ns, _GLANCE_NS_MAX)
        self._last_ns = now_ns
        return self.silence_ns > self._silence_ns_max

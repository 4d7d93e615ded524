"""How long before a deadline a front answers with what is at hand: by how late its own wake-ups come."""

from __future__ import annotations

from typing import Final

from .arena import Arena
from .forecast import QuantileTracker

_HANDOVER_NS: Final = 1_000_000
_GUARD_NS_MAX: Final = 15_000_000
_LATENESS_SHARE: Final = 0.98
_LATENESS_START_NS: Final = 500_000.0
_LATENESS_GAIN: Final = 0.1


class DeadlineGuard:
    """The time kept free before every deadline, told to the workers as well.

    Parameters
    ----------
    least_ns : int
        It grows from there with the lateness of this process.
    """

    def __init__(self, least_ns: int, arena: Arena) -> None:
        self._least_ns, self._arena = least_ns, arena
        self._lateness = QuantileTracker(_LATENESS_SHARE, start=_LATENESS_START_NS, gain=_LATENESS_GAIN)
        self._planned_ns = 0
        arena.front["guard_ns"] = least_ns + _HANDOVER_NS

    @property
    def ns(self) -> int:
        """How long before its deadline a request is answered with what is at hand."""
        return min(self._least_ns + int(self._lateness.value), _GUARD_NS_MAX)

    def plan(self, wake_ns: int) -> None:
        """Note when this process means to wake up."""
        self._planned_ns = wake_ns

    def note(self, now_ns: int) -> None:
        """Learn from a wake-up that was planned."""
        if self._planned_ns and now_ns >= self._planned_ns:
            self._lateness.update(max(now_ns - self._planned_ns, 1.0))
            self._planned_ns = 0
            # Workers end a little sooner than the front gives up on them.
            self._arena.front["guard_ns"] = self.ns + _HANDOVER_NS

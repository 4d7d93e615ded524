"""A noisy level followed at two speeds: where it has been for a while, and whether it has just left.

Both are exponential means. A quick one above the slow one is believed only where it stands apart by more than
it usually strays, which is learnt as well, so that a restless machine raises few alarms and a quiet one is
not judged by a threshold made for another. It is believed until it comes near again: that is the hysteresis.
Pure functions of the samples; weights are times, so that no clock is needed.
"""

from __future__ import annotations

from math import exp, expm1, sqrt
from typing import Final

_STRAY_ON: Final = 2.0
_STRAY_OFF: Final = 1.0
# The usual straying is learnt over so many memories of the slow mean, and from at most so large a stray.
_STRAY_MEMORIES: Final = 5.0
_STRAY_CLIP: Final = 3.0


class Level:
    """A level and its rises.

    Parameters
    ----------
    quick_ns, slow_ns : float
        Time constants of the two means.
    start : float
        The level that is taken to lie behind.
    stray_min : float
        Nothing that strays less is a rise, however quiet it was before.
    """

    __slots__ = ("_quick_ns", "_slow_ns", "_stray_min", "_variance", "quick", "risen", "slow")

    def __init__(self, quick_ns: float, slow_ns: float, *, start: float, stray_min: float) -> None:
        self._quick_ns, self._slow_ns, self._stray_min = quick_ns, slow_ns, stray_min
        self.quick = self.slow = start
        self.risen = False
        self._variance = 0.0

    @property
    def present(self) -> float:
        """The level to go by now: the slow mean, or the quick one after a rise and while it is lower."""
        return self.quick if self.risen else min(self.quick, self.slow)

    def add(self, value: float, weight_ns: float) -> None:
        """Take one sample in."""
        self.quick -= (value - self.quick) * expm1(-weight_ns / self._quick_ns)
        stray = self.quick - self.slow
        usual = max(sqrt(self._variance), self._stray_min)
        self.risen = stray > (_STRAY_OFF if self.risen else _STRAY_ON) * usual
        self.slow -= (value - self.slow) * expm1(-weight_ns / self._slow_ns)
        clipped = min(abs(stray), _STRAY_CLIP * usual)
        self._variance -= (clipped * clipped - self._variance) * expm1(
            -weight_ns / (_STRAY_MEMORIES * self._slow_ns)
        )

    def fade(self, past_ns: float) -> None:
        """Let time pass without a sample: both means go to zero at the pace of the slow one."""
        keep = exp(-past_ns / self._slow_ns)
        self.quick *= keep
        self.slow *= keep

"""A circuit breaker per variant: a model that gives no numbers is taken out before it is asked again.

Closed, it counts failures in a sliding window of answers. Open, the variant is not used until its time is up.
Half open, one answer decides: good closes, bad opens again for twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from data.errors import ConfigError


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerLimits:
    """When a variant is taken out and for how long.

    Parameters
    ----------
    failures_max : int
        Failed answers among the last `window` that open the breaker.
    window : int
        Answers that are remembered, at most 64.
    open_ns, open_ns_max : int
        First and longest time out.
    """

    failures_max: int = 3
    window: int = 10
    open_ns: int = 1_000_000_000
    open_ns_max: int = 60_000_000_000

    def __post_init__(self) -> None:
        if not (1 <= self.failures_max <= self.window <= 64 and 0 < self.open_ns <= self.open_ns_max):
            raise ConfigError(f"a breaker needs 1 <= failures_max <= window <= 64, open_ns > 0, was {self}")


class CircuitBreaker:
    """One variant's breaker, on the caller's clock."""

    __slots__ = ("_history", "_limits", "_open_ns", "_until_ns", "state", "trips")

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self._limits = limits or BreakerLimits()
        self._history = 0
        self._open_ns = self._limits.open_ns
        self._until_ns = 0
        self.state = BreakerState.CLOSED
        self.trips = 0

    def allows(self, now_ns: int) -> bool:
        """Return whether the variant may be asked now."""
        if self.state is BreakerState.OPEN and now_ns >= self._until_ns:
            self.state = BreakerState.HALF_OPEN
        return self.state is not BreakerState.OPEN

    def record(self, now_ns: int, *, ok: bool) -> bool:
        """Take one answer in; return whether it tripped the breaker."""
        limits = self._limits
        if self.state is BreakerState.HALF_OPEN:
            if ok:
                self.reset()
                return False
            self._open_ns = min(2 * self._open_ns, limits.open_ns_max)
            return self._trip(now_ns)
        if self.state is BreakerState.OPEN:
            return False
        self._history = ((self._history << 1) | (not ok)) & ((1 << limits.window) - 1)
        if not ok and self._history.bit_count() >= limits.failures_max:
            return self._trip(now_ns)
        return False

    def record_all(self, now_ns: int, good: Sequence[bool]) -> bool:
        """Take a run's answers in, in order; return whether one of them tripped the breaker."""
        if all(good):
            # Of good answers only as many count as are remembered.
            good = good[: self._limits.window]
        trips = [self.record(now_ns, ok=ok) for ok in good]
        return any(trips)

    def reset(self) -> None:
        """Close and forget, after the variant was rolled back or replaced."""
        self._history, self._open_ns = 0, self._limits.open_ns
        self.state = BreakerState.CLOSED

    def _trip(self, now_ns: int) -> bool:
        self.state = BreakerState.OPEN
        self._until_ns = now_ns + self._open_ns
        self._history = 0
        self.trips += 1
        return True

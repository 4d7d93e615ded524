"""How much slower than on a quiet machine things run just now, and the files that tell.

Four signals, each for what it is good at:

run-delay
    Time this thread was ready and did not run, from its own `schedstat`. Says within one scheduler slice
    that somebody else has the core.
own latency
    Batch time over its table time. Also sees what run-delay cannot: a shared cache, a lower clock, a
    hypervisor.
queue
    Share of the deadline that is already spoken for. Holds recovery back.
PSI
    The kernel's own account, `/proc/pressure/cpu`; its total moves in steps of up to two seconds, so it
    never lowers quality, it holds recovery back.

Slower is believed at once (time constant 20 ms), faster only slowly (200 ms, and twice that while held
back), so that a hog which comes and goes does not make quality flap.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from math import exp
from pathlib import Path

from data.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class PressureLimits:
    """How the gauge weighs time.

    Parameters
    ----------
    attack_ns, release_ns : int
        Time constants of belief in slower and in faster.
    queue_share_hold, psi_share_hold : float
        From these on, recovery takes `hold_factor` times as long. It goes on: busy workers are pressure too.
    slowdown_max : float
        Nothing slower is believed: one long stall must not silence the large models for seconds.
    """

    attack_ns: int = 20_000_000
    release_ns: int = 200_000_000
    queue_share_hold: float = 0.8
    psi_share_hold: float = 0.95
    hold_factor: float = 2.0
    slowdown_max: float = 8.0

    def __post_init__(self) -> None:
        if not (0 < self.attack_ns < self.release_ns and self.slowdown_max > 1.0):
            raise ConfigError(f"pressure must be believed sooner than its end, was {self}")


class PressureGauge:
    """Turns samples into one slowdown, 1.0 on a quiet machine. Holds no clock.

    Time spent and time it should have taken are summed with exponential forgetting and divided, so that one
    run that was cut in two weighs as much as the time it lost, no more.
    """

    __slots__ = ("_last_ns", "_limits", "_ran_ns", "_spent_ns", "_table_ns", "slowdown")

    def __init__(self, limits: PressureLimits | None = None) -> None:
        self._limits = limits or PressureLimits()
        self.slowdown = 1.0
        self._last_ns: int | None = None
        # As if a quiet window lay behind: the first sample alone decides nothing.
        self._spent_ns = self._ran_ns = self._table_ns = float(self._limits.attack_ns)

    def observe(
        self,
        now_ns: int,
        *,
        span_ns: float,
        run_delay_ns: float,
        table_ns: float,
        queue_share: float = 0.0,
        psi_share: float = 0.0,
    ) -> float:
        """Take in what one piece of work saw; return the slowdown.

        Parameters
        ----------
        span_ns, run_delay_ns : float
            How long the work took, and how much of it the thread waited for a core.
        table_ns : float
            How long it takes on a quiet machine.
        queue_share : float
            Forecast time of the queue over the time to its last deadline.
        psi_share : float
            Share of recent time in which some task waited for a core.
        """
        limits = self._limits
        span_ns = max(span_ns, 0.0)
        keep = exp(-span_ns / limits.attack_ns)
        self._spent_ns = self._spent_ns * keep + span_ns
        self._ran_ns = self._ran_ns * keep + span_ns - min(max(run_delay_ns, 0.0), span_ns)
        # Faster than the table is the table's fault, not the machine's speed.
        self._table_ns = self._table_ns * keep + min(max(table_ns, 0.0), span_ns)
        # Run-delay is part of own latency; where the table is right both agree, and the larger is safe.
        useful_ns = min(self._ran_ns, self._table_ns)
        seen = min(
            self._spent_ns / max(useful_ns, self._spent_ns / limits.slowdown_max, 1.0), limits.slowdown_max
        )
        if seen < self.slowdown:
            held = queue_share > limits.queue_share_hold or psi_share > limits.psi_share_hold
            release_ns = limits.release_ns * (limits.hold_factor if held else 1.0)
            seen += (self.slowdown - seen) * exp(-span_ns / release_ns)
        self.slowdown = max(seen, 1.0)
        self._last_ns = now_ns
        return self.slowdown

    def idle(self, now_ns: int) -> float:
        """Let time pass without work: nothing is learnt, old pressure is slowly forgotten."""
        if self._last_ns is not None and now_ns > self._last_ns:
            keep = exp((self._last_ns - now_ns) / self._limits.release_ns)
            self.slowdown = 1.0 + (self.slowdown - 1.0) * keep
            self._last_ns = now_ns
        return self.slowdown


class RunDelayReader:
    """Reads how long one thread has waited for a core; keeps the descriptor, one system call a read.

    Where the kernel keeps no such account (not Linux, schedstats compiled out) `read_ns` returns 0 for ever.
    """

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


class StallReader:
    """Reads the machine's CPU pressure (PSI); a machine without it never stalls."""

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

"""How much slower than on a quiet machine things run just now, and the files that tell.

Six signals, each for what it is good at:

run-delay
    Time this thread was ready and did not run, from its own `schedstat`: in a piece of work, and before it,
    when the thread was woken. A worker that sleeps between its turns meets a rival for its core at the
    wake-ups, and hardly while it runs.
own latency
    Batch time over its table time. Also sees what run-delay cannot: a shared cache, a lower clock, a
    hypervisor.
crowd
    How many threads of the machine want a core, from `/proc/loadavg`. It moves with the first sample after a
    rival starts, before it has cost anything, and a worker without work sees it too. What one thread more
    costs depends on weights and groups that it does not tell, so only its rise over its own recent level
    counts, and only until own time has had the time to tell.
queue
    Share of the deadline that is already spoken for. Holds recovery back.
spare time
    Whether others took what was idle or ours (`spare.py`), which the front finds out and warns of. The belief
    of late times the rise of the load, until own time has had the time to tell.
PSI
    The kernel's own account, `/proc/pressure/cpu`; its total moves in steps of up to two seconds, so it
    never lowers quality, it holds recovery back.

Both levels are followed at two speeds (`level.py`): a change that stands out is believed within some 10 ms,
everything else is averaged over 200. Faster is believed only slowly (150 ms, and twice that while held
back), so that a hog which comes and goes does not make quality flap.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import exp, expm1

from data.errors import ConfigError

from .level import Level

_LOST_STRAY_MIN = 0.04
_CROWD_STRAY_MIN = 0.1
# Samples between which a worker slept weigh more, so that its past is forgotten in time, not in work.
_GAP_WEIGHT = 0.125


@dataclass(frozen=True, kw_only=True, slots=True)
class PressureLimits:
    """How the gauge weighs time.

    Parameters
    ----------
    attack_ns, memory_ns : int
        Time constants of changes that stand out, and of everything else.
    release_ns : int
        Time constant of belief in faster.
    queue_share_hold, psi_share_hold : float
        From these on, recovery takes `hold_factor` times as long. It goes on: busy workers are pressure too.
    slowdown_max : float
        Nothing slower is believed: one long stall must not silence the large models for seconds.
    crowd_rise_min : float
        A smaller rise of the crowd is left to own time.
    """

    attack_ns: int = 10_000_000
    memory_ns: int = 200_000_000
    release_ns: int = 150_000_000
    queue_share_hold: float = 0.8
    psi_share_hold: float = 0.95
    hold_factor: float = 2.0
    slowdown_max: float = 8.0
    crowd_rise_min: float = 1.25

    def __post_init__(self) -> None:
        if not (0 < self.attack_ns < min(self.memory_ns, self.release_ns) and self.slowdown_max > 1.0):
            raise ConfigError(f"pressure must be believed sooner than its end, was {self}")


class PressureGauge:
    """Turns samples into one slowdown, 1.0 on a quiet machine. Holds no clock.

    What is averaged is the share of wanted time that was lost, each sample weighing as much as its time, so
    that one run that was cut in two weighs as much as the time it lost, no more.

    Parameters
    ----------
    cores : int
        Of the machine, over which its crowd spreads.
    """

    __slots__ = (
        *("_alarm", "_cores", "_crowd", "_is_warned", "_last_ns", "_limits", "_lost"),
        *("_told", "_usual", "slowdown"),
    )

    def __init__(self, limits: PressureLimits | None = None, *, cores: int | None = None) -> None:
        self._limits = limits = limits or PressureLimits()
        self._cores = cores or os.cpu_count() or 1
        self._lost = Level(limits.attack_ns, limits.memory_ns, start=0.0, stray_min=_LOST_STRAY_MIN)
        self._crowd: Level | None = None
        self._last_ns: int | None = None
        # What own time and the crowd tell, its recent level, and what a warning adds.
        self._told = self._usual = self._alarm = 1.0
        self._is_warned = False
        self.slowdown = 1.0

    def observe(
        self,
        now_ns: int,
        *,
        span_ns: float,
        run_delay_ns: float,
        table_ns: float,
        runnable: int = 0,
        queue_share: float = 0.0,
        psi_share: float = 0.0,
    ) -> float:
        """Take in what one piece of work saw; return the slowdown.

        Parameters
        ----------
        span_ns, run_delay_ns : float
            How long the work took from when the thread was ready, and how much of it it waited for a core.
        table_ns : float
            How long it takes on a quiet machine.
        runnable : int
            Threads of the machine that run or want to, this one included; 0 where that is not known.
        queue_share : float
            Forecast time of the queue over the time to its last deadline.
        psi_share : float
            Share of recent time in which some task waited for a core.
        """
        limits = self._limits
        past_ns = self._past_ns(now_ns)
        if span_ns > 0.0:
            # Run-delay is part of own latency; where the table is right both agree, and the larger is safe.
            # Faster than the table is the table's fault, not the machine's speed.
            useful_ns = min(span_ns - max(run_delay_ns, 0.0), max(table_ns, 0.0))
            lost = 1.0 - max(useful_ns / span_ns, 1.0 / limits.slowdown_max)
            gap_ns = min(max(past_ns - span_ns, 0.0) * _GAP_WEIGHT, limits.attack_ns / 2)
            self._lost.add(lost, span_ns + gap_ns)
        held = queue_share > limits.queue_share_hold or psi_share > limits.psi_share_hold
        return self._believe(1.0 / (1.0 - self._lost.present), past_ns, runnable, held=held)

    def idle(self, now_ns: int, *, runnable: int = 0) -> float:
        """Let time pass without work: of own time nothing is learnt, old pressure is slowly forgotten."""
        past_ns = self._past_ns(now_ns)
        self._lost.fade(past_ns)
        return self._believe(1.0, past_ns, runnable, held=False)

    def warn(self, load_rise: float) -> float:
        """Believe at once that others came, until own time tells; return the slowdown.

        Parameters
        ----------
        load_rise : float
            Load per core over its recent level (`spare.py`).
        """
        self._is_warned = load_rise >= self._limits.crowd_rise_min
        if self._is_warned:
            self._alarm = max(self._alarm, min(load_rise * self._usual, self._limits.slowdown_max))
            self.slowdown = max(self._told, self._alarm)
        return self.slowdown

    def _past_ns(self, now_ns: int) -> int:
        past_ns = 0 if self._last_ns is None else max(now_ns - self._last_ns, 0)
        self._last_ns = now_ns
        return past_ns

    def _believe(self, seen: float, past_ns: int, runnable: int, *, held: bool) -> float:
        limits = self._limits
        if runnable > 0:
            seen = max(seen, self._foreseen(runnable, past_ns))
        seen = min(seen, limits.slowdown_max)
        if seen < self._told:
            release_ns = limits.release_ns * (limits.hold_factor if held else 1.0)
            seen += (self._told - seen) * exp(-past_ns / release_ns)
        self._told = max(seen, 1.0)
        if not self._is_warned:
            self._usual -= (self._told - self._usual) * expm1(-past_ns / limits.memory_ns)
        # An alarm never feeds on itself: what is usual is what own time told.
        self._alarm = 1.0 + (self._alarm - 1.0) * exp(-past_ns / limits.release_ns)
        self.slowdown = max(self._told, self._alarm)
        return self.slowdown

    def _foreseen(self, runnable: int, past_ns: int) -> float:
        """Return what own time will say once the present crowd has cost what such a crowd costs."""
        load = 1.0 + (runnable - 1) / self._cores
        crowd = self._crowd
        if crowd is None:
            crowd = self._crowd = Level(
                self._limits.attack_ns, self._limits.memory_ns, start=load, stray_min=_CROWD_STRAY_MIN
            )
        # One look after a long time weighs no more than some in a row.
        crowd.add(load, min(past_ns, self._limits.attack_ns / 2))
        rise = crowd.quick / crowd.slow
        if not crowd.risen or rise < self._limits.crowd_rise_min:
            return 1.0
        # Of own time the quick mean is believed as well: the crowd says when, own time how much.
        lost = self._lost
        return max(rise / (1.0 - lost.slow), 1.0 / (1.0 - lost.quick))

"""How soon workers see that somebody else spins on every core, and what that costs; many times, live.

    python -m benchmarks.router_hog [--ladder FOLDER] [--users 16 | --rate 500] [--hogs 30]
    python -m benchmarks.router_hog --rate 500 --alone 60

The spinning processes are there from the start and stopped; each time they go on at a random moment, for
some tenths of a second. What is watched is the slowdown that the workers plan with, as the front knows it: it
looks every 4 ms, and its own waiting for a core is in the times too. With `--alone` there are no hogs: every
warning is a false one, or somebody else's hog.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backtest.stress.load import LoadLoop, like_training
from backtest.stress.rivals import Hogs, usable_cores
from engine.inference.ladder import load_ladder
from engine.inference.serving.front import Front
from engine.inference.serving.pressure import PressureLimits

RISE: Final = 4.0 / 3.0
"""A slowdown that is so many times what it was is a hog that was seen."""
_BACK: Final = 1.15
BEFORE_MS: Final = 400
_SPIN_MS, _AFTER_MS = 400, 800
_LATE_NS: Final = 500_000_000
_WARM_NS: Final = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class HogTimes:
    """What became of the hogs; one entry for each.

    Parameters
    ----------
    slowdowns : array of float64, shape (hogs, milliseconds)
        Mean of the workers, from 400 ms before to 800 ms after the start.
    seen_ms, over_ms : array of float64, shape (hogs,)
        From the start to a slowdown of 4/3 of the median before, and from the end to 1.15 of it; infinite
        where it did not come to that.
    raised : array of float64, shape (hogs,)
        Share of the time before the start at which the slowdown was as high.
    asked, late : int
        Requests of the half second that follows a start, and those that were not answered in time.
    rate : float
        Requests per second, over everything.
    """

    slowdowns: NDArray[np.float64]
    seen_ms: NDArray[np.float64]
    over_ms: NDArray[np.float64]
    raised: NDArray[np.float64]
    asked: int
    late: int
    rate: float

    def text(self) -> str:
        """Return the account in words."""
        seen, over = (
            [np.quantile(times, share, method="higher") for share in (0.5, 0.9, 1.0)]
            for times in (self.seen_ms, self.over_ms)
        )
        before = self.slowdowns[:, :BEFORE_MS].mean()
        spinning = self.slowdowns[:, BEFORE_MS + 40 : BEFORE_MS + _SPIN_MS].mean()
        return (
            f"{len(self.seen_ms)} hogs at {self.rate:,.0f} requests/s: "
            f"slowdown {before:.2f} before, {spinning:.2f} beside them\n"
            f"a third more after {seen[0]:.0f} ms (median), {seen[1]:.0f} (90 %), {seen[2]:.0f} (worst); "
            f"as high {self.raised.mean():.1%} of the time before\n"
            f"back after {over[0]:.0f} ms (median), {over[1]:.0f} (90 %), {over[2]:.0f} (worst)\n"
            f"late within half a second of a start: {self.late} of {self.asked}"
        )


class _Watch:
    """Called by the load again and again: notes slowdowns, stops the hogs and lets them go on."""

    def __init__(self, front: Front, hogs: Hogs, *, seed: int) -> None:
        self._front, self._hogs = front, hogs
        self._random = np.random.default_rng((seed, 5))
        self._spinning = False
        self._next_ns = time.monotonic_ns() + _WARM_NS
        self.starts_ns: list[int] = []
        self.samples: list[tuple[int, float]] = []

    def __call__(self, done: float) -> None:
        now_ns = time.monotonic_ns()
        self.samples.append((now_ns, float(np.mean(self._front.slowdowns))))
        if now_ns < self._next_ns:
            return
        if self._spinning:
            self._hogs.rest()
            self._next_ns = now_ns + int(self._random.uniform(0.8e9, 1.2e9))
        else:
            self.starts_ns.append(now_ns)
            self._hogs.go_on()
            self._next_ns = now_ns + _SPIN_MS * 1_000_000
        self._spinning = not self._spinning


def watch_hogs(
    ladder: Path | None = None, *, users: int = 16, rate: float = 0.0, count: int = 30, seed: int = 1
) -> HogTimes:
    """Serve a load while hogs come and go.

    Parameters
    ----------
    users : int
        That ask again at once, where `rate` is 0.
    rate : float
        Requests per second on a schedule.
    """
    with Hogs(usable_cores()) as hogs, Front(load_ladder(ladder)) as front:
        hogs.rest()
        loop = _loop(front, seed=seed)
        watch = _Watch(front, hogs, seed=seed)
        seconds = 1.5 + count * 1.4
        if rate:
            run = loop.open(rate, seconds, seed=seed, tick=watch)
        else:
            run = loop.closed(users, seconds, tick=watch)
        hogs.go_on()
    starts_ns = [at_ns for at_ns in watch.starts_ns if at_ns + _AFTER_MS * 10**6 < watch.samples[-1][0]]
    after_ns = run.arrivals_ns[:, None] - np.array(starts_ns)
    asked = ((after_ns >= 0) & (after_ns < _LATE_NS)).any(axis=1)
    return _account(
        np.array([_around(watch.samples, at_ns) for at_ns in starts_ns]),
        asked=int(asked.sum()),
        late=int((asked & ~run.on_time).sum()),
        rate=len(run.arrivals_ns) / run.seconds,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlarms:
    """Warnings of newcomers while there were none.

    Parameters
    ----------
    count : int
        How often a warning began.
    share : float
        Of the time that one stood.
    seconds, rate : float
        How long was watched, and requests per second.
    """

    count: int
    share: float
    seconds: float
    rate: float

    def text(self) -> str:
        """Return the account in words."""
        return (
            f"{self.count} warnings in {self.seconds:.0f} s alone at {self.rate:,.0f} requests/s, "
            f"{self.share:.2%} of the time"
        )


def watch_alone(
    ladder: Path | None = None, *, users: int = 16, rate: float = 0.0, seconds: float = 60.0, seed: int = 1
) -> FalseAlarms:
    """Serve a load beside nobody; parameters as for `watch_hogs`."""
    warned: list[bool] = []
    with Front(load_ladder(ladder)) as front:
        loop = _loop(front, seed=seed)

        def tick(done: float) -> None:
            warned.append(bool(front.arena.front["load_rise"][0] >= PressureLimits().crowd_rise_min))

        if rate:
            run = loop.open(rate, seconds, seed=seed, tick=tick)
        else:
            run = loop.closed(users, seconds, tick=tick)
    stood = np.array(warned)
    return FalseAlarms(
        count=int(np.count_nonzero(stood[1:] & ~stood[:-1])),
        share=float(stood.mean()),
        seconds=run.seconds,
        rate=len(run.arrivals_ns) / run.seconds,
    )


def _loop(front: Front, *, seed: int) -> LoadLoop:
    shape = front.arena.rows.shape[1:]
    noise = np.random.default_rng(seed).standard_normal((64, *shape)).astype(np.float32)
    return LoadLoop(front, like_training(noise, front.variants), deadline_ns=50_000_000)


def _around(samples: Sequence[tuple[int, float]], start_ns: int) -> NDArray[np.float64]:
    """Return the slowdown at each millisecond around a start."""
    times_ns, values = np.array([at for at, _ in samples]), np.array([value for _, value in samples])
    wanted_ns = start_ns + np.arange(-BEFORE_MS, _AFTER_MS) * 1_000_000
    found: NDArray[np.float64] = values[np.searchsorted(times_ns, wanted_ns, side="right") - 1]
    return found


def _account(slowdowns: NDArray[np.float64], *, asked: int, late: int, rate: float) -> HogTimes:
    before = slowdowns[:, :BEFORE_MS]
    usual = np.median(before, axis=1, keepdims=True)
    spinning, free = np.split(slowdowns[:, BEFORE_MS:], [_SPIN_MS], axis=1)
    return HogTimes(
        slowdowns=slowdowns,
        seen_ms=_first(spinning >= RISE * usual),
        over_ms=_first(free <= _BACK * usual),
        raised=(before >= RISE * usual).mean(axis=1),
        asked=asked,
        late=late,
        rate=rate,
    )


def _first(reached: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return per row the first column that is true, infinite where none is."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1), np.inf)


def main(arguments: Sequence[str]) -> int:
    """Print how soon hogs were seen, and what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ladder", type=Path, help="default: the package's")
    parser.add_argument("--users", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second instead of users")
    parser.add_argument("--hogs", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--alone", type=float, default=0.0, help="seconds without hogs; counts warnings")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    if chosen.alone:
        alone = watch_alone(
            chosen.ladder, users=chosen.users, rate=chosen.rate, seconds=chosen.alone, seed=chosen.seed
        )
        print(alone.text())
        return 0
    times = watch_hogs(
        chosen.ladder, users=chosen.users, rate=chosen.rate, count=chosen.hogs, seed=chosen.seed
    )
    print(times.text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

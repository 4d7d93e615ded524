"""What a benchmark scenario is made of: sizes, repetitions, a verified answer, figures with a floor.

A scenario is a function that takes a `Bench`. It asks for its sizes (tiny ones when the tests run it),
lets the bench repeat the work and the floor probe in turns, so that a noisy neighbour hits both, and
verifies the answer. Figures of a wrong answer or of a debug build are never reported.
"""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import CheckFailed, ConfigError

REPETITIONS: Final = 7
VERSION: Final = 1

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One figure with its spread; `floor` and `peer` are medians of the same unit, or None.

    `samples` counts what the percentiles are taken over: repetitions for a throughput, calls for a
    latency.
    """

    name: str
    unit: str
    samples: int
    minimum: float
    p50: float
    p99: float
    p999: float
    max: float
    floor: float | None
    peer: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A named scenario; `conditions` is the sentence printed under its figures."""

    name: str
    title: str
    conditions: str
    function: Callable[[Bench], None]


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(name: str, title: str, *, conditions: str) -> Callable[[Callable[[Bench], None]], Scenario]:
    """Register a function as a scenario."""

    def register(function: Callable[[Bench], None]) -> Scenario:
        assert name not in SCENARIOS, f"scenario {name} is declared once"
        SCENARIOS[name] = Scenario(name=name, title=title, conditions=conditions, function=function)
        return SCENARIOS[name]

    return register


@dataclass(slots=True)
class Bench:
    """One run of one scenario: hands out sizes, takes figures.

    Parameters
    ----------
    seed : int
    smoke : bool
        Tiny sizes and two repetitions: shows that the scenario works, measures nothing.
    """

    seed: int
    smoke: bool = False
    parameters: dict[str, int] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    verified: int = 0

    def parameter(self, name: str, *, smoke: int, full: int) -> int:
        """Return the size to use, and note it for the document."""
        self.parameters[name] = smoke if self.smoke else full
        return self.parameters[name]

    def verify(self, holds: bool, claim: str) -> None:
        """Refuse to report unless `claim` holds.

        Raises
        ------
        CheckFailed
        """
        if not holds:
            raise CheckFailed(f"benchmark answer: expected that {claim}, was not so")
        self.verified += 1

    def throughput(
        self,
        name: str,
        work: Work,
        *,
        count: int,
        prepare: Work | None = None,
        floor: Work | None = None,
        peer: Work | None = None,
    ) -> None:
        """Time whole passes of `work` over `count` items, in ns per item.

        `floor` and `peer` do the same number of items; the three take turns. `prepare` runs before each
        pass of `work`, outside the clock.
        """
        runs: dict[str, list[float]] = {"work": [], "floor": [], "peer": []}
        contenders = [(key, do) for key, do in (("work", work), ("floor", floor), ("peer", peer)) if do]
        for repetition in range(-1, 2 if self.smoke else REPETITIONS):
            for key, do in contenders:
                if prepare and do is work:
                    prepare()
                seconds = _seconds(do)
                if repetition >= 0:  # the first pass warms caches and page tables
                    runs[key].append(seconds * 1e9 / count)
        self._add(name, np.array(runs["work"]), floor=runs["floor"], peer=runs["peer"])

    def latency(
        self, name: str, call: Work, *, count: int, floor: Work | None = None, peer: Work | None = None
    ) -> None:
        """Time `count` single calls, one after another, in ns: service time, not response under load."""
        samples = _call_ns(call, count)
        floors = _call_ns(floor, count) if floor else ()
        peers = _call_ns(peer, count) if peer else ()
        self._add(name, samples, floor=floors, peer=peers)

    def record(self, name: str, unit: str, samples: Iterable[float], *, floor: float) -> None:
        """Note a figure that the scenario took itself, in its own unit."""
        self._add(name, np.array(list(samples), dtype=np.float64), floor=[floor], peer=[], unit=unit)

    def samples(self, name: str, values_ns: NDArray[np.float64], *, floor: Iterable[float] = ()) -> None:
        """Report times that compiled code took of itself, in ns."""
        self._add(name, values_ns, floor=floor, peer=())

    def _add(
        self,
        name: str,
        samples: NDArray[np.float64],
        *,
        floor: Iterable[float],
        peer: Iterable[float],
        unit: str = "ns",
    ) -> None:
        low, p50, p99, p999, high = np.percentile(samples, (0.0, 50.0, 99.0, 99.9, 100.0)).tolist()
        self.measures.append(
            Measure(
                name=name,
                unit=unit,
                samples=len(samples),
                minimum=low,
                p50=p50,
                p99=p99,
                p999=p999,
                max=high,
                floor=_median(floor),
                peer=_median(peer),
            )
        )


def run_scenario(entry: Scenario, *, seed: int, smoke: bool) -> dict[str, Any]:
    """Run one scenario and return its part of the document.

    Raises
    ------
    ConfigError
        In a debug build with full sizes: its figures would be read as the product's.
    CheckFailed
        The scenario's answer was wrong.
    """
    from ext.layout_info import DEBUG_BUILD

    if DEBUG_BUILD and not smoke:
        raise ConfigError("benchmarks need a release build (make build), was a debug build")
    bench = Bench(seed=seed, smoke=smoke)
    entry.function(bench)
    assert bench.verified, f"{entry.name} verifies its answer"
    assert bench.measures, f"{entry.name} measures something"
    return {
        "name": entry.name,
        "title": entry.title,
        "conditions": entry.conditions,
        "parameters": bench.parameters,
        "measures": [asdict(measure) for measure in bench.measures],
    }


def machine_facts() -> dict[str, Any]:
    """Return what a reader must know to compare two documents; nothing that names the machine."""
    import onnxruntime

    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": str(onnxruntime.__version__),
    }


def _seconds(work: Work) -> float:
    # A collection of somebody else's garbage is not the work's.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun
    finally:
        if was_enabled:
            gc.enable()


def _call_ns(call: Work, count: int) -> NDArray[np.float64]:
    clock = time.perf_counter_ns
    for _ in range(max(10, count // 20)):
        call()
    samples = np.empty(count)
    for index in range(count):
        begun = clock()
        call()
        samples[index] = clock() - begun
    return samples


def _median(values: Iterable[float]) -> float | None:
    found = np.asarray(tuple(values), np.float64)
    return float(np.median(found)) if found.size else None


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"

"""What a benchmark scenario is made of: sizes, repetitions, a verified answer, figures with a floor.

A scenario is a function that takes a `Bench`. It asks for its sizes (tiny ones when the tests run it),
lets the bench repeat the work, the floor probe and the peer in turns, so that a noisy neighbour hits all
of them, and verifies the answer. Figures of a wrong answer or of a debug build are never reported.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.errors import CheckFailed, ConfigError

from .counters import InstructionCounter
from .measure import BLOCKS, Measure, blocks_of, histogram_of, median_of

REPETITIONS: Final = 7
SMOKE_REPETITIONS: Final = 2
COUNTED_PASSES: Final = 3
VERSION: Final = 2

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A named scenario; `conditions` is the sentence printed under its figures.

    `needs` names the distributions of the peers that it runs: it is left out, and that is reported, where
    one of them is not installed. Empty for a scenario of our own.
    """

    name: str
    title: str
    conditions: str
    function: Callable[[Bench], None]
    needs: tuple[str, ...] = ()


SCENARIOS: Final[dict[str, Scenario]] = {}
PEER_SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(name: str, title: str, *, conditions: str) -> Callable[[Callable[[Bench], None]], Scenario]:
    """Register a function as a scenario."""

    def register(function: Callable[[Bench], None]) -> Scenario:
        assert name not in SCENARIOS, f"scenario {name} is declared once"
        SCENARIOS[name] = Scenario(name=name, title=title, conditions=conditions, function=function)
        return SCENARIOS[name]

    return register


def peer_scenario(
    name: str, title: str, *, conditions: str, needs: tuple[str, ...] = ()
) -> Callable[[Callable[[Bench], None]], Scenario]:
    """Register a function as a scenario of ``anytick bench --peers``."""

    def register(function: Callable[[Bench], None]) -> Scenario:
        assert name not in PEER_SCENARIOS, f"peer scenario {name} is declared once"
        PEER_SCENARIOS[name] = Scenario(
            name=name, title=title, conditions=conditions, function=function, needs=needs
        )
        return PEER_SCENARIOS[name]

    return register


@dataclass(slots=True)
class Bench:
    """One run of one scenario: hands out sizes, takes figures.

    Parameters
    ----------
    seed : int
    smoke : bool
        Tiny sizes and two repetitions: shows that the scenario works, measures nothing.
    repetitions : int
        Timed passes of a throughput.
    counter : InstructionCounter or None
        Counts instructions in passes of their own, after the timed ones.
    """

    seed: int
    smoke: bool = False
    repetitions: int = REPETITIONS
    counter: InstructionCounter | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)

    def parameter(self, name: str, *, smoke: int, full: int) -> int:
        """Return the size to use, and note it for the document."""
        self.parameters[name] = smoke if self.smoke else full
        return self.parameters[name]

    @property
    def passes(self) -> int:
        """How often a throughput calls its work, for a partner in another process who must know."""
        timed = SMOKE_REPETITIONS if self.smoke else self.repetitions
        return 1 + timed + (COUNTED_PASSES if self.counter else 0)

    def verify(self, holds: bool, claim: str) -> None:
        """Refuse to report unless `claim` holds.

        Raises
        ------
        CheckFailed
        """
        if not holds:
            raise CheckFailed(f"benchmark answer: expected that {claim}, was not so")
        self.verified.append(claim)

    def throughput(
        self,
        name: str,
        work: Work,
        *,
        count: int,
        prepare: Work | None = None,
        floor: Work | None = None,
        peer: Work | None = None,
        prepare_peer: Work | None = None,
        peer_name: str = "",
        goal: float | None = None,
    ) -> None:
        """Time whole passes of `work` over `count` items, in ns per item.

        `floor` and `peer` do the same number of items; the three take turns. `prepare` runs before each
        pass of `work` and `prepare_peer` before each of `peer`, outside the clock.
        """
        runs: dict[str, list[float]] = {"work": [], "floor": [], "peer": []}
        contenders = [
            (key, before, do)
            for key, before, do in (
                ("work", prepare, work),
                ("floor", None, floor),
                ("peer", prepare_peer, peer),
            )
            if do
        ]
        for repetition in range(-1, SMOKE_REPETITIONS if self.smoke else self.repetitions):
            for key, before, do in contenders:
                if before:
                    before()
                seconds = seconds_of(do)
                if repetition >= 0:  # the first pass warms caches and page tables
                    runs[key].append(seconds * 1e9 / count)
        instructions, spread = self._count(work, count=count, prepare=prepare)
        ratios = [theirs / ours for ours, theirs in zip(runs["work"], runs["peer"], strict=False)]
        self._add(
            name, runs["work"], kind="throughput", floor=runs["floor"], peer=runs["peer"],
            peer_name=peer_name, peer_ratios=ratios, goal=goal,
            instructions=instructions, instructions_spread=spread,
        )  # fmt: skip

    def latency(
        self,
        name: str,
        call: Work,
        *,
        count: int,
        floor: Work | None = None,
        peer: Work | None = None,
        peer_name: str = "",
        goal: float | None = None,
    ) -> None:
        """Time `count` single calls, one after another, in ns: service time, not response under load."""
        samples = _call_ns(call, count)
        self._add(
            name,
            samples,
            kind="latency",
            floor=_call_ns(floor, count) if floor else (),
            peer=_call_ns(peer, count) if peer else (),
            peer_name=peer_name,
            goal=goal,
        )

    def record(
        self,
        name: str,
        unit: str,
        samples: Iterable[float],
        *,
        floor: float | None,
        peer: Iterable[float] = (),
        peer_name: str = "",
        goal: float | None = None,
    ) -> None:
        """Note a figure that the scenario took itself, in its own unit."""
        floors = () if floor is None else (floor,)
        self._add(
            name, list(samples), kind="record", unit=unit, floor=floors, peer=tuple(peer),
            peer_name=peer_name, goal=goal,
        )  # fmt: skip

    def samples(
        self,
        name: str,
        values_ns: ArrayLike,
        *,
        floor: ArrayLike = (),
        peer: ArrayLike = (),
        peer_name: str = "",
        goal: float | None = None,
    ) -> None:
        """Report times that compiled code took of itself, in ns and in the order they were taken."""
        self._add(name, values_ns, kind="latency", floor=floor, peer=peer, peer_name=peer_name, goal=goal)

    def _count(self, work: Work, *, count: int, prepare: Work | None) -> tuple[float | None, float | None]:
        if self.counter is None:
            return None, None
        passes = []
        for _ in range(COUNTED_PASSES):
            if prepare:
                prepare()
            passes.append(self.counter.count(work))
        least = min(passes)
        return least / count, (max(passes) - least) / max(least, 1)

    def _add(
        self,
        name: str,
        values: ArrayLike,
        *,
        kind: str,
        floor: ArrayLike,
        peer: ArrayLike,
        unit: str = "ns",
        peer_name: str = "",
        peer_ratios: Iterable[float] = (),
        goal: float | None = None,
        instructions: float | None = None,
        instructions_spread: float | None = None,
    ) -> None:
        samples, floors, peers = (np.asarray(each, np.float64) for each in (values, floor, peer))
        low, p50, p99, p999, high = np.percentile(samples, (0.0, 50.0, 99.0, 99.9, 100.0)).tolist()
        ratios = list(peer_ratios) or ([float(np.median(peers)) / p50] if peers.size and p50 else [])
        # Round trips are recorded, not timed by the bench, and are latencies all the same.
        shown = kind == "latency" or (unit == "ns" and len(samples) > 10 * BLOCKS)
        self.measures.append(
            Measure(
                name=name,
                unit=unit,
                kind=kind,
                samples=len(samples),
                minimum=low,
                p50=p50,
                p99=p99,
                p999=p999,
                max=high,
                floor=median_of(floors),
                peer=median_of(peers),
                blocks=blocks_of(samples),
                floor_blocks=blocks_of(floors),
                histogram=histogram_of(samples) if shown else None,
                floor_histogram=histogram_of(floors) if shown and floors.size > 10 * BLOCKS else None,
                peer_histogram=histogram_of(peers) if shown and peers.size > 10 * BLOCKS else None,
                peer_name=peer_name,
                peer_ratio=median_of(np.asarray(ratios)),
                peer_ratios=ratios,
                goal=None if self.smoke else goal,  # nobody asked anything of tiny sizes
                instructions=instructions,
                instructions_spread=instructions_spread,
            )
        )


def run_scenario(
    entry: Scenario,
    *,
    seed: int,
    smoke: bool,
    repetitions: int = REPETITIONS,
    counter: InstructionCounter | None = None,
) -> dict[str, Any]:
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
    bench = Bench(seed=seed, smoke=smoke, repetitions=repetitions, counter=counter)
    entry.function(bench)
    assert bench.verified, f"{entry.name} verifies its answer"
    assert bench.measures, f"{entry.name} measures something"
    return {
        "name": entry.name,
        "title": entry.title,
        "conditions": entry.conditions,
        "parameters": bench.parameters,
        "verified": sorted(set(bench.verified)),
        "measures": [asdict(measure) for measure in bench.measures],
    }


def seconds_of(work: Work) -> float:
    """Return the wall time of one call."""
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

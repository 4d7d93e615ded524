"""The gauge on sequences like recorded ones: workers that sleep between turns, cores that others share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inference.serving.level import Level
from engine.inference.serving.pressure import PressureGauge, PressureLimits
from engine.inference.serving.readers import CrowdReader

MILLISECOND = 1_000_000
CORES = 2
SECOND_MS = 1_000


class Machine:
    """A worker that sleeps between turns of half a millisecond, woken beside threads that run for slices.

    As seen on two cores: a rival that holds the core keeps the woken worker waiting for what is left of its
    slice, a turn is seldom cut, and the count of runnable threads strays by one or two.
    """

    def __init__(self, seed: int, *, turn_ms: float = 0.5, sleep_ms: float = 0.5) -> None:
        self.random = np.random.default_rng(seed)
        self.gauge = PressureGauge(cores=CORES)
        self.turn_ns, self.sleep_ns = turn_ms * MILLISECOND, sleep_ms * MILLISECOND
        self.now_ns = 0
        self.seen: list[tuple[int, float]] = []

    def turn(self, *, rivals: int, busy: float = 0.0, visible: bool = True) -> None:
        """One sleep, one wake-up, one turn.

        Parameters
        ----------
        rivals : int
            Threads that spin.
        busy : float
            Chance that a thread of our own side is in the way.
        visible : bool
            Whether the count of threads is known.
        """
        random = self.random
        blocked = random.uniform() < 1.0 - (1.0 - busy) * 0.5 ** (2.0 * rivals / CORES)
        waited_ns = random.uniform(0.0, 4.0) * MILLISECOND if blocked else 0.0
        cut_ns = 3.0 * MILLISECOND if random.uniform() < 0.02 * rivals else 0.0
        own_ns = self.turn_ns * random.uniform(0.9, 1.3)
        self.now_ns += int(self.sleep_ns + waited_ns + own_ns + cut_ns)
        slowdown = self.gauge.observe(
            self.now_ns,
            span_ns=waited_ns + own_ns + cut_ns,
            run_delay_ns=waited_ns + cut_ns,
            table_ns=self.turn_ns,
            runnable=1 + rivals + int(random.integers(0, 3)) if visible else 0,
        )
        self.seen.append((self.now_ns, slowdown))

    def spend(self, milliseconds: float, **load: float) -> None:
        end_ns = self.now_ns + milliseconds * MILLISECOND
        while self.now_ns < end_ns:
            self.turn(**load)  # type: ignore[arg-type]

    def since(self, start_ns: int, *, low: float = 0.0, high: float = np.inf) -> float:
        """Return after how many milliseconds the slowdown first lay within these bounds."""
        return next(
            (at - start_ns) / MILLISECOND for at, value in self.seen if at > start_ns and low <= value <= high
        )

    def typical(self, first_ns: int, last_ns: int) -> float:
        return float(np.median([value for at, value in self.seen if first_ns < at <= last_ns]))


@pytest.mark.parametrize("visible", [True, False])
@pytest.mark.parametrize("busy", [0.0, 0.15])
def test_a_hog_is_seen_within_forty_milliseconds_and_its_end_within_a_second(
    visible: bool, busy: float
) -> None:
    seen, over = [], []
    for seed in range(15):
        machine = Machine(seed)
        machine.spend(800 + 7 * seed, rivals=0, busy=busy, visible=visible)
        start_ns = machine.now_ns
        usual = machine.typical(start_ns - 300 * MILLISECOND, start_ns)
        machine.spend(400, rivals=2, busy=busy, visible=visible)
        end_ns = machine.now_ns
        machine.spend(1.2 * SECOND_MS, rivals=0, busy=busy, visible=visible)
        seen.append(machine.since(start_ns, low=usual * 4 / 3))
        over.append(machine.since(end_ns, high=usual * 1.15))
    assert np.quantile(seen, 0.9) <= 40.0
    assert max(over) <= 1_000.0


@pytest.mark.parametrize("rivals", [0, 1, 2, 4])
def test_a_steady_load_is_seldom_taken_for_a_hog(rivals: int) -> None:
    machine = Machine(3)
    machine.spend(2 * SECOND_MS, rivals=rivals, busy=0.1)
    start_ns = machine.now_ns
    machine.spend(10 * SECOND_MS, rivals=rivals, busy=0.1)
    later = [value for at, value in machine.seen if at > start_ns]
    assert np.mean(np.array(later) >= 1.5 * np.median(later)) < 0.05


def idle(gauge: PressureGauge, now_ns: int, runnable: int, looks: int) -> int:
    for _ in range(looks):
        now_ns += 10 * MILLISECOND
        gauge.idle(now_ns, runnable=runnable)
    return now_ns


@pytest.mark.parametrize("cores", [2, 8, 64])
def test_an_idle_worker_sees_a_hog_on_every_core_and_forgets_it_when_it_costs_nothing(cores: int) -> None:
    gauge = PressureGauge(cores=cores)
    now_ns = idle(gauge, 0, 1, 100)
    assert gauge.slowdown == 1.0
    now_ns = idle(gauge, now_ns, 1 + cores, 3)
    assert gauge.slowdown >= 4 / 3
    idle(gauge, now_ns, 1 + cores, 100)
    assert gauge.slowdown < 1.05


@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_a_warning_multiplies_what_was_usual_at_once_and_fades_when_own_time_does_not_bear_it_out(
    busy: float,
) -> None:
    machine = Machine(4)
    machine.spend(SECOND_MS, rivals=0, busy=busy)
    usual = machine.typical(machine.now_ns - 300 * MILLISECOND, machine.now_ns)
    raised = machine.gauge.warn(1.9)
    assert 1.5 * usual <= raised <= 2.5 * usual
    machine.gauge.warn(1.0)
    assert machine.gauge.slowdown == raised
    machine.spend(SECOND_MS, rivals=0, busy=busy)
    assert machine.typical(machine.now_ns - 300 * MILLISECOND, machine.now_ns) <= 1.2 * usual


def test_warnings_never_feed_on_themselves() -> None:
    machine = Machine(5)
    machine.spend(SECOND_MS, rivals=0)
    highest = machine.gauge.warn(1.9)
    for _ in range(50):
        machine.gauge.warn(1.0)
        machine.spend(20, rivals=0)
        machine.gauge.warn(1.9)
        machine.spend(20, rivals=0)
    assert machine.gauge.warn(1.9) <= 1.2 * highest
    assert machine.gauge.warn(100.0) == PressureLimits().slowdown_max


@pytest.mark.parametrize("rise", [0.0, 1.0, 1.2, float("nan")])
def test_small_rises_and_none_are_no_warning(rise: float) -> None:
    assert PressureGauge().warn(rise) == 1.0


def test_one_thread_seen_once_is_no_hog() -> None:
    gauge = PressureGauge(cores=CORES)
    now_ns = idle(gauge, 0, 1, 50)
    idle(gauge, now_ns, 2, 1)
    assert gauge.slowdown == 1.0


def test_a_crowd_elsewhere_on_a_large_machine_changes_nothing() -> None:
    random = np.random.default_rng(4)
    gauge = PressureGauge(cores=64)
    now_ns = 0
    for _ in range(1_000):
        now_ns = idle(gauge, now_ns, int(random.integers(20, 40)), 1)
        assert gauge.slowdown < 1.3


@given(st.floats(0.0, 0.8), st.floats(0.2, 20.0))
def test_a_constant_loss_is_told_as_it_is_however_it_is_cut(lost: float, work_ms: float) -> None:
    gauge = PressureGauge(cores=CORES)
    span_ns = work_ms * MILLISECOND / (1.0 - lost)
    now_ns = 0.0
    while now_ns < 1.5e9:
        now_ns += span_ns
        gauge.observe(
            int(now_ns), span_ns=span_ns, run_delay_ns=lost * span_ns, table_ns=(1.0 - lost) * span_ns
        )
    assert gauge.slowdown == pytest.approx(1.0 / (1.0 - lost), rel=0.02)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1e9)), max_size=50))
def test_a_level_stays_among_its_samples(samples: list[tuple[float, float]]) -> None:
    level = Level(10.0, 200.0, start=0.5, stray_min=0.04)
    low, high = 0.5, 0.5
    for value, weight in samples:
        level.add(value, weight)
        low, high = min(low, value), max(high, value)
        for mean in (level.quick, level.slow, level.present):
            assert low - 1e-12 <= mean <= high + 1e-12


def test_the_count_of_threads_has_this_one_in_it() -> None:
    reader = CrowdReader()
    assert reader.read() >= 1 or CrowdReader("no-such-folder/loadavg").read() == 0
    reader.close()
    reader.close()
    assert reader.read() == 0
    assert CrowdReader("no-such-folder/loadavg").read() == 0

"""The gauge of spare time on a simulated machine: hogs, own bursts, disks, and counters that lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConfigError
from engine.inference.serving.readers import (
    STEP_NS,
    CrowdReader,
    IdleReader,
    process_time_ns,
    usable_cores,
)
from engine.inference.serving.spare import SpareGauge, SpareLimits, SpareWatch, _Look

MILLISECOND = 1_000_000
SECOND_MS = 1_000
SEEN = 4 / 3
SPARE = SpareLimits()


class Machine:
    """Cores that we, others and nobody use, looked at every five to seven milliseconds.

    Parameters
    ----------
    steps : bool
        Whether idle time is told in hundredths of a second, as the kernel does.
    """

    def __init__(self, seed: int, *, cores: int = 2, steps: bool = True) -> None:
        self.random = np.random.default_rng(seed)
        self.cores, self.steps = cores, steps
        self.gauge = SpareGauge(cores)
        self.now_ns = int(self.random.integers(0, STEP_NS))
        self.idle_ns = float(self.random.integers(0, STEP_NS))
        self.own_ns = 0.0
        self.rises: list[tuple[int, float]] = []

    def spend(
        self,
        milliseconds: float,
        *,
        own: float = 0.0,
        hogs: int = 0,
        meek: bool = False,
        stolen: float = 0.0,
        disk: float = 0.0,
        idle: bool = True,
    ) -> None:
        """Let time pass.

        Parameters
        ----------
        own : float
            Cores that we want, on average; what a hog leaves of them we get.
        hogs : int
            Threads that spin.
        meek : bool
            Whether these only take what we leave.
        stolen, disk : float
            Cores that a hypervisor's neighbours have, and that wait for a disk.
        idle : bool
            Whether idle time is counted.
        """
        end_ns = self.now_ns + milliseconds * MILLISECOND
        while self.now_ns < end_ns:
            past_ns = int(self.random.uniform(5.0, 7.0) * MILLISECOND)
            wanted = min(self.random.gamma(4.0, own / 4.0), self.cores) if own else 0.0
            free = self.cores - stolen - disk
            got = min(wanted, free if meek else max(free - hogs, free / 2))
            self.now_ns += past_ns
            self.own_ns += got * past_ns
            if idle:
                self.idle_ns += max(free - min(hogs, free - got) - got, 0.0) * past_ns
            told = int(self.idle_ns) // STEP_NS * STEP_NS if self.steps else int(self.idle_ns)
            rise = self.gauge.observe(
                self.now_ns,
                idle_ns=told,
                own_ns=int(self.own_ns),
                runnable=1 + hogs + round(stolen) + int(wanted + self.random.uniform()),
            )
            self.rises.append((self.now_ns, rise))

    def stand(self, milliseconds: float, *, hogs: int) -> None:
        """Let time pass in which none of us runs, and nobody looks."""
        past_ns = int(milliseconds * MILLISECOND)
        self.now_ns += past_ns
        self.idle_ns += max(self.cores - hogs, 0) * past_ns

    def since(self, start_ns: int) -> float:
        """Return after how many milliseconds a hog was seen."""
        times = (at for at, rise in self.rises if at > start_ns and rise >= SEEN)
        return (next(times, 2**62) - start_ns) / MILLISECOND

    @property
    def highest(self) -> float:
        return max(rise for _, rise in self.rises)


@pytest.mark.parametrize("cores", [2, 8, 64])
@pytest.mark.parametrize("own", [0.0, 0.1, 0.3])
def test_a_hog_on_every_core_of_a_machine_with_spare_time_is_seen_within_thirty_milliseconds(
    cores: int, own: float
) -> None:
    for seed in range(30):
        machine = Machine(seed, cores=cores)
        machine.spend(900 + seed, own=own * cores)
        assert machine.highest < SEEN
        start_ns = machine.now_ns
        machine.spend(100, own=own * cores, hogs=cores)
        assert machine.since(start_ns) <= 30.0


@pytest.mark.parametrize("own", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("hogs", [0, 1, 2, 4])
def test_ten_minutes_of_steady_load_raise_no_alarm(own: float, hogs: int) -> None:
    machine = Machine(5)
    machine.spend(30 * SECOND_MS, own=2 * own, hogs=hogs)
    assert machine.highest < SEEN


def test_a_hog_is_forgotten_while_it_stays_and_seen_again_when_it_comes_back() -> None:
    machine = Machine(6)
    for _ in range(5):
        machine.spend(1.5 * SECOND_MS, own=0.4)
        start_ns = machine.now_ns
        machine.spend(1.5 * SECOND_MS, own=0.4, hogs=2)
        assert machine.since(start_ns) <= 40.0
        assert machine.gauge.rise < 1.05


def test_our_own_bursts_are_no_hog() -> None:
    machine = Machine(7)
    for _ in range(100):
        machine.spend(300, own=0.1)
        machine.spend(100, own=2.0)
    assert machine.highest < SEEN


def test_a_rival_that_was_there_all_along_is_no_news_when_we_use_less() -> None:
    machine = Machine(8)
    for _ in range(100):
        machine.spend(300, own=1.8, hogs=2)
        machine.spend(100, own=0.0, hogs=2)
    assert machine.highest < 1.05


def test_rivals_of_low_priority_that_take_whatever_we_leave_are_no_news() -> None:
    machine = Machine(13)
    for _ in range(100):
        machine.spend(300, own=2.0, hogs=2, meek=True)
        machine.spend(100, own=0.2, hogs=2, meek=True)
    assert machine.highest < SEEN


@pytest.mark.parametrize("own", [3.0, 5.0])
def test_a_hog_that_takes_what_was_ours_is_seen(own: float) -> None:
    seen = []
    for seed in range(30):
        machine = Machine(seed)
        machine.spend(900 + seed, own=own)
        assert machine.highest < SEEN
        start_ns = machine.now_ns
        machine.spend(100, own=own, hogs=2)
        seen.append(machine.since(start_ns))
    assert np.quantile(seen, 0.9) <= 40.0


def test_a_counter_that_stands_still_makes_no_hog_of_us() -> None:
    machine = Machine(9)
    for _ in range(50):
        machine.spend(300, own=1.8, idle=False)
        machine.spend(200, own=0.0, idle=False)
    assert machine.highest < 1.05


def test_a_disk_that_is_waited_for_is_no_hog() -> None:
    machine = Machine(10)
    for _ in range(50):
        machine.spend(500, own=0.1)
        machine.spend(100, own=0.1, disk=1.9)
    assert machine.highest < SEEN


def test_a_neighbour_of_the_hypervisor_is_a_hog_where_threads_wait_for_it() -> None:
    machine = Machine(11)
    machine.spend(SECOND_MS, own=0.2)
    start_ns = machine.now_ns
    machine.spend(100, own=0.2, stolen=1.9)
    assert machine.since(start_ns) <= 40.0


def test_counters_that_go_back_begin_anew() -> None:
    machine = Machine(12)
    machine.spend(SECOND_MS, own=0.2)
    machine.idle_ns -= 500 * MILLISECOND
    machine.spend(200, own=0.2)
    machine.own_ns = 0.0
    machine.spend(200, own=0.2)
    assert machine.highest < SEEN
    start_ns = machine.now_ns
    machine.spend(100, own=0.2, hogs=2)
    assert machine.since(start_ns) <= 40.0


@pytest.mark.parametrize("hogs", [0, 1, 4])
@pytest.mark.parametrize("stood_ms", [30, 55, 80])
def test_a_quota_that_keeps_us_from_cores_is_no_hog(hogs: int, stood_ms: int) -> None:
    """We run for the first part of each tenth of a second, whoever looks included, then for none."""
    machine = Machine(14, cores=4)
    for _ in range(100):
        machine.spend(100 - stood_ms, own=3.0, hogs=hogs)
        machine.stand(stood_ms, hogs=hogs)
    assert machine.highest < SEEN


@pytest.mark.parametrize("cores", [8, 64])
def test_newcomers_on_cores_that_stay_idle_beside_them_cost_nobody(cores: int) -> None:
    machine = Machine(15, cores=cores)
    for _ in range(20):
        machine.spend(500, own=0.1 * cores)
        machine.spend(500, own=0.1 * cores, hogs=2 * cores // 5)
    assert machine.highest < 1.25, "the least that a worker believes"


def test_a_warning_ends_where_every_look_is_interrupted() -> None:
    machine = Machine(16)
    machine.spend(SECOND_MS, own=0.2)
    machine.spend(40, own=0.2, hogs=2)
    gauge = machine.gauge
    assert gauge.passed_over(machine.now_ns + SPARE.gap_ns) == gauge.rise >= SEEN
    assert gauge.passed_over(machine.now_ns + SPARE.gap_ns + 1) == gauge.rise == 1.0


def test_a_look_that_takes_too_long_is_no_look() -> None:
    now_ns = 0

    def clock() -> int:
        nonlocal now_ns
        now_ns += MILLISECOND
        return now_ns

    watch = SpareWatch(clock=clock)
    watch._gauge.rise = 1.5
    watch._gauge._looks.append(_Look(0, 0, 0, 0, 0.0))
    watch._workers = (1,)
    looks = [watch.look((1,)) for _ in range(40)]
    watch.close()
    assert (looks[0], looks[-1]) == (1.5, 1.0)


def test_what_happened_while_nobody_looked_is_no_news() -> None:
    gauge = SpareGauge(2)
    for turn in range(200):
        gauge.observe(turn * 5 * MILLISECOND, idle_ns=turn * STEP_NS, own_ns=0, runnable=3)
    assert gauge.observe(SECOND_MS * MILLISECOND + 500 * MILLISECOND, idle_ns=2_000_000_000, own_ns=0) == 1.0


@given(
    st.lists(
        st.tuples(st.integers(0, 10**8), st.integers(-(10**9), 10**9), st.integers(-(10**8), 10**9)),
        max_size=60,
    ),
    st.integers(1, 64),
)
def test_whatever_the_counters_say_a_rise_stays_between_one_and_two(
    looks: list[tuple[int, int, int]], cores: int
) -> None:
    gauge = SpareGauge(cores)
    now_ns, idle_ns, own_ns = 0, 10**12, 10**12
    for past_ns, idle, own in looks:
        now_ns, idle_ns, own_ns = now_ns + past_ns, idle_ns + idle, own_ns + own
        assert 1.0 <= gauge.observe(now_ns, idle_ns=idle_ns, own_ns=own_ns, runnable=1 + cores) <= 2.0
    for _ in range(20):
        now_ns += 5 * MILLISECOND
        gauge.observe(now_ns, idle_ns=idle_ns, own_ns=own_ns, runnable=1)
    assert gauge.rise == 1.0


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(0, 2**31), st.integers(1, 8))
def test_rounding_never_makes_a_hog(own: float, others: float, seed: int, cores: int) -> None:
    random = np.random.default_rng(seed)
    gauge = SpareGauge(cores)
    idle = max(1.0 - own - others, 0.0)
    now_ns = 0
    for _ in range(300):
        now_ns += int(random.uniform(1.0, 9.0) * MILLISECOND)
        told = int(now_ns * cores * idle) // STEP_NS * STEP_NS
        own_ns = int(now_ns * cores * min(own, 1.0 - idle))
        assert gauge.observe(now_ns, idle_ns=told, own_ns=own_ns) <= 1.1


def test_idle_time_is_read_of_all_cores_of_some_and_of_none(tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("48241.31 27609.92\n")
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 60 6 0 0 0 0 0\ncpu0 1 0 0 10 1 0 0 0 0 0\ncpu1 2 0 0 20 2 0 0 0 0 0\n"
        "cpu11 2 0 0 30 3 0 0 0 0 0\nintr 5 0\n"
    )
    every = IdleReader({0, 1, 11}, machine_cores=3, folder=tmp_path)
    assert (every.read_ns(), every.step_ns) == (27_609_920_000_000, STEP_NS)
    some = IdleReader({1, 11}, machine_cores=3, folder=tmp_path)
    assert (some.read_ns(), some.step_ns) == (55 * STEP_NS, 2 * STEP_NS)
    assert IdleReader({1, 11}, machine_cores=128, folder=tmp_path).read_ns() is None
    assert IdleReader({0}, machine_cores=1, folder=tmp_path / "absent").read_ns() is None
    for reader in (every, some):
        reader.close()
        reader.close()
        assert reader.read_ns() is None


def test_this_machine_is_looked_at_and_a_process_that_is_gone_has_no_clock() -> None:
    assert usable_cores()
    watch = SpareWatch()
    assert all(1.0 <= watch.look((1,)) <= 2.0 for _ in range(20))
    watch.close()
    assert watch.look(()) == 1.0
    assert process_time_ns(2**22 + 1) is None
    reader = CrowdReader()
    assert reader.read() >= 0
    reader.close()


def test_windows_that_are_no_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match="windows must be"):
        SpareLimits(first_ns=0)

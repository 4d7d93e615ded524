"""Instructions in user mode, where the machine counts them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from benchmarks.counters import InstructionCounter, open_counter
from benchmarks.harness import Bench
from data.errors import ConfigError


@pytest.fixture
def counter() -> Iterator[InstructionCounter]:
    try:
        opened = open_counter()
    except ConfigError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def spend(rounds: int) -> None:
    for _ in range(rounds):
        pass


def test_more_work_counts_more_and_repeats(counter: InstructionCounter) -> None:
    def least(rounds: int) -> float:
        # The collector, and threads that other libraries keep, can only add to a count.
        return min(counter.count(lambda: spend(rounds)) for _ in range(5))

    first, second, longer = least(20_000), least(20_000), least(200_000)
    assert first > 20_000
    assert abs(first - second) < 0.05 * first
    assert 5 < longer / first < 15


def test_threads_that_start_later_count(counter: InstructionCounter) -> None:
    def elsewhere() -> None:
        thread = threading.Thread(target=spend, args=(100_000,))
        thread.start()
        thread.join()

    assert counter.count(elsewhere) > 100_000


def test_a_throughput_gets_its_count(counter: InstructionCounter) -> None:
    bench = Bench(seed=1, smoke=True, counter=counter)
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        spend(1_000)

    bench.throughput("round", work, count=1_000)
    assert calls == bench.passes
    assert bench.measures[0].instructions is not None
    assert bench.measures[0].instructions > 1


def test_an_unknown_machine_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    with pytest.raises(ConfigError, match="x86-64"):
        open_counter()

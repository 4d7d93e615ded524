"""How a front ends, and its processes with it: however they are, and however it does."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from router_ladder import write_ladder

from engine.inference.ladder import Variant, load_ladder
from engine.inference.serving import roster as roster_module
from engine.inference.serving import starter as starter_module
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front

needs_process_descriptors = pytest.mark.skipif(
    not starter_module._has_process_descriptors(), reason="needs descriptors of processes: Linux 5.3"
)

COSTS = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e4, 3e4, 1e5)])
WELL, KILLED, STOPPED = None, signal.SIGKILL, signal.SIGSTOP
AT_ONCE, NOTICED = False, True
# Any two of the four meet in every way in these nine; nightly, so do all.
COVERING = {
    (WELL, WELL, WELL, AT_ONCE),
    (WELL, KILLED, STOPPED, NOTICED),
    (WELL, STOPPED, KILLED, NOTICED),
    (KILLED, WELL, STOPPED, NOTICED),
    (KILLED, KILLED, KILLED, AT_ONCE),
    (KILLED, STOPPED, WELL, AT_ONCE),
    (STOPPED, WELL, KILLED, NOTICED),
    (STOPPED, KILLED, WELL, NOTICED),
    (STOPPED, STOPPED, STOPPED, AT_ONCE),
}
STATES = [
    pytest.param(*state, marks=() if state in COVERING else pytest.mark.nightly)
    for state in product(*[(WELL, KILLED, STOPPED)] * 3, (AT_ONCE, NOTICED))
]


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, ...]:
    folder = tmp_path_factory.mktemp("ladder")
    write_ladder(folder)
    return load_ladder(folder)


@contextmanager
def watched(processes: Sequence[int]) -> Iterator[list[int]]:
    """Give descriptors of processes; whatever becomes of the test, none of them stays."""
    descriptors = [os.pidfd_open(process) for process in processes]
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            if not has_ended(descriptor, 0):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)


def has_ended(descriptor: int, wait_ms: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(wait_ms))


def family(front: Front) -> list[int]:
    """Return the ids of the starter, the original, the worker at work and the spare."""
    starter, original = front._roster._starter._process, front._roster.shift.crew.original._process
    assert starter is not None
    assert original is not None
    assert original.pid is not None
    return [starter.pid, original.pid, *front.process_ids]


@needs_process_descriptors
@pytest.mark.parametrize(("starter", "original", "worker", "noticed"), STATES)
def test_nothing_outlives_a_front_that_is_closed(
    ladder: tuple[Variant, ...],
    monkeypatch: pytest.MonkeyPatch,
    starter: signal.Signals | None,
    original: signal.Signals | None,
    worker: signal.Signals | None,
    noticed: bool,
) -> None:
    monkeypatch.setattr(roster_module, "_FAREWELL_S", 0.05)
    monkeypatch.setattr(starter_module, "_FAREWELL_NS", 50_000_000)
    front = Front(ladder, costs=COSTS, workers=1, open_max=16)
    with watched(family(front)) as descriptors:
        for descriptor, disturbance in zip(descriptors, (starter, original, worker), strict=False):
            if disturbance is not None:
                signal.pidfd_send_signal(descriptor, disturbance)
        if noticed:
            front.poll()
            # Where a worker is lost the next spare has been asked for, of whoever may not make it any more.
            stop_ns = time.monotonic_ns() + 60_000_000_000
            while worker is not None and not front.status().restarts and time.monotonic_ns() < stop_ns:
                front.poll(timeout_s=0.005)
        front.close()
        assert [has_ended(descriptor, 0) for descriptor in descriptors] == [True] * 4

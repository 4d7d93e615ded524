"""How a front ends, and its processes with it: however they are, and however it does."""

from __future__ import annotations

import errno
import gc
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from router_ladder import FEATURES, WINDOW, write_ladder

from data.errors import ConfigError
from engine.inference.errors import ModelError
from engine.inference.ladder import Variant, load_ladder
from engine.inference.serving import crew as crew_module
from engine.inference.serving import roster as roster_module
from engine.inference.serving import starter as starter_module
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front
from engine.inference.serving.processes import CopiedProcess, environment
from engine.inference.serving.request import Outcome
from engine.inference.serving.shortage import SystemShortage, says_what_is_short
from engine.inference.serving.supervise import RING_PREFIX, SHARED

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


def poll_until(front: Front, done: Callable[[], object]) -> None:
    for _ in range(12_000):
        if done():
            return
        front.poll(timeout_s=0.005)
    raise AssertionError("what is waited for must come")


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
            # The end of a group's first process lets those of the group go on that are stopped by then.
            assert disturbance is not KILLED or has_ended(descriptor, 30_000)
        if noticed:
            # Where a worker is lost the next spare has been asked for, of whoever may not make it any more.
            poll_until(front, lambda: worker is WELL or front.status().restarts)
        front.close()
        assert [has_ended(descriptor, 0) for descriptor in descriptors] == [True] * 4


_SERVE_AND_LEAVE = """
import sys
from engine.inference.ladder import load_ladder
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front

costs = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e4, 3e4, 1e5)])
front = Front(load_ladder(sys.argv[1]), costs=costs, workers=1, open_max=16)
print(*front.process_ids, front._roster._starter._process.pid, flush=True)
input()
"""


@needs_process_descriptors
def test_nothing_outlives_an_interpreter_that_ends_without_closing(ladder: tuple[Variant, ...]) -> None:
    command = (sys.executable, "-c", _SERVE_AND_LEAVE, str(ladder[0].path.parent))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        with watched(list(map(int, process.stdout.readline().split()))) as descriptors:
            _, noise = process.communicate(b"\n")
            assert (process.returncode, noise) == (0, b"")
            assert all(has_ended(descriptor, 30_000) for descriptor in descriptors)
    assert not list(SHARED.glob(f"{RING_PREFIX}{process.pid}-*"))


def test_a_copy_of_the_process_that_made_a_front_can_neither_ask_nor_end_it(
    ladder: tuple[Variant, ...],
) -> None:
    with Front(ladder, costs=COSTS, workers=1, open_max=16) as front:
        child = os.fork()
        if child == 0:
            try:
                with front:
                    front.poll()
            except ConfigError as error:
                os._exit(0 if f"by its own process, {os.getppid()}" in str(error) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        rows = np.zeros((WINDOW, FEATURES), np.float32)
        _, answer = front.submit(rows, deadline_ns=time.monotonic_ns() + 30_000_000_000)
        assert answer is None
        assert [answer.outcome for answer in front.poll(timeout_s=30.0)] == [Outcome.MODEL]
        assert not front.status().restarts


_REFUSE = """
import errno, os
def fork(fork=os.fork):
    if os.path.exists({place!r}):
        raise OSError(errno.EAGAIN, "no more processes")
    return fork()
os.fork = fork
"""


@needs_process_descriptors
def test_a_system_that_has_no_room_for_a_process_is_asked_again(
    ladder: tuple[Variant, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    (tmp_path / "sitecustomize.py").write_text(_REFUSE.format(place=str(full)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(crew_module, "_RESPAWN_NS", 10_000_000)
    with Front(ladder, costs=COSTS, workers=1, open_max=16) as front:
        crew, before = front._roster.shift.crew, family(front)
        full.touch()
        os.kill(before[2], signal.SIGKILL)
        poll_until(front, lambda: front.status().restarts and crew.spare is None)
        poll_until(front, lambda: crew.spare is not None)
        poll_until(front, lambda: crew.spare is None)
        # It serves on meanwhile, and whom the copies are made of has done nothing wrong.
        assert family(front)[:3] == [*before[:2], before[3]]
        full.unlink()
        poll_until(front, lambda: crew.spare is not None and crew.is_ready(crew.spare))
        assert isinstance(crew.spare and crew.spare.process, CopiedProcess)
        assert family(front)[:2] == before[:2]


@needs_process_descriptors
def test_a_front_without_a_descriptor_left_serves_on_and_starts_a_spare_later(
    ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "_RESPAWN_NS", 10_000_000)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Front(ladder, costs=COSTS, workers=1, open_max=16) as front:
        crew, before = front._roster.shift.crew, family(front)
        lowest = os.dup(0)
        os.close(lowest)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
            os.kill(before[2], signal.SIGKILL)
            poll_until(front, lambda: front.status().restarts)
            for _ in range(3):
                front.poll(timeout_s=0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        poll_until(front, lambda: crew.spare is not None and crew.is_ready(crew.spare))
        assert family(front)[:3] == [*before[:2], before[3]]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "needs 1536 bytes of /dev/shm for its rings, was [0-9]+ free"),
        (errno.EMFILE, "needs 20 descriptors, was RLIMIT_NOFILE [0-9]+"),
        (errno.EAGAIN, "needs 4 processes, was RLIMIT_NPROC"),
        (errno.ENOMEM, "needs 768 bytes of memory for payloads, was less"),
    ],
)
def test_a_system_that_lacks_what_a_front_needs_is_told_how_much(number: int, told: str) -> None:
    with (
        pytest.raises(SystemShortage, match=f"a front of 1 workers and 6 open requests {told}"),
        says_what_is_short(workers=1, slots=6, row_shape=(4, 8)),
    ):
        raise OSError(number, os.strerror(number))
    with pytest.raises(FileNotFoundError), says_what_is_short(workers=1, slots=6, row_shape=(4, 8)):
        raise FileNotFoundError(errno.ENOENT, "another thing")


def open_descriptors() -> dict[str, str]:
    """Return what each descriptor of this process is of, but for mappings of arenas.

    Python's keep a descriptor of their own, until nobody has an array in them any more.
    """
    gc.collect()
    found = {}
    for descriptor in os.listdir("/dev/fd"):
        # The listing's own is gone again.
        with suppress(FileNotFoundError):
            found[descriptor] = os.readlink(f"/dev/fd/{descriptor}")
    return {descriptor: of for descriptor, of in found.items() if "anytick-arena" not in of}


def test_a_front_that_cannot_be_made_leaves_nothing(ladder: tuple[Variant, ...]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    held = open_descriptors()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 3, limits[1]))
        with pytest.raises(SystemShortage, match="descriptors"):
            Front(ladder, costs=COSTS, workers=1, open_max=16)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    # A first model that is not there.
    lost = replace(ladder[0], path=ladder[0].path.with_name("absent.onnx"))
    with pytest.raises(ModelError, match="readable"):
        Front((lost, *ladder[1:]), costs=COSTS, workers=1, open_max=16)
    assert open_descriptors() == held
    assert not list(SHARED.glob(f"{RING_PREFIX}{os.getpid()}-*"))

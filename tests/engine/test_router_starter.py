"""Workers as copies: of whom, who outlives whom, and what happens where no copy can be had."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from router_ladder import FEATURES, WINDOW, write_ladder

from engine.inference.ladder import Variant, load_ladder
from engine.inference.serving import starter as starter_module
from engine.inference.serving.channel import Channel
from engine.inference.serving.crew import Crew
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front
from engine.inference.serving.places import Places
from engine.inference.serving.processes import CopiedProcess, SpawnedProcess, environment
from engine.inference.serving.request import Outcome
from engine.inference.serving.supervise import RING_PREFIX, SHARED, exists
from engine.inference.serving.switch import SwitchState

pytestmark = pytest.mark.skipif(
    not starter_module._has_process_descriptors(), reason="needs descriptors of processes: Linux 5.3"
)

SECOND = 1_000_000_000
COSTS = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e4, 3e4, 1e5)])
ROWS = np.random.default_rng(1).standard_normal((WINDOW, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, ...]:
    folder = tmp_path_factory.mktemp("ladder")
    write_ladder(folder)
    return load_ladder(folder)


@pytest.fixture
def front(ladder: tuple[Variant, ...]) -> Iterator[Front]:
    with Front(ladder, costs=COSTS, workers=1, open_max=64) as front:
        yield front


def crew_of(front: Front) -> Crew:
    return front._roster.shift.crew


def until(front: Front, done: Callable[[], object]) -> None:
    stop_ns = time.monotonic_ns() + 60 * SECOND
    while not done():
        assert time.monotonic_ns() < stop_ns, "what is waited for must come"
        front.poll(timeout_s=0.005)


def has_spare(front: Front) -> bool:
    spare = crew_of(front).spare
    return spare is not None and crew_of(front).is_ready(spare)


def assert_serves(front: Front) -> None:
    for _ in range(5):
        _, answer = front.submit(ROWS, deadline_ns=time.monotonic_ns() + 30 * SECOND)
        answers = [answer] if answer else []
        while front.open_requests:
            answers += front.poll(timeout_s=0.5)
        assert [found.outcome for found in answers] == [Outcome.MODEL]


def kinds(front: Front) -> list[type]:
    crew = crew_of(front)
    return [type(worker.process) for worker in (*crew.lanes, *((crew.spare,) if crew.spare else ()))]


def original_id(front: Front) -> int:
    process = crew_of(front).original._process
    assert process is not None
    assert process.pid is not None
    return process.pid


def starter_id(front: Front) -> int:
    process = front._roster._starter._process
    assert process is not None
    return process.pid


def await_end(descriptors: list[int]) -> None:
    """Wait until the processes behind these descriptors are gone."""
    for descriptor in descriptors:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        assert poller.poll(30_000), "a process must end with its front"
        os.close(descriptor)


def test_workers_are_copies_of_a_process_of_one_thread(front: Front) -> None:
    assert kinds(front) == [CopiedProcess, CopiedProcess]
    for process in (starter_id(front), original_id(front)):
        assert len(os.listdir(f"/proc/{process}/task")) == 1
    assert_serves(front)


def test_a_lost_worker_is_replaced_by_a_copy(front: Front) -> None:
    for killed in range(1, 4):
        os.kill(front.worker_ids[0], signal.SIGKILL)
        until(front, lambda: has_spare(front) and front.status().restarts == killed)  # noqa: B023
        assert kinds(front) == [CopiedProcess, CopiedProcess]
    assert_serves(front)


def test_copies_have_the_cores_that_the_front_has_now(front: Front) -> None:
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        os.kill(front.worker_ids[0], signal.SIGKILL)
        until(front, lambda: has_spare(front) and front.status().restarts)
        assert os.sched_getaffinity(front.process_ids[1]) == {min(cores)}
    finally:
        os.sched_setaffinity(0, cores)


def test_a_copy_that_ends_without_a_word_is_replaced_by_an_interpreter(front: Front) -> None:
    spare = crew_of(front).spare
    assert spare is not None
    front.arena.status["ready"][spare.place] = 0
    spare.process.kill()
    until(front, lambda: has_spare(front))
    assert kinds(front) == [CopiedProcess, SpawnedProcess]
    assert_serves(front)


def test_workers_do_not_feel_the_loss_of_what_they_were_copied_from(front: Front) -> None:
    workers = front.process_ids
    for lost in (original_id(front), starter_id(front)):
        os.kill(lost, signal.SIGKILL)
    until(front, lambda: not crew_of(front).original.is_open)
    assert_serves(front)
    assert front.process_ids == workers
    # Until there is another, interpreters of their own take over.
    os.kill(front.worker_ids[0], signal.SIGKILL)
    until(front, lambda: has_spare(front) and front.status().restarts)
    assert_serves(front)
    until(front, lambda: crew_of(front).original.is_open)
    os.kill(front.worker_ids[0], signal.SIGKILL)
    until(front, lambda: has_spare(front) and front.status().restarts == 2)
    assert kinds(front)[1] is CopiedProcess


def test_an_original_that_hangs_is_replaced(front: Front) -> None:
    hung = original_id(front)
    os.kill(hung, signal.SIGSTOP)
    os.kill(front.worker_ids[0], signal.SIGKILL)
    # The spare takes over; the next one is asked of who hangs, then of an interpreter.
    until(front, lambda: has_spare(front) and front.status().restarts)
    assert_serves(front)
    until(front, lambda: not exists(hung))


def test_a_starter_that_hangs_does_not_hold_a_switch(front: Front, ladder: tuple[Variant, ...]) -> None:
    hung = starter_id(front)
    os.kill(hung, signal.SIGSTOP)
    switch = front.replace(ladder, costs=COSTS)
    until(front, lambda: not switch.under_way)
    assert switch.state is SwitchState.DONE
    assert_serves(front)
    until(front, lambda: not exists(hung))


def test_an_original_that_dies_during_a_switch_does_not_stop_it(
    front: Front, ladder: tuple[Variant, ...]
) -> None:
    switch = front.replace(ladder, costs=COSTS)
    switcher = front._roster._switcher
    assert switcher is not None
    until(front, lambda: switcher._original.is_open)
    process = switcher._original._process
    assert process is not None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    until(front, lambda: not switch.under_way)
    assert switch.state is SwitchState.DONE
    assert_serves(front)


def test_without_descriptors_of_processes_workers_are_interpreters(
    ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter_module, "_has_process_descriptors", lambda: False)
    with Front(ladder, costs=COSTS, workers=1, open_max=64) as front:
        assert kinds(front) == [SpawnedProcess, SpawnedProcess]
        assert front._roster._starter._process is None
        switch = front.replace(ladder)
        until(front, lambda: not switch.under_way)
        assert switch.state is SwitchState.DONE
        assert_serves(front)


_THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
_NO_PROC = """
import os
def listdir(path=".", listdir=os.listdir):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(path)
    return listdir(path)
os.listdir = listdir
"""


@pytest.mark.parametrize("circumstance", [_THREAD, _NO_PROC], ids=["a thread of a library", "no /proc"])
def test_a_process_that_may_have_two_threads_is_not_copied(
    ladder: tuple[Variant, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, circumstance: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(circumstance)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Front(ladder, costs=COSTS, workers=1, open_max=64) as front:
        assert kinds(front) == [SpawnedProcess, SpawnedProcess]
        assert_serves(front)


def test_a_front_whose_children_the_system_buries_has_copies(ladder: tuple[Variant, ...]) -> None:
    kept = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Front(ladder, costs=COSTS, workers=1, open_max=64) as front:
            for killed in range(1, 3):
                os.kill(front.worker_ids[0], signal.SIGKILL)
                until(front, lambda: has_spare(front) and front.status().restarts == killed)  # noqa: B023
                assert kinds(front) == [CopiedProcess, CopiedProcess]
    finally:
        signal.signal(signal.SIGCHLD, kept)


def test_closing_ends_an_original_that_was_stopped(ladder: tuple[Variant, ...]) -> None:
    with Front(ladder, costs=COSTS, workers=1, open_max=64) as front:
        descriptors = [os.pidfd_open(process) for process in (original_id(front), *front.process_ids)]
        os.kill(original_id(front), signal.SIGSTOP)
    await_end(descriptors)


def test_a_front_outlives_the_thread_that_made_it(ladder: tuple[Variant, ...]) -> None:
    made: list[Front] = []
    thread = threading.Thread(target=lambda: made.append(Front(ladder, costs=COSTS, workers=1, open_max=64)))
    thread.start()
    thread.join()
    with made[0] as front:
        assert_serves(front)
        os.kill(front.worker_ids[0], signal.SIGKILL)
        until(front, lambda: has_spare(front) and front.status().restarts)
        assert kinds(front) == [CopiedProcess, CopiedProcess]


_SERVE_AND_WAIT = """
import os, sys, time
from engine.inference.ladder import load_ladder
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front

costs = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e4, 3e4, 1e5)])
front = Front(load_ladder(sys.argv[1]), costs=costs, workers=1, open_max=64)
roster = front._roster
originals = [roster._starter._process.pid, roster.shift.crew.original._process.pid]
# A child that holds whatever the front held must keep nobody alive.
child = os.fork()
if child == 0:
    time.sleep(600)
print(*originals, *front.process_ids, child, flush=True)
while True:
    front.poll(timeout_s=1.0)
"""


def test_nobody_outlives_a_front_that_is_killed(ladder: tuple[Variant, ...]) -> None:
    command = (sys.executable, "-c", _SERVE_AND_WAIT, str(ladder[0].path.parent))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        *family, child = map(int, process.stdout.readline().split())
        assert len(family) == 4
        descriptors = [os.pidfd_open(member) for member in family]
        # One that is stopped cannot notice anything by itself.
        os.kill(family[2], signal.SIGSTOP)
        process.kill()
        await_end(descriptors)
        os.kill(child, signal.SIGKILL)
    assert not list(SHARED.glob(f"{RING_PREFIX}{process.pid}-*"))


def test_a_message_comes_whole_or_not_at_all() -> None:
    near, far = Channel.pair()
    with pytest.raises(BlockingIOError):
        near.receive()
    with pytest.raises(OSError, match="too long"):
        near.send({"text": "x" * (1 << 24)})
    read, write = os.pipe()
    near.send({"do": "open"}, write)
    os.close(write)
    received = far.receive()
    assert received is not None
    assert received[0] == {"do": "open"}
    assert not os.get_inheritable(received[1][0])
    os.write(received[1][0], b"x")
    os.close(received[1][0])
    assert os.read(read, 2) == b"x"
    assert os.read(read, 2) == b"", "it was the only copy left, and is not handed to programs that are run"
    os.close(read)
    far.close()
    assert near.receive() is None
    kept = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with pytest.raises(BrokenPipeError):
            near.send({})
    finally:
        signal.signal(signal.SIGPIPE, kept)
    near.close()


def test_a_task_that_does_not_fit_a_message_is_done_by_an_interpreter(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Channel, table: object, *descriptors: int) -> None:
        raise OSError("message too long")

    monkeypatch.setattr(Channel, "send", refuse)
    os.kill(front.worker_ids[0], signal.SIGKILL)
    until(front, lambda: has_spare(front) and front.status().restarts)
    assert kinds(front) == [CopiedProcess, SpawnedProcess]


class Deaf:
    """One that is asked for copies and makes none by itself."""

    def __init__(self) -> None:
        self.channel, self.far = Channel.pair()

    def make(self, process: subprocess.Popen[bytes]) -> None:
        """Pass a process off as the copy that was asked for."""
        asked = self.far.receive()
        assert asked is not None
        copy, descriptor = Channel.of(asked[1][0]), os.pidfd_open(process.pid)
        try:
            copy.send({"pid": process.pid}, descriptor)
        finally:
            os.close(descriptor)
            copy.close()


def test_a_copy_that_was_ended_before_it_came_ends_when_it_comes() -> None:
    deaf = Deaf()
    copy = CopiedProcess(deaf, {"do": "work"})
    copy.kill()
    assert (copy.alive, copy.pid, copy.wait(0.0)) == (True, None, False)
    process = subprocess.Popen(("sleep", "600"))
    try:
        deaf.make(process)
        assert copy.wait(30.0)
        assert (copy.alive, copy.pid) == (False, process.pid)
        assert process.wait(30.0) == -signal.SIGKILL
    finally:
        process.kill()
    copy.close()


def test_a_copy_that_nobody_waits_for_hears_so_when_it_greets() -> None:
    deaf = Deaf()
    copy = CopiedProcess(deaf, {"do": "time"})
    copy.close()
    assert not copy.alive
    process = subprocess.Popen(("sleep", "600"))
    try:
        with pytest.raises(BrokenPipeError):
            deaf.make(process)
    finally:
        process.kill()
        process.wait()


def test_a_copy_whose_original_is_lost_came_to_nothing() -> None:
    deaf = Deaf()
    copy = CopiedProcess(deaf, {"do": "work"})
    assert not copy.came_to_nothing(1)
    # With a process goes what it was sent and did not look at.
    deaf.far.close()
    assert copy.came_to_nothing(2)
    assert copy.wait(0.0)


def test_a_line_of_the_arena_is_free_when_its_worker_is_gone() -> None:
    class Going:
        alive = True

        def kill(self) -> None: ...
        def close(self) -> None: ...
        def wait(self, timeout_s: float) -> bool:
            self.alive = False
            return True

    places = Places(2)
    workers = [SimpleNamespace(place=places.take(), process=Going(), kill=lambda: None) for _ in range(2)]
    places.see_off(workers[1])  # type: ignore[arg-type]
    places.see_off(workers[0])  # type: ignore[arg-type]
    workers[0].process.alive = False
    assert places.take() == 0
    # Nobody else is gone, so it waits for one that was ended.
    assert places.take() == 1


def test_a_channel_is_a_socket_of_one_machine() -> None:
    near, far = Channel.pair()
    with socket.socket(fileno=os.dup(near.fileno())) as end:
        assert (end.family, end.get_inheritable()) == (socket.AF_UNIX, False)
    near.close()
    far.close()

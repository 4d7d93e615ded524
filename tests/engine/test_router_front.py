"""Real workers in real processes: answers, kills, hangs, bad models, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from router_ladder import FEATURES, WINDOW, dense, write_ladder, write_variant

from data.errors import ConfigError
from engine.inference.arrays import Floats32
from engine.inference.cascade import MarginScores
from engine.inference.errors import ModelError
from engine.inference.ladder import Variant, load_ladder
from engine.inference.serving import crew as crew_module
from engine.inference.serving import front as front_module
from engine.inference.serving import starter as starter_module
from engine.inference.serving.arena import Arena
from engine.inference.serving.breaker import BreakerLimits
from engine.inference.serving.crew import Crew
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front
from engine.inference.serving.measure import first_variant, largest, open_variant, value_table
from engine.inference.serving.planning import PlanLimits
from engine.inference.serving.processes import ChildProcess
from engine.inference.serving.request import ANSWER_DTYPE, REQUEST_DTYPE, Answer, Outcome
from engine.inference.serving.spec import WorkerSpec, read_spec
from engine.inference.serving.supervise import (
    RING_PREFIX,
    WorkerLost,
    WorkerProcess,
    remove_abandoned_rings,
)
from engine.inference.serving.watchdog import Watchdog
from ext.ring_buffer import MpscRing, SpscRing

SECOND = 1_000_000_000
COSTS = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e4, 3e4, 1e5)])
SHARED = Path("/dev/shm")


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, ...]:
    folder = tmp_path_factory.mktemp("ladder")
    write_ladder(folder)
    return load_ladder(folder)


@pytest.fixture
def serve(ladder: tuple[Variant, ...]) -> Iterator[Callable[..., Front]]:
    fronts: list[Front] = []

    def start(variants: tuple[Variant, ...] = ladder, **options: object) -> Front:
        fronts.append(Front(variants, costs=COSTS, workers=1, open_max=64, **options))  # type: ignore[arg-type]
        return fronts[-1]

    yield start
    for front in fronts:
        front.close()


@pytest.fixture
def wide(ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """A front of twenty workers, none of which is started."""
    monkeypatch.setattr(Crew, "start", lambda self: None)
    with Front(ladder, costs=COSTS, workers=20, open_max=64) as front:
        yield front


def payloads(count: int, *, seed: int = 1) -> Floats32:
    return np.random.default_rng(seed).standard_normal((count, WINDOW, FEATURES)).astype(np.float32)


def ask(front: Front, rows: Floats32, *, room_ns: int) -> tuple[list[int], list[Answer]]:
    ids, done = [], []
    for row in rows:
        request_id, answer = front.submit(row, deadline_ns=time.monotonic_ns() + room_ns)
        ids.append(request_id)
        done += [answer] if answer else []
    return ids, done


def finish(front: Front, done: list[Answer]) -> list[Answer]:
    while front.open_requests:
        done += front.poll(timeout_s=0.5)
    return done + front.poll()


def shared_names() -> set[str]:
    return {path.name for path in SHARED.glob(f"{RING_PREFIX}{os.getpid()}-*")} if SHARED.is_dir() else set()


def test_each_request_gets_the_models_answer_to_its_own_payload(
    serve: Callable[..., Front], ladder: tuple[Variant, ...]
) -> None:
    front, rows = serve(), payloads(40)
    sessions = [open_variant(variant) for variant in ladder]
    ids, done = ask(front, rows, room_ns=10 * SECOND)
    answers = {answer.request_id: answer for answer in finish(front, done)}
    assert sorted(answers) == ids
    for request_id, row in zip(ids, rows, strict=True):
        answer = answers[request_id]
        assert answer.outcome is Outcome.MODEL
        window, _ = ladder[answer.variant].input_shape
        expected = sessions[answer.variant].probabilities(row[-1:] if window == 1 else row[None])
        np.testing.assert_allclose(answer.probabilities, expected[0], atol=2e-5)
    assert front.arena.free_slots == 64


def test_a_killed_worker_loses_no_request(serve: Callable[..., Front]) -> None:
    front = serve()
    ids, done = ask(front, payloads(30), room_ns=30 * SECOND)
    os.kill(front.worker_ids[0], signal.SIGKILL)
    more, late = ask(front, payloads(10, seed=2), room_ns=30 * SECOND)
    answers = finish(front, done + late)
    assert sorted(answer.request_id for answer in answers) == ids + more
    assert all(answer.on_time for answer in answers)
    assert front.status().restarts == 1


def test_a_stopped_worker_is_replaced_and_its_requests_answered(serve: Callable[..., Front]) -> None:
    front = serve()
    stopped = front.worker_ids[0]
    os.kill(stopped, signal.SIGSTOP)
    ids, done = ask(front, payloads(5), room_ns=30 * SECOND)
    answers = finish(front, done)
    assert sorted(answer.request_id for answer in answers) == ids
    assert stopped not in front.worker_ids


def test_a_silent_worker_gets_less_before_it_is_condemned(
    ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Front(ladder, costs=COSTS, workers=2, open_max=64) as front:
        silent = front._roster.shift.crew.lanes[0]
        monkeypatch.setattr(silent.watchdog, "_silence_ns_max", 3600 * SECOND)
        assert silent.process.pid is not None
        os.kill(silent.process.pid, signal.SIGSTOP)
        while silent.watchdog.silence_ns < SECOND:
            front.poll(timeout_s=0.01)
        ids, done = ask(front, payloads(20), room_ns=SECOND)
        lanes = front._path.ledger.lanes
        assert (lanes == front._roster.shift.lane(0)).sum() <= 1
        os.kill(silent.process.pid, signal.SIGCONT)
        assert sorted(answer.request_id for answer in finish(front, done)) == ids


def test_a_stopped_worker_does_not_hold_a_deadline(serve: Callable[..., Front]) -> None:
    front = serve()
    stopped = front.worker_ids[0]
    os.kill(stopped, signal.SIGSTOP)
    ids, done = ask(front, payloads(5), room_ns=SECOND // 10)
    answers = finish(front, done)
    # Closing would wait for it.
    os.kill(stopped, signal.SIGKILL)
    assert sorted(answer.request_id for answer in answers) == ids
    # The first answer stands in: the smallest model's, at hand since submission.
    assert {answer.variant for answer in answers} == {0}
    assert {answer.outcome for answer in answers} == {Outcome.MODEL}


def test_what_cannot_be_met_is_said_at_once(serve: Callable[..., Front]) -> None:
    front = serve(first_answers=False)
    request_id, answer = front.submit(payloads(1)[0], deadline_ns=time.monotonic_ns() + 1_000)
    assert answer is not None
    assert (answer.request_id, answer.outcome, answer.probabilities) == (request_id, Outcome.REFUSED, ())
    bad = payloads(1)[0]
    bad[3, 3] = np.nan
    _, answer = front.submit(bad, deadline_ns=time.monotonic_ns() + SECOND)
    assert answer is not None
    assert answer.outcome is Outcome.REFUSED
    assert front.arena.free_slots == 64


@pytest.mark.parametrize(
    "change",
    [
        {"rows": payloads(1)[0][:, :-1]},
        {"rows": payloads(1)[0][-1]},
        {"rows": "x"},
        {"stream": -1},
        {"stream": 2**32},
        {"stream": 0.5},
        {"value": "a"},
        {"value": np.nan},
        {"value": 1e39},
        {"deadline_ns": 2**63},
        {"deadline_ns": None},
        {"arrival_ns": -1},
    ],
)
def test_a_question_that_breaks_a_rule_takes_no_slot(wide: Front, change: dict[str, object]) -> None:
    question: dict[str, object] = {"rows": payloads(1)[0], "deadline_ns": time.monotonic_ns() + SECOND}
    with pytest.raises(ConfigError, match="must be"):
        wide.submit(**question | change)  # type: ignore[arg-type]
    assert (wide.arena.free_slots, wide.open_requests) == (64, 0)


def test_a_payload_that_is_refused_leaves_every_slot_as_it_was(wide: Front) -> None:
    wide.arena.rows[:] = 1.0
    bad = np.full((WINDOW, FEATURES), np.nan, np.float32)
    _, answer = wide.submit(bad, deadline_ns=time.monotonic_ns() + SECOND)
    assert answer is not None
    assert answer.outcome is Outcome.REFUSED
    assert (wide.arena.rows == 1.0).all()
    assert wide.arena.free_slots == 64


def test_a_first_model_that_fails_costs_the_first_answer_only(
    serve: Callable[..., Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = serve()

    class Failing:
        def probabilities(self, rows: Floats32) -> Floats32:
            raise ModelError("a model must run, did not", source="first.onnx")

    monkeypatch.setattr(front._roster.shift.first, "_session", Failing())
    ids, done = ask(front, payloads(3), room_ns=30 * SECOND)
    assert sorted(answer.request_id for answer in finish(front, done)) == ids
    assert front.arena.free_slots == 64


@pytest.mark.parametrize("arrival_ns", [0, 2**62])
def test_a_first_model_is_taken_out_by_the_clock_and_not_by_the_schedule_of_requests(
    serve: Callable[..., Front], monkeypatch: pytest.MonkeyPatch, arrival_ns: int
) -> None:
    front = serve()
    first = front._roster.shift.first

    class Broken:
        def probabilities(self, rows: Floats32) -> Floats32:
            return np.full((len(rows), 3), np.nan, np.float32)

    monkeypatch.setattr(first, "_session", Broken())
    before_ns = time.monotonic_ns()
    front.submit_many(payloads(3), deadlines_ns=before_ns + 30 * SECOND, arrivals_ns=arrival_ns)
    assert first.tripped
    assert not first._breaker.allows(before_ns + BreakerLimits().open_ns - 1)
    assert first._breaker.allows(time.monotonic_ns() + BreakerLimits().open_ns)


def test_every_worker_and_the_spare_find_a_lane_for_their_answers(wide: Front) -> None:
    name = next(name for name in shared_names() if name.endswith("-answers"))
    rings = [MpscRing.attach(name, "producer", dtype=ANSWER_DTYPE) for _ in range(42)]
    assert len([ring.producer() for ring in rings]) == 42, "and a second crew and its spare"


@pytest.mark.parametrize("workers", [-1, 0, 32])
def test_a_number_of_workers_out_of_range_is_refused(ladder: tuple[Variant, ...], workers: int) -> None:
    with pytest.raises(ConfigError, match="1 to 31 workers"):
        Front(ladder, costs=COSTS, workers=workers)


def test_on_a_machine_of_many_cores_the_places_bound_the_workers(
    ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "core_count", lambda: 192)
    monkeypatch.setattr(Crew, "start", lambda self: None)
    with Front(ladder, costs=COSTS, open_max=64) as front:
        assert len(front.slowdowns) == 31


def test_a_worker_that_cannot_be_started_takes_the_others_along(
    ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[ChildProcess] = []

    class Scarce(WorkerProcess):
        def __init__(
            self, spec: WorkerSpec, start: Callable[[WorkerSpec], ChildProcess], *, ring_capacity: int
        ) -> None:
            if started:
                raise OSError("no more processes")
            super().__init__(spec, start, ring_capacity=ring_capacity)
            started.append(self.process)

    monkeypatch.setattr(crew_module, "WorkerProcess", Scarce)
    with pytest.raises(OSError, match="no more processes"):
        Front(ladder, costs=COSTS, workers=2, open_max=16)
    assert not started[0].alive
    assert not shared_names()


def test_a_spare_that_dies_while_it_starts_is_replaced_a_second_later(
    serve: Callable[..., Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter_module, "_has_process_descriptors", lambda: False)
    front = serve()
    glance = front._roster.glance
    spare = front._roster.shift.crew.spare
    assert spare is not None
    front.arena.status["ready"][spare.place] = 0
    spare.process.kill()
    assert spare.process.wait(30.0)
    before_ns = time.monotonic_ns()
    glance(before_ns)
    # The lane goes too: nobody can take it over yet, so it closes and waits.
    os.kill(front.worker_ids[0], signal.SIGKILL)
    assert front._roster.shift.crew.lanes[0].process.wait(30.0)
    glance(before_ns + SECOND // 2)
    assert front._roster.shift.crew.spare is None
    assert not front._roster.shift.admission.open[0]
    assert not front.status().restarts
    later_ns = time.monotonic_ns() + 2 * SECOND
    glance(later_ns)
    assert front.status().restarts == 1
    while not front._roster.shift.admission.open[0]:
        front.poll(timeout_s=0.05)
    ids, done = ask(front, payloads(3), room_ns=30 * SECOND)
    assert sorted(answer.request_id for answer in finish(front, done)) == ids


def test_a_worker_that_starts_for_too_long_counts_as_failed(serve: Callable[..., Front]) -> None:
    front = serve()
    spare = front._roster.shift.crew.spare
    assert spare is not None
    front.arena.status["ready"][spare.place] = 0
    assert not front._roster.shift.crew.has_failed(spare, spare.started_ns + 119 * SECOND)
    assert front._roster.shift.crew.has_failed(spare, spare.started_ns + 121 * SECOND)
    front.arena.status["ready"][spare.place] = 1
    assert not front._roster.shift.crew.has_failed(spare, spare.started_ns + 121 * SECOND)


def test_a_closed_front_says_so(ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crew, "start", lambda self: None)
    front = Front(ladder, costs=COSTS, workers=1, open_max=16)
    front.close()
    with pytest.raises(ConfigError, match="was closed"):
        front.poll()
    with pytest.raises(ConfigError, match="was closed"):
        front.submit(payloads(1)[0], deadline_ns=time.monotonic_ns() + SECOND)
    assert not shared_names()


def test_the_last_good_answer_stands_in_without_a_first_one(serve: Callable[..., Front]) -> None:
    front, rows = serve(first_answers=False, stale_ns_max=60 * SECOND), payloads(2)
    front.submit(rows[0], deadline_ns=time.monotonic_ns() + 10 * SECOND, stream=7)
    good = finish(front, [])[0]
    _, again = front.submit(rows[1], deadline_ns=time.monotonic_ns(), stream=7)
    _, other = front.submit(rows[1], deadline_ns=time.monotonic_ns(), stream=8)
    assert again is not None
    assert other is not None
    assert (again.outcome, again.probabilities) == (Outcome.LAST_GOOD, good.probabilities)
    assert other.outcome is Outcome.REFUSED


def nan_variant(folder: Path, *, score: float) -> Variant:
    """Probabilities for zeros, NaN for anything else: infinity minus infinity within its softmax."""
    folder.mkdir(exist_ok=True)
    model = dense((40, 8, 8, 3), scale=1e30)
    return write_variant(folder, "broken", model, score=score, window=1, parameters=10**6)


def test_a_model_that_gives_nan_is_tripped_within_ten_answers_and_rolled_back(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    broken = nan_variant(tmp_path, score=0.9)
    good = replace(ladder[0], name="sound")
    front = serve((*ladder[:2], broken), previous={"broken": good})
    ids, done = ask(front, payloads(20), room_ns=10 * SECOND)
    answers = finish(front, done)
    assert sorted(answer.request_id for answer in answers) == ids
    assert all(np.isfinite(answer.probabilities).all() for answer in answers)
    assert all(answer.on_time for answer in answers)
    assert front.status().trips == 1
    # Rolled back: the variant answers again, with the version before.
    assert any(answer.variant == 2 for answer in answers)


def test_a_model_that_gives_nan_without_a_version_before_is_taken_out(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    front = serve((*ladder[:2], nan_variant(tmp_path, score=0.9)))
    ids, done = ask(front, payloads(20), room_ns=10 * SECOND)
    answers = finish(front, done)
    assert sorted(answer.request_id for answer in answers) == ids
    assert {answer.variant for answer in answers} <= {0, 1}
    assert front.status().trips >= 1


def test_a_damaged_model_file_is_refused_before_anything_is_served(
    ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.onnx"
    data = bytearray(ladder[1].path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        Front((ladder[0], replace(ladder[1], path=damaged)))
    with pytest.raises(WorkerLost, match="must be ready"):
        Front((ladder[0], replace(ladder[1], path=damaged)), costs=COSTS, workers=1)
    assert not shared_names()


def test_nothing_is_left_behind(ladder: tuple[Variant, ...]) -> None:
    with Front(ladder, costs=COSTS, workers=1, open_max=16) as front:
        ids = front.worker_ids
        # Workers are attached, so only the name that a later one needs is left.
        assert shared_names() == {name for name in shared_names() if name.endswith("-answers")}
    assert not shared_names()
    for process in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    front.close()


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_GETLK"), reason="needs locks of Linux")
def test_rings_of_fronts_that_were_killed_are_removed(tmp_path: Path) -> None:
    gone = tmp_path / f"{RING_PREFIX}{2**22 + 5}-1-answers"
    # Left by a process that had this one's id before, as the first process of a container has.
    earlier = tmp_path / f"{RING_PREFIX}{os.getpid()}-1-answers"
    alive = tmp_path / f"{RING_PREFIX}{os.getppid()}-1-answers"
    # Of a container that shares this folder, and none of our ids.
    held = tmp_path / f"{RING_PREFIX}{2**22 + 6}-1-answers"
    other = tmp_path / "somebody-elses"
    for path in (gone, earlier, alive, held, other):
        path.touch()
    with held.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 64, 1, 0))
        assert remove_abandoned_rings(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((alive.name, held.name, other.name))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs names of shared memory to be files")
def test_a_front_starts_beside_another_and_over_what_an_earlier_one_left(ladder: tuple[Variant, ...]) -> None:
    left = SHARED / f"{RING_PREFIX}{os.getpid()}-1-answers"
    left.touch()
    with Front(ladder, costs=COSTS, workers=1, open_max=16):
        assert not left.exists()
        names = shared_names()
        with Front(ladder, costs=COSTS, workers=1, open_max=16):
            assert names < shared_names()
        assert names == shared_names()


def test_a_watchdog_tells_silence_from_its_own_absence() -> None:
    dog = Watchdog()
    assert not dog.hangs(0, beat=1, busy_until_ns=0)
    # Away for a minute: one glance condemns nobody.
    assert not dog.hangs(60 * SECOND, beat=1, busy_until_ns=0)
    now_ns = 60 * SECOND
    glances = 0
    while not dog.hangs(now_ns := now_ns + 5_000_000, beat=1, busy_until_ns=0):
        glances += 1
    assert 40 <= glances <= 60
    assert not dog.hangs(now_ns + 1, beat=2, busy_until_ns=0)
    for step in range(200):
        assert not dog.hangs(now_ns + step * 5_000_000, beat=2, busy_until_ns=now_ns + SECOND)


def test_a_spec_survives_its_line_of_json(ladder: tuple[Variant, ...]) -> None:
    margins = MarginScores(first="tiny", edges=(0.5,), shares=(0.5, 0.5), scores=(0.4, 0.6))
    spec = WorkerSpec(
        place=3,
        parent=7,
        requests="a",
        answers="b",
        arena_descriptor=5,
        bell_descriptor=6,
        slots=16,
        row_shape=(WINDOW, FEATURES),
        variants=(replace(ladder[0], margins=margins), *ladder[1:]),
        previous=(None, ladder[0], None),
        times_ns=COSTS.times_ns,
        ladder=2,
        limits=PlanLimits(),
    )
    assert read_spec(spec.to_json()) == spec


def test_records_travel_through_rings_unchanged() -> None:
    ring, answers = SpscRing(8, dtype=REQUEST_DTYPE), MpscRing(8, dtype=ANSWER_DTYPE)
    requests = np.zeros(3, REQUEST_DTYPE)
    requests["request_id"], requests["deadline_ns"] = (1, 2**63, 3), (-1, 2**62, 5)
    assert ring.push(requests) == 3
    assert (ring.pop(8) == requests).all()
    found = np.zeros(2, ANSWER_DTYPE)
    found["probabilities"] = ((0.1, 0.2, 0.7), (1.0, 0.0, 0.0))
    assert answers.producer().push(found) == 2
    assert (answers.pop(8)["probabilities"] == found["probabilities"]).all()


def test_an_arena_of_another_shape_is_refused() -> None:
    arena = Arena(slots=4, row_shape=(2, 3))
    slots = np.concatenate([arena.take(3), arena.take(2), arena.take(1)])
    assert sorted(slots.tolist()) == [0, 1, 2, 3]
    arena.give_back(slots[:2])
    assert sorted(arena.take(9).tolist()) == sorted(slots[:2].tolist())
    with pytest.raises(ConfigError, match="bytes"):
        Arena(slots=5, row_shape=(2, 3), descriptor=os.dup(arena.descriptor))
    arena.close()


def test_values_are_between_no_skill_and_the_best_score(ladder: tuple[Variant, ...]) -> None:
    assert largest(ladder) == 2
    values = value_table(ladder)
    assert values.values == pytest.approx((0.5, 0.75, 1.0))
    assert first_variant(COSTS, values) == 0
    with pytest.raises(ConfigError, match="must score above"):
        value_table([replace(variant, score=0.3) for variant in ladder])


def test_a_first_answer_comes_from_a_fast_model_with_skill(ladder: tuple[Variant, ...]) -> None:
    unskilled = value_table([replace(ladder[0], score=0.39), *ladder[1:]])
    assert unskilled.values[0] < 0
    assert first_variant(COSTS, unskilled) == 1
    assert first_variant(COSTS.plus(1e6), unskilled) is None

"""From one ladder to the next while 64 users ask: switches, refusals, rollbacks, and the registry behind."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from router_ladder import FEATURES, WINDOW, dense, write_ladder, write_variant

from data.errors import ConfigError, DataError
from engine.inference.ladder import Variant, format_ladder, load_ladder
from engine.inference.registry import ModelRegistry, ModelState
from engine.inference.rungs import RegistrySource, live_ladder, stage_ladder
from engine.inference.serving import prepare
from engine.inference.serving.crew import Crew
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front
from engine.inference.serving.measure import open_variant
from engine.inference.serving.request import ENDED_DTYPE, Outcome
from engine.inference.serving.supervise import exists
from engine.inference.serving.switch import SwitchState

SECOND = 1_000_000_000
USERS = 64
COSTS = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e4, 3e4, 1e5)])
ROWS = np.random.default_rng(1).standard_normal((USERS, WINDOW, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Variant, ...]:
    folder = tmp_path_factory.mktemp("ladder")
    write_ladder(folder)
    return load_ladder(folder)


@pytest.fixture(autouse=True)
def own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def serve(ladder: tuple[Variant, ...]) -> Iterator[Callable[..., Front]]:
    fronts: list[Front] = []

    def start(variants: tuple[Variant, ...] = ladder, **options: Any) -> Front:
        fronts.append(Front(variants, costs=COSTS, workers=1, open_max=256, **options))
        return fronts[-1]

    yield start
    for front in fronts:
        front.close()


def newer(folder: Path, model: bytes, name: str = "tiny", score: float = 0.5) -> Variant:
    """Another version of a rung."""
    folder.mkdir(exist_ok=True)
    return write_variant(folder, name, model, score=score, window=1, parameters=7_000)


def broken(folder: Path, *, name: str = "large", score: float = 0.9) -> Variant:
    """Probabilities for zeros, NaN for anything else; so worthy that every queue wants it."""
    return newer(folder, dense((40, 8, 8, 3), scale=1e30), name=name, score=score)


class Users:
    """64 who ask again soon after they are answered, with half a minute's time."""

    def __init__(self, front: Front) -> None:
        self.front, self.asked, self.ended = front, 0, [np.zeros(0, ENDED_DTYPE)]
        self.answered: list[NDArray[Any]] = []
        self.asked_ns = 0
        self._ask(np.arange(USERS))

    def _ask(self, users: NDArray[Any]) -> None:
        self.asked += len(users)
        _, ended = self.front.submit_many(
            ROWS[users], deadlines_ns=time.monotonic_ns() + 30 * SECOND, streams=users
        )
        self.ended.append(ended)

    def until(self, done: Callable[[], bool]) -> None:
        stop_ns = time.monotonic_ns() + 60 * SECOND
        while not done():
            assert time.monotonic_ns() < stop_ns, "what is waited for must come"
            self.answered.append(self.front.poll_many(timeout_s=0.01))
            # Workers that start need some of the machine as well.
            if time.monotonic_ns() - self.asked_ns > SECOND // 100:
                self.asked_ns = time.monotonic_ns()
                answered, self.answered = np.concatenate(self.answered), []
                self.ended.append(answered)
                self._ask(answered["stream"])

    def answers(self, count: int) -> None:
        """Let so many more answers come."""
        goal = sum(map(len, self.ended)) + count
        self.until(lambda: sum(map(len, self.ended)) >= goal)

    def finish(self) -> NDArray[Any]:
        """Return every end, of which there must be one for each question, in time and by a model."""
        while self.front.open_requests:
            self.ended.append(self.front.poll_many(timeout_s=0.5))
        ended = np.concatenate([*self.ended, *self.answered, self.front.poll_many()])
        assert sorted(ended["request_id"].tolist()) == list(range(1, self.asked + 1))
        assert (ended["done_ns"] <= ended["deadline_ns"]).all()
        assert (ended["outcome"] == Outcome.MODEL).all()
        assert self.front.arena.free_slots == 256
        return ended


def assert_answered_by(ended: NDArray[Any], number: int, variants: tuple[Variant, ...]) -> None:
    """Every answer of ladder `number` is what this ladder says to the user's own rows."""
    own = ended[ended["ladder"] == number]
    assert len(own)
    for index in np.unique(own["variant"]).tolist():
        window, _ = variants[index].input_shape
        expected = open_variant(variants[index]).probabilities(ROWS[:, -1] if window == 1 else ROWS)
        chosen = own[own["variant"] == index]
        np.testing.assert_allclose(chosen["probabilities"], expected[chosen["stream"]], atol=2e-5)


def test_a_switch_under_load_loses_nothing_and_the_way_back_neither(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    front = serve()
    users, old_ids = Users(front), front.process_ids
    users.answers(200)
    changed = (newer(tmp_path / "new", dense((40, 16, 3), seed=9)), *ladder[1:])
    switch = front.replace(changed, costs=COSTS)
    users.until(lambda: not switch.under_way)
    assert (switch.state, front.ladder, front.variants) == (SwitchState.DONE, 2, changed)
    users.answers(200)
    users.until(lambda: front._roster.leaving is None)
    for process in old_ids:
        users.until(lambda process=process: not exists(process))  # type: ignore[misc]
    back = front.replace(ladder, costs=COSTS)
    users.until(lambda: not back.under_way)
    users.answers(200)
    ended = users.finish()
    for number, variants in ((1, ladder), (2, changed), (3, ladder)):
        assert_answered_by(ended, number, variants)
    # From one moment on: what was asked after the switch is the new ladder's.
    assert set(ended["ladder"][ended["arrival_ns"] > back.done_ns].tolist()) == {3}
    assert not front.status().restarts


def test_a_corrupt_new_version_is_refused_and_the_old_goes_on(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    front = serve()
    users, ids = Users(front), front.process_ids
    damaged = tmp_path / "damaged.onnx"
    data = bytearray(ladder[1].path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    # By a worker; and by the preparation, which is there where times are not given.
    for costs in (COSTS, None):
        switch = front.replace((ladder[0], replace(ladder[1], path=damaged), ladder[2]), costs=costs)
        users.until(lambda switch=switch: not switch.under_way)  # type: ignore[misc]
        assert switch.state is SwitchState.REFUSED
        assert "damaged.onnx" in switch.reason
        assert "SHA-256" in switch.reason
    users.answers(100)
    assert set(users.finish()["ladder"].tolist()) == {1}
    assert (front.process_ids, front.variants) == (ids, ladder)


@pytest.mark.nightly
def test_a_new_version_that_gives_nan_is_tripped_within_ten_answers_and_rolled_back(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    front = serve()
    users = Users(front)
    switch = front.replace((*ladder[:2], broken(tmp_path / "new")), costs=COSTS)
    users.until(lambda: not switch.under_way)
    users.until(lambda: front.ladder == 3)
    assert front.variants == ladder, "the version before serves in every worker"
    users.answers(100)
    ended = users.finish()
    assert np.isfinite(ended["probabilities"]).all()
    # What the worker rolled back by itself before the front did: the old file under the new number.
    assert_answered_by(ended, 3, ladder)


def test_what_a_leaving_worker_cannot_answer_is_sent_on(
    serve: Callable[..., Front], ladder: tuple[Variant, ...]
) -> None:
    front = serve()
    switch = front.replace(ladder, costs=COSTS)
    switcher = front._roster._switcher
    assert switcher is not None
    while switcher._shift is None or not switcher._shift.crew.lanes:
        front.poll(timeout_s=0.01)
    # It hangs with all of this when the new ones take over.
    os.kill(front.worker_ids[0], signal.SIGSTOP)
    users = Users(front)
    users.until(lambda: not switch.under_way)
    assert front._roster.leaving is not None
    users.until(lambda: front._roster.leaving is None)
    ended = users.finish()
    assert set(ended["ladder"].tolist()) <= {1, 2}
    assert 2 in ended["ladder"]


def test_the_later_switch_wins_and_closing_ends_both(
    serve: Callable[..., Front], ladder: tuple[Variant, ...]
) -> None:
    front = serve()
    first = front.replace(ladder, costs=COSTS)
    while first.state is SwitchState.PREPARING:
        front.poll(timeout_s=0.01)
    second = front.replace(ladder)
    assert (first.state, second.state) == (SwitchState.SUPERSEDED, SwitchState.PREPARING)
    front.poll(timeout_s=0.01)
    front.close()
    assert second.state is SwitchState.SUPERSEDED


@pytest.fixture
def older(tmp_path: Path) -> dict[str, Variant]:
    """Versions before, by name, of which a front knows."""
    folder = tmp_path / "older"
    return {
        name: newer(folder, dense((40, 8, 3), seed=seed), name=name, score=score)
        for seed, (name, score) in enumerate({"small": 0.55, "large": 0.6}.items())
    }


def trip(front: Front, index: int) -> None:
    """Have the worker say that a variant's breaker tripped and that it went back to the version before."""
    place = front._roster.shift.crew.lanes[0].place
    for column in ("tripped", "rolled_back"):
        front.arena.status[column][place, 0] |= 1 << index
    front._roster.glance(time.monotonic_ns())


def test_a_rollback_does_not_supersede_a_switch_that_was_asked_for(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], older: dict[str, Variant], tmp_path: Path
) -> None:
    front = serve(previous=older)
    changed = (newer(tmp_path / "new", dense((40, 16, 3), seed=9)), *ladder[1:])
    switch = front.replace(changed, costs=COSTS)
    trip(front, 2)
    users = Users(front)
    users.until(lambda: not switch.under_way)
    users.until(lambda: front._roster.leaving is None)
    assert (switch.state, front.variants) == (SwitchState.DONE, changed)
    assert front.status().switch is switch, "and nothing is left to roll back"
    users.finish()


def test_a_rollback_takes_its_turn_when_the_switch_before_it_is_refused(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], older: dict[str, Variant], tmp_path: Path
) -> None:
    front = serve(previous=older)
    absent = replace(ladder[0], path=tmp_path / "absent.onnx")
    switch = front.replace((absent, *ladder[1:]), costs=COSTS)
    trip(front, 2)
    users = Users(front)
    users.until(lambda: front.ladder == 2)
    assert switch.state is SwitchState.REFUSED
    assert front.variants == (*ladder[:2], older["large"])
    users.finish()


def test_a_switch_asked_for_later_supersedes_a_rollback_for_good(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], older: dict[str, Variant], tmp_path: Path
) -> None:
    front = serve(previous=older)
    trip(front, 2)
    rollback = front.status().switch
    assert rollback is not None
    assert rollback.variants == (*ladder[:2], older["large"])
    changed = (newer(tmp_path / "new", dense((40, 16, 3), seed=9)), *ladder[1:])
    switch = front.replace(changed, costs=COSTS)
    users = Users(front)
    users.until(lambda: not switch.under_way)
    users.until(lambda: front._roster.leaving is None)
    assert (rollback.state, switch.state) == (SwitchState.SUPERSEDED, SwitchState.DONE)
    assert (front.variants, front.status().switch) == (changed, switch)
    users.finish()


def test_of_two_rollbacks_the_second_holds_the_first(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], older: dict[str, Variant]
) -> None:
    front = serve(previous=older)
    trip(front, 2)
    trip(front, 1)
    users = Users(front)
    users.until(lambda: front.ladder == 2)
    assert front.variants == (ladder[0], older["small"], older["large"])
    users.finish()


def test_a_preparation_that_hangs_is_given_up(
    serve: Callable[..., Front], ladder: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = serve()
    switch = front.replace(ladder)
    switcher = front._roster._switcher
    assert switcher is not None
    while switcher._preparation is None or switcher._preparation._process.pid is None:
        front.poll(timeout_s=0.001)
    process = switcher._preparation._process
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    front.poll(timeout_s=0.02)
    assert switch.under_way
    monkeypatch.setattr(prepare, "_SECONDS_MAX", 0.0)
    users = Users(front)
    users.until(lambda: not switch.under_way)
    assert (switch.state, process.alive) == (SwitchState.REFUSED, False)
    assert "within 0 s" in switch.reason
    users.finish()


@pytest.mark.parametrize(
    "change",
    [{"input_shape": (WINDOW + 1, FEATURES)}, {"input_shape": (1, FEATURES - 1)}, {"score": 0.1}],
    ids=["longer", "narrower", "no skill"],
)
def test_a_ladder_that_cannot_follow_is_refused_at_once(
    ladder: tuple[Variant, ...], change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Crew, "start", lambda self: None)
    with Front(ladder, costs=COSTS, workers=1, open_max=16) as front:
        with pytest.raises(ConfigError, match=r"must (take rows|score)"):
            front.replace([replace(variant, **change) for variant in ladder])
        assert front.status().switch is None


# Served from a registry.


@pytest.fixture
def registry(ladder: tuple[Variant, ...], tmp_path: Path) -> ModelRegistry:
    registry = ModelRegistry(tmp_path / "registry", clock=iter(range(10**6)).__next__)
    staged = stage_ladder(registry, ladder[0].path.parent, note="first")
    registry.promote_together({version.name: version.number for version in staged})
    return registry


def stage(registry: ModelRegistry, variant: Variant) -> int:
    rung = format_ladder((replace(variant, path=Path(f"{variant.sha256}.onnx")),), horizon=10)
    return registry.stage(variant.read(), name=variant.name, rung=rung).number


def test_the_live_rungs_are_the_ladder(registry: ModelRegistry, ladder: tuple[Variant, ...]) -> None:
    found = live_ladder(registry)
    assert [replace(variant, path=Path()) for variant in found] == [
        replace(variant, path=Path()) for variant in ladder
    ]
    assert [variant.read() for variant in found] == [variant.read() for variant in ladder]
    assert stage_ladder(registry, ladder[0].path.parent)[0].number == 1, "the same rung keeps its number"


def test_a_registry_without_a_ladder_says_so(
    registry: ModelRegistry, ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="live rung"):
        live_ladder(ModelRegistry(tmp_path / "empty"))
    rung = format_ladder((replace(ladder[0], path=Path("x.onnx")),), horizon=50)
    number = registry.stage(ladder[0].read(), name="tiny", rung=rung).number
    registry.promote("tiny", number)
    with pytest.raises(DataError, match=r"equally far ahead, was \[10, 50\]"):
        live_ladder(registry)


@pytest.mark.parametrize("rung", ["x", "horizon = 10", "variant = 1", "variant = []\nhorizon = 10"])
def test_a_rung_that_is_no_manifest_is_refused(
    registry: ModelRegistry, ladder: tuple[Variant, ...], rung: str
) -> None:
    registry.promote("tiny", registry.stage(ladder[0].read(), name="tiny", rung=rung).number)
    with pytest.raises(DataError, match="lines of a ladder's manifest"):
        live_ladder(registry)


def test_a_rung_of_another_version_is_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    live = registry.live("tiny")
    assert live is not None
    other = newer(tmp_path / "new", dense((40, 8, 3), seed=9), name="tiny", score=0.4)
    registry.promote("tiny", registry.stage(other.read(), name="tiny", rung=live.rung).number)
    with pytest.raises(
        DataError, match=f"of its own version, tiny {other.sha256}, was of tiny {live.sha256}"
    ):
        live_ladder(registry)


@pytest.mark.parametrize(
    ("name", "score"),
    [("large", 0.9), pytest.param("tiny", 0.5, id="first answers, which no worker runs")],
)
def test_a_promotion_is_served_without_stopping_and_rolled_back_in_the_registry_if_it_gives_nan(
    serve: Callable[..., Front],
    registry: ModelRegistry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    score: float,
) -> None:
    source = RegistrySource(registry)
    first = source.variants
    front = serve(first, previous=source.previous, source=source)
    users = Users(front)
    number = stage(registry, broken(tmp_path / "new", name=name, score=score))
    registry.promote(name, number)
    users.until(lambda: front.ladder == 2)
    with caplog.at_level(logging.WARNING, "anytick.serving"):
        users.until(lambda: front.ladder == 3)
    assert f"{name} gave no numbers and is rolled back" in caplog.text
    states = {version.number: version.state for version in registry.versions(name)}
    assert states == {1: ModelState.LIVE, number: ModelState.RETIRED}
    assert front.variants == first
    users.answers(100)
    ended = users.finish()
    assert np.isfinite(ended["probabilities"]).all()
    for ladder_number in (1, 3):
        assert_answered_by(ended, ladder_number, first)


def test_a_damaged_pointer_stops_nobody(
    serve: Callable[..., Front], registry: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    source = RegistrySource(registry)
    front = serve(source.variants, source=source)
    users = Users(front)
    registry.pointer.write_text("{")
    with caplog.at_level(logging.ERROR, "anytick.serving"):
        users.until(lambda: "must be undamaged" in caplog.text)
        users.answers(100)
        assert len(caplog.records) == 1, "it is said once"
        # Nor does one that cannot even be looked at.
        moved = registry.folder.rename(registry.folder.with_name("moved"))
        registry.folder.touch()
        users.until(lambda: "Not a directory" in caplog.text)
        registry.folder.unlink()
        moved.rename(registry.folder)
    users.finish()


def test_only_the_version_that_failed_is_rolled_back(registry: ModelRegistry, tmp_path: Path) -> None:
    variant = newer(tmp_path / "new", dense((40, 16, 3), seed=9))
    registry.promote("tiny", stage(registry, variant))
    with pytest.raises(ConfigError, match="switched already"):
        registry.rollback("tiny", failed="0" * 64)
    assert registry.versions_before()["tiny"].number == 1
    assert registry.rollback("tiny", failed=variant.sha256).number == 1

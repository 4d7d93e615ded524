"""The registry of models: states, switches, rollback, damage, and writers that die half-way."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inference_samples import graph_bytes, linear_model
from onnx import helper

from data.errors import ConfigError, DataError
from engine.inference.errors import ModelError, ModelRefused
from engine.inference.graph import GraphLimits
from engine.inference.registry import ModelRegistry, ModelState


def model(number: int) -> bytes:
    weight = np.full((4, 3), number, np.float32)
    weight[0, 0] += 1.0
    return linear_model(weight).SerializeToString()


MODELS = [model(number) for number in range(4)]


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "registry", clock=iter(range(10**6)).__next__)


def states(registry: ModelRegistry) -> list[str]:
    return [f"{version.number} {version.state}" for version in registry.versions("mid")]


def test_versions_go_from_staged_to_live_to_retired_and_back(registry: ModelRegistry) -> None:
    assert registry.versions() == ()
    assert registry.live("mid") is None
    for number in range(3):
        assert registry.stage(MODELS[number], name="mid", note="n").number == number + 1
    assert registry.stage(MODELS[0], name="mid").number == 1, "the same bytes keep their number"
    assert registry.stage(MODELS[0], name="other").number == 1
    registry.promote("mid", 1)
    registry.promote("mid", 2)
    registry.promote("mid", 3)
    assert states(registry) == ["1 retired", "2 retired", "3 live"]
    assert registry.rollback("mid").number == 2
    assert states(registry) == ["1 retired", "2 live", "3 retired"]
    registry.retire("mid", 1)
    with pytest.raises(ConfigError, match="earlier live version"):
        registry.rollback("mid")
    live = registry.live("mid")
    assert live is not None
    assert registry.load(live) == MODELS[1]
    assert registry.versions("other")[0].state is ModelState.STAGED


def test_what_cannot_be_done_says_so(registry: ModelRegistry) -> None:
    registry.stage(MODELS[0], name="mid")
    registry.promote("mid", 1)
    with pytest.raises(ConfigError, match="must not be live to retire"):
        registry.retire("mid", 1)
    with pytest.raises(ConfigError, match=r"must have a version 7, was \[1\]"):
        registry.promote("mid", 7)
    with pytest.raises(ConfigError, match="was none"):
        registry.rollback("nobody")
    with pytest.raises(ConfigError, match="lower-case"):
        registry.stage(MODELS[0], name="Mid/..")


def test_foreign_and_damaged_models_never_get_in(registry: ModelRegistry) -> None:
    node = helper.make_node("Launch", ["x"], ["y"], domain="evil")
    with pytest.raises(ModelRefused, match="evil"):
        registry.stage(graph_bytes([node], domains=("", "evil")), name="mid")
    with pytest.raises(ModelError, match="readable as ONNX"):
        registry.stage(MODELS[0][:-5], name="mid")
    small = ModelRegistry(registry.folder, limits=GraphLimits(model_bytes_max=64))
    with pytest.raises(ModelError, match="1 to 64 bytes"):
        small.stage(MODELS[0], name="mid")
    assert registry.versions() == ()


def test_a_model_damaged_on_disk_is_never_promoted_nor_loaded(registry: ModelRegistry) -> None:
    good = registry.stage(MODELS[0], name="mid")
    bad = registry.stage(MODELS[1], name="mid")
    registry.promote("mid", good.number)
    path = registry.folder / "models" / f"{bad.sha256}.onnx"
    path.write_bytes(b"\x00" + path.read_bytes()[1:])
    with pytest.raises(ModelError, match="SHA-256 must be"):
        registry.promote("mid", bad.number)
    assert registry.live("mid") == registry.versions("mid")[0]
    assert registry.stage(MODELS[1], name="mid") == bad
    path.unlink()
    with pytest.raises(ModelError, match="readable file"):
        registry.load(bad)


def test_there_is_no_way_back_to_a_damaged_model(registry: ModelRegistry) -> None:
    before, after = (registry.stage(MODELS[number], name="mid") for number in range(2))
    registry.promote("mid", before.number)
    registry.promote("mid", after.number)
    registry.path(before).write_bytes(MODELS[2])
    with pytest.raises(ModelError, match="SHA-256 must be"):
        registry.rollback("mid")
    assert states(registry) == ["1 retired", "2 live"]


def test_writers_at_once_lose_no_version(registry: ModelRegistry) -> None:
    start, count = threading.Barrier(4), 6

    def write(writer: int) -> list[int]:
        start.wait(timeout=30)
        numbers = range(count * writer, count * (writer + 1))
        return [registry.stage(model(10 + number), name="mid").number for number in numbers]

    with ThreadPoolExecutor(4) as pool:
        given = [number for numbers in pool.map(write, range(4)) for number in numbers]
    assert sorted(given) == list(range(1, 4 * count + 1))
    assert len(registry.versions("mid")) == 4 * count


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign", "deep"])
def test_a_damaged_pointer_is_refused_by_name(registry: ModelRegistry, damage: str) -> None:
    registry.stage(MODELS[0], name="mid")
    text = registry.pointer.read_text()
    broken = {
        "truncate": text[:-9],
        "flip": text.replace('"staged"', '"live"'),
        "empty": "",
        "foreign": json.dumps({"versions": []}),
        "deep": "[" * 100_000,
    }[damage]
    assert broken != text
    registry.pointer.write_text(broken)
    for call in (registry.versions, lambda: registry.promote("mid", 1), lambda: registry.watch("mid")):
        with pytest.raises(DataError, match=r"registry\.json: the registry must be undamaged"):
            call()


def test_every_switch_is_seen_also_where_the_clock_goes_back(registry: ModelRegistry) -> None:
    for number in range(3):
        registry.stage(MODELS[number], name="mid")
    registry.promote("mid", 1)
    later_ns = 2**62
    os.utime(registry.pointer, ns=(later_ns, later_ns))
    seen = [registry.stamp()]
    for number in (2, 1, 2, 3):
        registry.promote("mid", number)
        seen.append(registry.stamp())
    # The disk gives out a freed inode again at once, so the time alone must tell.
    assert [stamp[1] for stamp in seen] == [later_ns + place for place in range(5)]


def test_a_link_in_the_way_leads_nowhere(registry: ModelRegistry, tmp_path: Path) -> None:
    registry.stage(MODELS[0], name="mid")
    (tmp_path / "precious").write_text("kept")
    for folder in (registry.folder, registry.folder / "models"):
        (folder / ".partial").symlink_to(tmp_path / "precious")
    registry.stage(MODELS[1], name="mid")
    registry.promote("mid", 2)
    assert (tmp_path / "precious").read_text() == "kept"
    assert not registry.pointer.is_symlink()


def test_a_watch_tells_of_switches_only(registry: ModelRegistry) -> None:
    watch = registry.watch("mid")
    assert watch.version is None
    assert watch.poll() is None
    registry.stage(MODELS[0], name="mid")
    registry.stage(MODELS[1], name="mid")
    assert watch.poll() is None
    first = registry.promote("mid", 1)
    assert watch.poll() == first
    assert watch.poll() is None
    registry.stage(MODELS[2], name="mid")
    assert watch.poll() is None
    assert watch.version == first
    second = registry.promote("mid", 2)
    assert watch.poll() == second
    assert registry.rollback("mid").number == 1
    again = watch.poll()
    assert again is not None
    assert again.number == 1


def die_at(step: int) -> None:
    """Make this process SIGKILL itself before its step-th call that changes the disk."""
    left = step

    def guarded(call: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*args, **options)

        return instead

    for name in ("open", "fsync", "replace", "fdopen", "close"):
        setattr(os, name, guarded(getattr(os, name)))


def in_child(step: int, action: Callable[[], object]) -> bool:
    """Run an action in a forked child that dies before its step-th call; return whether it died."""
    child = os.fork()
    if not child:
        code = 9
        try:
            die_at(step)
            action()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_writer_killed_anywhere_leaves_the_state_before_or_after(
    registry: ModelRegistry, action: str
) -> None:
    registry.stage(MODELS[0], name="mid")
    registry.stage(MODELS[1], name="mid")
    registry.promote("mid", 2)
    registry.promote("mid", 1)
    before = states(registry)
    seen = []
    for step in range(40):
        change = registry.rollback if action == "rollback" else (lambda name: registry.promote(name, 2))
        died = in_child(step, lambda change=change: change("mid"))  # type: ignore[misc]
        after = states(registry)
        seen.append(after != before)
        live = [version for version in registry.versions("mid") if version.state is ModelState.LIVE]
        assert len(live) == 1
        assert registry.load(live[0]) == MODELS[live[0].number - 1]
        if after != before:
            registry.promote("mid", 1)  # the lock is free again and writing works
            assert registry.live("mid").number == 1  # type: ignore[union-attr]
        if not died:
            break
    else:
        pytest.fail("the switch never finished")
    assert not seen[0]
    assert seen[-1]
    assert len(seen) > 5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["stage", "promote", "rollback", "retire"]), st.integers(0, 3)), max_size=14
    )
)
def test_any_sequence_keeps_at_most_one_live_version(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]
) -> None:
    registry = ModelRegistry(tmp_path_factory.mktemp("r"))
    stack: list[int] = []
    for verb, place in moves:
        try:
            if verb == "stage":
                registry.stage(MODELS[place], name="mid")
            elif verb == "promote":
                number = registry.promote("mid", place + 1).number
                stack = [n for n in stack if n != number] + [number]
            elif verb == "rollback":
                registry.rollback("mid")
                stack.pop()
            else:
                registry.retire("mid", place + 1)
                stack = [n for n in stack if n != place + 1]
        except ConfigError:
            pass
        live = [version.number for version in registry.versions("mid") if version.state is ModelState.LIVE]
        assert live == stack[-1:]

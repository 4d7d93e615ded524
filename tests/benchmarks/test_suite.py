"""Every scenario at its smoke size, and the harness that refuses to report."""

from __future__ import annotations

import json
import threading
from importlib.metadata import entry_points

import numpy as np
import pytest

from backtest.cli import main as entry
from benchmarks import bench_events
from benchmarks.bench_rings import both
from benchmarks.harness import BLOCKS, SCENARIOS, Bench, Scenario, run_scenario
from benchmarks.limits import UNITS
from benchmarks.roofline import ROOFS, roof_of
from benchmarks.router_ladders import REFERENCE, SHIPPED_US, reference_with_margins, shipped_ladder
from benchmarks.suite import choose, run_suite
from data.errors import CheckFailed, ConfigError
from engine.inference.ladder import load_ladder
from ext.ring_buffer import SpscRing


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_verifies_and_measures(name: str) -> None:
    found = run_scenario(SCENARIOS[name], seed=1, smoke=True)
    assert found["measures"]
    assert found["verified"]
    for measure in found["measures"]:
        assert 0 < measure["minimum"] <= measure["p50"] <= measure["p99"] <= measure["p999"] <= measure["max"]
        assert measure["floor"] > 0
        assert measure["minimum"] <= min(measure["blocks"])
        assert max(measure["blocks"]) <= measure["max"]


class InterruptedRing:
    """A ring whose consumer is stopped by Ctrl-C."""

    drained = False

    def __init__(self, capacity: int) -> None:
        self.try_push = SpscRing(capacity).try_push

    def pop(self, count: int) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_leaves_no_producer_waiting_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_events, "SpscRing", InterruptedRing)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_scenario(SCENARIOS["ring-threads"], seed=1, smoke=True)
    assert threading.active_count() == before


def test_a_wrong_answer_is_not_reported() -> None:
    def wrong(bench: Bench) -> None:
        bench.throughput("item", lambda: None, count=1)
        bench.verify(False, "one is two")

    with pytest.raises(CheckFailed, match="one is two"):
        run_scenario(Scenario(name="w", title="", conditions="", function=wrong), seed=1, smoke=True)


def test_a_debug_build_refuses_full_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ext.layout_info.DEBUG_BUILD", True)
    with pytest.raises(ConfigError, match="release build"):
        run_scenario(SCENARIOS["ring"], seed=1, smoke=False)


def test_unknown_scenarios_are_named() -> None:
    with pytest.raises(ConfigError, match="--list, was nonsense"):
        run_suite(("nonsense",))
    with pytest.raises(ConfigError, match="was rnig; near it: ring"):
        run_suite(("rnig",))
    with pytest.raises(ConfigError, match=r"near it: linucb$"):
        run_suite(("linub",))
    with pytest.raises(ConfigError, match="--peers --list, was rings-slow; near it: rings"):
        run_suite(("rings-slow",), peers=True)


def test_a_name_means_its_group() -> None:
    named = [scenario.name for scenario in choose(("store", "book"), peers=False)]
    assert set(named) == {name for name in SCENARIOS if name.split("-")[0] in ("store", "book")}
    assert [scenario.name for scenario in choose(("store-seek",), peers=False)] == ["store-seek"]


def test_work_floor_and_peer_take_turns() -> None:
    order: list[str] = []
    bench = Bench(seed=1, smoke=True)
    bench.throughput(
        "item",
        lambda: order.append("work"),
        count=1,
        prepare=lambda: order.append("prepare"),
        floor=lambda: order.append("floor"),
        peer=lambda: order.append("peer"),
        prepare_peer=lambda: order.append("prepare peer"),
    )
    assert order == ["prepare", "work", "floor", "prepare peer", "peer"] * bench.passes
    measure = bench.measures[0]
    assert measure.samples == 2
    assert measure.peer_ratio == pytest.approx(np.median(measure.peer_ratios))


def test_calls_keep_their_distribution_and_the_medians_of_their_parts() -> None:
    bench = Bench(seed=1)
    values = np.arange(1.0, 1_001.0)
    bench.samples("step", values, floor=[3.0], peer=values * 2, peer_name="other", goal=1.5)
    measure = bench.measures[0]
    assert measure.histogram is not None
    assert sum(measure.histogram["counts"]) == len(values)
    assert measure.histogram["upper"][-1] >= 1_000
    assert measure.floor_histogram is None
    assert len(measure.blocks) == BLOCKS
    assert measure.blocks == sorted(measure.blocks)
    assert measure.peer_ratio == pytest.approx(2.0)


def test_tiny_sizes_are_asked_nothing() -> None:
    bench = Bench(seed=1, smoke=True)
    bench.samples("step", [1.0, 2.0], goal=1.0)
    bench.throughput("item", lambda: None, count=1, goal=1.0)
    assert [measure.goal for measure in bench.measures] == [None, None]


def test_a_document_is_json_and_says_where_it_comes_from() -> None:
    document = run_suite(("journal",), smoke=True)
    assert document["repetitions"] == document["scenarios"][0]["measures"][0]["samples"] == 2
    assert json.loads(json.dumps(document)) == document
    machine = document["machine"]
    assert machine["cpu"]
    assert machine["compiler"]
    assert machine["timer_ns"] > 0
    assert len(machine["build_hash"]) == 16
    assert set(document["limits"]) == set(UNITS)
    assert document["scenarios"][0]["run"]["limits"] == document["limits"]
    assert document["scenarios"][0]["measures"][0]["instructions"] is None


def test_roofs_name_limits_and_say_what_remains() -> None:
    roofs = [roof for found in ROOFS.values() for roof in (found if isinstance(found, tuple) else (found,))]
    assert {roof.limit for roof in roofs} <= {*UNITS, ""}
    for roof in roofs:
        assert roof.times > 0
        assert roof.gap.endswith(".")


def test_the_first_roof_that_fits_holds() -> None:
    far, near = (roof_of("book", f"event, L3, {live} live") for live in ("1,000,000", "1,000"))
    assert far is not None
    assert near is not None
    assert (far.limit, near.limit) == ("memory_ns", "stream_ns")
    assert roof_of("nothing", "event") is None


@pytest.mark.skipif(not entry_points(group="anytick.bench"), reason="anytick is not installed")
def test_the_command_finds_the_suite_by_its_entry_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["bench", "journal", "--smoke", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["scenarios"][0]["name"] == "journal"


def test_every_rung_of_the_packages_ladder_has_its_times() -> None:
    names = {variant.name for variant in load_ladder()}
    assert set(SHIPPED_US) == names
    assert all(list(row) == sorted(row) for row in SHIPPED_US.values())


def test_measured_margins_leave_the_reference_ladders_averages() -> None:
    shipped = shipped_ladder(rows=200, seed=1)
    found = reference_with_margins(shipped)
    assert found.values.cascades
    for row, value in zip(found.values.by_margin, REFERENCE.values.values, strict=True):
        mean = sum(share * each for share, each in zip(found.values.shares, row, strict=True))
        assert mean == pytest.approx(value)


def test_a_thread_that_fails_is_heard() -> None:
    def fail() -> None:
        raise TimeoutError("the other end made no progress")

    with pytest.raises(TimeoutError, match="no progress"):
        both(lambda: 1, fail)
    assert both(lambda: 1, lambda: 2) == (1, 2)

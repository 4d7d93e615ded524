"""Every scenario at its smoke size, and the harness that refuses to report."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import pytest

from backtest.cli import main as entry
from backtest.cli.bench import markdown_table, table_rows, with_section
from benchmarks.harness import SCENARIOS, Bench, Scenario, run_scenario
from benchmarks.suite import run_suite
from data.errors import CheckFailed, ConfigError, DataError


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_verifies_and_measures(name: str) -> None:
    found = run_scenario(SCENARIOS[name], seed=1, smoke=True)
    assert found["measures"]
    for measure in found["measures"]:
        assert 0 < measure["minimum"] <= measure["p50"] <= measure["p99"] <= measure["p999"] <= measure["max"]
        assert measure["floor"] > 0


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
    with pytest.raises(ConfigError, match="nonsense"):
        run_suite(("nonsense",))


def test_work_and_floor_take_turns() -> None:
    order: list[str] = []
    bench = Bench(seed=1, smoke=True)
    bench.throughput("item", lambda: order.append("work"), count=1, floor=lambda: order.append("floor"))
    assert order == ["work", "floor"] * 3
    assert bench.measures[0].samples == 2


def test_tables_and_document_agree() -> None:
    document = run_suite(("ring",), smoke=True)
    assert json.loads(json.dumps(document)) == document
    rows = table_rows(document)
    assert [row[0] for row in rows] == ["ring"]
    assert markdown_table(document).count("\n|") == 2


@pytest.mark.skipif(not entry_points(group="anytick.bench"), reason="anytick is not installed")
def test_the_command_finds_the_suite_by_its_entry_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["bench", "ring", "--smoke", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["scenarios"][0]["name"] == "ring"


def test_the_document_keeps_what_stands_around_the_measured_section() -> None:
    once = with_section("before <!-- anytick bench: begin -->old<!-- anytick bench: end --> after", "new")
    assert once == "before <!-- anytick bench: begin -->\nnew\n<!-- anytick bench: end --> after"
    assert with_section(once, "new") == once
    with pytest.raises(DataError, match="marks"):
        with_section("no marks", "new")

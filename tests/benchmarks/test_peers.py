"""Peers that are installed run at their smoke sizes; those that are not are named and left out."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from benchmarks.harness import PEER_SCENARIOS, run_scenario
from benchmarks.suite import choose, run_suite

NAMES = [scenario.name for scenario in choose((), peers=True)]


def absent(name: str) -> list[str]:
    missing = []
    for distribution in PEER_SCENARIOS[name].needs:
        try:
            version(distribution)
        except PackageNotFoundError:
            missing.append(distribution)
    return missing


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_scenario_verifies_both_sides(name: str) -> None:
    if missing := absent(name):
        pytest.skip(f"{', '.join(missing)} is not installed")
    found = run_scenario(PEER_SCENARIOS[name], seed=1, smoke=True)
    assert found["verified"]
    for measure in found["measures"]:
        assert measure["peer"] > 0
        assert measure["peer_ratio"] > 0
        assert measure["peer_name"]


def test_a_missing_peer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("benchmarks.suite.version", none)
    document = run_suite(("hftbacktest", "nautilus"), peers=True, smoke=True)
    assert document["scenarios"] == []
    assert {entry["name"] for entry in document["missing"]} == {
        name for name in NAMES if name.startswith(("hftbacktest", "nautilus"))
    }
    assert {"name": "nautilus", "needs": ["nautilus_trader"]} in document["missing"]


def test_every_claim_names_its_measures_apart() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert {name.split("-")[0] for name in NAMES} == {
        "bandits",
        "hftbacktest",
        "matching",
        "nautilus",
        "onnx",
        "rings",
    }

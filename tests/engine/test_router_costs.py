"""What models take: from kept profiles where they hold here, timed again where they do not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from router_ladder import write_ladder

from engine.inference import machine_profile
from engine.inference.ladder import Variant
from engine.inference.serving import measure
from engine.inference.serving.measure import ladder_costs


@pytest.fixture
def ladder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Variant, ...]:
    plan = replace(measure._PLAN, calls=20, seconds=0.001)
    monkeypatch.setattr(measure, "_PLAN", plan)
    return write_ladder(tmp_path)[:2]


def test_a_kept_profile_is_used_again(ladder: tuple[Variant, ...], tmp_path: Path) -> None:
    said: list[str] = []
    first = ladder_costs(ladder, folder=tmp_path / "kept", say=said.append)
    assert [line.split(":")[0] for line in said] == ["tiny", "small"]
    second = ladder_costs(ladder, folder=tmp_path / "kept", say=said.append)
    assert (first.times_ns, len(said)) == (second.times_ns, 2)


def test_another_version_of_a_library_means_timing_again(
    ladder: tuple[Variant, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder_costs(ladder, folder=tmp_path)
    path = tmp_path / f"{ladder[0].sha256}.json"
    table = json.loads(path.read_text())
    table["conditions"]["onnxruntime"] = "0.1"
    path.write_text(json.dumps(table))
    said: list[str] = []
    ladder_costs(ladder, folder=tmp_path, say=said.append)
    assert len(said) == 1
    assert "onnxruntime '0.1' is now" in said[0]
    assert "measuring again" in said[0]


def test_times_beside_a_load_are_not_kept(ladder: tuple[Variant, ...], tmp_path: Path) -> None:
    assert len(ladder_costs(ladder, keep=False, folder=tmp_path / "kept")) == 2
    assert not (tmp_path / "kept").exists()


def test_a_profile_that_was_measured_for_its_own_sake_serves_too(
    ladder: tuple[Variant, ...], tmp_path: Path
) -> None:
    """Its batches are fewer than the router's; between them times are taken to be a straight line."""
    plan = machine_profile.ProfilePlan(workers=(1,), loads=("idle",), calls=20, seconds=0.001)
    profile = machine_profile.machine_profile(ladder[0].read(), plan=plan, folder=tmp_path)
    said: list[str] = []
    costs = ladder_costs(ladder[:1], folder=tmp_path, say=said.append)
    assert not said
    assert costs.batch_ns(0, 1) == profile.cell(batch=1).p50_ns
    assert costs.batch_ns(0, 64) >= costs.batch_ns(0, 32) >= costs.batch_ns(0, 16)

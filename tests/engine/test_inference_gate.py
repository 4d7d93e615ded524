"""What stands between a model and service: profiles of this machine, the search over forms, the gate."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from forecast_samples import SHAPES, random_weights
from inference_samples import graph_bytes, linear_model
from onnx import helper

from data.errors import ConfigError
from engine.inference import machine_profile as machine
from engine.inference.errors import ModelError
from engine.inference.evaluate import ModelGate
from engine.inference.forecast_export import forecast_to_onnx
from engine.inference.machine_profile import (
    MachineProfile,
    ProfileCell,
    ProfilePlan,
    format_machine_profile,
    hogs,
    machine_profile,
    measure_profile,
    parse_machine_profile,
)
from engine.inference.quantize_forms import FORMS, form_named, quantize_as
from engine.inference.quantize_search import QuantTrial, dominates, search_forms
from engine.inference.session import OrtSession
from engine.inference.validate import ValidationLimits, validate_model

LINEAR = linear_model().SerializeToString()
PLAN = ProfilePlan(batches=(1, 3), workers=(1, 2), loads=("idle",), calls=30)
MLP = forecast_to_onnx(SHAPES["mlp"], random_weights(SHAPES["mlp"]), head=0)
ROWS = np.random.default_rng(1).standard_normal((400, 6)).astype(np.float32)
EXACT = OrtSession.from_bytes(MLP).probabilities(ROWS)
LABELS = EXACT.argmax(axis=1)


# Profiles.


def test_every_cell_of_the_plan_is_measured() -> None:
    found = measure_profile(LINEAR, PLAN)
    assert [(cell.batch, cell.workers) for cell in found.cells] == [(1, 1), (3, 1), (1, 2), (3, 2)]
    assert [cell.calls for cell in found.cells] == [30, 30, 60, 60]
    assert found.cell(batch=3, workers=2).p50_ns > 0
    with pytest.raises(ConfigError, match="must cover batch 64"):
        found.cell(batch=64)
    assert parse_machine_profile(format_machine_profile(found)) == found


def test_under_load_hogs_run_and_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = machine.subprocess.Popen
    monkeypatch.setattr(
        machine.subprocess, "Popen", lambda *a, **o: started.append(popen(*a, **o)) or started[-1]
    )
    plan = dataclasses.replace(PLAN, batches=(1,), workers=(1,), loads=("hog",), calls=5)
    assert measure_profile(LINEAR, plan).cells[0].load == "hog"
    assert len(started) == machine.core_count()
    assert all(process.poll() is not None for process in started)
    with pytest.raises(ZeroDivisionError), hogs(1):
        raise ZeroDivisionError
    assert started[-1].poll() is not None


def test_a_kept_profile_serves_until_something_changes(tmp_path: Path) -> None:
    said: list[str] = []
    first = machine_profile(LINEAR, plan=PLAN, folder=tmp_path, say=said.append)
    assert machine_profile(LINEAR, plan=PLAN, folder=tmp_path, say=said.append) is not first
    assert machine_profile(LINEAR, plan=PLAN, folder=tmp_path, say=said.append) == first
    assert said == []
    path = next(tmp_path.glob("*.json"))
    whole = path.read_text()

    def again(text: str, match: str, **options: object) -> None:
        path.write_text(text)
        machine_profile(LINEAR, folder=tmp_path, say=said.append, **({"plan": PLAN} | options))
        assert match in said.pop()
        assert said == []
        assert parse_machine_profile(path.read_text()).conditions == first.conditions

    again(whole.replace(first.conditions.onnxruntime, "0.9"), "onnxruntime '0.9' is now")
    again(whole[:-40], "damaged")
    again("\x00", "damaged")
    again("[" * 100_000, "damaged")
    again(whole.replace(first.sha256, "f" * 64), "another model")
    again(whole.replace('"p50_ns": ', '"p50_ns": 9999999999'), "percentiles must ascend")
    again(json.dumps(json.loads(whole) | {"schema_version": 9}), "schema_version must be 1")
    again(whole, "does not cover", plan=dataclasses.replace(PLAN, batches=(1, 2)))
    path.write_bytes(b"\xff\xfe")
    machine_profile(LINEAR, plan=PLAN, folder=tmp_path, say=said.append)
    assert "cannot be read" in said.pop()
    machine_profile(LINEAR, plan=PLAN, folder=tmp_path, say=said.append, refresh=True)
    assert not list(tmp_path.glob(".profile*"))


def test_a_cache_that_cannot_be_written_costs_the_cache_only(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").touch()
    found = machine_profile(LINEAR, plan=PLAN, folder=tmp_path / "file" / "x", say=said.append)
    assert found.cells
    assert "could not be kept" in said[-1]


def test_the_cache_folder_follows_the_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / "anytick" / "profiles"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / ".cache" / "anytick" / "profiles"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"batches": ()}, "must be positive"),
        ({"batches": (0,)}, "must be positive"),
        ({"seconds": 0.0}, "must be positive"),
        ({"loads": ("busy",)}, "loads must be among"),
    ],
)
def test_an_impossible_plan_is_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        dataclasses.replace(PLAN, **changes)  # type: ignore[arg-type]


# The search over forms.


def trial(form: str, accuracy: float, *times: int) -> QuantTrial:
    p50 = dict(zip((1, 16), times, strict=True))
    return QuantTrial(
        form=form, model=b"x", accuracy=accuracy, agreement=1.0, mean_abs_difference=0.0, p50_ns=p50
    )


def test_a_form_is_beaten_only_everywhere() -> None:
    base = trial("base", 0.6, 100, 1_000)
    assert dominates(trial("faster", 0.6, 80, 1_000), base)
    assert dominates(trial("better", 0.7, 100, 1_000), base)
    assert dominates(trial("better, same speed but for noise", 0.7, 102, 1_020), base)
    assert not dominates(trial("equal but for noise", 0.6, 98, 1_020), base)
    assert not dominates(trial("slower in a batch", 0.7, 50, 1_100), base)
    assert not dominates(trial("less accurate", 0.59, 10, 10), base)
    assert not dominates(base, base)


def times_of(monkeypatch: pytest.MonkeyPatch, speeds: dict[str, int]) -> None:
    """Let models take the times given by form instead of measured ones."""
    by_digest = {OrtSession.from_bytes(MLP).sha256: speeds["fp32"]}
    for form in FORMS:
        by_digest[OrtSession.from_bytes(quantize_as(MLP, ROWS[:300], form)).sha256] = speeds.get(
            form.name, 99
        )

    def measured(model: bytes, plan: ProfilePlan) -> MachineProfile:
        digest = OrtSession.from_bytes(model).sha256
        time_ns = by_digest[digest]
        cells = tuple(
            ProfileCell(
                batch=batch, workers=1, load="idle", calls=1, p50_ns=time_ns * batch, p99_ns=10**6,
                p999_ns=10**6, max_ns=10**6,
            )
            for batch in plan.batches
        )  # fmt: skip
        return MachineProfile(sha256=digest, conditions=machine.conditions(), cells=cells)

    monkeypatch.setattr("engine.inference.quantize_search.measure_profile", measured)


def test_the_front_keeps_what_nothing_beats_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    times_of(monkeypatch, {"fp32": 50, "dynamic-s8": 20, "static-u8s8": 10})
    gate = ModelGate(agreement_min=0.5, accuracy_loss_max=0.5, mean_abs_difference_max=0.5)
    found = search_forms(MLP, ROWS, LABELS, gate=gate)
    assert [one.form for one in found.trials] == ["fp32", *(form.name for form in FORMS)]
    assert (found.calibration_rows, found.held_back_rows, found.judged_by) == (300, 100, "accuracy")
    assert found.chosen.form == "static-u8s8"
    assert found.int8 is found.chosen
    for one in found.trials:
        beaten = any(dominates(other, one) for other in found.trials)
        assert one.on_front is not beaten
        assert one.verdict.startswith("beaten by" if beaten else "kept")
    assert "fastest at batch 1, 4, 16, 64" in found.chosen.verdict


def test_fp32_runs_where_it_is_fastest_or_no_form_holds_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    times_of(monkeypatch, {"fp32": 5})
    gate = ModelGate(agreement_min=0.9, accuracy_loss_max=0.1)
    found = search_forms(MLP, ROWS, gate=gate)
    assert found.judged_by == "agreement with FP32"
    assert found.chosen.form == "fp32"
    assert found.int8 is not None
    assert [one.form for one in found.front] == ["fp32"]
    strict = ModelGate(agreement_min=1.0, accuracy_loss_max=0.0, mean_abs_difference_max=0.0)
    assert search_forms(MLP, ROWS, gate=strict).int8 is None
    exact = ModelGate(agreement_min=0.0, accuracy_loss_max=1.0, mean_abs_difference_max=0.0)
    assert search_forms(MLP, ROWS, gate=exact).int8 is None


def test_a_form_that_cannot_be_made_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = search_forms(LINEAR, np.zeros((8, 4), np.float32), plan=dataclasses.replace(PLAN, calls=3))
    assert [bool(one.model) for one in found.trials] == [True] + [False] * len(FORMS)
    assert "two or more layers" in found.trials[1].verdict
    assert found.int8 is None
    with pytest.raises(ModelError, match="8 labels"):
        search_forms(LINEAR, np.zeros((8, 4), np.float32), np.zeros(3, np.int64))
    with pytest.raises(ConfigError, match="at least 4 rows"):
        search_forms(LINEAR, np.zeros((3, 4), np.float32))


# The gate.

# Random weights decide more narrowly than trained ones.
LIMITS = ValidationLimits(timed_calls=5, accuracy_loss_max=0.03)
RULES = (
    "file size",
    "operators, no external data",
    "input",
    "runs",
    "every answer finite",
    "agreement with the reference",
    "mean signal difference",
    "accuracy loss",
    "worst latency, one input",
)


def broken(candidate: bytes, limits: ValidationLimits = LIMITS, **options: object) -> list[str]:
    outcomes = validate_model(candidate, MLP, ROWS, LABELS, limits=limits, **options)  # type: ignore[arg-type]
    assert tuple(outcome.rule for outcome in outcomes) == RULES
    return [outcome.rule for outcome in outcomes if not outcome.passed]


def test_a_good_int8_form_passes_every_rule() -> None:
    assert broken(MLP) == []
    assert broken(quantize_as(MLP, ROWS, form_named("static-u8s8-channel"))) == []
    outcomes = validate_model(MLP, MLP, ROWS, limits=LIMITS)
    assert "accuracy loss" not in [outcome.rule for outcome in outcomes]


def test_each_fault_breaks_its_rule() -> None:
    node = helper.make_node("Launch", ["x"], ["y"], domain="evil")
    assert broken(graph_bytes([node], domains=("", "evil")))[0] == RULES[1]
    assert broken(b"noise") == list(RULES[1:])
    assert broken(LINEAR) == list(RULES[2:])
    assert broken(MLP, dataclasses.replace(LIMITS, model_bytes_max=100)) == ["file size"]
    other = forecast_to_onnx(SHAPES["mlp"], random_weights(SHAPES["mlp"], seed=9), head=0)
    assert broken(other) == [RULES[5], RULES[6], RULES[7]]


def test_a_model_that_overflows_far_outside_its_rows_is_refused() -> None:
    weights = random_weights(SHAPES["mlp"])
    weights["dense.0.weight"] *= 1e20
    weights["dense.1.weight"] *= 1e20
    weights["head.weight"] *= 1e-40
    steep = forecast_to_onnx(SHAPES["mlp"], weights, head=0)
    outcomes = validate_model(steep, MLP, ROWS, LABELS, limits=LIMITS)
    finite = next(outcome for outcome in outcomes if outcome.rule == "every answer finite")
    assert not finite.passed


def test_one_slow_call_is_enough() -> None:
    ticks = iter(range(10**6))
    slow = iter([0, 10, 20, 30, 40, 50 + 10**9, *range(10**10, 10**10 + 100)])
    assert broken(MLP, clock=lambda: next(ticks)) == []
    assert broken(MLP, clock=lambda: next(slow)) == ["worst latency, one input"]


def test_nothing_is_judged_by_an_unfit_reference_or_rows() -> None:
    with pytest.raises(ModelError, match="reference"):
        validate_model(MLP, b"noise", ROWS)
    with pytest.raises(ModelError, match=r"rows must have shape \(n, 6\)"):
        validate_model(MLP, MLP, ROWS[:, :5])
    with pytest.raises(ModelError, match="400 labels"):
        validate_model(MLP, MLP, ROWS, LABELS[:9])
    with pytest.raises(ConfigError, match="agreement_min"):
        ValidationLimits(agreement_min=2.0)

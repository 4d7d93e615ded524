"""`anytick models` through its parser."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys

import numpy as np
import polars as pl
import pytest
from inference_samples import NAMES, graph_bytes, linear_model, window
from onnx import helper

from backtest.cli import models
from data.errors import AnytickError
from engine.inference.classifier import label_moves
from engine.inference.machine_profile import ProfilePlan
from engine.inference.pipeline import train_window
from engine.inference.profile import load_profile
from engine.inference.quantize_forms import FORMS

FEATURES, CHANGES = window(2_000)


def anytick(*words: object) -> int:
    parser = argparse.ArgumentParser()
    models.add_parser(parser.add_subparsers())
    args = parser.parse_args(["models", *map(str, words)])
    return args.run(args)


@pytest.fixture
def files(tmp_path):
    found = train_window(FEATURES, CHANGES, seed=1, feature_names=NAMES, window_label="w")
    (tmp_path / "fp32.onnx").write_bytes(found.fp32_model)
    (tmp_path / "int8.onnx").write_bytes(found.int8_model)
    np.save(tmp_path / "rows.npy", FEATURES)
    # Foreign column order and a column too many: names decide.
    table = {name: FEATURES[:, column] for column, name in reversed(list(enumerate(NAMES)))}
    pl.DataFrame(table | {"extra": FEATURES[:, 0]}).write_parquet(tmp_path / "rows.parquet")
    return tmp_path


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_inspect_shows_what_runs(files, capsys):
    assert anytick("inspect", files / "int8.onnx", "--json") == 0
    found = last_json(capsys)
    assert (found["verdict"], found["precision"], found["features"]) == ("accepted", "int8", 8)
    assert found["runs_as"].count("QGemm") == 2
    assert anytick("inspect", files / "fp32.onnx") == 0
    assert "FusedGemm" in capsys.readouterr().out


def test_inspect_refuses_a_foreign_operator_with_exit_code_1(tmp_path, capsys):
    node = helper.make_node("Launch\x1b[2J", ["x"], ["y"], domain="evil")
    (tmp_path / "evil.onnx").write_bytes(graph_bytes([node], domains=("", "evil")))
    assert anytick("inspect", tmp_path / "evil.onnx") == 1
    shown = capsys.readouterr().out
    assert "refused" in shown
    assert "evil::Launch" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("action", ["inspect", "profile"])
def test_missing_and_damaged_files_are_named(tmp_path, action):
    with pytest.raises(AnytickError, match=r"absent\.onnx"):
        anytick(action, tmp_path / "absent.onnx")
    (tmp_path / "half.onnx").write_bytes(linear_model().SerializeToString()[:-20])
    with pytest.raises(AnytickError, match=r"half\.onnx"):
        anytick("profile", tmp_path / "half.onnx")


@pytest.mark.parametrize("action", ["inspect", "validate", "stage"])
def test_what_has_no_end_is_not_read(tmp_path, action):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    with open(tmp_path / "large.onnx", "wb") as large:
        large.truncate(2 << 30)
    names = ["--name", "mid", "--registry", tmp_path / "registry"] if action == "stage" else []
    for name, rule in (
        ("pipe", "regular file"),
        ("zero", "regular file"),
        ("large", "at most 67108864 bytes"),
    ):
        with pytest.raises(AnytickError, match=rf"{name}\.onnx: a model must .*{rule}"):
            anytick(action, tmp_path / f"{name}.onnx", *names)


def test_rows_that_are_not_finite_are_named(files):
    rows = np.load(files / "rows.npy")
    rows[7, 2] = np.nan
    np.save(files / "rows.npy", rows)
    for words in (("validate", "--rows"), ("quantize", "--calibration")):
        with pytest.raises(AnytickError, match=r"rows\.npy:row 7: rows must be finite"):
            anytick(words[0], files / "fp32.onnx", words[1], files / "rows.npy")


def test_a_written_model_is_readable_by_others(files):
    before = os.umask(0o022)
    try:
        words = ("--calibration", files / "rows.npy", "--form", "static-u8s8")
        assert anytick("quantize", files / "fp32.onnx", *words) == 0
    finally:
        os.umask(before)
    written = files / "fp32.int8.onnx"
    assert stat.S_IMODE(written.stat().st_mode) == 0o644
    assert not list(files.glob(".*"))


def test_profile_stores_what_backtests_read(files, capsys):
    output = files / "profile.toml"
    words = (
        "profile",
        files / "fp32.onnx",
        files / "int8.onnx",
        "--repetitions",
        20,
        "--output",
        output,
        "--json",
    )
    assert anytick(*words) == 0
    found = last_json(capsys)
    profile = load_profile(output)
    assert profile.latency_ns("int8") == found["latency"]["int8"]["p50_ns"]
    with pytest.raises(AnytickError, match="differ in precision, was fp32 twice"):
        anytick("profile", files / "fp32.onnx", files / "fp32.onnx", "--output", output)
    with pytest.raises(AnytickError, match="must come with the models"):
        anytick("profile", "--output", output)


def test_profile_measures_this_machine_once(files, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(files / "cache"))
    plan = ProfilePlan(batches=(1, 2), workers=(1,), loads=("idle",), calls=5)
    monkeypatch.setattr("engine.inference.machine_profile.ProfilePlan", lambda **options: plan)
    words = ("profile", files / "fp32.onnx", files / "int8.onnx")
    assert anytick(*words, "--json") == 0
    first = last_json(capsys)
    assert len(first["models"]["int8.onnx"]["cells"]) == 2
    assert anytick(*words, "--json") == 0
    assert last_json(capsys) == first
    kept = next((files / "cache" / "anytick" / "profiles").glob("*.json"))
    kept.write_text("{")
    assert anytick(*words) == 0
    shown = capsys.readouterr()
    assert "damaged" in shown.err
    assert "p99.9 µs" in shown.out


def test_validate_prints_every_rule_and_exits_with_1_when_one_is_broken(files, capsys):
    words = ("validate", files / "int8.onnx", "--against", files / "fp32.onnx", "--rows", files / "rows.npy")
    assert anytick(*words) == 0
    shown = capsys.readouterr().out
    assert "passed" in shown
    assert shown.count("holds") == 8
    assert anytick(*words, "--agreement", 1.0, "--difference", 0.0, "--json") == 1
    found = last_json(capsys)
    assert found["passed"] is False
    assert "mean signal difference" in [rule["rule"] for rule in found["rules"] if not rule["passed"]]
    (files / "half.onnx").write_bytes((files / "int8.onnx").read_bytes()[:-30])
    words = ("validate", files / "half.onnx", "--against", files / "fp32.onnx", "--rows", files / "rows.npy")
    assert anytick(*words) == 1
    assert "BROKEN" in capsys.readouterr().out
    # Without a form to be held against, a refused file still gets its table.
    assert anytick("validate", files / "half.onnx") == 1
    shown = capsys.readouterr().out
    assert shown.count("not measured") == 6
    assert "refused, on no rows" in shown
    np.save(files / "labels.npy", np.full(len(FEATURES), 3))
    with pytest.raises(AnytickError, match="0, 1 or 2, was 3"):
        anytick(*words, "--labels", files / "labels.npy")


def test_the_registry_s_verbs(files, capsys):
    place = ("--registry", files / "registry")
    assert anytick("list", *place) == 0
    assert capsys.readouterr().out == "no versions\n"
    for name in ("fp32", "int8"):
        assert anytick("stage", files / f"{name}.onnx", "--name", "mid", "--note", name, *place) == 0
    assert anytick("promote", "mid", 1, *place) == 0
    assert anytick("promote", "mid", 2, *place) == 0
    assert anytick("rollback", "mid", *place) == 0
    assert anytick("retire", "mid", 2, *place) == 0
    capsys.readouterr()
    assert anytick("list", "mid", "--json", *place) == 0
    found = last_json(capsys)["versions"]
    assert [(version["number"], version["state"]) for version in found] == [(1, "live"), (2, "retired")]
    assert anytick("list", *place) == 0
    assert "int8" in capsys.readouterr().out
    with pytest.raises(AnytickError, match="earlier live version"):
        anytick("rollback", "mid", *place)


def test_quantize_takes_columns_by_name(files, capsys):
    form = ("--form", "static-u8s8-channel")
    for rows in ("rows.npy", "rows.parquet"):
        output = files / f"{rows}.onnx"
        words = ("quantize", files / "fp32.onnx", "--calibration", files / rows, "--output", output, *form)
        assert anytick(*words) == 0
    assert (files / "rows.npy.onnx").read_bytes() == (files / "rows.parquet.onnx").read_bytes()
    assert anytick("quantize", files / "fp32.onnx", "--calibration", files / "rows.npy", "--json", *form) == 0
    assert last_json(capsys)["output"] == str(files / "fp32.int8.onnx")


def test_quantize_tries_every_form_and_writes_the_fastest_that_holds(files, capsys):
    np.save(files / "labels.npy", label_moves(CHANGES, threshold=0.5))
    words = ("quantize", files / "fp32.onnx", "--calibration", files / "rows.npy", "--labels",
             files / "labels.npy", "--front", files / "front")  # fmt: skip
    assert anytick(*words, "--json") == 0
    found = last_json(capsys)
    assert [form["form"] for form in found["forms"]] == ["fp32", *(form.name for form in FORMS)]
    assert found["judged_by"] == "accuracy"
    written = (files / "fp32.int8.onnx").read_bytes()
    assert found["int8"] in [form["form"] for form in found["forms"] if form["bytes"] == len(written)]
    front = {f"fp32.{form['form']}.onnx" for form in found["forms"] if form["on_front"]}
    assert {path.name for path in (files / "front").iterdir()} == front
    assert anytick(*words) == 0
    shown = capsys.readouterr().out
    assert "kept: " in shown
    assert "static-s8s8-channel" in shown
    with pytest.raises(AnytickError, match="must come with the rows"):
        anytick("quantize", files / "fp32.onnx", "--labels", files / "labels.npy")
    with pytest.raises(AnytickError, match=r"fp32\.int8\.onnx: a model to quantize must be fp32, was int8"):
        anytick("quantize", files / "fp32.int8.onnx", "--calibration", files / "rows.npy")
    with pytest.raises(AnytickError, match=r"labels\.npy: rows must have the model's shape \(n, "):
        anytick("quantize", files / "fp32.onnx", "--calibration", files / "labels.npy")
    with pytest.raises(AnytickError, match="not of a ladder"):
        anytick("quantize", files / "fp32.onnx")


def test_quantize_refuses_unfit_calibration_and_writes_nothing(files):
    np.save(files / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.save(files / "narrow.npy", FEATURES[:, :2])
    np.save(files / "text.npy", np.array([["a"]]))
    (files / "noise.npy").write_bytes(b"noise")
    (files / "noise.parquet").write_bytes(b"noise")
    pl.DataFrame({"other": [1.0]}).write_parquet(files / "other.parquet")
    before = sorted(files.iterdir())
    for name in (
        "objects.npy",
        "narrow.npy",
        "text.npy",
        "noise.npy",
        "noise.parquet",
        "other.parquet",
        "absent.npy",
        "rows.csv",
    ):
        with pytest.raises(AnytickError):
            anytick("quantize", files / "fp32.onnx", "--calibration", files / name)
    with pytest.raises(AnytickError, match="not be the model itself"):
        anytick(
            "quantize",
            files / "fp32.onnx",
            "--calibration",
            files / "rows.npy",
            "--output",
            files / "fp32.onnx",
        )
    assert sorted(files.iterdir()) == before


def test_build_without_torch_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(AnytickError, match=r"pip install 'anytick\[train\]'"):
        anytick("build", "--output", tmp_path / "ladder")
    assert not (tmp_path / "ladder").exists()

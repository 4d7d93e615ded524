"""`anytick models` through its parser."""

from __future__ import annotations

import argparse
import json

import numpy as np
import polars as pl
import pytest
from inference_samples import NAMES, graph_bytes, linear_model, window
from onnx import helper

from backtest.cli import models
from data.errors import AnytickError
from engine.inference.pipeline import train_window
from engine.inference.profile import load_profile

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
        anytick("profile", files / "fp32.onnx", files / "fp32.onnx", "--repetitions", 2)


def test_quantize_takes_columns_by_name(files, capsys):
    for rows in ("rows.npy", "rows.parquet"):
        output = files / f"{rows}.onnx"
        words = ("quantize", files / "fp32.onnx", "--calibration", files / rows, "--output", output)
        assert anytick(*words) == 0
    assert (files / "rows.npy.onnx").read_bytes() == (files / "rows.parquet.onnx").read_bytes()
    assert anytick("quantize", files / "fp32.onnx", "--calibration", files / "rows.npy", "--json") == 0
    assert last_json(capsys)["output"] == str(files / "fp32.int8.onnx")


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


@pytest.mark.parametrize("action", ["build", "validate"])
def test_what_is_not_there_yet_says_so(action, capsys):
    assert anytick(action) == 2
    assert capsys.readouterr().err == f"anytick models {action}: not there yet\n"

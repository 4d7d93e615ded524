from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_results import fake_backtest, fake_run

from backtest.report import json_value, read_json, write_json
from data.errors import DataError


@pytest.mark.parametrize("make", [fake_run, fake_backtest], ids=["run", "backtest"])
def test_json_reads_back_to_the_same_result(make, tmp_path: Path) -> None:
    original = make()
    path = write_json(original, tmp_path / "result.json")
    again = read_json(path)
    assert type(again) is type(original)
    assert json_value(again) == json_value(original)
    assert write_json(again, tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_json_keeps_the_clock_apart_and_its_keys_sorted(tmp_path: Path) -> None:
    documents = []
    for wall_seconds in (1.0, 2.0):
        path = write_json(fake_run(wall_seconds=wall_seconds), tmp_path / "result.json")
        documents.append(json.loads(path.read_text(encoding="utf-8")))
    slow, fast = documents
    assert slow.pop("performance") != fast.pop("performance")
    assert slow == fast
    assert list(slow["result"]) == sorted(slow["result"])


def test_json_writes_what_is_not_finite_as_null() -> None:
    run = replace(fake_run(), years=float("nan"), config={"edge": float("inf"), "path": Path("a/b")})
    document = json_value(run)
    assert document["result"]["years"] is None
    assert document["result"]["config"] == {"edge": None, "path": "a/b"}
    daily = run.policies[0].daily_cost_bps
    written = document["result"]["policies"][0]["daily_cost_bps"]
    assert [value is None for value in written] == np.isnan(daily).tolist()
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "expected JSON"),
        ("[]", "expected a result of anytick"),
        ('{"kind": "Other"}', "expected a result of anytick"),
        ('{"kind": "Result", "version": 99}', "expected version 1, was 99"),
        (
            '{"kind": "Result", "version": 1, "result": {}, "performance": {}}',
            "expected every field of Result",
        ),
        (
            '{"kind": "RunResult", "version": 1, "result": {"rows": "3"}, "performance": {}}',
            "expected every field",
        ),
    ],
)
def test_foreign_json_is_refused_by_name(text: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rule) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_missing_json_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a result file, was No such file"):
        read_json(tmp_path / "none.json")

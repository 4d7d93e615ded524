"""Two documents side by side: what counts as slower, and what may not be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from measured import document

from benchmarks.comparison import compare, load_document
from data.errors import ConfigError, DataError


def test_a_clear_change_is_found_both_ways() -> None:
    slower = compare(document(), document(scale=1.2, seed=2))
    assert [change.verdict for change in slower] == ["slower", "slower"]
    assert slower[0].ratio == pytest.approx(1.2, rel=0.02)
    assert slower[0].low <= slower[0].ratio <= slower[0].high
    faster = compare(document(scale=1.2), document(seed=2))
    assert [change.verdict for change in faster] == ["faster", "faster"]


def test_the_same_program_is_the_same() -> None:
    verdicts = [
        change.verdict
        for seed in range(20)
        for change in compare(document(seed=seed), document(seed=seed + 50))
    ]
    # The band covers 95 %: a few of forty may fall outside.
    assert verdicts.count("same") >= 34


def test_a_machine_that_slowed_down_widens_the_band() -> None:
    (change, _) = compare(document(), document(scale=1.2, floor=12.0, seed=2))
    assert change.drift == pytest.approx(1.2)
    assert change.verdict == "same"


@pytest.mark.parametrize("canary", ["near_ns", "decode_ns"])
def test_a_canary_that_slowed_down_widens_the_band(canary: str) -> None:
    slow = document(scale=1.2, seed=2)
    limits = slow["scenarios"][0]["run"]["limits"]
    slow["scenarios"][0]["run"]["limits"] = {**limits, canary: 1.3 * limits[canary]}
    assert [change.verdict for change in compare(document(), slow)] == ["same", "same"]


def test_a_step_of_the_clock_is_no_change() -> None:
    old, new = document(), document(scale=1.005)
    for each in (old, new):
        measure = each["scenarios"][0]["measures"][1]
        measure["blocks"] = [measure["p50"]] * 16
    change = compare(old, new)[1]
    assert change.verdict == "same"
    for each in (old, new):
        each["machine"]["timer_step_ns"] = 1.0
    assert compare(old, new)[1].verdict == "slower"


def test_one_figure_has_no_band() -> None:
    old, new = document(), document(scale=9.0)
    for each in (old, new):
        each["scenarios"][0]["measures"][0]["blocks"] = [each["scenarios"][0]["measures"][0]["p50"]]
    assert compare(old, new)[0].verdict == "same"


def test_the_band_repeats() -> None:
    first, second = (compare(document(), document(seed=3)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("part", ["cpu", "cores", "system"])
def test_other_machines_are_refused(part: str) -> None:
    other = document()
    other["machine"][part] = "other"
    with pytest.raises(ConfigError, match=part):
        compare(document(), other)


def test_smoke_and_strangers_are_refused() -> None:
    smoke = document() | {"smoke": True}
    with pytest.raises(ConfigError, match="smoke"):
        compare(document(), smoke)
    with pytest.raises(ConfigError, match="same name"):
        compare(document(), document(name="ring"))
    resized = document()
    resized["scenarios"][0]["parameters"] = {"items": 8}
    with pytest.raises(ConfigError, match="sizes"):
        compare(document(), resized)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scenarios": [], "version": 1}', "\N{SNOWMAN}"])
def test_other_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"other\.json"):
        load_document(path)


def test_a_document_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document()), encoding="utf-8")
    assert load_document(path) == document()
    assert np.isfinite(load_document(path)["limits"]["clock_ns"])


def test_instructions_are_compared_where_they_repeat() -> None:
    old, new = document(), document(seed=2)
    for each, count, spread in ((old, 100.0, 0.001), (new, 110.0, 0.001)):
        each["scenarios"][0]["measures"][0] |= {"instructions": count, "instructions_spread": spread}
    first, second = compare(old, new)
    assert first.instructions == pytest.approx(1.1)
    assert second.instructions is None
    new["scenarios"][0]["measures"][0]["instructions_spread"] = 0.2
    assert compare(old, new)[0].instructions is None

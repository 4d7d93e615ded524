"""Every example runs as a user would run it: from a folder of its own, with ticks beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.markets import random_quotes, write_quotes

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAYS = {
    "fill_bounds": "pessimistic",
    "passive_buyer": "position 10",
    "routing_policy": "half_and_half: [(1, 0, 13), (1, 1, 12)]",
    "ten_lines": "Interval(mean=",
    "walk_forward": "tries",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path):
    # Ten days of a quote every five minutes.
    write_quotes(tmp_path / "ticks.parquet", random_quotes(2, count=2_880, seconds=300.0))
    ran = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert SAYS[path.stem] in ran.stdout


def test_every_example_says_something_of_its_own():
    assert {path.stem for path in EXAMPLES} == set(SAYS)

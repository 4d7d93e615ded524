"""Ids of any rule spread over a table's buckets as random ones would."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CC", "cc").split()[0]

pytestmark = [
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason="needs a C compiler"),
    pytest.mark.skipif(not (ROOT / "ext" / "order_index.h").is_file(), reason="needs the sources"),
]


def test_ids_that_keep_a_distance_fill_no_bucket(tmp_path: Path) -> None:
    program = tmp_path / "spread_ids"
    source = ROOT / "tests" / "ext" / "spread_ids.c"
    command = (COMPILER, "-std=c11", "-O2", f"-I{ROOT / 'ext'}", str(source), "-o", str(program))
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run((str(program),), capture_output=True, text=True, check=True)
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert len(lines) > 80
    # Random ids: 0.7 and 0.9 % at this load. By the lower half of one product 75 % of the multiples of its
    # factor find their bucket full, and those of its inverse all share one.
    uneven = [line for line in lines if float(line[2]) > 0.05 or float(line[3]) > 0.12]
    assert not uneven

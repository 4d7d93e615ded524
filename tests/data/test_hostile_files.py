"""Hostile files: read or refused by a typed error that names the file; never a crash, a hang, half a store.

Thousands of mutants of every format run in processes of their own under a limit of memory, see
`hostile_worker`. A failing mutant is told by sample and number, and `hostile_mutants.mutant` makes it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile_worker
import pytest
from hostile_mutants import mutant
from hostile_samples import SAMPLES

from data.importers import MODULES

ROOT = Path(__file__).resolve().parents[2]
READABLE = [name for name, sample in SAMPLES.items() if sample.readable]
NIGHTLY_MUTANTS = 100_000
# A library that panics on a damaged file leaks a little each time, which the limit of memory counts.
MUTANTS_A_PROCESS = 1_000


def run(folder: Path, *arguments: str) -> list[tuple[str, str, str, str]]:
    """Return (sample, what it is, outcome, detail) of every file that the worker read."""
    folder.mkdir()
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "data")])
    ran = subprocess.run(
        [sys.executable, hostile_worker.__file__, folder / "work", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [tuple(json.loads(line)) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, f"died of what comes after {rows[-1:]}: {ran.stderr[-3_000:]}"
    return rows


def require_refused_or_read(rows: Sequence[tuple[str, str, str, str]], *, damaged: int) -> None:
    wrong = [row for row in rows if row[2] not in ("read", "refused")]
    assert not wrong, f"{len(wrong)} of {len(rows)}, among them {wrong[:5]}"
    valid = {row[0] for row in rows if row[1] == "valid" and row[2] == "read"}
    assert valid == {row[0] for row in rows}, "every sample must be readable as it is"
    assert len(rows) == damaged + len(valid)


def test_every_importer_has_a_sample() -> None:
    """A format without one is not tried."""
    own = {"lobster", "quotes", "trades", "events", "table", "store"}
    assert {name.partition("-")[0] for name in SAMPLES} == own | set(MODULES.values())


def test_mutants_are_the_same_everywhere() -> None:
    assert mutant(SAMPLES["trades"], 7) == mutant(SAMPLES["trades"], 7)
    assert mutant(SAMPLES["trades"], 7) != mutant(SAMPLES["trades"], 8)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    rows = run(tmp_path / "run", "mutants", "0", "12", *READABLE)
    require_refused_or_read(rows, damaged=12 * len(READABLE))
    outcomes = Counter(row[2] for row in rows)
    assert min(outcomes["read"], outcomes["refused"]) > 20


def test_bombs_and_odd_archives_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    """Of one format that reads bytes and one that reads text; at night of all."""
    rows = run(tmp_path / "run", "attacks", "70", "itch-gz", "tardis-zst")
    bombs = [row for row in rows if row[1].startswith((".", "one zip", "xz", "zstd"))]
    assert len(bombs) == 2 * 14
    assert {row[2] for row in bombs} == {"refused"}
    require_refused_or_read(rows, damaged=len(rows) - 2)


@pytest.mark.nightly
def test_many_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    each = -(-NIGHTLY_MUTANTS // len(READABLE))
    slices = [
        (name, first, min(first + MUTANTS_A_PROCESS, each))
        for name in READABLE
        for first in range(0, each, MUTANTS_A_PROCESS)
    ]

    def slice_of(task: tuple[str, int, int]) -> list[tuple[str, str, str, str]]:
        name, first, stop = task
        return run(tmp_path / f"{name}-{first}", "mutants", str(first), str(stop), name)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (_, first, stop), rows in zip(slices, pool.map(slice_of, slices), strict=True):
            require_refused_or_read(rows, damaged=stop - first)


@pytest.mark.nightly
def test_bombs_of_every_format_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    for name in READABLE:
        rows = run(tmp_path / name, "attacks", "600", name)
        require_refused_or_read(rows, damaged=len(rows) - 1)

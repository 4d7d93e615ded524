"""The ring's algorithm without Python, in several threads, under ThreadSanitizer where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "ext" / "stress_ring.c"
RECORDS = 500_000
NIGHTLY_RECORDS = 100_000_000
SHAPES = ("index", "stamped", "park", "claim", "gating", "joining", "dropping", "mpsc")
COMPILER = os.environ.get("CC", "cc").split()[0]
# Copies stay calls: gcc's sanitizer does not see those that it puts in place, and a single push is one.
SANITIZE = (
    "-fsanitize=thread",
    "-g",
    "-O2",
    "-DANYTICK_DEBUG=1",
    "-fno-builtin-memcpy",
    "-fno-builtin-memcmp",
)
# Where a release or an acquire is made relaxed, and the shape that needs it.
BARRIERS = {
    "tail published": ("index", "store_release(&ring->producer->tail, tail);"),
    "tail seen": ("claim", "ring->tail_seen = load_acquire(&ring->producer->tail);"),
    "head published": ("index", "store_release(&ring->consumers[ring->consumer].head, ring->head);"),
    "head seen": ("index", "load_acquire(&ring->consumers[0].head)"),
    "head seen, of several": ("gating", "load_acquire(&ring->consumers[index].head)"),
    "stamp published": ("stamped", "store_release(ring_stamp(slot, bytes), tail + 1);"),
    "stamp seen": ("stamped", "load_acquire(ring_stamp(slot, bytes)) == head + 1"),
}

pytestmark = [
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason="needs a C compiler"),
    pytest.mark.skipif(not (ROOT / "ext" / "ring.h").is_file(), reason="needs the sources"),
]


def compile_to(program: Path, *flags: str, source: Path = SOURCE) -> subprocess.CompletedProcess[str]:
    # -Wno-tsan: gcc warns of fences; they order cursors here, and every other access is atomic or owned.
    command = (COMPILER, "-std=c11", "-Wall", "-Wextra", "-pthread", *flags, f"-I{ROOT / 'ext'}")
    return subprocess.run(
        (*command, str(source), "-o", str(program)), capture_output=True, text=True, check=False
    )


def run(program: Path, *arguments: object, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (str(program), *map(str, arguments)),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1 exitcode=66"},
    )


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    trial = folder / "trial.c"
    trial.write_text("int main(void) { return 0; }\n", encoding="ascii")
    able = subprocess.run(
        (COMPILER, "-fsanitize=thread", str(trial), "-o", str(folder / "trial")),
        capture_output=True,
        check=False,
    )
    if able.returncode or run(folder / "trial").returncode:
        pytest.skip("the compiler lacks ThreadSanitizer")
    built = compile_to(folder / "stress_ring", *SANITIZE, "-Wno-unknown-warning-option", "-Wno-tsan")
    assert built.returncode == 0, built.stderr
    return folder / "stress_ring"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("capacity", "batch", "part"), [(1_024, 16, 1), (64, 7, 4), (2, 3, 50), (1, 1, 100)])
def test_no_race_no_loss_no_tear_across_the_wrap(
    sanitized: Path, shape: str, capacity: int, batch: int, part: int
) -> None:
    done = run(sanitized, shape, max(RECORDS // part, 100), capacity, batch)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_run_has_no_race_either(sanitized: Path, shape: str) -> None:
    done = run(sanitized, shape, NIGHTLY_RECORDS, 4_096, 64, timeout_s=3_600.0)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("barrier", BARRIERS)
def test_the_sanitizer_sees_each_barrier_that_is_missing(
    sanitized: Path, tmp_path: Path, barrier: str
) -> None:
    """The alarm works: the same program with one release or acquire made relaxed is a race."""
    shape, line = BARRIERS[barrier]
    for header in (ROOT / "ext").glob("*.h"):
        shutil.copy(header, tmp_path)
    ring = (ROOT / "ext" / "ring.h").read_text(encoding="ascii")
    assert ring.count(line) == 1
    weak = re.sub(r"store_release\((.*), (.*)\);", r"__atomic_store_n(\1, \2, __ATOMIC_RELAXED);", line)
    weak = weak.replace("load_acquire", "load_relaxed")
    (tmp_path / "ring.h").write_text(ring.replace(line, weak), encoding="ascii")
    built = compile_to(tmp_path / "weak", f"-I{tmp_path}", *SANITIZE, "-w")
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "weak", shape, 20_000, 64, 7)
    assert done.returncode == 66
    assert "data race" in done.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_the_optimised_program_agrees(tmp_path: Path, shape: str) -> None:
    built = compile_to(tmp_path / "stress_ring", "-O3", "-Werror", "-Wno-unknown-pragmas")
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "stress_ring", shape, RECORDS, 4_096, 64)
    assert done.returncode == 0, done.stderr


def test_a_look_is_right_whatever_the_ring_does_between_its_loads(tmp_path: Path) -> None:
    source = SOURCE.with_name("between_looks.c")
    built = compile_to(tmp_path / "between_looks", "-O2", "-Wno-unknown-pragmas", source=source)
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "between_looks")
    assert done.returncode == 0, done.stderr

"""A result folder appears whole or not at all, and nobody else's folder is touched."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from backtest.whole_folder import whole_folder
from data.errors import ConfigError

HANGING = """
    import sys
    from pathlib import Path
    from backtest.whole_folder import whole_folder

    with whole_folder(Path(sys.argv[1])) as scratch:
        (scratch / "half.journal").write_text("x")
        print(scratch, flush=True)
        sys.stdin.read()
"""


def hanging_run(path: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that stands in the middle of writing `path`; return it and its scratch folder."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HANGING), str(path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def test_a_folder_appears_at_the_end_and_replaces_an_older_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for generation in ("one", "two"):
        with whole_folder(out) as scratch:
            (scratch / "result.json").write_text(generation)
            assert not out.exists() or (out / "result.json").read_text() == "one"
        assert (out / "result.json").read_text() == generation
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_no_run_left_is_not_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis.* no run's folder"), whole_folder(precious):
        pytest.fail("the run must not start")
    with pytest.raises(ConfigError, match="no run's folder"), whole_folder(precious / "chapter1.tex"):
        pytest.fail("the run must not start")
    assert (precious / "chapter1.tex").read_text() == "x"
    empty = tmp_path / "empty"
    empty.mkdir()
    with whole_folder(empty) as scratch:
        (scratch / "result.json").write_text("{}")
    assert (empty / "result.json").exists()


def test_what_a_killed_run_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    killed, left = hanging_run(tmp_path / "first")
    living, kept = hanging_run(tmp_path / "second")
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "half.journal").exists()
        with whole_folder(tmp_path / "third"):
            assert not left.exists()
            assert (kept / "half.journal").exists()
    finally:
        living.communicate()
    assert not kept.exists()
    assert (tmp_path / "second" / "half.journal").exists()


@pytest.mark.parametrize(
    "name", [".anytick-run-mine", ".run.partial-1", ".mydownload.partial-important", ".anytick-run-out-old-x"]
)
def test_a_strangers_folder_is_left_alone_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "data").write_text("keep")
    (tmp_path / name / "unfinished.lock").write_text("not our words")
    with whole_folder(tmp_path / "run"):
        pass
    assert (tmp_path / name / "data").read_text() == "keep"

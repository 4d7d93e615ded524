"""Leftovers of killed imports: listed, and taken away by age and never by themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import time_ns

import pytest
from dying_writer import ACME, steady_events

from backtest.cli.main import main
from data.errors import ConfigError
from data.store import TickStore
from data.store_clean import clean, leftovers
from data.store_commit import only_writer

DAY_S = 86_400


def store_with_leftovers(root: Path) -> list[Path]:
    """A store, and folders of imports that last wrote 40 and 2 days ago."""
    TickStore(root).write([steady_events(9, first=0)], instrument=ACME, venue="V")
    folders = []
    for name, days in (("import-old", 40), ("import-new", 2)):
        folder = root / ".staging" / name
        folder.mkdir(parents=True)
        (folder / "000000.parquet.tmp").write_bytes(b"x" * 10_000)
        for path in (folder / "000000.parquet.tmp", folder):
            os.utime(path, (time_ns() / 1e9 - days * DAY_S,) * 2)
        folders.append(folder)
    return folders


def test_nothing_goes_by_itself_and_age_is_that_of_the_last_write(tmp_path: Path) -> None:
    old, new = store_with_leftovers(tmp_path)
    TickStore(tmp_path).write([steady_events(9, first=100)], instrument=ACME, venue="V", append=True)
    assert [entry.path for entry in leftovers(tmp_path)] == [old, new]
    assert leftovers(tmp_path)[0].bytes >= 10_000
    (old / "progress.jsonl").write_text("")
    assert clean(tmp_path, older_than_s=30 * DAY_S, now_ns=time_ns()) == ()
    assert [entry.path for entry in clean(tmp_path, older_than_s=DAY_S, now_ns=time_ns())] == [new]
    assert old.exists()
    assert not new.exists()
    assert TickStore(tmp_path).verify() == ()


def test_a_running_import_is_left_alone(tmp_path: Path) -> None:
    store_with_leftovers(tmp_path)
    with only_writer(tmp_path), pytest.raises(ConfigError, match="another process is writing"):
        clean(tmp_path, older_than_s=0, now_ns=time_ns())
    assert len(leftovers(tmp_path)) == 2


def test_the_command_lists_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = store_with_leftovers(tmp_path)
    assert main(["data", "clean", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith(f"{old}: ")
    assert listed[0].endswith("40.0 days old, kept")
    assert listed[-1].startswith("0 of 2 killed imports removed")
    assert main(["data", "clean", str(tmp_path), "--older-than", "30", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["found"], found["removed"]) == (2, [str(old)])
    assert new.exists()
    assert main(["data", "clean", str(tmp_path), "--older-than", "-1"]) == 2

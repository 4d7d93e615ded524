"""A store's changes: whole or not at all at any point of death, invisible to those who read already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dying_writer
import numpy as np
import pytest
from dying_writer import ACME, CHANGES, START_NS, run_import, steady_events

from data import store_commit, store_snapshot
from data.errors import ConfigError, DataError
from data.partition import Partition
from data.store import TickStore

ROOT = Path(__file__).resolve().parents[2]


def numbers(store: TickStore) -> list[int]:
    """The feed's own numbers of all that a store holds, as it streams them."""
    if not store.partitions():
        return []
    return [int(seq) for block in store.stream() for seq in block["seq"]]


def base_store(folder: Path) -> TickStore:
    store = TickStore(folder)
    store.write([steady_events(200, first=0)], instrument=ACME, venue="V")
    store.write([steady_events(40, first=200)], instrument=ACME, venue="V", append=True)
    return store


def deaths_of(folder: Path, change: str, *, stride: int = 1) -> int:
    """Kill the change at its steps, each time on a copy of the base; return the number that lived."""
    ran = subprocess.run(
        [sys.executable, dying_writer.__file__, folder, change, str(stride)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 10
    return int(ran.stdout)


@pytest.mark.parametrize("verb", ["stream", "scan", "check"])
def test_a_file_that_moves_between_looking_and_opening_is_found_again(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = base_store(tmp_path)
    moves = 0

    def moving(root: Path, partition: Partition) -> Path:
        nonlocal moves
        path = store_commit.locate(root, partition)
        moves += 1
        if moves == 1:
            TickStore(root).compact()
            assert not path.exists()
        return path

    with store.snapshot() as snapshot:
        monkeypatch.setattr(store_snapshot, "locate", moving)
        monkeypatch.setattr("data.store.locate", moving)
        if verb == "stream":
            assert sum(map(len, snapshot.stream())) == 240
        elif verb == "scan":
            assert snapshot.scan().collect().height == 240
    if verb == "check":
        assert store.check().damage == ()
    assert moves > 2


@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_any_point_leaves_the_old_or_the_new_state(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    before = numbers(base_store(tmp_path / "base"))
    deaths = deaths_of(tmp_path, change)
    after = numbers(TickStore(tmp_path / str(deaths)))
    assert (after == before) == (change == "compact")
    for point in range(deaths):
        store = TickStore(tmp_path / str(point))
        assert numbers(store) in (before, after), f"death {point} left neither state"
        assert store.verify() == ()
        # The next writer clears what the dead one left, and its own change is not disturbed by it.
        later = steady_events(9, first=10**9)
        store.write([later], instrument=ACME, venue="V")
        held = numbers(store)
        assert held[-9:] == later["seq"].tolist()
        assert held[:-9] in (before, after)
        files = {path.relative_to(store.root).as_posix() for path in store.root.glob("**/*.parquet")}
        assert files == {partition.name for partition in store.partitions()}
        assert not list(store.root.glob("**/*.old"))
        assert not list(store.root.glob("**/*.tmp"))


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.nightly)])
def test_an_import_killed_at_any_point_goes_on_and_never_duplicates(
    tmp_path: Path, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    before = numbers(base_store(tmp_path / "base"))
    deaths = deaths_of(tmp_path, "import", stride=stride)
    after = numbers(TickStore(tmp_path / str(deaths)))
    assert after == before + list(range(1_000, 1_075))
    for point in range(0, deaths, stride):
        store = TickStore(tmp_path / str(point))
        left = numbers(store)
        assert left in (before, after), f"death {point} left neither state"
        assert store.verify() == ()
        again = run_import(store)
        assert again.done_before == (left == after)
        assert numbers(store) == after
        assert store.verify() == ()
        files = {path.relative_to(store.root).as_posix() for path in store.root.glob("**/*.parquet")}
        assert files == {partition.name for partition in store.partitions()}
        assert not list(store.root.glob("**/*.tmp"))


def test_readers_in_other_processes_see_whole_commits_only(tmp_path: Path) -> None:
    """A writer appends, joins and cuts; whatever a reader streams is a state that was committed."""
    script = (
        "import sys, os\n"
        "os.fsync = lambda descriptor: None\n"
        "from dying_writer import ACME, START_NS, steady_events\n"
        "from data.store import TickStore\n"
        "store = TickStore(sys.argv[1])\n"
        "for turn in range(1, 9):\n"
        "    store.write([steady_events(10, first=10 * turn)], instrument=ACME, venue='V', append=True)\n"
        "    if turn % 3 == 0:\n"
        "        store.compact()\n"
        "    if turn % 5 == 0:\n"
        "        store.build_cache()\n"
    )
    store = TickStore(tmp_path)
    store.write([steady_events(10, first=0)], instrument=ACME, venue="V")
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}
    )
    seen = set()
    while writer.poll() is None:
        found = numbers(store)
        assert found == list(range(len(found)))
        assert len(found) % 10 == 0
        seen.add(len(found))
    assert writer.returncode == 0
    assert numbers(store) == list(range(90))
    assert min(seen) >= 10


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "write"])
def test_a_reader_keeps_what_it_began_to_read(tmp_path: Path, change: str) -> None:
    store = base_store(tmp_path)
    before = numbers(store)
    blocks = store.stream(block_events=16)
    first = next(blocks)
    with store.snapshot() as snapshot:
        frame = snapshot.scan()
        CHANGES[change](store)
        after = numbers(store)
        assert frame.collect().height == len(before)
        assert [int(seq) for block in snapshot.stream() for seq in block["seq"]] == before
    rest = np.concatenate([first, *blocks])
    assert rest["seq"].tolist() == before
    # With the last reader gone, the next change clears its files away.
    store.write([steady_events(5, first=10**9)], instrument=ACME, venue="V")
    assert not list(store.root.glob("**/*.old"))
    assert numbers(store) == after + list(range(10**9, 10**9 + 5))


def test_a_name_is_not_used_again_while_somebody_reads_it(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    store.write([steady_events(10, first=0)], instrument=ACME, venue="V")
    with store.snapshot() as snapshot:
        (old,) = snapshot.partitions()
        store.delete(instrument="ACME")
        store.write([steady_events(10, first=50)], instrument=ACME, venue="V")
        (new,) = store.partitions()
        assert old.name != new.name
        assert np.concatenate(list(snapshot.stream()))["seq"].tolist() == list(range(10))
    assert (
        store.write([steady_events(10, first=90)], instrument=ACME, venue="V", overwrite=True)[0].index == 0
    )


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    store = TickStore(tmp_path)

    def intruding():  # type: ignore[no-untyped-def]
        with pytest.raises(ConfigError, match="another process is writing"):
            TickStore(tmp_path).write([steady_events(1, first=0)], instrument=ACME, venue="V")
        yield steady_events(10, first=0)

    store.write(intruding(), instrument=ACME, venue="V")
    assert numbers(store) == list(range(10))


def test_a_store_that_cannot_be_written_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = base_store(tmp_path)
    expected = numbers(store)

    def read_only(*args: object, **kwargs: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert numbers(store) == expected


def test_appending_keeps_time_and_refuses_overlaps(tmp_path: Path) -> None:
    store = base_store(tmp_path)
    with pytest.raises(ConfigError, match="must not overlap"):
        store.write([steady_events(10, first=195)], instrument=ACME, venue="V", append=True)
    assert numbers(store) == list(range(240))
    # Filling a gap behind and in front.
    store.write([steady_events(10, first=500)], instrument=ACME, venue="V", append=True)
    store.write([steady_events(10, first=300)], instrument=ACME, venue="V", append=True)
    expected = [*range(240), *range(300, 310), *range(500, 510)]
    assert numbers(store) == expected
    assert len(store.partitions()) == 4
    assert store.compact() == 3
    assert len(store.partitions()) == 1
    assert numbers(store) == expected
    assert store.verify() == ()
    assert store.compact() == 0


def test_equal_times_of_touching_parts_keep_their_order(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    for first in (0, 10, 20):
        same = steady_events(10, first=first, step_ns=0)
        store.write([same], instrument=ACME, venue="V", append=True)
    assert numbers(store) == list(range(30))


def test_deleting_a_range_leaves_exactly_the_rest(tmp_path: Path) -> None:
    store = base_store(tmp_path)
    gone = store.delete(instrument="ACME", start_ns=START_NS + 150_000_000, stop_ns=START_NS + 220_000_000)
    assert gone == 70
    assert numbers(store) == [*range(150), *range(220, 240)]
    assert store.delete(instrument="ACME", venues=["OTHER"]) == 0
    assert store.delete(instrument="ACME") == 170
    assert store.partitions() == ()
    with pytest.raises(DataError, match="at least one matching partition"):
        store.scan()

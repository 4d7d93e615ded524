"""Damage: whatever byte of a store is not as written, `verify` names its file and no reader half reads it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dying_writer import ACME, steady_events

from data import manifest, packed_cache, partition_file
from data.errors import DataError
from data.store import TickStore

pytestmark = pytest.mark.filterwarnings("ignore:the cache is damaged:RuntimeWarning")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TickStore:
    """Two days of several row groups and cache blocks, small enough to try every byte."""
    monkeypatch.setattr(partition_file, "ROW_GROUP_EVENTS", 60)
    monkeypatch.setattr(packed_cache, "BLOCK_EVENTS", 50)
    store = TickStore(tmp_path / "store")
    events = steady_events(200, first=0, step_ns=10**9 * 700)
    events["order_id"] = np.random.default_rng(1).integers(0, 2**62, len(events))
    store.write([events], instrument=ACME, venue="V")
    store.build_cache()
    return store


def files(store: TickStore) -> list[Path]:
    return sorted(
        path for path in store.root.rglob("*") if path.suffix in (".json", ".parquet", ".packed")
    )  # fmt: skip


def test_a_full_disk_is_told_by_file_and_leaves_the_store_as_it_was(store: TickStore) -> None:
    before, limits = files(store), resource.getrlimit(resource.RLIMIT_FSIZE)
    more = steady_events(5_000, first=300, step_ns=10**9 * 700)
    more["order_id"] = np.random.default_rng(2).integers(0, 2**62, len(more))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as found:
            store.write([more], instrument=ACME, venue="V")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(found.value.filename).endswith(".parquet.tmp")
    assert (files(store), store.verify()) == (before, ())
    assert list((store.root / ".staging").iterdir()) == []


def structural_places(store: TickStore, path: Path) -> Iterator[int]:
    """Where each region of a file begins, and the bytes around."""
    size = path.stat().st_size
    edges = {0, size}
    for part in store.partitions():
        if part.name == path.relative_to(store.root).as_posix():
            edges |= {*part.group_starts(), size - 8, size - 4}
        if packed_cache.cache_path(store.root, part) == path:
            packed = packed_cache.open_cache(path, part)
            assert packed is not None
            with packed:
                edges |= {8, 72, 80, 84, 88, 96, 100, *packed.index["byte"].tolist()}
                edges |= {int(byte) + at for byte in packed.index["byte"][:1] for at in range(0, 104, 8)}
                edges |= {int(packed.index["byte"][-1] + packed.index["bytes"][-1])}
    for edge in edges:
        yield from (place for place in (edge - 1, edge) if 0 <= place < size)


def require_found(store: TickStore, path: Path, place: int, bit: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
    try:
        found = store.verify()
    except DataError as error:
        found = (str(error),)
    finally:
        path.write_bytes(whole)
    assert len(found) == 1, f"byte {place}, bit {bit} of {path.name}: {found}"
    assert str(path) in found[0]


def test_what_is_whole_verifies(store: TickStore) -> None:
    assert len(files(store)) == 5
    report = store.check()
    assert (report.matched, report.total, report.damage) == (4, 4, ())


def test_damage_of_every_region_is_found(store: TickStore) -> None:
    draw = np.random.default_rng(1)
    for path in files(store):
        places = set(structural_places(store, path))
        places |= set(draw.integers(0, path.stat().st_size, 12).tolist())
        for place in sorted(places):
            require_found(store, path, place, int(draw.integers(8)))


@pytest.mark.nightly
def test_damage_of_every_byte_is_found(store: TickStore) -> None:
    for path in files(store):
        for place in range(path.stat().st_size):
            require_found(store, path, place, place % 8)


@pytest.mark.parametrize("seed", range(6))
def test_a_percent_of_flipped_bytes_is_never_half_read(store: TickStore, seed: int) -> None:
    """Every block that comes is as written, up to an error that names the file."""
    expected = np.concatenate(list(store.stream(cache=False)))
    draw = np.random.default_rng(seed)
    for path in files(store):
        whole = path.read_bytes()
        damaged = bytearray(whole)
        for place in draw.choice(len(damaged), max(1, len(damaged) // 100), replace=False).tolist():
            damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        for cache in (True, False):
            read = 0
            try:
                for block in store.stream(cache=cache):
                    assert block.tobytes() == expected[read : read + len(block)].tobytes()
                    read += len(block)
                assert read == len(expected)
            except DataError as error:
                refused = str(error)
                assert str(path) in refused
        path.write_bytes(whole)


def test_cut_and_absent_files_are_found(store: TickStore) -> None:
    for path in files(store):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(DataError) if path.suffix == ".json" else _nothing():
            (found,) = store.verify()
            assert str(path) in found
        path.write_bytes(whole + b"\0")
        with pytest.raises(DataError) if path.suffix == ".json" else _nothing():
            (found,) = store.verify()
            assert str(path) in found
        path.write_bytes(whole)
    assert store.verify() == ()


def _nothing():  # type: ignore[no-untyped-def]
    from contextlib import nullcontext

    return nullcontext()


def test_a_manifest_changed_in_place_is_read_again(store: TickStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was remembered of a file counts for that file only."""
    monkeypatch.setattr(manifest, "_SETTLED_NS", -1)
    assert store.manifest() is store.manifest()
    store.rename("ACME", "APEX", first_day=manifest.date(2020, 1, 1))
    assert [entry.new for entry in store.manifest().renames] == ["APEX"]
    path = store.root / "manifest.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"manifest\.json"):
        store.manifest()

"""The packed cache: the same events, only faster; never trusted when stale or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dying_writer import ACME, START_NS, steady_events
from hypothesis import given, settings
from hypothesis import strategies as st

from data.packed_cache import cache_path
from data.schema import EVENT_DTYPE
from data.store import TickStore


def contents(store: TickStore, **range_ns: int | None) -> bytes:
    blocks = list(store.stream(**range_ns))  # type: ignore[arg-type]
    return np.concatenate(blocks).tobytes() if blocks else b""


def filled(folder: Path, count: int = 20_000) -> TickStore:
    store = TickStore(folder)
    store.write([steady_events(count, first=0)], instrument=ACME, venue="V")
    return store


@settings(max_examples=30, deadline=None)
@given(low=st.integers(-10, 20_010), span=st.integers(0, 20_000))
def test_a_range_reads_the_same_with_and_without(
    tmp_path_factory: pytest.TempPathFactory, low: int, span: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "shared-cache"
    store = TickStore(folder)
    if not folder.exists():
        filled(folder).build_cache()
    start_ns, stop_ns = START_NS + low * 1_000_000, START_NS + (low + span) * 1_000_000
    plain = list(store.stream(start_ns=start_ns, stop_ns=stop_ns, cache=False, block_events=999))
    cached = list(store.stream(start_ns=start_ns, stop_ns=stop_ns, block_events=5_000))
    empty = [np.empty(0, EVENT_DTYPE)]
    assert np.concatenate(cached or empty).tobytes() == np.concatenate(plain or empty).tobytes()


def test_a_cache_is_built_once_and_dropped_at_will(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = contents(store)
    assert store.build_cache() == 1
    assert store.build_cache() == 0
    (partition,) = store.partitions()
    assert cache_path(tmp_path, partition).stat().st_size < 20 * partition.rows
    # Proof that it is read: without the Parquet file the events are still there.
    moved = partition.path(tmp_path).rename(tmp_path / "aside")
    assert contents(store) == before
    moved.rename(partition.path(tmp_path))
    assert store.drop_cache() > 0
    assert contents(store) == before


def test_a_stale_cache_is_passed_over_and_swept(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.build_cache()
    (old,) = store.partitions()
    stale = cache_path(tmp_path, old).read_bytes()
    store.write([steady_events(50, first=7)], instrument=ACME, venue="V", overwrite=True)
    (new,) = store.partitions()
    assert not cache_path(tmp_path, old).exists()
    cache_path(tmp_path, new).write_bytes(stale)
    assert contents(store) == steady_events(50, first=7).tobytes()
    assert store.build_cache() == 1


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.filterwarnings("ignore:the cache is damaged:RuntimeWarning")
def test_a_damaged_cache_costs_time_and_nothing_else(tmp_path: Path, seed: int) -> None:
    store = filled(tmp_path, 10_000)
    expected = contents(store)
    store.build_cache()
    (partition,) = store.partitions()
    path, draw = cache_path(tmp_path, partition), np.random.default_rng(seed)
    whole = path.read_bytes()
    place = int(draw.integers(len(whole)))
    path.write_bytes(
        whole[:place] + bytes([whole[place] ^ (1 << int(draw.integers(8)))]) + whole[place + 1 :]
    )
    assert contents(store) == expected
    path.write_bytes(whole[:place])
    assert contents(store) == expected
    assert store.build_cache() == 1


@pytest.mark.filterwarnings("ignore:the cache is damaged:RuntimeWarning")
def test_falling_back_amid_one_instant_neither_skips_nor_repeats(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    events = steady_events(20_000, first=0, step_ns=0)
    store.write([events], instrument=ACME, venue="V")
    store.build_cache()
    (partition,) = store.partitions()
    path = cache_path(tmp_path, partition)
    whole = bytearray(path.read_bytes())
    whole[len(whole) * 7 // 10] ^= 1
    path.write_bytes(whole)
    with pytest.warns(RuntimeWarning, match="the cache is damaged"):
        found = np.concatenate(list(store.stream(block_events=4_096)))
    assert found.tobytes() == events.tobytes()

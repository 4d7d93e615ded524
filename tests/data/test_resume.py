"""Imports that were killed: whatever the format and wherever, what is stored is what one go would store."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resumable_recordings import RECORDINGS

from data.import_job import ImportOptions, ImportResult, import_events
from data.resumable import Resumable, in_marked_blocks
from data.schema import EVENT_DTYPE
from data.store import TickStore

KILLS_A_FORMAT = 12
FORMATS = list(RECORDINGS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_place_is_one_to_go_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    opened = RECORDINGS[name].opened_small(tmp_path / "in", monkeypatch)
    source = opened()
    assert isinstance(source, Resumable)
    told = [(block, json.dumps(place)) for block, place in source.marked_blocks()]
    places = [(number, json.loads(place)) for number, (_, place) in enumerate(told, 1) if place != "null"]
    assert len(places) >= 3
    for number, place in places:
        again = opened()
        rest = b"".join(block.tobytes() for block, _ in again.marked_blocks(place))
        assert rest == b"".join(block.tobytes() for block, _ in told[number:])
        assert again.notes == source.notes


@pytest.mark.parametrize("name", FORMATS)
def test_a_killed_import_stores_what_one_in_one_go_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Killed `KILLS_A_FORMAT` times at random blocks: more than 100 times over all formats."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    opened = RECORDINGS[name].opened_small(tmp_path / "in", monkeypatch)
    draw = random.Random(name)
    options = ImportOptions(venue="V", part_events=60, out_of_order="carry")

    def imported(store: TickStore, *, dies_after: int | None = None) -> tuple[ImportResult, Any]:
        def watch(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            for number, block in enumerate(blocks):
                if number == dies_after:
                    raise KeyboardInterrupt
                yield block

        source = opened()
        return import_events(store, source, paths=[tmp_path / "in"], options=options, watch=watch), source

    whole = TickStore(tmp_path / "whole")
    expected, _ = imported(whole)
    count = sum(1 for _ in opened().marked_blocks())
    entered: Counter[bool] = Counter()
    for kill in range(KILLS_A_FORMAT):
        store = TickStore(tmp_path / f"store-{kill}")
        with pytest.raises(KeyboardInterrupt):
            imported(store, dies_after=draw.randrange(count))
        if kill % 2:
            # The second time perhaps too late to die.
            with suppress(KeyboardInterrupt):
                imported(store, dies_after=draw.randrange(count))
        result, source = imported(store)
        if result.done_before:
            continue
        entered[source.entered is not None] += 1
        assert rows_of(store) == rows_of(whole)
        assert told_by(result) == told_by(expected)
        assert not store.verify()
    assert entered[True] >= 2


def told_by(result: ImportResult) -> dict[str, Any]:
    """The report, without what it tells by block: when a book was first crossed, and the median latency."""
    assert result.report is not None
    report = result.report.as_dict()
    report["latency_ns"].pop("median", None)
    for finding in report["findings"]:
        if finding["rule"] == "crossed":
            del finding["first"]
    return report


def rows_of(store: TickStore) -> dict[tuple[str, str], bytes]:
    found: dict[tuple[str, str], bytes] = {}
    for part in store.partitions():
        with store.snapshot() as snapshot:
            data = b"".join(block.tobytes() for block in snapshot.read(part))
        found[part.venue, part.day] = found.get((part.venue, part.day), b"") + data
    return found


def test_blocks_are_joined_up_to_a_size_or_a_rare_place() -> None:
    def events(count: int) -> np.ndarray:
        return np.zeros(count, EVENT_DTYPE)

    def shape(*pieces: tuple[int, int | None]) -> list[tuple[int, Any]]:
        made = ((events(count), None if place is None else {"at": place}) for count, place in pieces)
        return [(len(block), place and place["at"]) for block, place in in_marked_blocks(made, 5)]

    assert shape((2, 1), (2, 2), (2, 3), (1, 4)) == [(6, 3), (1, 4)]
    assert shape((2, None), (2, None), (0, 1), (2, None)) == [(4, 1), (2, None)]
    assert shape((9, None), (0, 1), (0, 2)) == [(9, 2)]
    assert shape((0, None), (0, 1)) == []

"""The store against a list of events: any order of changes leaves what the list says."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dying_writer import ACME, DAY_NS, START_NS, steady_events
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from data.errors import ConfigError
from data.store import TickStore

# The first of each is taken more often, so that changes meet.
DAYS = st.sampled_from([0, 0, 0, 1])
VENUES = st.sampled_from(["A", "A", "B"])
HOURS = st.integers(0, 4)
MODES = st.sampled_from(["plain", "overwrite", "append", "append"])
HOUR_NS = DAY_NS // 24

Model = dict[tuple[str, int], list[tuple[int, int]]]


class StoreAgainstModel(RuleBasedStateMachine):
    """Events are (time, own number), by venue and day."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.model: Model = {}
        self.held: tuple[Any, Any, list[tuple[int, str, int]]] | None = None
        self.number = 0

    @initialize()
    def begin(self) -> None:
        self.store = TickStore(self.root)

    def teardown(self) -> None:
        self.let_go()
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(venue=VENUES, day=DAYS, hour=HOURS, count=st.integers(1, 4), mode=MODES)
    def write(self, venue: str, day: int, hour: int, count: int, mode: str) -> None:
        events = steady_events(count, first=0)
        events["ts_ns"] = START_NS + day * DAY_NS + hour * HOUR_NS + np.arange(count) * (HOUR_NS // 4)
        # No two events at one instant: which part is first there, other tests tell.
        events["ts_ns"] += self.number
        events["seq"] = np.arange(self.number, self.number + count)
        self.number += count
        rows = list(zip(events["ts_ns"].tolist(), events["seq"].tolist(), strict=True))
        there = self.model.get((venue, day), [])
        overlap = any(self._overlaps(part, rows) for part in self._parts(venue, day))
        refused = bool(there) and (mode == "plain" or (mode == "append" and overlap))
        try:
            self.store.write(
                [events], instrument=ACME, venue=venue, overwrite=mode == "overwrite", append=mode == "append"
            )
        except ConfigError:
            assert refused
            return
        assert not refused
        kept = [] if mode == "overwrite" else there
        self.model[venue, day] = sorted(kept + rows, key=lambda row: row[0])

    def _parts(self, venue: str, day: int) -> list[tuple[int, int]]:
        wanted = str(np.datetime64(START_NS // DAY_NS + day, "D"))
        return [
            (part.first_ts_ns, part.last_ts_ns)
            for part in self.store.partitions()
            if (part.venue, part.day) == (venue, wanted)
        ]

    @staticmethod
    def _overlaps(part: tuple[int, int], rows: list[tuple[int, int]]) -> bool:
        return rows[0][0] < part[1] and part[0] < rows[-1][0]

    @precondition(lambda self: any(self.model.values()))
    @rule(venue=st.sampled_from(["A", "B", None]), data=st.data())
    def delete(self, venue: str | None, data: st.DataObject) -> None:
        """From the time of one event to that of another, or a nanosecond beside."""
        times = sorted({ts_ns for rows in self.model.values() for ts_ns, _ in rows})
        near = st.builds(int.__add__, st.sampled_from(times), st.integers(-1, 1))
        start_ns, stop_ns = sorted((data.draw(near), data.draw(near)))
        gone = 0
        for (its, its_day), rows in self.model.items():
            if venue in (None, its):
                left = [row for row in rows if not start_ns <= row[0] < stop_ns]
                gone += len(rows) - len(left)
                self.model[its, its_day] = left
        venues = None if venue is None else [venue]
        found = self.store.delete(instrument="ACME", venues=venues, start_ns=start_ns, stop_ns=stop_ns)
        assert found == gone

    @rule()
    def compact(self) -> None:
        self.store.compact()
        days = [part.day_key for part in self.store.partitions()]
        assert len(days) == len(set(days))

    @precondition(lambda self: self.store.partitions())
    @rule()
    def build_cache(self) -> None:
        self.store.build_cache()

    @rule()
    def drop_cache(self) -> None:
        self.store.drop_cache()

    @rule()
    def reopen(self) -> None:
        self.store = TickStore(self.root)

    @precondition(lambda self: self.held is None and self.store.partitions())
    @rule()
    def begin_to_read(self) -> None:
        context = self.store.snapshot()
        self.held = context, context.__enter__(), self.expected()

    @precondition(lambda self: self.held is not None)
    @rule()
    def read_what_was_begun(self) -> None:
        """Whatever was written, joined or deleted meanwhile."""
        assert self.held is not None
        _, snapshot, expected = self.held
        assert self.streamed(snapshot) == expected
        self.let_go()

    def let_go(self) -> None:
        if self.held is not None:
            self.held[0].__exit__(None, None, None)
            self.held = None

    def expected(self) -> list[tuple[int, str, int]]:
        rows = [(ts_ns, venue, seq) for (venue, _), day in self.model.items() for ts_ns, seq in day]
        ids = self.store.manifest().venues
        return sorted(rows, key=lambda row: (row[0], ids[row[1]]))

    def streamed(self, reader: Any) -> list[tuple[int, str, int]]:
        names = {number: name for name, number in self.store.manifest().venues.items()}
        columns = ("ts_ns", "venue_id", "seq")
        blocks = reader.stream(instrument="ACME", block_events=3)
        rows = [
            row for block in blocks for row in zip(*(block[name].tolist() for name in columns), strict=True)
        ]
        return [(ts_ns, names[venue_id], seq) for ts_ns, venue_id, seq in rows]

    @invariant()
    def agree(self) -> None:
        if not self.store.manifest().instruments:
            return
        assert self.streamed(self.store) == self.expected()
        assert self.store.verify() == ()
        listed = {part.name for part in self.store.partitions()}
        found = {path.relative_to(self.root).as_posix() for path in self.root.glob("**/*.parquet")}
        assert found == listed


@pytest.mark.parametrize("size", ["few", pytest.param("many", marks=pytest.mark.nightly)])
def test_any_order_of_changes_leaves_what_the_model_holds(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    examples, steps = (15, 25) if size == "few" else (400, 40)
    machine = StoreAgainstModel.TestCase
    # Making a failure smaller takes minutes of disk; its steps are printed as they are.
    machine.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, phases=[Phase.generate]
    )
    machine("runTest").runTest()

"""The ledger against a dictionary, the last good answers, and the numbers that requests are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from engine.inference.serving.ledger import LastGood, Ledger
from engine.inference.serving.queueing import Admission
from engine.inference.serving.request import ANSWER_DTYPE, ENDED_DTYPE, REQUEST_DTYPE, Outcome

SLOTS = 40


def requests_of(*entries: tuple[int, int, int]) -> NDArray[Any]:
    """Records of (request id, slot, deadline)."""
    records = np.zeros(len(entries), REQUEST_DTYPE)
    for name, column in zip(("request_id", "slot", "deadline_ns"), zip(*entries, strict=True), strict=True):
        records[name] = column
    return records


def answers_to(*entries: tuple[int, int, int]) -> NDArray[Any]:
    """Records of (request id, slot, attempt)."""
    records = np.zeros(len(entries), ANSWER_DTYPE)
    for name, column in zip(("request_id", "slot", "attempt"), zip(*entries, strict=True), strict=True):
        records[name] = column
    return records


class LedgerAgainstDict(RuleBasedStateMachine):
    """Answers, deaths and deadlines in any order: each request ends once."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger, self.number = Ledger(SLOTS), 0
        self.waiting: dict[int, tuple[int, int, int, int]] = {}  # id: slot, deadline, lane, attempt
        self.ended: dict[int, int] = {}  # id: slot

    @rule(lanes=st.lists(st.integers(0, 2), min_size=1, max_size=5), deadline=st.integers(0, 30))
    def open(self, lanes: list[int], deadline: int) -> None:
        used = {slot for slot, *_ in self.waiting.values()}
        entries = []
        for slot, lane in zip((slot for slot in range(SLOTS) if slot not in used), lanes, strict=False):
            self.number += 1
            entries.append((self.number, slot, deadline))
            self.waiting[self.number] = (slot, deadline, lane, 0)
        if entries:
            self.ledger.open(requests_of(*entries), np.array(lanes[: len(entries)]))

    @precondition(lambda self: self.waiting or self.ended)
    @rule(data=st.data(), attempt=st.integers(0, 2), twice=st.booleans())
    def answer(self, data: st.DataObject, attempt: int, twice: bool) -> None:
        known = st.sampled_from(sorted(self.waiting | self.ended))
        picks = data.draw(st.lists(known, max_size=6, unique=True))
        if not picks:
            return
        slots = [self.waiting[pick][0] if pick in self.waiting else self.ended[pick] for pick in picks]
        batch = [(pick, slot, attempt) for pick, slot in zip(picks, slots, strict=True)] * (1 + twice)
        answers = answers_to(*batch)
        found = answers[self.ledger.matching(answers)]
        expected = {pick for pick in picks if pick in self.waiting and self.waiting[pick][3] == attempt}
        assert sorted(found["request_id"].tolist()) == sorted(expected)
        lanes = self.ledger.end(found["slot"])
        for pick, lane in zip(found["request_id"].tolist(), lanes.tolist(), strict=True):
            assert self.waiting[pick][2] == lane
            self.ended[pick] = self.waiting.pop(pick)[0]

    @rule(lane=st.integers(0, 2))
    def die(self, lane: int) -> None:
        own = {pick: entry for pick, entry in self.waiting.items() if entry[2] == lane}
        held = self.ledger.held_by(lane).tolist()
        assert held == [
            entry[0] for pick, entry in sorted(own.items(), key=lambda item: (item[1][1], item[0]))
        ]
        for slot in held:
            moved = self.ledger.move(slot, (lane + 1) % 3)
            pick = int(moved["request_id"][0])
            _, deadline, _, attempt = self.waiting[pick]
            self.waiting[pick] = (slot, deadline, (lane + 1) % 3, attempt + 1)
            assert moved["attempt"].tolist() == [attempt + 1]

    @rule(now=st.integers(0, 30))
    def expire(self, now: int) -> None:
        due = self.ledger.due(now)
        late = {pick: entry[0] for pick, entry in self.waiting.items() if entry[1] <= now}
        assert sorted(due.tolist()) == sorted(late.values())
        self.ledger.end(due)
        for pick, slot in late.items():
            del self.waiting[pick]
            self.ended[pick] = slot

    @invariant()
    def none_is_lost(self) -> None:
        assert len(self.ledger) == len(self.waiting)
        assert len(self.waiting) + len(self.ended) == self.number
        tightest = min((entry[1] for entry in self.waiting.values()), default=None)
        assert self.ledger.next_deadline_ns() == tightest


TestLedgerAgainstDict = LedgerAgainstDict.TestCase


def test_a_slot_is_open_once() -> None:
    ledger = Ledger(4)
    ledger.open(requests_of((1, 2, 10)), np.array([0]))
    with pytest.raises(ValueError, match="open once"):
        ledger.open(requests_of((2, 2, 10)), np.array([1]))


def good_answers(streams: list[int], done_ns: int) -> NDArray[Any]:
    records = np.zeros(len(streams), ENDED_DTYPE)
    records["stream"], records["done_ns"], records["outcome"] = streams, done_ns, Outcome.MODEL
    return records


def fresh(last: LastGood, stream: int, now_ns: int) -> bool:
    return bool(last.find(np.array([stream], np.uint32), now_ns)[0][0])


def test_the_last_good_answer_stands_in_while_it_is_fresh() -> None:
    last = LastGood(age_ns_max=100, streams_max=2)
    last.remember(good_answers([7], 0))
    assert fresh(last, 7, 100)
    assert not fresh(last, 7, 101)
    assert not fresh(last, 8, 0)
    # Streams that share a place: the later one has it.
    last.remember(good_answers([8, 9], 1))
    assert [fresh(last, stream, 1) for stream in (7, 8, 9)] == [False, True, True]
    assert not fresh(LastGood(age_ns_max=100), 0, 0), "an empty place is nobody's answer"


@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(1.0, 8.0), st.booleans()), min_size=1, max_size=4),
    st.lists(st.integers(0, 200), max_size=40),
)
def test_many_are_placed_as_one_by_one(workers: list[tuple[int, float, bool]], deadlines: list[int]) -> None:
    def admission() -> Admission:
        made = Admission(len(workers), item_ns=5.0, single_ns=7.0, guard_ns=3, outstanding_max=12)
        made.outstanding = [held for held, _, _ in workers]
        made.slowdowns = [slowdown for _, slowdown, _ in workers]
        made.open = [is_open for *_, is_open in workers]
        return made

    one, many = admission(), admission()
    expected = []
    for deadline_ns in deadlines:
        worker = one.place(deadline_ns, 10)
        if worker is not None:
            one.outstanding[worker] += 1
        expected.append(-1 if worker is None else worker)
    assert many.place_many(deadlines, 10) == expected
    assert many.outstanding == one.outstanding

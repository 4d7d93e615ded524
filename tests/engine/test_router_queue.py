"""The deadline queue against a sorted list: order, bins and values after any mix of takings."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from router_samples import request

from engine.inference.serving.queueing import EdfQueue
from engine.inference.serving.request import Request


class QueueAgainstList(RuleBasedStateMachine):
    """What the queue keeps beside its requests is what one would gather from them."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.number = EdfQueue(lambda margin: round(10 * margin)), 0
        self.kept: list[Request] = []

    @rule(deadline=st.integers(0, 9), value=st.sampled_from([1.0, 2.0]), margin=st.sampled_from([0.1, 0.6]))
    def push(self, deadline: int, value: float, margin: float) -> None:
        self.number += 1
        one = replace(request(self.number, deadline_ns=deadline), value=value, margin=margin)
        self.queue.push(one)
        self.kept.append(one)
        self.kept.sort(key=lambda one: (one.deadline_ns, one.request_id))

    @rule(count=st.integers(0, 5))
    def pop(self, count: int) -> None:
        taken, self.kept = self.kept[:count], self.kept[count:]
        assert self.queue.pop(count) == taken

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        places = sorted(data.draw(st.sets(st.integers(0, len(self.kept) - 1), min_size=1)))
        assert self.queue.take(places) == [self.kept[place] for place in places]
        self.kept = [one for place, one in enumerate(self.kept) if place not in places]

    @rule(count=st.integers(0, 3))
    def shed(self, count: int) -> None:
        order = sorted(self.kept, key=lambda one: (one.value, -self.kept.index(one)))[:count]
        assert self.queue.pop_least_valuable(count) == order
        self.kept = [one for one in self.kept if one not in order]

    @invariant()
    def agree(self) -> None:
        assert len(self.queue) == len(self.kept)
        assert list(self.queue.deadlines()) == [one.deadline_ns for one in self.kept]
        assert list(self.queue.bins()) == [round(10 * one.margin) for one in self.kept]
        assert self.queue.values_differ() == (len({one.value for one in self.kept}) > 1)


TestQueueAgainstList = QueueAgainstList.TestCase

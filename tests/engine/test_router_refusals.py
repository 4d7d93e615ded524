"""Overload without first answers, on a simulated clock: what cannot be met is refused, and at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from router_ladder import FEATURES, WINDOW, write_ladder

from engine.inference.serving.crew import Crew
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front
from engine.inference.serving.request import ANSWER_DTYPE, Outcome
from ext.ring_buffer import MpscRing

MILLISECOND = 1_000_000
DEADLINE_NS = 50 * MILLISECOND
# The cheapest answers a request in a millisecond, so two workers answer 2,000 a second.
COSTS = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e6, 3e6, 1e7)])


class Lane:
    """A worker that answers one request a millisecond, in the order of deadlines that it was sent."""

    def __init__(self, number: int, answers: Any) -> None:
        self.requests, self.place = self, number
        self._answers = answers
        self.queue: list[NDArray[Any]] = []

    def try_push(self, records: NDArray[Any]) -> int:
        self.queue += [records[place : place + 1] for place in range(len(records))]
        return len(records)

    def serve(self, count: int) -> None:
        taken, self.queue = self.queue[:count], self.queue[count:]
        for request in taken:
            answer = np.zeros(1, ANSWER_DTYPE)
            for name in ("request_id", "attempt", "slot"):
                answer[name] = request[name]
            answer["outcome"], answer["worker"] = Outcome.MODEL, self.place
            self._answers.push(answer)


@pytest.mark.parametrize("overload", [0.8, 3.0, 10.0])
def test_refusals_come_within_five_milliseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overload: float
) -> None:
    now_ns = 10**12
    monkeypatch.setattr(Crew, "start", lambda self: None)
    with Front(
        write_ladder(tmp_path),
        costs=COSTS,
        workers=2,
        open_max=256,
        first_answers=False,
        clock=lambda: now_ns,
    ) as front:
        monkeypatch.setattr(front._roster, "glance", lambda now_ns, **options: [])
        ring = MpscRing.attach(f"{front._shared.name}-answers", "producer", dtype=ANSWER_DTYPE)
        lanes = [Lane(number, ring.producer()) for number in range(2)]
        monkeypatch.setattr(front._roster.shift.crew, "lanes", lanes)
        random = np.random.default_rng(1)
        arrivals = now_ns + np.cumsum(random.exponential(1e9 / (2_000 * overload), int(1_000 * overload)))
        rows = np.zeros((256, WINDOW, FEATURES), np.float32)
        ended, place = [], 0
        while place < len(arrivals) or front.open_requests:
            now_ns += MILLISECOND
            due = int(np.searchsorted(arrivals, now_ns))
            if due > place:
                times = arrivals[place:due].astype(np.int64)
                found = front.submit_many(
                    rows[: due - place],
                    deadlines_ns=times + DEADLINE_NS,
                    arrivals_ns=times,
                    streams=np.arange(place, due),
                )
                ended.append(found[1])
                place = due
            for lane in lanes:
                lane.serve(1)
            ended.append(front.poll_many())
        # Nobody serves what is in no lane's queue; the fixture's close would wait for real workers.
        monkeypatch.setattr(front._roster.shift.crew, "lanes", [])
    ends = np.concatenate(ended)
    assert sorted(ends["request_id"].tolist()) == list(range(1, len(arrivals) + 1))
    outcomes = np.bincount(ends["outcome"], minlength=5)
    refused = ends[ends["outcome"] == Outcome.REFUSED]
    assert (refused["done_ns"] - refused["arrival_ns"] <= 5 * MILLISECOND).all()
    assert (ends["done_ns"] <= ends["deadline_ns"]).all()
    # What was taken was answered, to a few at the edge, and the workers were never idle under overload.
    assert outcomes[Outcome.ABSTAIN] <= 0.02 * len(ends)
    assert (len(refused) > 0) == (overload > 1.0)
    expected = min(1.0, 1.0 / overload)
    assert outcomes[Outcome.MODEL] >= 0.9 * expected * len(ends)

"""Who waits for what: every request is open once and ends once, whatever arrives in whatever order."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from heapq import heappop, heappush

from .request import Answer, Outcome, Request

_STREAMS_MAX = 65_536


class Ledger:
    """The front's book of open requests. The first end of a request counts; any later one is ignored."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Request, int]] = {}
        self._by_deadline: list[tuple[int, int]] = []
        self._of_worker: dict[int, set[int]] = {}
        self.ignored = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, request: Request, worker: int) -> None:
        """Enter a request that goes to a worker.

        Raises
        ------
        ValueError
            Its id is open already.
        """
        if request.request_id in self._open:
            raise ValueError(f"a request id must be open once, was open: {request.request_id}")
        self._open[request.request_id] = (request, worker)
        self._of_worker.setdefault(worker, set()).add(request.request_id)
        heappush(self._by_deadline, (request.deadline_ns, request.request_id))

    def get(self, request_id: int, attempt: int | None = None) -> Request | None:
        """Return an open request; None when it ended or, with `attempt`, moved on since."""
        entry = self._open.get(request_id)
        if entry is None or (attempt is not None and entry[0].attempt != attempt):
            self.ignored += attempt is not None
            return None
        return entry[0]

    def end(self, request_id: int) -> tuple[Request, int] | None:
        """Close a request and return it with its worker; None when it has ended before."""
        entry = self._open.pop(request_id, None)
        if entry is not None:
            self._of_worker[entry[1]].discard(request_id)
        return entry

    def move(self, request_id: int, worker: int) -> Request:
        """Send an open request to another worker, as a new attempt."""
        request, old = self._open[request_id]
        moved = replace(request, attempt=request.attempt + 1)
        self._open[request_id] = (moved, worker)
        self._of_worker[old].discard(request_id)
        self._of_worker.setdefault(worker, set()).add(request_id)
        return moved

    def held_by(self, worker: int) -> list[Request]:
        """Return the open requests of a worker, most urgent first."""
        requests = [self._open[request_id][0] for request_id in self._of_worker.get(worker, ())]
        return sorted(requests, key=lambda request: (request.deadline_ns, request.request_id))

    def next_deadline_ns(self) -> int | None:
        """Return the tightest deadline of an open request."""
        while self._by_deadline and self._by_deadline[0][1] not in self._open:
            heappop(self._by_deadline)
        return self._by_deadline[0][0] if self._by_deadline else None

    def due(self, now_ns: int) -> list[Request]:
        """Return the open requests whose deadline is at most `now_ns`; the caller ends them."""
        found = []
        while (deadline_ns := self.next_deadline_ns()) is not None and deadline_ns <= now_ns:
            found.append(self._open[heappop(self._by_deadline)[1]][0])
        return found


class LastGood:
    """The last good answer of every stream, for as long as it may stand in. Bounded; oldest go first."""

    def __init__(self, *, age_ns_max: int, streams_max: int = _STREAMS_MAX) -> None:
        self._age_ns_max, self._streams_max = age_ns_max, streams_max
        self._answers: OrderedDict[int, Answer] = OrderedDict()

    def remember(self, stream: int, answer: Answer) -> None:
        """Keep a model's answer."""
        if answer.outcome is not Outcome.MODEL:
            return
        self._answers[stream] = answer
        self._answers.move_to_end(stream)
        if len(self._answers) > self._streams_max:
            self._answers.popitem(last=False)

    def find(self, stream: int, now_ns: int) -> Answer | None:
        """Return the stream's answer if it is fresh enough."""
        answer = self._answers.get(stream)
        if answer is None or now_ns - answer.done_ns > self._age_ns_max:
            return None
        return answer

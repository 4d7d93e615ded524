"""A shift: one ladder at work, with its times and values, its first model, its workers and its admission.

A front has one shift that serves. While it goes over to another ladder it has two: the next one opens its
models beside the present one, then the present one answers what it holds and leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats32
from ..errors import ModelError
from ..ladder import Variant
from ..session import InferenceSession
from ..standardisation import training_of
from .breaker import CircuitBreaker
from .crew import Crew
from .forecast import CostTable, LatencyForecast
from .measure import first_variant, open_variant, value_table
from .planning import PlanLimits, Planner
from .queueing import Admission
from .request import NO_VARIANT

# What a worker's turn takes beside its model: taking requests, planning, giving answers.
TURN_NS: Final = 80_000.0
LANES: Final = 64
"""Lanes that a shift's numbers leave room for."""


class FirstModel:
    """The fastest model with skill, run in the front on submission; absent where none is fast enough.

    It has a breaker of its own: workers may never run the model, so theirs would not see what it gives.
    """

    def __init__(self, variants: Sequence[Variant], index: int | None, *, reuse: FirstModel | None) -> None:
        self.index = NO_VARIANT if index is None else index
        self._session: InferenceSession | None = None
        self._breaker = CircuitBreaker()
        self._window, self.sha256 = 1, ""
        if index is None:
            return
        variant = variants[index]
        self._window, self.sha256 = variant.input_shape[0], variant.sha256
        same = reuse is not None and reuse.sha256 == variant.sha256
        self._session = reuse._session if reuse is not None and same else open_variant(variant)

    @property
    def tripped(self) -> bool:
        """Whether its breaker ever opened."""
        return self._breaker.trips > 0

    def answer(self, rows: Floats32, now_ns: int) -> Floats32 | None:
        """Return its answers to payloads of shape (k, window, features), NaN where it has none."""
        if self._session is None or not self._breaker.allows(now_ns):
            return None
        try:
            return self._session.probabilities(rows[:, -1] if self._window == 1 else rows[:, -self._window :])
        except ModelError:
            # No first answer is no answer's loss: the workers still have the request.
            return None

    def note(self, now_ns: int, good: NDArray[np.bool_]) -> None:
        """Take in which of its answers were numbers."""
        found: list[bool] = good.tolist()
        self._breaker.record_all(now_ns, found)


class Shift:
    """One ladder at work.

    Parameters
    ----------
    number : int
        Of the ladder, from 1 up.
    crew : Crew
        Its workers, started or not.
    previous : sequence of Variant or None
        Per variant, what it is rolled back to when its breaker trips.
    open_max : int
        Requests at one worker.
    first_answers : bool
        Whether there is to be a first model.
    reuse : FirstModel, optional
        Of the shift before, taken over where it is the same file.
    """

    def __init__(
        self,
        *,
        number: int,
        variants: Sequence[Variant],
        previous: Sequence[Variant | None],
        costs: CostTable,
        crew: Crew,
        limits: PlanLimits,
        open_max: int,
        first_answers: bool,
        reuse: FirstModel | None = None,
    ) -> None:
        self.number, self.crew = number, crew
        self.variants, self.previous = tuple(variants), tuple(previous)
        self.costs, self.values = costs, value_table(self.variants)
        self.training = training_of(self.variants)
        self.first = FirstModel(
            self.variants, first_variant(costs, self.values) if first_answers else None, reuse=reuse
        )
        turns = costs.plus(TURN_NS)
        cheapest = Planner(LatencyForecast(turns), self.values).frontier[0]
        self.admission = Admission(
            crew.count,
            item_ns=turns.item_ns(cheapest),
            single_ns=turns.batch_ns(cheapest, 1),
            guard_ns=limits.guard_ns,
            outstanding_max=open_max,
        )
        # No two shifts that exist together share a lane's number: there are two at most.
        self._base = number % 2 * LANES

    def lane(self, worker: int) -> int:
        """Return the number of a worker's lane, unlike that of any other shift's."""
        return self._base + worker

    def lanes(self, workers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what `lane` does for many."""
        return workers + self._base

    def release(self, lanes: NDArray[np.int64]) -> None:
        """Give back what ended requests took of admission; other shifts' lanes are passed over."""
        counts = np.bincount(lanes[(lanes >= self._base) & (lanes < self._base + LANES)] - self._base)
        for worker in np.flatnonzero(counts).tolist():
            self.admission.outstanding[worker] -= int(counts[worker])

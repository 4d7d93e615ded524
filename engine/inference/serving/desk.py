"""The desk: what is open and how it ends. Slots, the ledger, first answers and last good ones.

No clock and no process: the front brings time and workers' answers, and takes away records of ENDED_DTYPE.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats32
from .arena import Arena
from .ledger import LastGood, Ledger
from .request import ENDED_DTYPE, NO_VARIANT, Outcome
from .shift import FirstModel

NONE_ENDED: Final = np.zeros(0, ENDED_DTYPE)
_ASKED: Final = ("request_id", "arrival_ns", "deadline_ns", "stream")
_SAID: Final = ("probabilities", "outcome", "variant", "ladder")


class Desk:
    """Takes payloads in and writes ends down.

    Parameters
    ----------
    stale_ns_max : int
        Age up to which a stream's last good answer may stand in.
    """

    def __init__(self, arena: Arena, *, stale_ns_max: int) -> None:
        self.arena = arena
        self.ledger = Ledger(len(arena.rows))
        self._last_good = LastGood(age_ns_max=stale_ns_max)
        # By slot: the first answer, and which model's it is.
        self._first: NDArray[Any] = np.zeros(len(arena.rows), ENDED_DTYPE)

    def first_answers(
        self, requests: NDArray[Any], rows: Floats32, first: FirstModel, ladder: int, now_ns: int
    ) -> NDArray[Any]:
        """Return what the first model says, its margins written into the requests; nothing is taken yet."""
        found = first.answer(rows, now_ns)
        firsts = np.zeros(len(requests), ENDED_DTYPE)
        if found is None:
            requests["margin"] = np.nan
            return firsts
        ranked = np.sort(found, axis=1)
        requests["margin"] = ranked[:, -1] - ranked[:, -2]
        firsts["probabilities"], firsts["variant"], firsts["ladder"] = found, first.index, ladder
        good = np.asarray(np.isfinite(found).all(axis=1))
        first.note(now_ns, good)
        firsts["outcome"] = np.where(good, Outcome.MODEL, 0)
        return firsts

    def enter(
        self, requests: NDArray[Any], rows: Floats32, firsts: NDArray[Any], lanes: NDArray[np.int64]
    ) -> None:
        """Give requests slots, of which there must be enough, and write down who has them."""
        slots = self.arena.take(len(requests))
        requests["slot"] = slots
        self.arena.rows[slots] = rows
        self._first[slots] = firsts
        self.ledger.open(requests, lanes)

    def answered(self, answers: NDArray[Any], now_ns: int) -> NDArray[Any]:
        """Return how requests end with workers' answers, records of ANSWER_DTYPE that match the ledger."""
        requests = self.ledger.requests[answers["slot"]]
        by_model = answers["outcome"] == Outcome.MODEL
        ended = _ended(requests, now_ns)
        for name in ("probabilities", "outcome", "variant"):
            ended[name] = answers[name]
        ended["ladder"] = self.arena.status["ladder"][answers["worker"]]
        if by_model.all():
            self._last_good.remember(ended)
        else:
            self._last_good.remember(ended[by_model])
            ended[~by_model] = self.at_hand(requests[~by_model], now_ns, Outcome.ABSTAIN)
        return ended

    def at_hand(
        self,
        requests: NDArray[Any],
        now_ns: int,
        otherwise: Outcome,
        *,
        firsts: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Return how requests end with the first answer, the stream's last good one, or `otherwise`.

        Parameters
        ----------
        firsts : array of ENDED_DTYPE, optional
            First answers of requests that were not entered.
        """
        ended = refusals(requests, now_ns)
        ended["outcome"] = otherwise
        first = self._first[requests["slot"]] if firsts is None else firsts
        said = first["outcome"] == Outcome.MODEL
        if said.all():
            for name in _SAID:
                ended[name] = first[name]
            return ended
        fresh, last = self._last_good.find(requests["stream"], now_ns)
        last["outcome"] = Outcome.LAST_GOOD
        for chosen, source in ((said, first), (fresh & ~said, last)):
            for name in _SAID:
                ended[name][chosen] = source[name][chosen]
        return ended


def refusals(requests: NDArray[Any], now_ns: int) -> NDArray[Any]:
    """Return how requests end that nobody answers."""
    ended = _ended(requests, now_ns)
    ended["outcome"], ended["variant"], ended["probabilities"] = Outcome.REFUSED, NO_VARIANT, np.nan
    return ended


def _ended(requests: NDArray[Any], now_ns: int) -> NDArray[Any]:
    ended = np.zeros(len(requests), ENDED_DTYPE)
    for name in _ASKED:
        ended[name] = requests[name]
    ended["done_ns"] = now_ns
    return ended

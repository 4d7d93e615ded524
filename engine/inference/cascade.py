"""What every model of a ladder is worth by how sure the first one was.

The margin of an answer is P(best) − P(second). Where the cheapest model's margin is large, a larger model
seldom knows better; where it is small, it often does. So the ladder's accuracy is kept by that margin, in
bins of equal share, measured on days that neither the weights nor the temperatures nor the epoch were chosen
by. The planner (`serving/planning.py`) spends time by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError

from .arrays import Floats32, Labels

MARGIN_BINS: Final = 8
# Manifests keep six digits.
_SUM_TOLERANCE: Final = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginScores:
    """One variant's accuracy by the first variant's margin.

    Parameters
    ----------
    first : str
        Whose margin, the same for a whole ladder.
    edges : tuple of float
        Strictly ascending, between 0 and 1; a margin at an edge belongs to the bin above.
    shares : tuple of float, shape (len(edges) + 1,)
        Of the judged rows, per bin.
    scores : tuple of float, shape (len(edges) + 1,)
        Accuracy within each bin; their mean by `shares` is the variant's score.
    """

    first: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    scores: tuple[float, ...]

    def broken_rule(self, score: float) -> str | None:
        """Return the rule that these figures break for a variant of that score, None when sound."""
        bins = len(self.edges) + 1
        if not all(isfinite(edge) and 0.0 < edge < 1.0 for edge in self.edges):
            return f"margin_edges must lie between 0 and 1, was {list(self.edges)}"
        if any(low >= high for low, high in zip(self.edges[:-1], self.edges[1:], strict=True)):
            return f"margin_edges must ascend strictly, was {list(self.edges)}"
        for name, found in (("shares", self.shares), ("score_by_margin", self.scores)):
            if len(found) != bins:
                return f"{name} must have {bins} entries, one for each bin of margins, was {len(found)}"
            if not all(isfinite(value) and 0.0 <= value <= 1.0 for value in found):
                return f"{name} must lie between 0 and 1, was {list(found)}"
        if not abs(sum(self.shares) - 1.0) <= _SUM_TOLERANCE:
            return f"shares must add up to 1, was {sum(self.shares)}"
        mean = sum(share * value for share, value in zip(self.shares, self.scores, strict=True))
        if not abs(mean - score) <= _SUM_TOLERANCE:
            return f"score_by_margin must average the score {score} by the shares, was {mean:.6f}"
        return None


def margins_of(probabilities: Floats32) -> NDArray[np.float64]:
    """Return P(best) − P(second) of each answer, shape (n,)."""
    ranked = np.sort(np.asarray(probabilities, np.float64), axis=1)
    margins: NDArray[np.float64] = ranked[:, -1] - ranked[:, -2]
    return margins


def bins_of(margins: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.int64]:
    """Return the bin of each margin."""
    return np.searchsorted(np.asarray(edges), margins, side="right")


def measure_margins(
    first: str, answers: Mapping[str, Floats32], labels: Labels, *, bins: int = MARGIN_BINS
) -> dict[str, MarginScores]:
    """Judge all variants by the margin of one.

    Parameters
    ----------
    first : str
        Among `answers`.
    answers : mapping of str to array of float32, shape (n, 3)
        Probabilities by variant, of the same rows.
    labels : array of int, shape (n,)
    bins : int
        Of about equal share; margins that tie make fewer.

    Examples
    --------
    >>> sure = np.array([[0.8, 0.1, 0.1], [0.4, 0.35, 0.25]], np.float32)
    >>> better = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], np.float32)
    >>> found = measure_margins("tiny", {"tiny": sure, "large": better}, np.array([0, 1]), bins=2)
    >>> found["tiny"].scores, found["large"].scores
    ((0.0, 1.0), (1.0, 1.0))
    """
    margins = margins_of(answers[first])
    if not len(margins):
        raise ConfigError("margins need judged rows, was none")
    cuts = np.round(np.quantile(margins, np.arange(1, bins) / bins), 6)
    edges = tuple(float(cut) for cut in np.unique(cuts) if margins.min() < cut <= margins.max())
    where = bins_of(margins, edges)
    counts = np.bincount(where, minlength=len(edges) + 1)
    found = {}
    for name, probabilities in answers.items():
        hits = np.bincount(where, probabilities.argmax(axis=1) == labels, minlength=len(counts))
        found[name] = MarginScores(
            first=first,
            edges=edges,
            shares=tuple(round(float(share), 6) for share in counts / len(labels)),
            scores=tuple(round(float(score), 6) for score in hits / np.maximum(counts, 1)),
        )
    return found

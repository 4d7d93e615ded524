"""What every model of a ladder is worth by how sure the first one was.

The margin of an answer is P(best) − P(second). Where the cheapest model's margin is large, a larger model
seldom knows better; where it is small, it often does. So the ladder's accuracy is kept by that margin, in
bins of equal share, measured on days that neither the weights nor the temperatures nor the epoch were chosen
by. The planner (`serving/planning.py`) spends time by it.

Larger models differ by a point or two, which a bin of a few thousand rows cannot tell apart: choosing the
luckiest in each bin would lose. So what all of them gain over the first one is pooled into one profile over
the bins, and each model's own gain follows that profile.
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

    Notes
    -----
    The mean of a variant's scores by the shares is its measured accuracy, exactly.
    """
    margins = margins_of(answers[first])
    if not len(margins):
        raise ConfigError("margins need judged rows, was none")
    cuts = np.round(np.quantile(margins, np.arange(1, bins) / bins), 6)
    edges = tuple(float(cut) for cut in np.unique(cuts) if margins.min() < cut <= margins.max())
    where = bins_of(margins, edges)
    counts = np.bincount(where, minlength=len(edges) + 1)
    shares = counts / len(labels)
    measured = {
        name: np.bincount(where, found.argmax(axis=1) == labels, minlength=len(counts)) / counts
        for name, found in answers.items()
    }
    base = measured[first]
    profile = _profile(np.sum([scores - base for scores in measured.values()], axis=0), shares)
    found = {}
    for name, scores in measured.items():
        pooled = base + float(shares @ (scores - base)) * profile
        # A model far from the others has a profile of its own.
        kept = pooled if pooled.min() >= 0.0 and pooled.max() <= 1.0 else scores
        found[name] = MarginScores(
            first=first,
            edges=edges,
            shares=tuple(np.round(shares, 6).tolist()),
            scores=tuple(np.round(kept, 6).tolist()),
        )
    return found


def _profile(gains: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return gains over their mean, none below zero; ones where nothing is gained."""
    gains = gains.clip(min=0.0)
    mean = float(shares @ gains)
    return gains / mean if mean > 0.0 else np.ones_like(gains)

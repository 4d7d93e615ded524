"""What a front sees of drift: inputs against training and against its first window, answers per variant.

Three comparisons, because a front knows three things:

training
    The centre and scale of every column on the training days, which models carry as their standardisation.
    Drift is when half of the rows lie more than a scale to one side, or more than two scales off. Says that
    these inputs are not what the models learnt from.
first window
    The distribution of every column in the first window served. Says that inputs have changed since.
answers
    The classes that each variant answered first. Per variant, because the mix of variants follows the load.

Rows are sampled, so that watching costs the same at any load. Consecutive rows of a market are alike, which
the index does not account for: against the first window its threshold is at least 0.25, and a little above it
is a hint, not a proof.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats32
from ..standardisation import Standardisation
from .drift import DriftMonitor, population_stability, psi_threshold
from .request import Outcome
from .shift import Shift

WINDOW: Final = 2_000
_CLASSES: Final = 3
_ANSWERS: Final = 500
# Of the rows of a window: so many on one side of training's centre by a scale, or off it by two.
_HALF: Final = 0.5
# Neighbouring rows are alike, so a window holds fewer than the index's threshold counts: windows of one and
# the same generated day differ by up to .2 of it.
_PSI_ALIKE: Final = 0.25
_SAMPLE_NS: Final = 4_000_000
_SAMPLES: Final = 32
_LOG: Final = logging.getLogger("anytick.serving")


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """One comparison that crossed its threshold.

    Parameters
    ----------
    against : str
        ``"training"``, ``"first window"`` or ``"answers"``.
    channels : tuple of int
        Columns; variants for answers.
    largest : float
        The largest of their measures, and `threshold` what it was held against.
    """

    against: str
    channels: tuple[int, ...]
    largest: float
    threshold: float

    def __str__(self) -> str:
        inputs = f"inputs against {self.against}, columns"
        what = "answers of variants" if self.against == "answers" else inputs
        shown = ", ".join(map(str, self.channels[:8])) + (", …" if len(self.channels) > 8 else "")
        return f"drift of {what} {shown}: {self.largest:.2f}, threshold {self.threshold:.2f}"


class DriftWatch:
    """Takes samples of what is served; tells of drift when a window is full. Holds no clock.

    Parameters
    ----------
    features, variants : int
        How many.
    training : Standardisation, optional
        Of the models that serve.
    window : int
        Rows per verdict on inputs.
    """

    def __init__(
        self, features: int, variants: int, *, training: Standardisation | None, window: int = WINDOW
    ) -> None:
        self._window = window
        self._first: list[Floats32] = []
        self._beside = np.zeros((3, features))
        self._seen = 0
        self._monitor: DriftMonitor | None = None
        self.verdicts = 0
        self.present: dict[str, Drift] = {}
        """What the last verdict of each kind says, where it says drift."""
        self.serve(variants, training=training)

    def serve(self, variants: int, *, training: Standardisation | None) -> None:
        """Begin with another ladder: other answers, other training, the same inputs."""
        self._training = training
        self._seen, self._beside[:] = 0, 0.0
        self._expected = np.zeros((variants, _CLASSES))
        self._answered = np.zeros((variants, _CLASSES))
        self._psi = np.zeros(variants)
        self.present.pop("answers", None)

    def observe(
        self, rows: Floats32, variants: NDArray[np.integer[Any]], classes: NDArray[np.integer[Any]]
    ) -> list[Drift]:
        """Take samples in; return the drifts that were not there at the verdict before.

        Parameters
        ----------
        rows : array of float32, shape (k, features)
            The last row of each payload.
        variants, classes : array of int, shape (k,)
            Who answered, and what.
        """
        news = self._observe_answers(variants, classes)
        if self._training is not None:
            news += self._observe_beside(self._training, rows)
        if self._monitor is None:
            self._first.append(rows.copy())
            if sum(map(len, self._first)) >= self._window:
                self._monitor = DriftMonitor(np.concatenate(self._first), window=self._window)
                self._first = []
            return news
        report = self._monitor.observe(rows)
        if report is not None:
            self.verdicts += 1
            news += self._note("first window", report.psi, max(report.threshold, _PSI_ALIKE))
        return news

    def _observe_beside(self, training: Standardisation, rows: Floats32) -> list[Drift]:
        scaled = (rows - training.center) * training.inverse_scale
        self._beside += (
            (scaled < -1.0).sum(axis=0),
            (scaled > 1.0).sum(axis=0),
            (abs(scaled) > 2.0).sum(axis=0),
        )
        self._seen += len(rows)
        if self._seen < self._window:
            return []
        shares = self._beside.max(axis=0) / self._seen
        self._seen, self._beside[:] = 0, 0.0
        return self._note("training", shares, _HALF)

    def _observe_answers(
        self, variants: NDArray[np.integer[Any]], classes: NDArray[np.integer[Any]]
    ) -> list[Drift]:
        places = variants.astype(np.int64) * _CLASSES + classes
        counts = np.bincount(places, minlength=self._expected.size).reshape(self._expected.shape)
        # Every variant's first answers are what its later ones are held against.
        learning = self._expected.sum(axis=1) < _ANSWERS
        self._expected[learning] += counts[learning]
        self._answered[~learning] += counts[~learning]
        full = self._answered.sum(axis=1) >= _ANSWERS
        if not full.any():
            return []
        self._psi[full] = population_stability(self._answered, self._expected)[full]
        self._answered[full] = 0.0
        threshold = psi_threshold(_ANSWERS, _ANSWERS, channels=len(full), bins=_CLASSES)
        # A cascade chooses by margin who answers what, so that answers follow the load a little as well.
        return self._note("answers", self._psi, max(threshold, _PSI_ALIKE))

    def _note(self, against: str, measures: NDArray[np.float64], threshold: float) -> list[Drift]:
        drifted = np.flatnonzero(measures > threshold)
        before = self.present.pop(against, None)
        if not len(drifted):
            return []
        found = Drift(
            against=against,
            channels=tuple(drifted.tolist()),
            largest=float(measures.max()),
            threshold=threshold,
        )
        self.present[against] = found
        return [] if before is not None else [found]


class DriftFeed:
    """Samples what a front ends for a `DriftWatch`, and logs what that says."""

    def __init__(self, features: int) -> None:
        self._features = features
        self._watch: DriftWatch | None = None
        self._ladder = self._due_ns = 0

    @property
    def present(self) -> tuple[Drift, ...]:
        """The drifts that the last verdicts found."""
        return () if self._watch is None else tuple(self._watch.present.values())

    @property
    def verdicts(self) -> int:
        """How many windows of inputs were judged."""
        return 0 if self._watch is None else self._watch.verdicts

    def offer(self, ended: NDArray[Any], slots: NDArray[Any], *, rows: Floats32, shift: Shift) -> None:
        """Take a few of these ends, if some time has passed since the last.

        Parameters
        ----------
        ended : array of ENDED_DTYPE, shape (k,)
        slots : array of int, shape (k,)
            Where their payloads stand in `rows`, all slots of the arena.
        shift : Shift
            The one at work; what others answered is passed over.
        """
        now_ns = int(ended["done_ns"][0])
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _SAMPLE_NS
        if self._watch is None:
            self._watch = DriftWatch(self._features, len(shift.variants), training=shift.training)
        elif shift.number != self._ladder:
            self._watch.serve(len(shift.variants), training=shift.training)
        self._ladder = shift.number
        chosen = (ended["outcome"] == Outcome.MODEL) & (ended["ladder"] == shift.number)
        places = np.flatnonzero(chosen)[:_SAMPLES]
        if not len(places):
            return
        classes = ended["probabilities"][places].argmax(axis=1)
        for drift in self._watch.observe(rows[slots[places], -1], ended["variant"][places], classes):
            _LOG.warning("%s", drift)

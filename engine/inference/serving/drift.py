"""Whether inputs and answers still look like those the models were judged on.

Each watched channel (a feature of the last row, or the class of the answer) is counted into bins over windows
of answers and compared with the reference by the population stability index (`drift_watch.py` feeds it)

    PSI = Σ over bins (p − q) · ln(p / q).

With N and M samples behind p and q and no drift, PSI is distributed like (1/N + 1/M) · χ² with bins − 1
degrees of freedom (Yurdakul and Naranjo, Journal of Risk Model Validation 14, 2020). The alarm threshold is
that distribution's 0.999 quantile, divided among channels (Bonferroni), and never below 0.1: a shift that
small matters to nobody, however certain it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError

from ..arrays import Floats32

BINS: Final = 10
_FALSE_ALARM: Final = 0.001
_PSI_FLOOR: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """One window's verdict.

    Parameters
    ----------
    psi : array of float64, shape (channels,)
    threshold : float
        Above it a channel has drifted.
    drifted : tuple of int
        Such channels; where classes are watched, they are the last one.
    """

    psi: NDArray[np.float64]
    threshold: float
    drifted: tuple[int, ...]


class DriftMonitor:
    """Watches feature columns and, where it has a reference for them, the answers' classes, by windows.

    Parameters
    ----------
    reference : array of float32, shape (n, features)
        Rows the models were judged on; deciles of each column become its bins.
    reference_classes : array of int, shape (n,), optional
        The classes answered there; without them columns are watched alone.
    window : int
        Answers per verdict.
    """

    def __init__(
        self,
        reference: Floats32,
        reference_classes: NDArray[np.integer[Any]] | None = None,
        *,
        window: int = 2_000,
    ) -> None:
        classes = len(reference if reference_classes is None else reference_classes)
        if reference.ndim != 2 or len(reference) < 10 * BINS or len(reference) != classes:
            raise ConfigError(
                f"a drift reference needs {10 * BINS} rows and their classes, was {reference.shape}"
            )
        if window < 10 * BINS:
            raise ConfigError(f"a drift window must hold {10 * BINS} answers, was {window}")
        # Not np.quantile, whose first call imports for ten milliseconds in which a front answers nobody.
        ordered = np.sort(reference, axis=0)
        self._edges = ordered[len(ordered) * np.arange(1, BINS) // BINS].T
        self._window, self._extra = window, int(reference_classes is not None)
        self._counts = self._zeros()
        self._expected = self._zeros()
        self._count_into(self._expected, reference, reference_classes)
        self._reference_count = len(reference)
        self._seen = 0
        channels = reference.shape[1] + self._extra
        self._threshold = psi_threshold(window, self._reference_count, channels=channels, bins=BINS)

    def observe(self, rows: Floats32, classes: NDArray[np.integer[Any]] | None = None) -> DriftReport | None:
        """Take answers in; return a verdict when a window is full.

        Parameters
        ----------
        rows : array of float32, shape (k, features)
            The last row of each payload.
        classes : array of int, shape (k,)
            As the reference has them or not.
        """
        self._count_into(self._counts, rows, classes)
        self._seen += len(rows)
        if self._seen < self._window:
            return None
        psi = population_stability(self._counts, self._expected)
        self._counts, self._seen = self._zeros(), 0
        drifted = tuple(int(channel) for channel in np.flatnonzero(psi > self._threshold))
        return DriftReport(psi=psi, threshold=self._threshold, drifted=drifted)

    def _zeros(self) -> NDArray[np.float64]:
        return np.zeros((len(self._edges) + self._extra, BINS))

    def _count_into(
        self, counts: NDArray[np.float64], rows: Floats32, classes: NDArray[np.integer[Any]] | None
    ) -> None:
        columns = len(self._edges)
        # All columns at once: a front brings a few rows at a time.
        places = (rows[:, :, None] >= self._edges).sum(axis=2) + BINS * np.arange(columns)
        found = np.bincount(places.ravel(), minlength=BINS * columns)
        counts[:columns] += found.reshape(columns, BINS)
        if classes is not None:
            counts[-1] += np.bincount(classes, minlength=BINS)[:BINS]


def population_stability(seen: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the index of each row of counts, shape (channels, bins), against the expected ones."""
    # Half a count in every bin keeps empty ones finite.
    p = (seen + 0.5) / (seen + 0.5).sum(axis=1, keepdims=True)
    q = (expected + 0.5) / (expected + 0.5).sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = ((p - q) * np.log(p / q)).sum(axis=1)
    return found


def psi_threshold(seen: int, expected: int, *, channels: int, bins: int) -> float:
    """Return the index above which a channel has drifted, by the samples behind both sides."""
    scale = 1.0 / seen + 1.0 / expected
    return max(scale * _chi2_quantile(1.0 - _FALSE_ALARM / channels, bins - 1), _PSI_FLOOR)


def _chi2_quantile(share: float, freedom: int) -> float:
    """Return a quantile of χ² by Wilson and Hilferty's cube (PNAS 17, 1931), within two percent here."""
    z = NormalDist().inv_cdf(share)
    return float(freedom * (1.0 - 2.0 / (9.0 * freedom) + z * sqrt(2.0 / (9.0 * freedom))) ** 3)

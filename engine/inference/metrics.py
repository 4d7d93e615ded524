"""How good three-class forecasts are, with intervals that respect how rows hang together.

Neighbouring rows share most of their future, so rows are no independent draws. Every figure here is a
function of sums over blocks of consecutive rows; the block bootstrap (Künsch 1989) resamples whole
blocks and adds up their sums, so one pass over the rows serves all resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats32, Labels
from .errors import ModelError
from .graph import CLASS_COUNT

CALIBRATION_BINS: Final = 15
REPLICATIONS: Final = 1_000
_LEVEL: Final = 0.95

# Columns of a block's sums: the confusion matrix, log-loss, then rows, confidence and hits per bin.
_CONFUSION: Final = CLASS_COUNT * CLASS_COUNT
_LOSS: Final = _CONFUSION
_BINS: Final = _LOSS + 1
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastMetrics:
    """What a forecaster is worth on rows it was never trained on.

    Parameters
    ----------
    macro_f1 : Figure
        Mean over the classes of the harmonic mean of precision and recall; 0 for a class never named.
    log_loss : Figure
        Nats.
    calibration_error : Figure
        Expected calibration error of the named class in 15 bins of equal width (Guo et al. 2017).
    """

    rows: int
    blocks: int
    accuracy: Figure
    macro_f1: Figure
    log_loss: Figure
    calibration_error: Figure


def forecast_metrics(
    probabilities: Floats32, labels: Labels, *, block_rows: int, seed: int, replications: int = REPLICATIONS
) -> ForecastMetrics:
    """Judge forecasts of rows in time order.

    Parameters
    ----------
    probabilities : array of float32, shape (n, 3)
        Finite.
    labels : array of int, shape (n,)
        0 down, 1 flat, 2 up.
    block_rows : int
        Rows that are resampled together: several times the horizon, counted in these rows.
    """
    if probabilities.shape != (len(labels), CLASS_COUNT) or not len(labels):
        raise ModelError(
            f"there must be one label a row and a row at least, was {probabilities.shape} for {labels.shape}",
            source="metrics",
        )
    if not np.isfinite(probabilities).all():
        raise ModelError("probabilities must be finite, was not", source="metrics")
    if labels.min() < 0 or labels.max() >= CLASS_COUNT or block_rows < 1:
        # An unknown label, -1, would count into the columns of calibration.
        found = f"{labels.min()} to {labels.max()} in blocks of {block_rows}"
        raise ModelError(
            f"labels must be 0, 1 or 2 in blocks of one row at least, was {found}", source="metrics"
        )
    sums = _block_sums(probabilities.astype(np.float64), labels, block_rows)
    draw = np.random.default_rng(seed)
    weights = draw.multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)), size=replications)
    resampled = weights @ sums
    total = sums.sum(axis=0, keepdims=True)

    def figure(of: Callable[[Floats], Floats]) -> Figure:
        tail = 50.0 * (1.0 - _LEVEL)
        low, high = np.percentile(of(resampled), (tail, 100.0 - tail))
        return Figure(value=float(of(total)[0]), low=float(low), high=float(high))

    return ForecastMetrics(
        rows=len(labels),
        blocks=len(sums),
        accuracy=figure(_accuracy),
        macro_f1=figure(_macro_f1),
        log_loss=figure(lambda s: s[:, _LOSS] / s[:, :_CONFUSION].sum(axis=1)),
        calibration_error=figure(_calibration_error),
    )


def _block_sums(probabilities: Floats, labels: Labels, block_rows: int) -> Floats:
    """Return the sums of every block, shape (blocks, columns); a short last block joins its neighbour."""
    rows = len(labels)
    block = np.minimum(np.arange(rows) // block_rows, max(1, rows // block_rows) - 1)
    named = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(rows), named]
    cell = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    sums = np.zeros((int(block[-1]) + 1, _BINS + 3 * CALIBRATION_BINS))
    np.add.at(sums, (block, labels * CLASS_COUNT + named), 1.0)
    losses = -np.log(np.maximum(probabilities[np.arange(rows), labels], 1e-12))
    sums[:, _LOSS] = np.bincount(block, losses, minlength=len(sums))
    for place, values in enumerate((np.ones(rows), confidence, (named == labels).astype(np.float64))):
        np.add.at(sums, (block, _BINS + place * CALIBRATION_BINS + cell), values)
    return sums


def _accuracy(sums: Floats) -> Floats:
    confusion = sums[:, :_CONFUSION].reshape(-1, CLASS_COUNT, CLASS_COUNT)
    hits: Floats = np.trace(confusion, axis1=1, axis2=2) / confusion.sum(axis=(1, 2))
    return hits


def _macro_f1(sums: Floats) -> Floats:
    confusion = sums[:, :_CONFUSION].reshape(-1, CLASS_COUNT, CLASS_COUNT)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    both = confusion.sum(axis=1) + confusion.sum(axis=2)
    f1: Floats = np.divide(2.0 * hits, both, out=np.zeros_like(both), where=both > 0.0).mean(axis=1)
    return f1


def _calibration_error(sums: Floats) -> Floats:
    rows, confidence, hits = np.split(sums[:, _BINS:], 3, axis=1)
    error: Floats = np.abs(hits - confidence).sum(axis=1) / rows.sum(axis=1)
    return error

"""What a forecaster must beat: the commonest class, and a logistic regression on queue imbalance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from engine.inference.arrays import Floats32
from engine.inference.graph import CLASS_COUNT
from engine.inference.lob_features import LEVEL_COUNT
from engine.inference.metrics import ForecastMetrics, forecast_metrics

from .forecast_data import ForecastData, LabelledDay

_DEPTHS = (1, 3, LEVEL_COUNT)
_TRAINING_STRIDE = 10


def baselines(
    data: ForecastData,
    days: Sequence[LabelledDay],
    ends: Sequence[NDArray[np.int64]],
    labels: NDArray[np.int64],
    *,
    block_rows: int,
    seed: int,
) -> dict[str, tuple[ForecastMetrics, ...]]:
    """Return each baseline's figures per horizon on the rows the models are judged on.

    ``majority`` answers the training days' class shares; ``imbalance`` is a multinomial logistic
    regression on (bid − ask) / (bid + ask) of 1, 3 and 10 levels and on the spread.
    """
    training = np.concatenate([day.labels[::_TRAINING_STRIDE] for day in data.training])
    rows = np.concatenate([imbalances(day.features[::_TRAINING_STRIDE]) for day in data.training])
    judged = np.concatenate([imbalances(day.features[at]) for day, at in zip(days, ends, strict=True)])
    found: dict[str, tuple[ForecastMetrics, ...]] = {"majority": (), "imbalance": ()}
    for place in range(labels.shape[1]):
        known = training[:, place] >= 0
        truth = training[known, place]
        shares = np.bincount(truth, minlength=CLASS_COUNT) / len(truth)
        constant = np.tile(shares.astype(np.float32), (len(labels), 1))
        with threadpool_limits(limits=1):
            fitted = LogisticRegression(max_iter=500).fit(rows[known], truth)
            answers = np.zeros((len(labels), CLASS_COUNT), np.float32)
            answers[:, fitted.classes_] = fitted.predict_proba(judged)
        for name, probabilities in (("majority", constant), ("imbalance", answers)):
            metrics = forecast_metrics(probabilities, labels[:, place], block_rows=block_rows, seed=seed)
            found[name] += (metrics,)
    return found


def imbalances(features: Floats32) -> NDArray[np.float64]:
    """Return the imbalance of the first 1, 3 and 10 levels and the spread in ticks, shape (n, 4)."""
    asks = np.expm1(features[:, 1::4].astype(np.float64))
    bids = np.expm1(features[:, 3::4].astype(np.float64))
    columns = []
    for depth in _DEPTHS:
        bid, ask = bids[:, :depth].sum(axis=1), asks[:, :depth].sum(axis=1)
        total = bid + ask
        columns.append(np.divide(bid - ask, total, out=np.zeros_like(total), where=total > 0.0))
    columns.append((features[:, 0] - features[:, 2]).astype(np.float64) / 2.0)
    return np.stack(columns, axis=1)

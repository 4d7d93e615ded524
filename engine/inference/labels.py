"""Labels of the order-book literature: where the mid will be, smoothed over the next k rows.

With p the mid and k the horizon, the move of row t is one of

- ``from_current``: mean(p[t+1 … t+k]) − p[t], as in FI-2010 (Ntakaris, Magris, Kanniainen, Gabbouj &
  Iosifidis 2018, "Benchmark dataset for mid-price forecasting of limit order book data");
- ``from_past``: mean(p[t+1 … t+k]) − mean(p[t−k+1 … t]), as in Tsantekidis et al. (2017, "Forecasting
  stock prices from the limit order book using convolutional neural networks"); Zhang, Zohren & Roberts
  (2019, "DeepLOB") discuss both.

`from_current` is the default: the other contains moves that have already happened, so a model looks
skilled by repeating the past. Moves are in ticks and not relative to the price, which changes nothing
within a day. A move is flat up to a threshold that splits the training rows into about equal thirds
(`classifier.move_threshold`), since a fixed one makes classes as lopsided as the instrument's tick size.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError

from .classifier import label_moves

HORIZONS: Final = (10, 50, 100)
UNKNOWN: Final = -1
"""The label of a row whose horizon ends after its stretch of trading."""


def smoothed_moves(
    mid_x2: NDArray[np.integer[Any]], *, horizon: int, from_past: bool = False
) -> NDArray[np.float64]:
    """Return every row's smoothed future move.

    Parameters
    ----------
    mid_x2 : array of int, shape (n,)
        Twice the mid, in ticks, of consecutive rows.
    horizon : int
        Rows ahead, k.
    from_past : bool
        Measure from the mean of the last k rows, the row itself included, instead of from the row.

    Returns
    -------
    array of float64, shape (n,)
        Ticks; NaN where the k rows ahead, or the k rows back, are not all there.

    Examples
    --------
    >>> smoothed_moves(np.array([0, 2, 4, 4]), horizon=2).tolist()
    [1.5, 1.0, nan, nan]
    """
    if horizon < 1:
        raise ConfigError(f"horizon must be at least one row, was {horizon}")
    count = len(mid_x2)
    moves = np.full(count, np.nan)
    if count <= horizon:
        return moves
    # Sums of integers: exact, so equal mids give a move of exactly zero.
    sums = np.concatenate([[0], np.cumsum(np.asarray(mid_x2, np.int64))])
    ahead = sums[horizon + 1 :] - sums[1 : count - horizon + 1]
    if from_past:
        behind = sums[horizon:] - sums[:-horizon]
        moves[horizon - 1 : count - horizon] = (ahead[horizon - 1 :] - behind[: count - 2 * horizon + 1]) / (
            2.0 * horizon
        )
    else:
        current = horizon * np.asarray(mid_x2[: count - horizon], np.int64)
        moves[: count - horizon] = (ahead - current) / (2.0 * horizon)
    return moves


def label_rows(moves: NDArray[np.float64], *, threshold: float) -> NDArray[np.int64]:
    """Label moves 0 down, 1 flat, 2 up; `UNKNOWN` where the move is NaN."""
    labels = np.full(len(moves), UNKNOWN, np.int64)
    known = ~np.isnan(moves)
    labels[known] = label_moves(moves[known], threshold=threshold)
    return labels

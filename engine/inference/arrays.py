"""Array types of this package and the one check every feature matrix passes."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError

Floats32 = NDArray[np.float32]
Labels = NDArray[np.integer[Any]]


def checked_features(features: NDArray[np.floating[Any]], *, source: str | PathLike[str]) -> Floats32:
    """Return features as contiguous float32, shape (n, d).

    Raises
    ------
    ModelError
        The shape is another, or a value is not finite in float32; names the first such row and column.
    """
    if features.ndim != 2 or features.shape[1] < 1:
        raise ModelError(f"features must have shape (n, d), was {features.shape}", source=source)
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(features, np.float32)
    unfit = np.argwhere(~np.isfinite(rows))
    if len(unfit):
        row, column = (int(index) for index in unfit[0])
        rule = f"features must be finite in float32, column {column} was {features[row, column]}"
        raise ModelError(rule, source=source, row=row)
    return rows

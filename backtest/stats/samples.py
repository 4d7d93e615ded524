"""What every statistic here asks of its input, checked in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.errors import ConfigError

Floats = NDArray[np.float64]

# A constant that is no binary fraction leaves a deviation of a few ulps behind; dividing by it would
# turn "never varies" into an enormous ratio.
_VARIATION_MIN = 8.0 * float(np.finfo(np.float64).eps)


def vector(values: ArrayLike, *, name: str) -> Floats:
    """Return `values` as a one-dimensional float64 array, or raise `ConfigError`."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ConfigError(f"{name} must have one dimension, had shape {array.shape}")
    return array


def finite_vector(values: ArrayLike, *, name: str) -> Floats:
    """Return `values` as a vector without NaN or infinity, or raise naming the first bad row."""
    array = vector(values, name=name)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ConfigError(f"{name} must be finite, row {bad[0]} was {array[bad[0]]}")
    return array


def never_varies(values: Floats) -> bool:
    """Return whether the spread of `values` is nothing but rounding; True when empty."""
    if values.size == 0:
        return True
    low, high = float(values.min()), float(values.max())
    return high - low <= _VARIATION_MIN * max(abs(low), abs(high))

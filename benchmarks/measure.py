"""One figure of a scenario: its spread, what a later run is compared with, and its distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.histogram import Histogram

BLOCKS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One figure with its spread; `floor` and `peer` are medians of the same unit, or None.

    Parameters
    ----------
    name, unit, kind : str
        The kind is ``throughput`` (percentiles over repetitions), ``latency`` (over single calls) or
        ``record`` (over what the scenario noted).
    samples : int
        What the percentiles are taken over.
    blocks : list of float
        What a later run is compared with: the repetitions, or the medians of consecutive parts of the calls.
    histogram, floor_histogram, peer_histogram : dict or None
        ``{"upper": [...], "counts": [...]}`` in ns, of a latency.
    peer_name, peer_ratio, peer_ratios : str, float, list of float
        Who; the median of theirs over ours, turn by turn; and each turn's.
    goal : float or None
        What was asked for: beside a peer the least ratio to it, alone the longest time.
    instructions, instructions_spread : float or None
        In user mode per item, the least of three passes, and how far the others lie above, as a share.
    """

    name: str
    unit: str
    kind: str
    samples: int
    minimum: float
    p50: float
    p99: float
    p999: float
    max: float
    floor: float | None
    peer: float | None
    blocks: list[float]
    floor_blocks: list[float]
    histogram: dict[str, list[int]] | None = None
    floor_histogram: dict[str, list[int]] | None = None
    peer_histogram: dict[str, list[int]] | None = None
    peer_name: str = ""
    peer_ratio: float | None = None
    peer_ratios: list[float] = field(default_factory=list)
    goal: float | None = None
    instructions: float | None = None
    instructions_spread: float | None = None


def histogram_of(values_ns: NDArray[np.float64]) -> dict[str, list[int]]:
    """Return the values as the upper edges and counts of `ext.histogram`, under 3.2 % wide each."""
    histogram = Histogram()
    for value in np.maximum(values_ns, 0.0).astype(np.int64).tolist():
        histogram.add(value)
    upper, counts = histogram.occupied()
    return {"upper": upper.tolist(), "counts": counts.tolist()}


def blocks_of(samples: NDArray[np.float64]) -> list[float]:
    """Return the samples, or the medians of consecutive parts of many: neighbours share their noise."""
    if len(samples) <= 2 * BLOCKS:
        return [float(value) for value in samples]
    return [float(np.median(part)) for part in np.array_split(samples, BLOCKS)]


def median_of(values: NDArray[np.float64]) -> float | None:
    """Return the median, None of nothing."""
    return float(np.median(values)) if values.size else None

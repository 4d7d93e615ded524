"""Opening the variants of a ladder and timing them on this machine, before anything depends on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from data.errors import ConfigError

from ..ladder import Variant
from ..session import InferenceSession
from ..tiers import open_session
from .forecast import BATCHES, CostTable
from .planning import ValueTable

_ROUNDS: Final = 7
# A batch that takes longer serves no deadline that this package is for; its time is extrapolated.
_BATCH_NS_MAX: Final = 60_000_000
_VARIANT_NS: Final = 400_000_000
_FIRST_NS_MAX: Final = 200_000.0


def open_variant(variant: Variant) -> InferenceSession:
    """Load one variant, checked against its SHA-256 and the list of allowed operators.

    Raises
    ------
    ModelError
        The file is missing, damaged or refused.
    """
    return open_session(variant.read(), source=variant.path, expected_sha256=variant.sha256)


def measure_costs(
    sessions: Sequence[InferenceSession], shapes: Sequence[tuple[int, int]], *, seed: int = 1
) -> CostTable:
    """Time every session at every batch size, in a few hundred milliseconds each.

    The lower quartile is kept: whatever disturbs a timing makes it longer, and what the machine does later is
    the pressure gauge's business.
    """
    random = np.random.default_rng(seed)
    table = []
    for session, (window, features) in zip(sessions, shapes, strict=True):
        shape = (features,) if window == 1 else (window, features)
        rows = random.standard_normal((BATCHES[-1], *shape)).astype(np.float32)
        session.probabilities(rows[:1])
        times: list[float] = []
        stop_ns = time.perf_counter_ns() + _VARIANT_NS
        for size in BATCHES:
            if times and times[-1] > _BATCH_NS_MAX:
                times.append(times[-1] * 2.0)
                continue
            taken = []
            for _ in range(_ROUNDS):
                start_ns = time.perf_counter_ns()
                session.probabilities(rows[:size])
                taken.append(time.perf_counter_ns() - start_ns)
                if time.perf_counter_ns() > stop_ns and len(taken) > 1:
                    break
            times.append(float(np.quantile(taken, 0.25)))
        # More items never take less time; where a timing says so, it was disturbed.
        table.append([float(value) for value in np.maximum.accumulate(times)])
    return CostTable(table)


def largest(variants: Sequence[Variant]) -> int:
    """Return the index of the largest model, in FP32 where the ladder has that."""
    return max(
        range(len(variants)),
        key=lambda index: (variants[index].parameters, variants[index].precision == "fp32"),
    )


def value_table(variants: Sequence[Variant]) -> ValueTable:
    """Return what answers are worth: no skill 0, the ladder's best score 1; by margin where it was measured.

    The best score is the largest model's where training went as it should. Within a bin of margins the same
    scale holds, so that the bins average to the value.

    Raises
    ------
    ConfigError
        No variant has skill.
    """
    best = max(variants, key=lambda variant: variant.score)
    span = best.score - best.no_skill_score
    if span <= 0.0:
        raise ConfigError(f"a variant must score above {best.no_skill_score}, was {best.score} ({best.name})")

    def worth(score: float) -> float:
        return (score - best.no_skill_score) / span

    values = [worth(variant.score) for variant in variants]
    names = [variant.name for variant in variants]
    measured = [variant.margins for variant in variants if variant.margins is not None]
    # A part of a ladder, without the variant whose margins these are, has nobody to ask first.
    if len(measured) < len(names) or measured[0].first not in names:
        return ValueTable(values)
    return ValueTable(
        values,
        margin_edges=measured[0].edges,
        by_margin=[[worth(score) for score in margins.scores] for margins in measured],
        shares=measured[0].shares,
        first=names.index(measured[0].first),
    )


def first_variant(costs: CostTable, values: ValueTable) -> int | None:
    """Return the variant of first answers: whose margins the values know, otherwise the fastest with skill.

    None when even that takes too long.
    """
    first = values.first
    if first is None:
        skilled = [index for index, value in enumerate(values.values) if value > 0.0]
        first = min(skilled, key=lambda index: costs.batch_ns(index, 1))
    return first if costs.batch_ns(first, 1) <= _FIRST_NS_MAX else None

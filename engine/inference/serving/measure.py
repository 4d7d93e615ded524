"""Opening the variants of a ladder, and what they take and are worth on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from data.errors import ConfigError

from ..ladder import Variant
from ..machine_profile import ProfilePlan, cache_folder, machine_profile, measure_profile
from ..session import InferenceSession
from ..tiers import open_session
from .forecast import BATCHES, CostTable
from .planning import ValueTable

# Sizes that every profile has, so that one which `models profile` made serves as well.
_PLAN: Final = ProfilePlan(workers=(1,), loads=("idle",), calls=200, seconds=0.05)
_FIRST_NS_MAX: Final = 200_000.0


def open_variant(variant: Variant) -> InferenceSession:
    """Load one variant, checked against its SHA-256 and the list of allowed operators.

    Raises
    ------
    ModelError
        The file is missing, damaged or refused.
    """
    return open_session(variant.read(), source=variant.path, expected_sha256=variant.sha256)


def ladder_costs(
    variants: Sequence[Variant],
    *,
    refresh: bool = False,
    keep: bool = True,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> CostTable:
    """Return what every variant takes on this machine, from the kept profiles where they hold here.

    What is not kept, or holds under other versions or on another CPU, is timed now, which takes a fraction of
    a second for a variant, and kept.

    Parameters
    ----------
    refresh : bool
        Time everything now.
    keep : bool
        Whether new times are kept: not those taken beside a load.
    folder : Path, optional
        Of the profiles; `machine_profile.cache_folder()` when None.
    say : callable
        Told in words which variants are timed now and why.
    """
    return CostTable([_variant_times(variant, refresh, keep, folder, say) for variant in variants])


def _variant_times(
    variant: Variant, refresh: bool, keep: bool, folder: Path | None, say: Callable[[str], None]
) -> list[float]:
    model = variant.read()
    folder = cache_folder() if folder is None else folder
    is_kept = (folder / f"{variant.sha256}.json").exists()
    if not (is_kept or refresh):
        say(f"{variant.name}: no profile is kept; measuring")
    if is_kept or keep:
        profile = machine_profile(
            model,
            plan=_PLAN,
            source=variant.path,
            folder=folder,
            refresh=refresh,
            say=lambda reason: say(f"{variant.name}: {reason}"),
        )
    else:
        profile = measure_profile(model, _PLAN, source=variant.path)
    known = [profile.cell(batch=size).p50_ns for size in _PLAN.batches]
    # A batch's time is nearly a straight line in its size; between timed sizes it is taken to be one.
    times = np.interp(BATCHES, _PLAN.batches, known)
    # More items never take less time; where a timing says so, it was disturbed.
    return [float(value) for value in np.maximum.accumulate(times)]


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

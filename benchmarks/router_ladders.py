"""The ladders that policies are compared on: what each rung takes, and what it is worth.

The reference ladder has rungs far apart in time and value, so that a change of policy is told from a change
of models: its times were measured, its values are assumed. The shipped ladder's values are measured, by the
margin of the first answer too, on a generated day that no build uses; its times are those of one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backtest.forecast_data import generated_windows
from engine.inference.arrays import Floats32
from engine.inference.cascade import bins_of, margins_of
from engine.inference.graph import check_graph
from engine.inference.ladder import Variant, load_ladder
from engine.inference.lob_features import WINDOW
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.measure import largest, open_variant, value_table
from engine.inference.serving.planning import ValueTable, efficient_frontier

_HORIZON: Final = 50
# A day of its own, apart from those of `models quantize`.
_FRESH_SEED: Final = 40_000
_STEP: Final = 64
# What a live worker's turn takes beside its model.
_TURN_NS: Final = 80_000.0
# A fifth of the reference's: these models are so much faster that a day of 50 ms is a day of millions.
_SHIPPED_DEADLINE_NS: Final = 10_000_000


@dataclass(frozen=True, kw_only=True)
class RouterLadder:
    """Rungs to choose from.

    Parameters
    ----------
    values : ValueTable
        What a policy believes.
    worth : ValueTable
        What answers are judged by.
    small, int8, large : int
        The static choices of the goals: the smallest model, the largest in INT8, the largest in FP32.
    middle : int
        The largest but one, in INT8.
    deadline_ns : int
        Of every request.
    margins : array of float64 or None
        First answers' margins to draw requests from.
    """

    names: tuple[str, ...]
    costs: CostTable
    values: ValueTable
    worth: ValueTable
    small: int
    middle: int
    int8: int
    large: int
    deadline_ns: int
    margins: NDArray[np.float64] | None = None

    @property
    def fixed(self) -> tuple[int, ...]:
        """The choices that somebody may stay with: those of the goals, and the efficient frontier."""
        items = [self.costs.item_ns(variant) for variant in range(len(self.costs))]
        frontier = efficient_frontier(items, self.values.values)
        return tuple(sorted({self.small, self.int8, self.large, *frontier}))


_REFERENCE_US: Final = (
    (10, 11, 11, 11, 13, 15, 20),
    (35, 51, 85, 149, 277, 542, 1_056),
    (61, 96, 172, 329, 659, 1_284, 2_560),
    (126, 241, 446, 879, 1_732, 3_460, 6_920),
    (847, 1_679, 3_360, 6_720, 13_440, 26_900, 53_800),
    (1_662, 3_300, 6_600, 13_200, 26_400, 52_800, 105_600),
)
_REFERENCE_VALUES: Final = ValueTable((0.22, 0.51, 0.70, 0.85, 0.985, 1.0))
REFERENCE: Final = RouterLadder(
    names=(
        "mlp-tiny",
        "tcn-small.int8",
        "tcn-medium.int8",
        "tcn-large.int8",
        "encoder.int8",
        "encoder.fp32",
    ),
    costs=CostTable([[time * 1e3 for time in row] for row in _REFERENCE_US]),
    values=_REFERENCE_VALUES,
    worth=_REFERENCE_VALUES,
    small=0,
    middle=3,
    int8=4,
    large=5,
    deadline_ns=50_000_000,
)

# Medians of batches of 1, 2, 4, … 64 on the quiet two-core machine of docs/INFERENCE.md.
SHIPPED_US: Final = {
    "mlp-tiny.fp32": (1.0, 1.1, 1.4, 1.9, 3.0, 5.2, 9.5),
    "mlp-tiny.int8": (1.0, 1.1, 1.4, 1.9, 3.0, 5.3, 9.7),
    "tcn-small.fp32": (30.7, 46.8, 79.1, 144.3, 274.7, 629.0, 1337.6),
    "tcn-small.int8": (21.6, 27.2, 38.5, 62.4, 110.2, 204.4, 393.0),
    "tcn-medium.fp32": (52.8, 89.9, 164.0, 311.1, 605.3, 1227.7, 2472.4),
    "tcn-medium.int8": (25.3, 34.5, 53.0, 90.5, 165.5, 314.5, 612.3),
    "tcn-large.fp32": (118.9, 224.3, 435.1, 842.9, 1658.5, 3391.8, 6858.4),
    "tcn-large.int8": (37.4, 57.6, 98.1, 176.6, 333.6, 656.5, 1302.3),
    "encoder.fp32": (224.0, 380.3, 693.0, 1364.3, 2707.0, 5475.3, 11012.0),
    "encoder.int8": (100.3, 142.0, 225.6, 396.4, 738.0, 1430.5, 2815.4),
}


@cache
def shipped_ladder(*, rows: int, seed: int) -> RouterLadder:
    """Return the package's ladder, judged on windows of a generated day that no build uses.

    Parameters
    ----------
    rows : int
        Windows judged.
    """
    variants = load_ladder()
    names = tuple(variant.name for variant in variants)
    # Of a family, INT8 stands behind FP32, and families stand by size.
    int8 = [place for place, name in enumerate(names) if name.endswith("int8")]
    inputs, labels = fresh_windows(variants, rows=rows, seed=seed)
    worth, margins = judged(variants, inputs, labels)
    return RouterLadder(
        names=names,
        costs=shipped_costs(names),
        values=value_table(variants),
        worth=worth,
        small=0,
        middle=int8[-2],
        int8=int8[-1],
        large=largest(variants),
        deadline_ns=_SHIPPED_DEADLINE_NS,
        margins=margins,
    )


def shipped_costs(names: Sequence[str]) -> CostTable:
    """Return what the package's variants take, each with a live worker's turn."""
    return CostTable([[time * 1e3 for time in SHIPPED_US[name]] for name in names]).plus(_TURN_NS)


def reference_with_margins(shipped: RouterLadder) -> RouterLadder:
    """Return the reference ladder with the margins that were measured on the shipped one.

    The smallest model's value by margin, and the share of a larger model's gain that falls into each bin, are
    the shipped ladder's; what each rung is worth on average stays the reference's.
    """
    shares = np.array(shipped.values.shares)
    first, last = (np.array(shipped.values.by_margin[place]) for place in (shipped.small, shipped.large))
    profile = (last - first) / float(shares @ (last - first))
    base, *_ = REFERENCE.values.values
    rows = [
        (base + first - float(shares @ first) + (value - base) * profile).tolist()
        for value in REFERENCE.values.values
    ]
    values = ValueTable(
        REFERENCE.values.values,
        margin_edges=shipped.values.margin_edges,
        by_margin=rows,
        shares=shipped.values.shares,
    )
    return replace(REFERENCE, values=values, worth=values, margins=shipped.margins)


def fresh_windows(variants: Sequence[Variant], *, rows: int, seed: int) -> tuple[Floats32, NDArray[np.int64]]:
    """Return windows and labels of a generated day that no build uses."""
    notes = check_graph(variants[0].read(), source=variants[0].path).metadata
    return generated_windows(
        seed=_FRESH_SEED + seed,
        window=WINDOW,
        horizon=_HORIZON,
        threshold=float(notes["flat_threshold_ticks"]),
        count=rows,
    )


def judged(
    variants: Sequence[Variant], inputs: Floats32, labels: NDArray[np.int64]
) -> tuple[ValueTable, NDArray[np.float64]]:
    """Return what variants are worth on these rows, on `value_table`'s scale, and the first one's margins."""
    believed = value_table(variants)
    answers = [_answers(variant, inputs) for variant in variants]
    margins = margins_of(answers[believed.first or 0])
    where = bins_of(margins, believed.margin_edges)
    counts = np.bincount(where, minlength=len(believed.shares))
    best = max(variant.score for variant in variants)
    base = variants[0].no_skill_score
    rows = []
    for answer in answers:
        hits = np.bincount(where, answer.argmax(axis=1) == labels, minlength=len(counts))
        rows.append(((hits / np.maximum(counts, 1) - base) / (best - base)).tolist())
    shares = counts / counts.sum()
    values = [float(np.dot(shares, row)) for row in rows]
    edges = believed.margin_edges
    return ValueTable(values, margin_edges=edges, by_margin=rows, shares=shares.tolist()), margins


def _answers(variant: Variant, inputs: Floats32) -> Floats32:
    session = open_variant(variant)
    rows = inputs[:, -1] if variant.input_shape[0] == 1 else inputs[:, -variant.input_shape[0] :]
    pieces = [
        session.probabilities(np.ascontiguousarray(rows[start : start + _STEP]))
        for start in range(0, len(rows), _STEP)
    ]
    return np.concatenate(pieces)

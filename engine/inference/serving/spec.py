"""What a worker process is told at its start, as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cascade import MarginScores
from ..ladder import Variant
from .planning import PlanLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """Everything a worker needs.

    Parameters
    ----------
    place : int
        Its status line in the arena.
    parent : int
        Process id of the front; a worker ends when it is orphaned.
    requests, answers : str
        Names of its rings.
    ladder : int
        Number of the ladder, from 1 up.
    previous : tuple of Variant or None
        Per variant, what it is rolled back to when its breaker trips.
    """

    place: int
    parent: int
    requests: str
    answers: str
    arena_descriptor: int
    bell_descriptor: int
    slots: int
    row_shape: tuple[int, int]
    ladder: int
    variants: tuple[Variant, ...]
    previous: tuple[Variant | None, ...]
    times_ns: tuple[tuple[float, ...], ...]
    limits: PlanLimits

    def to_json(self) -> str:
        """Return the line that `read_spec` reads back to an equal spec."""
        table: dict[str, Any] = asdict(self)
        table["variants"] = [variant_table(variant) for variant in self.variants]
        table["previous"] = [variant and variant_table(variant) for variant in self.previous]
        return json.dumps(table)


def read_spec(text: str) -> WorkerSpec:
    """Read what `WorkerSpec.to_json` wrote."""
    table = json.loads(text)
    table["variants"] = variants_of(table["variants"])
    table["previous"] = tuple(entry and _variant(entry) for entry in table["previous"])
    table["times_ns"] = tuple(tuple(row) for row in table["times_ns"])
    table["row_shape"] = tuple(table["row_shape"])
    table["limits"] = PlanLimits(**table["limits"])
    return WorkerSpec(**table)


def variant_table(variant: Variant) -> dict[str, Any]:
    """Return a variant in JSON types, for `variants_of`."""
    return asdict(variant) | {"path": str(variant.path.absolute())}


def _variant(table: dict[str, Any]) -> Variant:
    margins = table["margins"]
    if margins is not None:
        tuples = {name: tuple(margins[name]) for name in ("edges", "shares", "scores")}
        margins = MarginScores(first=margins["first"], **tuples)
    changed = {"path": Path(table["path"]), "input_shape": tuple(table["input_shape"]), "margins": margins}
    return Variant(**table | changed)


def variants_of(tables: Sequence[dict[str, Any]]) -> tuple[Variant, ...]:
    """Return the variants that `variant_table` made these of."""
    return tuple(_variant(table) for table in tables)

"""Two documents of the suite: what became faster, what slower, and what is only noise.

A ratio is the new median over the old one. Its band is the 95 % bootstrap interval of that ratio over the
repetitions of both runs, widened by as much as the machine moved between them: the most of the measure's
own floor probe, of a read within the cache, and of Arrow decoding a table. These did the same work both
times, so their change is the machine's, not the program's. Single calls are timed
in steps of the clock, so their band is a step wider at either end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError, DataError

from .harness import VERSION

RESAMPLES: Final = 4_000
REPEATS_WITHIN: Final = 0.01
COVERAGE: Final = 95.0
_SAME: Final = ("cpu", "cores", "system")
# Of the machine's limits, one that follows the core's clock and one that follows its caches and memory.
_CANARIES: Final = ("near_ns", "decode_ns")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One measure in both documents; ratios are new over old, so above 1 is slower.

    `low` and `high` bound the ratio; `drift` is the factor by which the machine moved. `instructions` is
    the ratio of their counts, None unless both runs counted the same in every pass.
    """

    scenario: str
    measure: str
    unit: str
    old: float
    new: float
    ratio: float
    low: float
    high: float
    drift: float
    instructions: float | None

    @property
    def verdict(self) -> str:
        if self.low > 1.0:
            return "slower"
        return "faster" if self.high < 1.0 else "same"


def load_document(path: Path) -> dict[str, Any]:
    """Return a document that ``anytick bench --out`` wrote.

    Raises
    ------
    DataError
        Unreadable, not JSON, or of another version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"expected a document of anytick bench, was unreadable: {error}", path=path
        ) from error
    if not isinstance(document, dict) or "scenarios" not in document:
        raise DataError("expected a document of anytick bench, was other JSON", path=path)
    if document.get("version") != VERSION:
        raise DataError(f"version must be {VERSION}, was {document.get('version')}", path=path)
    return document


def require_comparable(old: Mapping[str, Any], *, machine: Mapping[str, Any], smoke: bool) -> None:
    """Refuse to compare a document with a run on another machine, or with one that measures nothing.

    Raises
    ------
    ConfigError
    """
    differing = [name for name in _SAME if old["machine"].get(name) != machine.get(name)]
    if differing:
        told = "; ".join(f"{name} {old['machine'].get(name)} and {machine.get(name)}" for name in differing)
        raise ConfigError(f"runs are compared on one machine, was {told}")
    if old["smoke"] or smoke:
        raise ConfigError("runs are compared at full sizes, was --smoke")


def compare(old: Mapping[str, Any], new: Mapping[str, Any], *, seed: int = 1) -> list[Change]:
    """Return the changes of all measures that both documents have, in the new one's order.

    Raises
    ------
    ConfigError
        The documents are of different machines, or nothing is in both.
    """
    require_comparable(old, machine=new["machine"], smoke=new["smoke"])
    before = {key: (scenario, measure) for key, scenario, measure in _measures(old)}
    step_ns = max(document["machine"]["timer_step_ns"] for document in (old, new))
    draw = np.random.default_rng(seed)
    changes = [
        _change(
            key,
            before[key][1],
            measure,
            draw,
            drift=_drift(before[key], (scenario, measure)),
            step_ns=step_ns,
        )
        for key, scenario, measure in _measures(new)
        if key in before and scenario["parameters"] == before[key][0]["parameters"]
    ]
    if not changes:
        raise ConfigError("both documents must hold a measure of the same name and sizes, was none")
    return changes


def _measures(
    document: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, str], Mapping[str, Any], Mapping[str, Any]]]:
    for scenario in document["scenarios"]:
        for measure in scenario["measures"]:
            yield (scenario["name"], measure["name"]), scenario, measure


def _drift(
    old: tuple[Mapping[str, Any], Mapping[str, Any]], new: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> float:
    """Return the factor by which the machine moved, of all that are known the one farthest from 1."""
    factors = [new[0]["run"]["limits"][name] / old[0]["run"]["limits"][name] for name in _CANARIES]
    if old[1]["floor"] and new[1]["floor"]:
        factors.append(new[1]["floor"] / old[1]["floor"])
    return float(max(factors, key=lambda factor: abs(math.log(factor))))


def _change(
    key: tuple[str, str],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    draw: np.random.Generator,
    *,
    drift: float,
    step_ns: float,
) -> Change:
    ratio = new["p50"] / old["p50"]
    spread = _medians(new["blocks"], draw) / _medians(old["blocks"], draw)
    low, high = np.percentile(spread, (50 - COVERAGE / 2, 50 + COVERAGE / 2)).tolist()
    widened = math.exp(abs(math.log(drift)))
    step = step_ns / old["p50"] if new["kind"] == "latency" else 0.0
    # One figure has no spread of its own: nothing can be said of it.
    if min(len(new["blocks"]), len(old["blocks"])) < 2:
        low, high = 0.0, math.inf
    return Change(
        scenario=key[0], measure=key[1], unit=new["unit"], old=old["p50"], new=new["p50"], ratio=ratio,
        low=max(0.0, min(low, ratio) - step) / widened, high=(max(high, ratio) + step) * widened, drift=drift,
        instructions=_instructions(old, new),
    )  # fmt: skip


def _instructions(old: Mapping[str, Any], new: Mapping[str, Any]) -> float | None:
    counted = [measure for measure in (old, new) if measure["instructions"]]
    if len(counted) < 2 or max(measure["instructions_spread"] for measure in counted) > REPEATS_WITHIN:
        return None
    return float(new["instructions"] / old["instructions"])


def _medians(blocks: list[float], draw: np.random.Generator) -> NDArray[np.float64]:
    values = np.asarray(blocks, np.float64)
    picked: NDArray[np.float64] = np.median(
        values[draw.integers(0, len(values), (RESAMPLES, len(values)))], axis=1
    )
    return picked

"""Two documents of the suite: what became faster, what slower, and what is only noise.

A ratio is the new median over the old one. Its band is the 95 % bootstrap interval of that ratio over the
repetitions of both runs, widened by as much as the floor probe of the same measure moved between them: the
probe did the same work both times, so its change is the machine's, not the program's. Single calls are timed
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
COVERAGE: Final = 95.0
_SAME: Final = ("cpu", "cores", "system")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One measure in both documents; ratios are new over old, so above 1 is slower.

    `low` and `high` bound the ratio; `drift` is the factor by which the floor probe moved, 1 without one.
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

    @property
    def verdict(self) -> str:
        if self.low > 1.0:
            return "slower"
        return "faster" if self.high < 1.0 else "same"


def load_document(path: Path) -> dict[str, Any]:
    """Return a document that ``anytick bench --output`` wrote.

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


def compare(old: Mapping[str, Any], new: Mapping[str, Any], *, seed: int = 1) -> list[Change]:
    """Return the changes of all measures that both documents have, in the new one's order.

    Raises
    ------
    ConfigError
        The documents are of different machines, or nothing is in both.
    """
    differing = [name for name in _SAME if old["machine"].get(name) != new["machine"].get(name)]
    if differing:
        told = "; ".join(
            f"{name} {old['machine'].get(name)} and {new['machine'].get(name)}" for name in differing
        )
        raise ConfigError(f"runs are compared on one machine, was {told}")
    if old["smoke"] or new["smoke"]:
        raise ConfigError("runs are compared at full sizes, was --smoke")
    before = {key: measure for key, _, measure in _measures(old)}
    step_ns = max(document["machine"]["timer_step_ns"] for document in (old, new))
    draw = np.random.default_rng(seed)
    changes = [
        _change(key, before[key], measure, draw, step_ns=step_ns)
        for key, parameters, measure in _measures(new)
        if key in before and parameters == dict(_parameters(old))[key[0]]
    ]
    if not changes:
        raise ConfigError("both documents must hold a measure of the same name and sizes, was none")
    return changes


def _parameters(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for scenario in document["scenarios"]:
        yield scenario["name"], scenario["parameters"]


def _measures(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any, Mapping[str, Any]]]:
    for scenario in document["scenarios"]:
        for measure in scenario["measures"]:
            yield (scenario["name"], measure["name"]), scenario["parameters"], measure


def _change(
    key: tuple[str, str],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    draw: np.random.Generator,
    *,
    step_ns: float,
) -> Change:
    ratio = new["p50"] / old["p50"]
    spread = _medians(new["blocks"], draw) / _medians(old["blocks"], draw)
    low, high = np.percentile(spread, (50 - COVERAGE / 2, 50 + COVERAGE / 2)).tolist()
    drift = new["floor"] / old["floor"] if new["floor"] and old["floor"] else 1.0
    widened = math.exp(abs(math.log(drift)))
    step = step_ns / old["p50"] if new["kind"] == "latency" else 0.0
    # One figure has no spread of its own: nothing can be said of it.
    if min(len(new["blocks"]), len(old["blocks"])) < 2:
        low, high = 0.0, math.inf
    return Change(
        scenario=key[0], measure=key[1], unit=new["unit"], old=old["p50"], new=new["p50"], ratio=ratio,
        low=max(0.0, min(low, ratio) - step) / widened, high=(max(high, ratio) + step) * widened, drift=drift,
    )  # fmt: skip


def _medians(blocks: list[float], draw: np.random.Generator) -> NDArray[np.float64]:
    values = np.asarray(blocks, np.float64)
    picked: NDArray[np.float64] = np.median(
        values[draw.integers(0, len(values), (RESAMPLES, len(values)))], axis=1
    )
    return picked

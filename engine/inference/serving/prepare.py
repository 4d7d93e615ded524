"""Timing a ladder in a process of its own, while the front goes on serving another.

What this refuses never gets as far as a worker. Times come from the profiles kept for this machine; what has
none is timed beside the load and not kept; the forecasts learn how much faster it is on a quiet machine.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from data.errors import AnytickError

from ..ladder import Variant
from .forecast import CostTable
from .measure import ladder_costs, open_variant
from .processes import ChildProcess
from .spec import variants_of

_SECONDS_MAX: Final = 120.0


class LadderRefused(AnytickError):
    """A ladder cannot be served: one of its files is missing, damaged or refused."""


class Preparation:
    """The process that times a ladder. `result` never waits."""

    def __init__(self, process: ChildProcess) -> None:
        self._started_ns = time.monotonic_ns()
        self._process = process

    def result(self, now_ns: int) -> CostTable | None:
        """Return the times, None while they are not known.

        Raises
        ------
        LadderRefused
            A variant cannot be opened, or that takes too long.
        """
        said = self._process.said
        if "times_ns" in said:
            self.close()
            return CostTable(said["times_ns"])
        if "error" in said:
            raise LadderRefused(said["error"])
        if now_ns - self._started_ns > _SECONDS_MAX * 1e9:
            raise LadderRefused(f"a ladder must be opened and timed within {_SECONDS_MAX:g} s, was not")
        return None

    def came_to_nothing(self, now_ns: int) -> bool:
        """Return whether it failed by no fault of the ladder's."""
        return "times_ns" not in self._process.said and self._process.came_to_nothing(now_ns)

    def close(self) -> None:
        """End it; again is harmless."""
        self._process.kill()
        self._process.close()


def times_of(variants: Sequence[Variant]) -> dict[str, Any]:
    """Return what there is to tell of a ladder: its times, or why it cannot be served."""
    try:
        return {"times_ns": ladder_costs(variants, keep=False).times_ns}
    except AnytickError as error:
        return {"error": str(error)}


def main() -> None:
    """Read variants from standard input, write what there is to tell to standard output."""
    variants = variants_of(json.loads(sys.stdin.readline()))
    try:
        for variant in variants:
            open_variant(variant)
    except AnytickError as error:
        print(json.dumps({"error": str(error)}))
    else:
        print(json.dumps(times_of(variants)))


if __name__ == "__main__":
    main()

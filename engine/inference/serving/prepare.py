"""Opening and timing a ladder in a process of its own, while the front goes on serving another.

What this refuses never gets as far as a worker. Times come from the profiles kept for this machine; what has
none is timed beside the load and not kept; the forecasts learn how much faster it is on a quiet machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from data.errors import AnytickError

from ..ladder import Variant
from .forecast import CostTable
from .measure import ladder_costs, open_variant
from .spec import variant_table, variants_of
from .supervise import search_path

_SECONDS_MAX: Final = 120.0


class LadderRefused(AnytickError):
    """A ladder cannot be served: one of its files is missing, damaged or refused."""


class Preparation:
    """The process that opens and times a ladder. `result` never waits."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._started_ns = time.monotonic_ns()
        self._process = subprocess.Popen(
            (sys.executable, "-P", "-m", "engine.inference.serving.prepare"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": search_path()},
            process_group=0,
        )
        assert self._process.stdin is not None, "asked for a pipe"
        # One that is gone already is noticed by its result.
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(json.dumps([variant_table(variant) for variant in variants]).encode() + b"\n")

    def result(self, now_ns: int) -> CostTable | None:
        """Return the times, None while they are not known.

        Raises
        ------
        LadderRefused
            A variant cannot be opened, or that takes too long.
        """
        code = self._process.poll()
        if code is None:
            if now_ns - self._started_ns > _SECONDS_MAX * 1e9:
                raise LadderRefused(f"a ladder must be opened and timed within {_SECONDS_MAX:g} s, was not")
            return None
        assert self._process.stdout is not None, "asked for a pipe"
        with self._process.stdout as pipe:
            said = pipe.read().decode(errors="replace").strip()
        if code != 0:
            raise LadderRefused(said or f"a ladder must open, was not: exit code {code}")
        return CostTable(json.loads(said))

    def close(self) -> None:
        """End it; again is harmless."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def main() -> int:
    """Read variants from standard input, write their times to standard output."""
    try:
        variants = variants_of(json.loads(sys.stdin.readline()))
        for variant in variants:
            open_variant(variant)
        print(json.dumps(ladder_costs(variants, keep=False).times_ns))
    except AnytickError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

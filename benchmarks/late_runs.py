"""How long after its deadline a run is over that was asked to stop.

    python -m benchmarks.late_runs [--runs 300] [--hogs 2]

A perceptron of 40 equal layers runs on 256 rows, each time with a deadline at a random moment within it. ONNX
Runtime obeys between two operators, so one layer's time is what a stop takes on a quiet machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backtest.stress.rivals import Hogs
from engine.inference.capi import CapiSession

from .inference_models import perceptron

LAYERS: Final = 40
_ROWS, _WIDTH = 256, 512


def lateness_ms(runs: int, *, hogs: int = 0, seed: int = 1) -> NDArray[np.float64]:
    """Return how late the runs ended that were stopped, beside threads that spin; shape (stopped,)."""
    random = np.random.default_rng(seed)
    kernel = CapiSession.from_bytes(
        perceptron((_WIDTH,) * (LAYERS + 1) + (3,), seed=seed), batch_max=_ROWS
    ).kernel
    kernel.inputs[:] = random.standard_normal((_ROWS, _WIDTH))
    start_ns = time.monotonic_ns()
    kernel.run(_ROWS)
    whole_ns = time.monotonic_ns() - start_ns
    late = []
    with Hogs(hogs):
        for _ in range(runs):
            deadline_ns = time.monotonic_ns() + int(random.uniform(0.1, 0.8) * whole_ns)
            if not kernel.run(_ROWS, deadline_ns=deadline_ns):
                late.append((time.monotonic_ns() - deadline_ns) / 1e6)
    return np.array(late)


def main(arguments: Sequence[str]) -> int:
    """Print quantiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=300, help="default: %(default)s")
    parser.add_argument(
        "--hogs", type=int, default=0, help="threads that spin beside it; default: %(default)s"
    )
    chosen = parser.parse_args(arguments)
    late = lateness_ms(chosen.runs, hogs=chosen.hogs)
    found = np.quantile(late, (0.5, 0.95, 0.99, 1.0), method="higher")
    print(
        f"{len(late)} runs over {found[0]:.1f} ms (median), {found[1]:.1f} (95 %), {found[2]:.1f} (99 %), "
        f"at worst {found[3]:.1f} after their deadline"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The main job over histories of growing length: time must grow with it, memory must not.

Each length is a process of its own, so that one cannot leave memory to the next. The floor of time is
the copy of every event into a ring and out of it; the floor of memory is the process before it has read
anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from .bench_events import copy_twice, random_quotes
from .harness import Bench, scenario

YEARS: Final = (1.0, 2.5, 5.0)
SMOKE_YEARS: Final = (0.03,)
_CALL: Final = "import sys; from backtest.cli.main import main; sys.exit(main(sys.argv[1:]))"
_BASE: Final = "from backtest.memory import resident_bytes; import backtest.cli.run; print(resident_bytes())"


@scenario(
    "main-job",
    "anytick run on the built-in market: 1, 2.5 and 5 years",
    conditions="whole command without the sensitivity passes, models fitted and strategies run included; "
    "every length once; events = rows x venues x policies; memory is the peak of the proportional set size.",
)
def main_job(bench: Bench) -> None:
    probe_events = bench.parameter("probe_events", smoke=5_000, full=4_000_000)
    copy = copy_twice(random_quotes(probe_events, venues=3, seed=bench.seed))
    copy()
    for years in SMOKE_YEARS if bench.smoke else YEARS:
        begun = time.perf_counter()
        copy()
        floor_ns = (time.perf_counter() - begun) * 1e9 / probe_events
        answer = _run(years, seed=bench.seed)
        expected = answer["rows"] * len(answer["venues"]) * answer["policies"]
        bench.verify(answer["events"] == expected, "events are rows x venues x policies")
        bench.record(f"{years:g} years", "s", [answer["seconds"]], floor=floor_ns * expected * 1e-9)
        bench.record(f"{years:g} years, event", "ns", [answer["seconds"] * 1e9 / expected], floor=floor_ns)
        mebibytes = answer["peak_memory_bytes"] / 2**20
        bench.record(f"{years:g} years, peak memory", "MiB", [mebibytes], floor=_base_mebibytes())


def _run(years: float, *, seed: int) -> dict[str, Any]:
    options = ["--synthetic", "--years", f"{years:g}", "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as folder:
        out = _python(
            _CALL, "run", *options, "--no-sensitivity", "--no-journals", "--quiet", "--json", folder=folder
        )
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def _base_mebibytes() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return float(np.int64(_python(_BASE, folder=folder))) / 2**20


def _python(code: str, *arguments: str, folder: str) -> str:
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout

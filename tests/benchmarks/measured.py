"""Documents as the suite writes them, made up so that every figure is known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.harness import VERSION, Bench
from benchmarks.limits import UNITS

MACHINE = {
    "cpu": "Some CPU",
    "cpu_flags": ["avx2"],
    "caches": {"L1 Data": "48K"},
    "cores": 2,
    "governor": "unknown",
    "load_before": 0.1,
    "system": "Linux 6 x86_64",
    "python": "3.11.7 (GCC)",
    "compiler": "gcc 12",
    "build": "release",
    "build_hash": "0123456789abcdef",
    "numpy": "2.4",
    "onnxruntime": "1.31",
    "pyarrow": "26",
    "polars": "2",
    "timer_ns": 46.0,
    "timer_step_ns": 10.0,
}
LIMITS = {name: float(place + 1) for place, name in enumerate(UNITS)}


def document(
    *, scale: float = 1.0, floor: float = 10.0, name: str = "journal", seed: int = 1, peers: bool = False
) -> dict[str, Any]:
    """Return a document with one throughput of about `scale` x 100 ns and one latency of 1,000 calls."""
    draw = np.random.default_rng(seed)
    bench = Bench(seed=1)
    bench.record(
        "<item>", "ns", scale * (100 + draw.random(7)), floor=floor, peer=[400.0], peer_name="a & b", goal=5
    )
    bench.samples("call", scale * (1_000 + draw.random(1_000)), floor=[floor])
    scenario = {
        "name": name,
        "title": f"the {name}",
        "conditions": "alone.",
        "parameters": {"items": 7},
        "verified": ["one is one"],
        "measures": [asdict(measure) for measure in bench.measures],
        "run": {
            "commit": "abc",
            "build_hash": "0",
            "load_before": 0.1,
            "date": "2026-01-02",
            "limits": LIMITS,
        },
        "versions": {"other": "1.0"} if peers else {},
    }
    return {
        "version": VERSION,
        "commit": "abc",
        "seed": 1,
        "smoke": False,
        "peers": peers,
        "repetitions": 7,
        "machine": dict(MACHINE),
        "limits": LIMITS,
        "missing": [{"name": "gone", "needs": ["nowhere"]}],
        "scenarios": [scenario],
    }

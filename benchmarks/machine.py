"""What a reader must know of a machine and a build to judge a figure; nothing that names the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from ext.layout_info import COMPILER, DEBUG_BUILD

ROOT: Final = Path(__file__).resolve().parent.parent
# Of the hundred flags that a processor lists, those that a kernel of ours or of a library looks at.
_TELLING_FLAGS: Final = frozenset(
    [
        "sse4_2",
        "avx",
        "avx2",
        "fma",
        "bmi2",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_int8",
        "constant_tsc",
        "nonstop_tsc",
        "hypervisor",
        "asimd",
        "asimddp",
        "sve",
        "sve2",
        "i8mm",
    ]
)
_CACHES: Final = Path("/sys/devices/system/cpu/cpu0/cache")
_DISTRIBUTIONS: Final = ("numpy", "onnxruntime", "pyarrow", "polars")


def machine_facts() -> dict[str, Any]:
    """Return processor, caches, system, versions, build and the cost of measuring, as JSON types."""
    return {
        "cpu": _cpu_name(),
        "cpu_flags": _cpu_flags(),
        "caches": _caches(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "compiler": COMPILER,
        "build": "debug" if DEBUG_BUILD else "release",
        "build_hash": build_hash(),
        **{name: _version(name) for name in _DISTRIBUTIONS},
        **dict(zip(("timer_ns", "timer_step_ns"), _timer_ns(), strict=True)),
    }


def commit() -> str:
    """Return the checkout's commit, marked when it has changes; ``unknown`` for an installed wheel."""
    if not (ROOT / ".git").exists():
        return "unknown"
    try:
        found = subprocess.run(
            ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def build_hash() -> str:
    """Return 16 hex digits over the bytes of every compiled module: what ran, whatever the sources say."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "ext").glob("*.so")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _timer_ns() -> tuple[float, float]:
    """Return what a pair of clock reads around nothing shows, and the least step between two of them.

    Every figure of a single call contains the first and is a multiple of the second.
    """
    clock = time.perf_counter_ns
    pairs = np.empty(2_000)
    for index in range(len(pairs)):
        begun = clock()
        pairs[index] = clock() - begun
    steps = np.diff(np.unique(pairs))
    return float(np.median(pairs)), float(steps.min()) if steps.size else 1.0


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "missing"


def _cpu_lines(*names: str) -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    pairs = (line.partition(":") for line in text.splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() in names]


def _cpu_name() -> str:
    names = _cpu_lines("model name")
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    lines = _cpu_lines("flags", "Features")
    return sorted(_TELLING_FLAGS.intersection(lines[0].split())) if lines else []


def _caches() -> dict[str, str]:
    """Return size by name (``L1 Data``), of the caches that core 0 uses."""
    return {
        f"L{_first_line(f'{place}/level')} {_first_line(f'{place}/type')}": _first_line(f"{place}/size")
        for place in sorted(_CACHES.glob("index*"))
    }


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"

"""``anytick doctor``: whether this installation can do its work, and how well."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from ..places import MARKET_DATA_VARIABLE, find_market_data

OK, WARN, FAIL = "ok", "warn", "fail"
_MARKS: Final = {OK: "✓", WARN: "!", FAIL: "✗"}
_STYLES: Final = {OK: "green", WARN: "yellow", FAIL: "red"}
_LIBRARIES: Final = ("numpy", "pyarrow", "polars", "onnx", "onnxruntime", "scikit-learn", "scipy", "arch")
_MEMORY_BYTES_MIN: Final = 2 << 30
_SHARED_BYTES_MIN: Final = 64 << 20
_CLOCK_NS_MAX: Final = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the examination; `state` is ok, warn or fail."""

    name: str
    state: str
    detail: str


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="check this installation",
        description="Check this installation: extensions, libraries, processor, clock, memory, folders. "
        "Exit code 1 when something fails; warnings cost speed or convenience only.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine, print, and return 1 when anything failed."""
    findings = examine()
    failed = sum(finding.state == FAIL for finding in findings)
    if args.json:
        print(json.dumps({"failed": failed, "findings": [asdict(finding) for finding in findings]}))
    else:
        _print(findings)
    return 1 if failed else 0


def examine() -> list[Finding]:
    """Run every examination; one that raises is itself a failure."""
    findings: list[Finding] = []
    for look in _EXAMINATIONS:
        try:
            findings += look()
        except Exception as error:
            name = look.__name__.removeprefix("_")
            findings.append(Finding(name=name, state=FAIL, detail=f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    yield Finding(
        name="python",
        state=OK if sys.version_info >= (3, 11) else FAIL,
        detail=f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}",
    )
    found, missing = [], []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding(name="libraries", state=OK, detail=", ".join(found))
    if missing:
        yield Finding(name="missing", state=FAIL, detail=", ".join(missing))


def _packages() -> Iterator[Finding]:
    from .main import shadowed_package

    shadowed = shadowed_package()
    root = Path(__file__).resolve().parents[2]
    yield Finding(name="packages", state=FAIL if shadowed else OK, detail=shadowed or f"all from {root}")


def _extensions() -> Iterator[Finding]:
    from importlib import import_module

    folder = Path(__file__).resolve().parents[2] / "ext"
    modules = sorted(path.stem for path in folder.glob("*.pyi"))
    broken = {}
    for name in modules:
        try:
            import_module(f"ext.{name}")
        except ImportError as error:
            broken[name] = str(error)
    if broken:
        detail = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
        yield Finding(name="extensions", state=FAIL, detail=detail)
        return
    from ext.layout_info import DEBUG_BUILD

    yield Finding(name="extensions", state=OK, detail=f"{len(modules)} modules import")
    yield Finding(
        name="build",
        state=WARN if DEBUG_BUILD else OK,
        detail="debug: checks on, slow; make build" if DEBUG_BUILD else "release",
    )


def _processor() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    detail = f"{cores} of {os.cpu_count()} cores usable, {platform.machine()}"
    yield Finding(name="cores", state=OK if cores >= 2 else WARN, detail=detail)
    flags = _cpu_flags()
    if flags is None:
        yield Finding(name="int8", state=WARN, detail="processor flags cannot be read on this system")
        return
    integer = [name for name in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm") if name in flags]
    wide = [name for name in ("avx2", "avx512f", "asimd") if name in flags]
    yield Finding(
        name="int8",
        state=OK if integer else WARN,
        detail=f"{', '.join(integer) or 'no INT8 dot product: INT8 models gain little'}; "
        f"vectors: {', '.join(wide) or 'baseline only'}",
    )


def _cpu_flags() -> frozenset[str] | None:
    """Return the kernel's names of the processor's features, None where /proc is not to be had."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None


def _clock() -> Iterator[Finding]:
    clock = time.get_clock_info("monotonic")
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    kernel = source.read_text(encoding="ascii").strip() if source.is_file() else "unknown"
    readings = [time.perf_counter_ns() for _ in range(2_000)]
    steps = sorted(later - sooner for sooner, later in pairwise(readings))
    step_ns = steps[len(steps) // 2]
    # A clock source that needs a system call or a device makes every latency figure one of the clock.
    slow = step_ns > _CLOCK_NS_MAX or kernel in ("hpet", "acpi_pm", "jiffies")
    yield Finding(
        name="clock",
        state=WARN if slow else OK,
        detail=f"{clock.implementation}, source {kernel}, resolution {clock.resolution:g} s, "
        f"{step_ns} ns between two readings",
    )


def _memory() -> Iterator[Finding]:
    if not hasattr(os, "sysconf"):
        return
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding(
        name="memory", state=OK if total >= _MEMORY_BYTES_MIN else WARN, detail=f"{total / 2**30:.1f} GiB"
    )
    if not sys.platform.startswith("linux"):
        return
    try:
        shared = os.statvfs("/dev/shm")
    except OSError as error:
        yield Finding(name="shared memory", state=WARN, detail=f"/dev/shm: {error.strerror}")
        return
    free = shared.f_bavail * shared.f_frsize
    writable = os.access("/dev/shm", os.W_OK)
    yield Finding(
        name="shared memory",
        state=OK if writable and free >= _SHARED_BYTES_MIN else WARN,
        detail=f"/dev/shm, {free / 2**30:.1f} GiB free{'' if writable else ', not writable'}",
    )


def _folders() -> Iterator[Finding]:
    market = find_market_data()
    if market is None:
        detail = f"none: {MARKET_DATA_VARIABLE} is not set; runs use the built-in market"
        yield Finding(name="market data", state=OK, detail=detail)
    elif market.is_dir():
        yield Finding(name="market data", state=OK, detail=f"{market}, {len(list(market.iterdir()))} entries")
    elif market.is_file():
        yield Finding(name="market data", state=OK, detail=str(market))
    else:
        detail = f"{MARKET_DATA_VARIABLE} names nothing that exists: {market}"
        yield Finding(name="market data", state=FAIL, detail=detail)
    place = Path("var").resolve()
    parent = place if place.exists() else place.parent
    yield Finding(
        name="results",
        state=OK if os.access(parent, os.W_OK) else FAIL,
        detail=f"{place} {'can be written' if os.access(parent, os.W_OK) else 'cannot be written'}",
    )


_EXAMINATIONS: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    _python,
    _packages,
    _extensions,
    _processor,
    _clock,
    _memory,
    _folders,
)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = Text(f"{_MARKS[finding.state]} {finding.state}", style=_STYLES[finding.state])
        table.add_row(mark, finding.name, Text(finding.detail, overflow="fold"))
    Console().print(table)

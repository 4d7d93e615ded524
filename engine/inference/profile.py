"""How long a model takes: measured here, stored in a file, read by backtests.

A backtest adds the model's latency to every decision from a stored profile, never from the clock, so
that a run repeats (DESIGN.md §5.5). `anytick models profile` measures; `default_profile.toml` is what
a run uses unless told otherwise.
"""

from __future__ import annotations

import os
import platform
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from data.errors import ConfigError, DataError

from .session import InferenceSession, runtime_version, source_of

SCHEMA_VERSION: Final = 1
PRECISIONS: Final = ("fp32", "int8")
_WARM_UP_CALLS: Final = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyProfile:
    """Time of one forecast from compiled code, back to back on one thread, in ns.

    This is service time: no queue stands before the call. `floor_ns` is the median of the same clock
    around nothing, already contained in the other figures.
    """

    repetitions: int
    floor_ns: int
    p50_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int

    def __post_init__(self) -> None:
        values = [getattr(self, entry.name) for entry in fields(self)]
        if any(type(value) is not int or value < 0 for value in values) or self.repetitions < 1:
            raise ConfigError(f"a latency profile must hold counts and times from 0 up, was {values}")
        if not self.p50_ns <= self.p99_ns <= self.p999_ns <= self.max_ns:
            raise ConfigError(f"percentiles must ascend, was {values}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelProfile:
    """Latency by precision, with the conditions it was measured under."""

    machine: str
    python: str
    onnxruntime: str
    model: str
    latency: dict[str, LatencyProfile]

    def latency_ns(self, precision: str) -> int:
        """Return the latency a backtest charges for one decision: the median of that precision."""
        if precision not in self.latency:
            raise ConfigError(f"the profile must cover {precision!r}, was {sorted(self.latency)}")
        return self.latency[precision].p50_ns

    def faster_precision(self) -> str:
        """Return the precision with the lower median; FP32, which rounds less, when they are equal."""
        return min(self.latency, key=lambda name: (self.latency[name].p50_ns, name != "fp32"))


def measure_latency(session: InferenceSession, *, repetitions: int = 20_000, seed: int = 1) -> LatencyProfile:
    """Time single forecasts on random rows, taken as an event loop takes them.

    Parameters
    ----------
    repetitions : int
        Timed calls, after 1,000 that are not.
    """
    if repetitions < 1:
        raise ConfigError(f"repetitions must be positive, was {repetitions}")
    rows = np.random.default_rng(seed).standard_normal((256, np.prod(session.row_shape))).astype(np.float32)
    signal = source_of(session)
    signal.measure(rows, min(_WARM_UP_CALLS, 10 * repetitions))
    taken, floor = signal.measure(rows, repetitions)
    p50, p99, p999 = np.percentile(taken, (50.0, 99.0, 99.9), method="higher")
    return LatencyProfile(
        repetitions=repetitions,
        floor_ns=int(np.median(floor)),
        p50_ns=int(p50),
        p99_ns=int(p99),
        p999_ns=int(p999),
        max_ns=int(taken.max()),
    )


def profile_of(latency: dict[str, LatencyProfile], *, model: str) -> ModelProfile:
    """Attach this machine's description to measured latencies."""
    return ModelProfile(
        machine=machine_name(),
        python=platform.python_version(),
        onnxruntime=runtime_version(),
        model=model,
        latency=latency,
    )


def load_profile(path: str | os.PathLike[str] | None = None) -> ModelProfile:
    """Read a profile, the built-in one when no path is given.

    Raises
    ------
    DataError
        The file is missing or no TOML.
    ConfigError
        A key is unknown or missing, or a value impossible.
    """
    source = files(__package__) / "default_profile.toml" if path is None else Path(path)
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(
            f"a latency profile must be readable TOML, was not: {error}", path=str(source)
        ) from error
    return _parse_profile(table, str(source))


def format_profile(profile: ModelProfile) -> str:
    """Return the TOML text that `load_profile` reads back to an equal profile."""
    lines = [f"schema_version = {SCHEMA_VERSION}"]
    for name in ("machine", "python", "onnxruntime", "model"):
        lines.append(f"{name} = {_quoted(getattr(profile, name))}")
    for precision, latency in sorted(profile.latency.items()):
        lines += ["", f"[{precision}]"]
        lines += [f"{name} = {value}" for name, value in asdict(latency).items()]
    return "\n".join(lines) + "\n"


def machine_name() -> str:
    """Return the CPU's name and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next(
            line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {cores} cores"


def _parse_profile(table: dict[str, Any], source: str) -> ModelProfile:
    if table.pop("schema_version", None) != SCHEMA_VERSION:
        raise ConfigError(f"{source}: schema_version must be {SCHEMA_VERSION}")
    texts = ("machine", "python", "onnxruntime", "model")
    unknown = sorted(table.keys() - {*texts, *PRECISIONS})
    missing = sorted(set(texts) - table.keys())
    if unknown or missing:
        raise ConfigError(
            f"{source}: keys must be known and complete, was unknown {unknown}, missing {missing}"
        )
    if not all(isinstance(table[name], str) for name in texts):
        raise ConfigError(f"{source}: {', '.join(texts)} must be text")
    names = {entry.name for entry in fields(LatencyProfile)}
    latency = {}
    for precision in PRECISIONS:
        section = table.get(precision)
        if section is None:
            continue
        if not isinstance(section, dict) or section.keys() != names:
            raise ConfigError(f"{source}: [{precision}] must hold exactly {sorted(names)}")
        try:
            latency[precision] = LatencyProfile(**section)
        except ConfigError as error:
            raise ConfigError(f"{source}: [{precision}]: {error}") from None
    return ModelProfile(latency=latency, **{name: table[name] for name in texts})


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'

"""The main job's configuration: frozen dataclasses, one TOML loader, one hash.

Every field has a default, so an empty file is a valid configuration; an unknown key is refused with
its place.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from data.errors import ConfigError
from engine.risk import RiskLimits

POLICIES = (
    "linucb",
    "linucb_fp32",
    "linucb_blind",
    "epsilon_greedy",
    "single_best",
    "single_post",
    "sweep",
    "pro_rata",
    "round_robin",
)
"""What the main job can compare; the first runs the INT8 model, ``_blind`` no model at all."""


def _positive(section: str, **values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{section}.{name} must be positive, was {value}")


def _check_policies(place: str, names: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in POLICIES]
    if unknown or len(set(names)) != len(names) or "linucb" not in names:
        raise ConfigError(
            f"{place} must name different ones of {', '.join(POLICIES)}, linucb among them, "
            f"was {', '.join(names)}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WalkForwardConfig:
    """Rolling windows in calendar days; a short history shrinks both in proportion."""

    train_days: int = 180
    test_days: int = 90
    purge_minutes: float = 60.0
    embargo_hours: float = 24.0

    def __post_init__(self) -> None:
        _positive("walk_forward", train_days=self.train_days, test_days=self.test_days)
        if self.purge_minutes < 0 or self.embargo_hours < 0:
            raise ConfigError("walk_forward.purge_minutes and embargo_hours must not be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentConfig:
    """The stream of parent orders, drawn by seed and calendar day."""

    per_day: int = 16
    duration_minutes: float = 30.0
    slices: int = 6
    size_lots_min: int = 120
    size_lots_max: int = 900

    def __post_init__(self) -> None:
        _positive("parents", per_day=self.per_day, duration_minutes=self.duration_minutes, slices=self.slices)
        if not 0 < self.size_lots_min <= self.size_lots_max:
            raise ConfigError(
                f"parents.size_lots_min must be positive and at most size_lots_max, was {self.size_lots_min}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingConfig:
    """The policies and their parameters; the first baseline after LinUCB's forms is no favourite."""

    policies: tuple[str, ...] = POLICIES
    alpha: float = 1.0
    ridge: float = 1.0
    epsilon: float = 0.05
    post_seconds: float = 60.0
    protection_spreads: float = 1.0
    decision_us: float = 2.0

    def __post_init__(self) -> None:
        _check_policies("routing.policies", self.policies)
        _positive("routing", ridge=self.ridge, post_seconds=self.post_seconds)
        if (
            not 0 <= self.epsilon <= 1
            or self.alpha < 0
            or self.decision_us < 0
            or self.protection_spreads < 0
        ):
            raise ConfigError(
                "routing.epsilon must be 0 to 1; alpha, decision_us, protection_spreads not negative"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Training samples of the mid-price-move classifier, counted in market events."""

    sample_stride: int = 384
    sample_horizon: int = 96
    hidden: tuple[int, ...] = (32, 16)

    def __post_init__(self) -> None:
        if not 0 < self.sample_horizon < self.sample_stride:
            raise ConfigError(
                f"model.sample_horizon must be positive and below sample_stride, was {self.sample_horizon}"
            )
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"model.hidden must name at least one positive width, was {list(self.hidden)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SensitivityConfig:
    """What each scenario of the sensitivity table replays: a share of the history, from its start.

    A share, so that the whole run stays linear in the history; at least `days_min` days of it.
    """

    share: float = 0.12
    days_min: int = 30
    policies: tuple[str, ...] = ("linucb", "epsilon_greedy", "single_post", "sweep")

    def __post_init__(self) -> None:
        _positive("sensitivity", days_min=self.days_min)
        if not 0 <= self.share <= 1:
            raise ConfigError(f"sensitivity.share must be 0 to 1, was {self.share}")
        _check_policies("sensitivity.policies", self.policies)


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskConfig:
    """Limits of each engine's risk gate; the collar is a share of the first mid, so it fits any price."""

    order_size_lots_max: int = 2_000
    notional_max: float = 1e8
    price_band_bps: float = 500.0
    position_lots_max: int = 10_000_000
    messages_per_second_max: int = 500

    def __post_init__(self) -> None:
        _positive("risk", price_band_bps=self.price_band_bps)
        self.limits(mid_ticks=1.0)

    def limits(self, *, mid_ticks: float) -> RiskLimits:
        """Return the gate's limits for an instrument trading around `mid_ticks`."""
        return RiskLimits(
            order_size_lots_max=self.order_size_lots_max,
            notional_max=self.notional_max,
            price_band_ticks=max(10, round(abs(mid_ticks) * self.price_band_bps * 1e-4)),
            position_lots_max=self.position_lots_max,
            messages_per_second_max=self.messages_per_second_max,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything the main job depends on besides seed and data."""

    walk_forward: WalkForwardConfig = field(default_factory=WalkForwardConfig)
    parents: ParentConfig = field(default_factory=ParentConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    sensitivity: SensitivityConfig = field(default_factory=SensitivityConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    venue_ranges: str = "default"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"confidence must be 0.5 to below 1, was {self.confidence}")

    def as_dict(self) -> dict[str, Any]:
        """Return the whole effective configuration as plain values."""
        return asdict(self)

    def digest(self) -> str:
        """Return the SHA-256 of the effective configuration, the contents of the venue ranges included."""
        effective = self.as_dict() | {"venue_ranges": read_ranges(self.venue_ranges)}
        return hashlib.sha256(json.dumps(effective, sort_keys=True).encode()).hexdigest()


def read_ranges(ranges: str) -> str:
    """Return the text of a venue-range file; ``"default"`` is the committed ``venue_ranges.toml``.

    Raises
    ------
    ConfigError
        The file can't be read.
    """
    try:
        if ranges == "default":
            return files(__package__).joinpath("venue_ranges.toml").read_text(encoding="utf-8")
        return Path(ranges).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{ranges}: venue ranges cannot be read: {error}") from error


Config = TypeVar("Config")


def load_config(path: Path | None) -> RunConfig:
    """Read a run configuration from TOML; None gives the defaults.

    Raises
    ------
    ConfigError
        The file can't be read, is no TOML, or holds a key or value that is not acceptable.
    """
    if path is None:
        return RunConfig()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    return from_table(RunConfig, table, place=str(path))


def from_table(kind: type[Config], table: dict[str, Any], *, place: str) -> Config:
    """Build a configuration dataclass from a TOML table, refusing unknown keys and wrong types."""
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]  # kind is a dataclass
    for key in table:
        if key not in known:
            raise ConfigError(f"{place}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    values = {key: _value(hints[key], table[key], place=f"{place}: {key}") for key in table}
    missing = [
        name
        for name, entry in known.items()
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"{place}: missing key {missing[0]!r}")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _value(hint: Any, value: Any, *, place: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{place} must be a table, was {value!r}")
        return from_table(hint, value, place=place)  # type: ignore[arg-type]  # hint is a dataclass type
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{place} must be a list, was {value!r}")
        return tuple(_value(get_args(hint)[0], item, place=place) for item in value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not isfinite(value):
            raise ConfigError(f"{place} must be finite, was {value}")
        return float(value)
    if not isinstance(value, hint) or isinstance(value, bool) != (hint is bool):
        raise ConfigError(f"{place} must be {hint.__name__}, was {value!r}")
    return value

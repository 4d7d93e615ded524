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
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from data.errors import ConfigError
from engine.risk import RiskLimits

POLICIES = (
    "linucb",
    "linucb_int8",
    "linucb_blind",
    "epsilon_greedy",
    "single_best",
    "single_post",
    "sweep",
    "pro_rata",
    "round_robin",
)
"""What the main job can compare; the first runs the faster form of the model, ``_blind`` none at all."""


BOUNDS: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "walk_forward": {
        "train_days": (1, 36_500),
        "test_days": (1, 36_500),
        "purge_minutes": (0, 525_600),
        "embargo_hours": (0, 8_760),
    },
    # A parent's number has 24 bits: a century of weekdays at 500 each still fits.
    "parents": {
        "per_day": (1, 500),
        "duration_minutes": (0.1, 1_440),
        "slices": (1, 1_000),
        "size_lots_min": (1, 1_000_000),
        "size_lots_max": (1, 1_000_000),
    },
    # The router divides by the ridge, so a prior too small to invert is none.
    "routing": {
        "alpha": (0, 1_000),
        "ridge": (1e-9, 1_000_000_000),
        "epsilon": (0, 1),
        "post_seconds": (0.001, 86_400),
        "protection_spreads": (0, 100),
        "decision_us": (0, 1_000_000),
    },
    "model": {"sample_stride": (2, 10_000_000), "sample_horizon": (1, 9_999_999), "hidden": (1, 1_024)},
    "sensitivity": {"share": (0, 1), "days_min": (1, 36_500)},
    "risk": {
        "order_size_lots_max": (1, 1_000_000_000),
        "notional_max": (1, 1_000_000_000_000_000),
        "price_band_bps": (0.01, 10_000),
        "position_lots_max": (1, 1_000_000_000_000),
        "messages_per_second_max": (1, 1_000_000),
    },
}
"""Lower and upper bound of every number, both allowed; docs/CONFIG.md states the same."""

CONFIDENCE_BOUNDS: Final = (0.5, 0.9999)
_LAYERS_MAX: Final = 8


def _check_bounds(section: str, config: Any) -> None:
    """Refuse a number outside its bounds; NaN lies outside of any."""
    for name, (low, high) in BOUNDS[section].items():
        given = getattr(config, name)
        for value in given if isinstance(given, tuple) else (given,):
            if not low <= value <= high:
                raise ConfigError(f"{section}.{name} must be {low:,} to {high:,}, was {value}")


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
        _check_bounds("walk_forward", self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentConfig:
    """The stream of parent orders, drawn by seed and calendar day."""

    per_day: int = 16
    duration_minutes: float = 30.0
    slices: int = 6
    size_lots_min: int = 120
    size_lots_max: int = 900

    def __post_init__(self) -> None:
        _check_bounds("parents", self)
        if self.size_lots_min > self.size_lots_max:
            raise ConfigError(
                f"parents.size_lots_min must be at most size_lots_max, {self.size_lots_max}, "
                f"was {self.size_lots_min}"
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
        _check_bounds("routing", self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Training samples of the mid-price-move classifier, counted in market events."""

    sample_stride: int = 384
    sample_horizon: int = 96
    hidden: tuple[int, ...] = (32, 16)

    def __post_init__(self) -> None:
        _check_bounds("model", self)
        if self.sample_horizon >= self.sample_stride:
            raise ConfigError(
                f"model.sample_horizon must be below sample_stride, {self.sample_stride}, "
                f"was {self.sample_horizon}"
            )
        if not 1 <= len(self.hidden) <= _LAYERS_MAX:
            raise ConfigError(f"model.hidden must name 1 to {_LAYERS_MAX} widths, was {list(self.hidden)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SensitivityConfig:
    """What each scenario of the sensitivity table replays: a share of the history, from its start.

    A share, so that the whole run stays linear in the history; at least `days_min` days of it.
    """

    share: float = 0.12
    days_min: int = 30
    policies: tuple[str, ...] = ("linucb", "epsilon_greedy", "single_post", "sweep")

    def __post_init__(self) -> None:
        _check_bounds("sensitivity", self)
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
        _check_bounds("risk", self)

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
        low, high = CONFIDENCE_BOUNDS
        if not low <= self.confidence <= high:
            raise ConfigError(f"confidence must be {low} to {high}, was {self.confidence}")
        # Such children would be refused one by one, and the run would execute nothing.
        child_lots = -(-self.parents.size_lots_max // self.parents.slices)
        if child_lots > self.risk.order_size_lots_max:
            raise ConfigError(
                "parents.size_lots_max / slices must not exceed risk.order_size_lots_max, "
                f"{self.risk.order_size_lots_max}, was {child_lots}"
            )

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
    except ValueError as error:  # not UTF-8, not TOML, or a number of 5,000 digits
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
        try:
            number = float(value)
        except OverflowError:  # a whole number of 400 digits
            number = inf
        if not isfinite(number):
            raise ConfigError(f"{place} must be finite, was {number}")
        return number
    if not isinstance(value, hint) or isinstance(value, bool) != (hint is bool):
        raise ConfigError(f"{place} must be {hint.__name__}, was {value!r}")
    return value

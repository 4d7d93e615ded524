"""The limits that a recording must keep, and when its market is open, from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError
from .input_file import read_toml
from .instrument import Instrument
from .quality import RULES, QualityCheck, QualityReport, QualitySettings
from .session_clock import WEEKDAYS, Calendar

Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """The most of each finding that is let through.

    Parameters
    ----------
    limits : dict
        By rule; rules that are not named have no limit.
    events_min : int
    settings : QualitySettings
    calendar : Calendar or None
        When the market is open; None leaves that to the instrument.
    """

    limits: dict[str, int] = field(default_factory=dict)
    events_min: int = 0
    settings: QualitySettings = field(default_factory=QualitySettings)
    calendar: Calendar | None = None

    def check(self, instrument: Instrument) -> QualityCheck:
        """Return what looks at an instrument's events with these settings."""
        return QualityCheck(instrument, self.settings, calendar=self.calendar)

    def violations(self, report: QualityReport) -> tuple[str, ...]:
        """Return what is beyond a limit, one sentence each."""
        found = [
            f"{rule} must be at most {most}, was {report.count(rule)}"
            for rule, most in self.limits.items()
            if report.count(rule) > most
        ]
        if report.events < self.events_min:
            found.append(f"events must be at least {self.events_min}, was {report.events}")
        return tuple(found)


def load_gate(path: Path) -> Gate:
    """Read a gate from TOML: tables ``[limits]``, ``[settings]`` and ``[session]``, and ``events_min``.

    Raises
    ------
    ConfigError
        The file cannot be read, or has a key that nobody knows.
    """
    stored = read_toml(path)
    unknown = set(stored) - {"limits", "settings", "session", "events_min"}
    limits = _table(stored, "limits", path)
    settings = _table(stored, "settings", path)
    unknown |= set(limits) - set(RULES)
    unknown |= set(settings) - {entry.name for entry in fields(QualitySettings)}
    if unknown:
        raise ConfigError(f"{path}: keys must be known, was {', '.join(sorted(unknown))}")
    events_min = stored.get("events_min", 0)
    for name, value in {**limits, "events_min": events_min}.items():
        if type(value) is not int or value < 0:
            raise ConfigError(f"{path}: {name} must be an integer from 0 up, was {value!r}")
    for name, value in settings.items():
        if not isinstance(value, int | float):
            raise ConfigError(f"{path}: {name} must be a number, was {value!r}")
    calendar = load_calendar(_table(stored, "session", path), path) if "session" in stored else None
    return Gate(limits=limits, events_min=events_min, settings=QualitySettings(**settings), calendar=calendar)


def load_calendar(table: Mapping[str, Any], path: Path) -> Calendar:
    """Read a calendar from the table ``[session]`` of a gate."""
    kinds = {entry.name for entry in fields(Calendar)}
    if unknown := set(table) - kinds:
        raise ConfigError(f"{path}: [session]: keys must be known, was {', '.join(sorted(unknown))}")
    try:
        early = table.get("early_closes", {})
        return Calendar(
            time_zone=_of(str, table.get("time_zone", "UTC")),
            weekdays=tuple(
                WEEKDAYS.index(_of(str, name).lower()[:3]) for name in table.get("weekdays", WEEKDAYS[:5])
            ),
            opens=_of(time, table.get("opens", time(0, 0))),
            closes=_of(time, table.get("closes", time(23, 59))),
            holidays=tuple(_of(date, day) for day in table.get("holidays", ())),
            early_closes={date.fromisoformat(day): _of(time, hour) for day, hour in early.items()},
        )
    except (TypeError, ValueError, AttributeError, ConfigError) as error:
        raise ConfigError(
            f"{path}: [session] may have time_zone, weekdays like ['mon'], opens and closes like 09:30:00, "
            f"holidays like [2024-07-04] and early_closes like {{2024-07-03 = 13:00:00}}, was: {error}"
        ) from error


def _of(kind: type[Kind], value: Any) -> Kind:
    if type(value) is not kind:
        raise TypeError(f"expected a {kind.__name__}, was {value!r}")
    return value


def _table(stored: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = stored.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: [{name}] must be a table, was {found!r}")
    return found

"""Which column of somebody's table plays which part: a mapping, written as TOML.

``anytick data sniff FILE`` proposes one, ``anytick data import table FILE --mapping MAPPING`` follows it::

    kind = "trades"                     # quotes, trades or levels
    symbol = "BTCUSDT"
    price_increment = 0.01
    lot_size = 0.00001

    [time]
    column = "timestamp"
    unit = "ms"                         # s, ms, us, ns, iso, or a format such as "%Y%m%d %H%M%S%3f"
    time_zone = "UTC"
    # date = "day"                      # where `column` has only the time of day

    [columns]
    price = "price"
    size = "amount"
    side = "side"

    [side]
    buy = ["buy", "b"]
    sell = ["sell", "s"]

A column of a file without a header is named by its place: "0", "1", ... Numbers written like 1.234,50 are
read with ``decimal = ","`` and ``thousands = "."``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError
from .input_file import read_toml

PARTS: Final = {
    "quotes": (("bid", "ask"), ("bid_size", "ask_size", "symbol")),
    "trades": (("price", "size"), ("side", "symbol")),
    "levels": (("price", "size", "side"), ("symbol",)),
}
"""Columns that each kind must have, and those that it may have.

A column `symbol` must say in every row what it says in the first: a table is one instrument's.
"""

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,), "float": (int, float), "bool": (bool,), "tuple[str, ...]": (tuple,),
    "dict[str, str]": (dict,),
}  # fmt: skip

UNITS: Final = {"s": 9, "ms": 6, "us": 3, "ns": 0}
"""Decimal digits between a unit and a nanosecond."""

_THOUSANDS: Final = {"", ".", ",", "'", " ", "_"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeMapping:
    """How to read a time.

    Parameters
    ----------
    column : str
    unit : str
        One of UNITS since the Unix epoch, ``iso``, or a strftime format.
    time_zone : str
        Of times that do not name their own; counts from the epoch have none.
    date : str
        Column of the date, where `column` holds the time of day only; read as one text with a blank between.
    """

    column: str
    unit: str
    time_zone: str = "UTC"
    date: str = ""

    def __post_init__(self) -> None:
        if self.date and self.unit in UNITS:
            raise ConfigError(f"time.unit beside a date must be iso or a format with %, was {self.unit!r}")
        if self.unit not in (*UNITS, "iso") and "%" not in self.unit:
            known = ", ".join(UNITS)
            raise ConfigError(f"time.unit must be one of {known}, iso or a format with %, was {self.unit!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SideWords:
    """Words that mean a buyer or a bid, and a seller or an ask, in lower case."""

    buy: tuple[str, ...] = ("buy", "b", "bid", "1", "+1", "true")
    sell: tuple[str, ...] = ("sell", "s", "ask", "a", "-1", "false")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mapping:
    """A whole mapping.

    Parameters
    ----------
    kind : str
        One of PARTS.
    price_increment, lot_size : float
    columns : dict
        Column name by part.
    receive : TimeMapping, optional
        Our own clock, where it was recorded.
    delimiter : str
    header : bool
        The first line of a CSV names its columns.
    decimal, thousands : str
        Marks within the numbers of a text.
    """

    kind: str
    symbol: str
    price_increment: float
    lot_size: float
    time: TimeMapping
    columns: dict[str, str]
    receive: TimeMapping | None = None
    side: SideWords = SideWords()
    delimiter: str = ","
    header: bool = True
    decimal: str = "."
    thousands: str = ""

    def __post_init__(self) -> None:
        if self.kind not in PARTS:
            raise ConfigError(f"kind must be one of {', '.join(PARTS)}, was {self.kind!r}")
        needed, allowed = PARTS[self.kind]
        missing = [part for part in needed if part not in self.columns]
        unknown = [part for part in self.columns if part not in (*needed, *allowed)]
        if missing or unknown:
            raise ConfigError(
                f"[columns] of {self.kind} must name {', '.join(needed)}"
                f"{' and may name ' + ', '.join(allowed) if allowed else ''}, was {', '.join(self.columns)}"
            )
        for name in ("price_increment", "lot_size"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be a positive number, was {getattr(self, name)}")
        if len(self.delimiter) != 1:
            raise ConfigError(f"delimiter must be one character, was {self.delimiter!r}")
        if self.decimal not in (".", ",") or self.thousands not in _THOUSANDS - {self.decimal}:
            raise ConfigError(
                "decimal must be a point or a comma, and thousands nothing or another mark, "
                f"was {self.decimal!r} and {self.thousands!r}"
            )

    def used_columns(self) -> tuple[str, ...]:
        """Return the columns to read, each once."""
        clocks = (self.time, self.receive) if self.receive else (self.time,)
        times = [name for clock in clocks for name in (clock.date, clock.column) if name]
        return tuple(dict.fromkeys((*times, *self.columns.values())))

    def to_toml(self) -> str:
        """Return the mapping as a file that `load_mapping` reads."""
        lines = [
            f"{name} = {_toml(getattr(self, name))}"
            for name in (
                "kind",
                "symbol",
                "price_increment",
                "lot_size",
                "delimiter",
                "header",
                "decimal",
                "thousands",
            )
            if getattr(self, name) != ""
        ]
        for title, table in (
            ("time", _filled(self.time)),
            ("receive", _filled(self.receive) if self.receive else {}),
            ("columns", self.columns),
            ("side", _filled(self.side) if "side" in self.columns else {}),
        ):
            if table:
                lines += ["", f"[{title}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"


def load_mapping(path: Path) -> Mapping:
    """Read a mapping.

    Raises
    ------
    ConfigError
        The file cannot be read, lacks a key or has one that nobody knows.
    """
    stored = read_toml(path)
    try:
        for name, kind in (("time", TimeMapping), ("receive", TimeMapping), ("side", SideWords)):
            if name in stored:
                stored[name] = kind(**_plain(stored[name], kind, name))
        return Mapping(**_plain(stored, Mapping, "mapping"))
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {str(error).partition(') ')[2] or error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _plain(stored: Any, kind: type, name: str) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise ConfigError(f"{name} must be a table, was {stored!r}")
    known = {entry.name: str(entry.type) for entry in fields(kind)}
    unknown = set(stored) - set(known)
    if unknown:
        raise ConfigError(f"{name} must have known keys only, was {', '.join(sorted(unknown))}")
    values = {}
    for key, value in stored.items():
        values[key] = tuple(value) if isinstance(value, list) else value
        wanted = _TYPES.get(known[key], (object,))
        if not isinstance(values[key], wanted):
            raise ConfigError(f"{name}: {key} must be of type {known[key]}, was {value!r}")
    return values


def _filled(entry: Any) -> dict[str, Any]:
    found = {item.name: getattr(entry, item.name) for item in fields(entry)}
    return {name: value for name, value in found.items() if value != ""}


def _toml(value: Any) -> str:
    # JSON's strings, numbers, booleans and lists of strings are TOML's too.
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)

"""What the messages of a JSON-lines recording mean: a mapping of paths, written as TOML.

``anytick data sniff FILE`` proposes one, ``anytick data import jsonl FILE --mapping MAPPING`` follows it::

    symbol = "BTCUSDT"
    price_increment = 0.01
    lot_size = 0.00001

    [[stream]]
    kind = "depth"                      # depth, levels, trades or quotes
    time = { column = "data.E", unit = "ms" }
    receive = { column = "prefix", unit = "ns" }
    where = { "data.e" = ["depthUpdate"] }
    columns = { bids = "data.b", asks = "data.a" }
    level = { price = "0", size = "1" }
    sequence = { last = "data.u", first = "data.U" }

    [[stream]]
    kind = "trades"
    time = { column = "data.T", unit = "ms" }
    where = { "data.e" = ["trade"] }
    columns = { price = "data.p", size = "data.q", side = "data.m" }
    side = { buy = ["false"], sell = ["true"] }

A path's parts are joined by dots; a number is a place in an array, ``-1`` the last. ``prefix`` is the text in
front of the message. The first stream whose ``where`` holds takes a message; one that no stream takes is
counted. The word ``*`` holds for whatever stands at its path.
``each`` names an array whose elements are one record each. A depth message for which ``snapshot`` holds
replaces the book. ``sequence`` names the numbers by which `json_sequence` sees that messages are missing.
Units are those of `data.mapping`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from ..input_file import read_toml
from ..mapping import SideWords, TimeMapping

PREFIX: Final = "prefix"
ANYTHING: Final = "*"
_SIDE_WORDS: Final = SideWords()
PARTS: Final = {
    "depth": ({"bids", "asks"}, {"changes"}),
    "levels": ({"price", "size", "side"},),
    "trades": ({"price", "size"}, {"price", "size", "side"}),
    "quotes": ({"bid", "ask"}, {"bid", "ask", "bid_size", "ask_size"}),
}
"""Sets of columns that each kind may have."""

_UTC: Final = ("time_zone", "UTC")

Conditions = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelMapping:
    """Where a level of an array holds its numbers; `side` is needed for ``changes`` alone."""

    price: str = "0"
    size: str = "1"
    side: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceMapping:
    """Paths of a message's last number, perhaps of its first, or of the message before it."""

    last: str
    first: str = ""
    previous: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamMapping:
    """One kind of message.

    Parameters
    ----------
    kind : str
        One of PARTS.
    time : TimeMapping
        The venue's clock.
    columns : dict
        Path by part.
    receive : TimeMapping, optional
        Our own clock.
    where, snapshot : dict
        Words by path; holds where each path has one of its words, in lower case.
    each : str
        Path of an array of records; "" where the message is one.
    sequence : SequenceMapping, optional
        Numbers of the message, not of its records.
    """

    kind: str
    time: TimeMapping
    columns: dict[str, str]
    receive: TimeMapping | None = None
    where: Conditions = field(default_factory=dict)
    snapshot: Conditions = field(default_factory=dict)
    each: str = ""
    level: LevelMapping = LevelMapping()
    side: SideWords = _SIDE_WORDS
    sequence: SequenceMapping | None = None

    def __post_init__(self) -> None:
        if self.kind not in PARTS:
            raise ConfigError(f"kind must be one of {', '.join(PARTS)}, was {self.kind!r}")
        if set(self.columns) not in PARTS[self.kind]:
            known = " or ".join(", ".join(sorted(names)) for names in PARTS[self.kind])
            raise ConfigError(f"columns of {self.kind} must be {known}, was {', '.join(self.columns)}")
        if self.time.date or (self.receive is not None and self.receive.date):
            raise ConfigError("a time of JSON must stand at one path, was one with a date beside it")
        if "changes" in self.columns and not self.level.side:
            raise ConfigError("level.side must name a path where columns has changes, was none")


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonMapping:
    """A whole mapping.

    Parameters
    ----------
    price_increment, lot_size : float
    streams : tuple of StreamMapping
    """

    symbol: str
    price_increment: float
    lot_size: float
    streams: tuple[StreamMapping, ...]

    def __post_init__(self) -> None:
        if not self.streams:
            raise ConfigError("a mapping must have at least one [[stream]], was none")
        for name in ("price_increment", "lot_size"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be a positive number, was {getattr(self, name)}")

    def to_toml(self) -> str:
        """Return the mapping as a file that `load_json_mapping` reads."""
        lines = [
            f"{name} = {_toml(getattr(self, name))}" for name in ("symbol", "price_increment", "lot_size")
        ]
        for stream in self.streams:
            lines += ["", "[[stream]]"]
            for entry in fields(stream):
                value = getattr(stream, entry.name)
                if value is not None and value != {} and value != "" and not _is_default(entry.name, stream):
                    lines.append(f"{entry.name} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def _is_default(name: str, stream: StreamMapping) -> bool:
    if name == "level":
        return stream.kind != "depth"
    if name == "side" and stream.side == _SIDE_WORDS:
        return True
    return name == "side" and "side" not in stream.columns and "changes" not in stream.columns


def load_json_mapping(path: Path) -> JsonMapping:
    """Read a mapping.

    Raises
    ------
    ConfigError
        The file cannot be read, lacks a key or has one that nobody knows.
    """
    stored = read_toml(path)
    try:
        streams = tuple(_stream(entry) for entry in _typed(stored.pop("stream", []), list, "stream"))
        mapping = JsonMapping(**_known(stored | {"streams": streams}, JsonMapping))
        _typed(mapping.symbol, str, "symbol")
    except TypeError as error:
        raise ConfigError(f"{path}: {str(error).partition(') ')[2] or error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return mapping


def _stream(stored: Any) -> StreamMapping:
    values = dict(_known(_typed(stored, dict, "stream"), StreamMapping))
    for name, kind in (
        ("time", TimeMapping), ("receive", TimeMapping), ("level", LevelMapping), ("side", SideWords),
        ("sequence", SequenceMapping),
    ):  # fmt: skip
        if name in values:
            told = _known(_typed(values[name], dict, name), kind)
            lists = name == "side"
            for key, value in told.items():
                told[key] = _words(value, f"{name}.{key}") if lists else _typed(value, str, f"{name}.{key}")
            values[name] = kind(**told)
    for name in ("where", "snapshot"):
        if name in values:
            conditions = _typed(values[name], dict, name)
            values[name] = {key: _words(value, f"{name}.{key}") for key, value in conditions.items()}
    for key, value in _typed(values.get("columns", {}), dict, "columns").items():
        _typed(value, str, f"columns.{key}")
    for name in ("kind", "each"):
        _typed(values.get(name, ""), str, name)
    return StreamMapping(**values)


def _known(stored: dict[str, Any], kind: type) -> dict[str, Any]:
    unknown = set(stored) - {entry.name for entry in fields(kind)}
    if unknown:
        raise ConfigError(f"keys must be known, was {', '.join(sorted(unknown))}")
    return dict(stored)


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ConfigError(f"{name} must be of type {kind.__name__}, was {value!r}")
    return value


def _words(value: Any, name: str) -> tuple[str, ...]:
    words = tuple(str(_typed(word, str, name)).lower() for word in _typed(value, list, name))
    if not words:
        raise ConfigError(f"{name} must have at least one word, was none")
    return words


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        entries = (
            f"{key if key.isidentifier() else json.dumps(key)} = {_toml(entry)}"
            for key, entry in value.items()
        )
        return "{ " + ", ".join(entries) + " }"
    if hasattr(value, "__dataclass_fields__"):
        told = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        return _toml({key: entry for key, entry in told.items() if entry != "" and (key, entry) != _UTC})
    # JSON's strings, numbers, booleans and lists of strings are TOML's too.
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)

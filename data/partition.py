"""One file of a tick store, as the manifest describes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

from .errors import ConfigError

Key = tuple[str, str, str, int, int]
"""Instrument, venue, day, generation and index: what names a file."""

_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class RowGroup(NamedTuple):
    """A run of rows of a file and the bytes that hold them; the file's groups stand end to end."""

    rows: int
    bytes: int
    first_ts_ns: int
    last_ts_ns: int
    crc32c: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """One file: events of one instrument and venue on one UTC day, or an appended part of that day.

    Parameters
    ----------
    generation, index : int
        Of the commit that wrote the file, and its place in that commit; both 0 for the plain name.
    rows, bytes : int
    first_ts_ns, last_ts_ns : int
    sha256 : str
        Of the file, in hexadecimal.
    groups : tuple of RowGroup
        They tell where a time stands before the file is opened. The first begins at byte 0.
    footer_crc32c : int
        Of the bytes after the last group.
    """

    instrument: str
    venue: str
    day: str
    generation: int = 0
    index: int = 0
    rows: int
    bytes: int
    first_ts_ns: int
    last_ts_ns: int
    sha256: str
    groups: tuple[RowGroup, ...]
    footer_crc32c: int

    def __post_init__(self) -> None:
        # Verifying a store of years makes thousands of these, most of names and days seen before.
        require_path_part("instrument", self.instrument)
        require_path_part("venue", self.venue)
        _require_day(self.day)
        _require_integers(self)
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise ConfigError(f"sha256 must be 64 hexadecimal digits, was {self.sha256!r}")
        rows = byte_count = 0
        for group in self.groups:
            if any(type(value) is not int for value in group) or group.rows < 1 or group.bytes < 1:
                raise ConfigError(f"groups must hold counts from 1 up, was {group}")
            rows += group.rows
            byte_count += group.bytes
        if rows != self.rows:
            raise ConfigError(f"groups must hold {self.rows} rows together, was {rows}")
        if self.rows == 0 or byte_count >= self.bytes:
            raise ConfigError("a partition must hold rows and a footer behind them, was otherwise")

    @property
    def key(self) -> Key:
        return self.instrument, self.venue, self.day, self.generation, self.index

    @property
    def day_key(self) -> tuple[str, str, str]:
        return self.instrument, self.venue, self.day

    @property
    def name(self) -> str:
        """Relative to the store; built from checked parts, never read from the manifest."""
        return partition_name(self.instrument, self.venue, self.day, self.generation, self.index)

    def path(self, root: Path) -> Path:
        return root / self.name

    def group_starts(self) -> tuple[int, ...]:
        """Return the byte at which each group starts, and last the footer's."""
        return tuple(accumulate((group.bytes for group in self.groups), initial=0))


def in_time_order(parts: Iterable[Partition]) -> list[Partition]:
    """Sort parts of one day: by time, and where both ends are equal by age."""
    return sorted(parts, key=lambda part: (part.first_ts_ns, part.last_ts_ns, part.generation, part.index))


def require_path_part(name: str, value: object) -> None:
    """Refuse what could leave the store's folder or collide on some file system."""
    if not isinstance(value, str) or not _is_path_part(value):
        raise ConfigError(f"{name} must be letters, digits, '.', '_' or '-', was {value!r}")


@lru_cache(maxsize=4_096)
def _is_path_part(value: str) -> bool:
    return _PART.fullmatch(value) is not None


@lru_cache(maxsize=16_384)
def _require_day(day: str) -> None:
    if date.fromisoformat(day).isoformat() != day:
        raise ConfigError(f"day must be an ISO date, was {day!r}")


def _require_integers(entry: Partition) -> None:
    counts = entry.rows, entry.bytes, entry.generation, entry.index
    for value in counts:
        if type(value) is not int or value < 0:
            raise ConfigError(f"rows, bytes, generation and index must be integers from 0 up, was {counts}")
    for value in (entry.first_ts_ns, entry.last_ts_ns, entry.footer_crc32c):
        if type(value) is not int:
            raise ConfigError(f"times and checksums must be integers, was {value!r}")


def partition_name(instrument: str, venue: str, day: str, generation: int, index: int) -> str:
    mark = f".g{generation}-{index}" if generation or index else ""
    return f"instrument={instrument}/venue={venue}/date={day}{mark}.parquet"

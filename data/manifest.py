"""The tick store's manifest: what the store holds, and the only thing a reader believes.

A file that the manifest does not list does not exist for readers, so a commit is one rename: the
partitions first, the manifest last. Files are never changed and their names never used again while a
reader may hold an older manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time as clock
from dataclasses import asdict, dataclass, field, fields
from datetime import date, time
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

from .errors import AnytickError, ConfigError, DataError
from .instrument import Instrument, Session
from .reference import FeeSchedule, Rename

MANIFEST_NAME: Final = "manifest.json"
SCHEMA_VERSION: Final = 2

_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_HEAD: Final = b'{"sha256": "'
_DIGESTED: Final = len(_HEAD) + 64
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

# Opening a store of years is mostly this file, and it seldom changes between two readings.
_REMEMBERED_MAX: Final = 4
_remembered: Final[dict[tuple[str, int, int, int, int], Manifest]] = {}
_remembering: Final = Lock()
_SETTLED_NS: Final = 2 * 10**9


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
        # A store of years makes thousands of these when it is opened, most of names and days seen before.
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
    def key(self) -> tuple[str, str, str, int, int]:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One committed state of a store.

    Parameters
    ----------
    generation : int
        Counts commits from 0, an empty store.
    instruments : dict
        Descriptions by symbol, in order of validity.
    venues : dict
        The id that a venue's events carry.
    partitions : dict
        By `Partition.key`.
    imports : dict
        Finished imports by id: what a repeated import is told.
    """

    generation: int = 0
    instruments: dict[str, tuple[Instrument, ...]] = field(default_factory=dict)
    venues: dict[str, int] = field(default_factory=dict)
    partitions: dict[tuple[str, str, str, int, int], Partition] = field(default_factory=dict)
    fees: tuple[FeeSchedule, ...] = ()
    renames: tuple[Rename, ...] = ()
    imports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def parts_of(self, key: tuple[str, str, str]) -> list[Partition]:
        """Return the files of one instrument, venue and day in order of time."""
        return in_time_order(entry for entry in self.partitions.values() if entry.day_key == key)


def in_time_order(parts: Any) -> list[Partition]:
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


def read_manifest(root: Path, *, fresh: bool = False) -> Manifest:
    """Return the committed state; an empty one where nothing was committed yet.

    Parameters
    ----------
    fresh : bool
        Read the file even where its times say that it is the one read last.
    """
    path = root / MANIFEST_NAME
    try:
        with path.open("rb") as stream:
            stat = os.fstat(stream.fileno())
            same = str(path.absolute()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            if not fresh and (remembered := _remembered.get(same)) is not None:
                return remembered
            text = stream.read()
    except FileNotFoundError:
        return Manifest()
    except OSError as error:
        raise DataError(f"expected a readable manifest, was {error.strerror}", path=path) from error
    manifest = _parsed(text, path)
    # A file's times are coarse: one that has just changed may change again within the same instant.
    if abs(clock.time_ns() - stat.st_ctime_ns) > _SETTLED_NS:
        with _remembering:
            _remembered[same] = manifest
            while len(_remembered) > _REMEMBERED_MAX:
                del _remembered[next(iter(_remembered))]
    return manifest


def _parsed(text: bytes, path: Path) -> Manifest:
    try:
        stored = json.loads(text)
        version = stored["schema_version"]
        if version != SCHEMA_VERSION:
            raise DataError(f"schema_version must be {SCHEMA_VERSION}, was {version}", path=path)
        found = hashlib.sha256(text[_DIGESTED:]).hexdigest()
        if not text.startswith(_HEAD) or stored["sha256"] != found:
            raise DataError(f"SHA-256 must be {stored['sha256']}, was {found}", path=path)
        manifest = _manifest(stored)
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AnytickError) as error:
        raise DataError(f"expected a tick store manifest, was: {error!r}", path=path) from error
    for entry in manifest.partitions.values():
        if entry.instrument not in manifest.instruments or entry.venue not in manifest.venues:
            raise DataError(f"expected {entry.instrument} and {entry.venue} to be described", path=path)
    return manifest


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Commit a state: readers see the old manifest or the new one, whole."""
    text = json.dumps(_stored(manifest), indent=1, default=lambda value: value.isoformat()).encode()
    # The digest covers the bytes behind it as they stand.
    behind = b'",' + text[1:]
    digest = hashlib.sha256(behind).hexdigest().encode()
    write_synced(root / MANIFEST_NAME, _HEAD + digest + behind)


def write_synced(path: Path, content: bytes) -> None:
    """Replace a small file, durably and in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Make a file's contents, or renames within a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stored(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest in what JSON can write, but for dates."""
    return {
        "schema_version": SCHEMA_VERSION,
        "generation": manifest.generation,
        "instruments": {
            name: [asdict(entry) for entry in versions]
            for name, versions in sorted(manifest.instruments.items())
        },
        "venues": manifest.venues,
        "partitions": [_partition_row(entry) for _, entry in sorted(manifest.partitions.items())],
        "fees": [asdict(entry) for entry in manifest.fees],
        "renames": [asdict(entry) for entry in manifest.renames],
        "imports": manifest.imports,
    }


def _partition_row(entry: Partition) -> dict[str, Any]:
    # asdict copies every row group; a store of years has tens of thousands.
    return {item.name: getattr(entry, item.name) for item in fields(Partition)}


def _manifest(stored: dict[str, Any]) -> Manifest:
    partitions = [
        Partition(**{**entry, "groups": tuple(RowGroup(*group) for group in entry["groups"])})
        for entry in stored["partitions"]
    ]
    generation = stored["generation"]
    if type(generation) is not int or generation < 0:
        raise ConfigError(f"generation must be an integer from 0 up, was {generation!r}")
    return Manifest(
        generation=generation,
        instruments={
            name: tuple(_instrument(entry) for entry in versions)
            for name, versions in stored["instruments"].items()
        },
        venues={str(name): int(venue_id) for name, venue_id in stored["venues"].items()},
        partitions={entry.key: entry for entry in partitions},
        fees=tuple(FeeSchedule(**_with_dates(entry)) for entry in stored["fees"]),
        renames=tuple(Rename(**_with_dates(entry)) for entry in stored["renames"]),
        imports={str(name): dict(entry) for name, entry in stored["imports"].items()},
    )


def _with_dates(stored: dict[str, Any]) -> dict[str, Any]:
    dated = ("valid_from", "valid_until", "first_day")
    return {name: date.fromisoformat(value) if name in dated else value for name, value in stored.items()}


def _instrument(stored: dict[str, Any]) -> Instrument:
    known = {entry.name for entry in fields(Instrument)}
    values = _with_dates({name: value for name, value in stored.items() if name in known})
    session = values.pop("session")
    values["session"] = Session(
        weekdays=tuple(session["weekdays"]),
        opens=time.fromisoformat(session["opens"]),
        closes=time.fromisoformat(session["closes"]),
    )
    return Instrument(**values)

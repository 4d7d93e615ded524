"""The tick store's manifest: what the store holds, and the only thing a reader believes.

A file that the manifest does not list does not exist for readers, so a commit is one rename: the
partitions first, the manifest last.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from datetime import date, time
from pathlib import Path
from typing import Any, Final

from .errors import AnytickError, ConfigError, DataError
from .instrument import Instrument, Session

MANIFEST_NAME: Final = "manifest.json"
SCHEMA_VERSION: Final = 1

_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """One instrument's events of one venue on one UTC day.

    Parameters
    ----------
    rows, bytes : int
    first_ts_ns, last_ts_ns : int
    sha256 : str
        Of the file, in hexadecimal.
    """

    instrument: str
    venue: str
    day: str
    rows: int
    bytes: int
    first_ts_ns: int
    last_ts_ns: int
    sha256: str

    def __post_init__(self) -> None:
        require_path_part("instrument", self.instrument)
        require_path_part("venue", self.venue)
        if date.fromisoformat(self.day).isoformat() != self.day:
            raise ConfigError(f"day must be an ISO date, was {self.day!r}")
        for name in ("rows", "bytes", "first_ts_ns", "last_ts_ns"):
            if not isinstance(getattr(self, name), int):
                raise ConfigError(f"{name} must be an integer, was {getattr(self, name)!r}")

    @property
    def key(self) -> tuple[str, str, str]:
        return self.instrument, self.venue, self.day

    def path(self, root: Path) -> Path:
        """Return the partition's file; built from checked parts, never read from the manifest."""
        return partition_path(root, self.instrument, self.venue, self.day)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Instruments, venues with the id their events carry, and partitions by (instrument, venue, day)."""

    instruments: dict[str, Instrument] = field(default_factory=dict)
    venues: dict[str, int] = field(default_factory=dict)
    partitions: dict[tuple[str, str, str], Partition] = field(default_factory=dict)


def require_path_part(name: str, value: object) -> None:
    """Refuse what could leave the store's folder or collide on some file system."""
    if not isinstance(value, str) or not _PART.fullmatch(value):
        raise ConfigError(f"{name} must be letters, digits, '.', '_' or '-', was {value!r}")


def partition_path(root: Path, instrument: str, venue: str, day: str) -> Path:
    return root / f"instrument={instrument}" / f"venue={venue}" / f"date={day}.parquet"


def read_manifest(root: Path) -> Manifest:
    """Return the committed state; an empty one where nothing was committed yet."""
    path = root / MANIFEST_NAME
    if not path.exists():
        return Manifest()
    try:
        stored = json.loads(path.read_bytes())
        version = stored["schema_version"]
        if version != SCHEMA_VERSION:
            raise DataError(f"schema_version must be {SCHEMA_VERSION}, was {version}", path=path)
        partitions = [Partition(**entry) for entry in stored["partitions"]]
        manifest = Manifest(
            instruments={name: _instrument(entry) for name, entry in stored["instruments"].items()},
            venues={str(name): int(venue_id) for name, venue_id in stored["venues"].items()},
            partitions={entry.key: entry for entry in partitions},
        )
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, AnytickError) as error:
        raise DataError(f"expected a tick store manifest, was: {error!r}", path=path) from error
    for entry in partitions:
        if entry.instrument not in manifest.instruments or entry.venue not in manifest.venues:
            raise DataError(f"expected {entry.instrument} and {entry.venue} to be described", path=path)
    return manifest


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Commit a state: readers see the old manifest or the new one, whole."""
    stored = {
        "schema_version": SCHEMA_VERSION,
        "instruments": {name: asdict(entry) for name, entry in sorted(manifest.instruments.items())},
        "venues": manifest.venues,
        "partitions": [asdict(entry) for _, entry in sorted(manifest.partitions.items())],
    }
    temporary = root / f".{MANIFEST_NAME}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(stored, stream, indent=1, default=lambda value: value.isoformat())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(root / MANIFEST_NAME)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(root)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _instrument(stored: dict[str, Any]) -> Instrument:
    known = {entry.name for entry in fields(Instrument)}
    values: dict[str, Any] = {name: value for name, value in stored.items() if name in known}
    session = values.pop("session")
    values["session"] = Session(
        weekdays=tuple(session["weekdays"]),
        opens=time.fromisoformat(session["opens"]),
        closes=time.fromisoformat(session["closes"]),
    )
    for name in ("valid_from", "valid_until"):
        values[name] = date.fromisoformat(values[name])
    return Instrument(**values)

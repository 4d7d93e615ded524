"""The tick store's manifest: what the store holds, and the only thing a reader believes.

A file that the manifest does not list does not exist for readers, so a commit is one rename: the
partitions first, the manifest last. Files are never changed and their names never used again while a
reader may hold an older manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import time as clock
from dataclasses import asdict, dataclass, field, fields
from datetime import date, time
from pathlib import Path
from threading import Lock
from typing import Any, Final

from .errors import AnytickError, ConfigError, DataError
from .instrument import Instrument, Session
from .partition import Partition, RowGroup
from .partition_table import PartitionTable
from .reference import FeeSchedule, Rename

MANIFEST_NAME: Final = "manifest.json"
SCHEMA_VERSION: Final = 4
SYMBOL_VERSION: Final = 3
"""Described each instrument once for all venues. Still read; the next commit writes the version above."""
LISTING_VERSION: Final = 2
"""Listed every partition as a JSON object besides. Still read too."""

_HEAD: Final = b'{"sha256": "'
_DIGESTED: Final = len(_HEAD) + 64

# Opening a store of years is mostly this file, and it seldom changes between two readings.
_REMEMBERED_MAX: Final = 4
_remembered: Final[dict[tuple[str, int, int, int, int], Manifest]] = {}
_remembering: Final = Lock()
_SETTLED_NS: Final = 2 * 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One committed state of a store.

    Parameters
    ----------
    generation : int
        Counts commits from 0, an empty store.
    instruments : dict
        Descriptions by symbol, in order of validity: what holds where a venue has none of its own.
    listings : dict
        Descriptions by (symbol, venue), in order of validity: the units of that venue's events, its tick and
        lot, its currency.
    venues : dict
        The id that a venue's events carry.
    partitions : PartitionTable
    imports : dict
        Finished imports by id: what a repeated import is told.
    """

    generation: int = 0
    instruments: dict[str, tuple[Instrument, ...]] = field(default_factory=dict)
    listings: dict[tuple[str, str], tuple[Instrument, ...]] = field(default_factory=dict)
    venues: dict[str, int] = field(default_factory=dict)
    partitions: PartitionTable = field(default_factory=PartitionTable)
    fees: tuple[FeeSchedule, ...] = ()
    renames: tuple[Rename, ...] = ()
    imports: dict[str, dict[str, Any]] = field(default_factory=dict)


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
        if version not in (LISTING_VERSION, SYMBOL_VERSION, SCHEMA_VERSION):
            raise DataError(
                f"schema_version must be {LISTING_VERSION}, {SYMBOL_VERSION} or {SCHEMA_VERSION}, "
                f"was {version}, which another version of anytick wrote",
                path=path,
            )
        found = hashlib.sha256(text[_DIGESTED:]).hexdigest()
        if not text.startswith(_HEAD) or stored["sha256"] != found:
            raise DataError(f"SHA-256 must be {stored['sha256']}, was {found}", path=path)
        manifest = _manifest(stored)
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AnytickError) as error:
        raise DataError(f"expected a tick store manifest, was: {error!r}", path=path) from error
    described = [*manifest.instruments.items()]
    described += [(symbol, versions) for (symbol, _), versions in manifest.listings.items()]
    for name, versions in described:
        if not versions or any(entry.symbol != name for entry in versions):
            raise DataError(f"expected descriptions of {name} alone, was otherwise", path=path)
    table = manifest.partitions
    unlisted = {symbol for symbol, venue in manifest.listings if symbol not in manifest.instruments}
    unlisted |= {"/".join(pair) for pair in table.pairs() if pair not in manifest.listings}
    if unlisted:
        raise DataError(f"expected {', '.join(sorted(unlisted))} to be described", path=path)
    if unknown := {*table.instruments} - {*manifest.instruments} | {*table.venues} - {*manifest.venues}:
        raise DataError(f"expected {', '.join(sorted(unknown))} to be described", path=path)
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
        "listings": [
            {"symbol": symbol, "venue": venue, "versions": [asdict(entry) for entry in versions]}
            for (symbol, venue), versions in sorted(manifest.listings.items())
        ],
        "venues": manifest.venues,
        "partitions": manifest.partitions.stored(),
        "fees": [asdict(entry) for entry in manifest.fees],
        "renames": [asdict(entry) for entry in manifest.renames],
        "imports": manifest.imports,
    }


def _manifest(stored: dict[str, Any]) -> Manifest:
    table = stored["partitions"]
    if stored["schema_version"] == LISTING_VERSION:
        partitions = PartitionTable.of(partition_of(entry) for entry in table)
    else:
        partitions = PartitionTable.parsed(table)
    generation = stored["generation"]
    if type(generation) is not int or generation < 0:
        raise ConfigError(f"generation must be an integer from 0 up, was {generation!r}")
    instruments = {
        name: tuple(_instrument(entry) for entry in versions)
        for name, versions in stored["instruments"].items()
    }
    if stored["schema_version"] == SCHEMA_VERSION:
        listings = {
            (str(entry["symbol"]), str(entry["venue"])): tuple(_instrument(one) for one in entry["versions"])
            for entry in stored["listings"]
        }
    else:
        listings = {(symbol, venue): instruments[symbol] for symbol, venue in partitions.pairs()}
    return Manifest(
        generation=generation,
        instruments=instruments,
        listings=listings,
        venues={str(name): int(venue_id) for name, venue_id in stored["venues"].items()},
        partitions=partitions,
        fees=tuple(FeeSchedule(**_with_dates(entry)) for entry in stored["fees"]),
        renames=tuple(Rename(**_with_dates(entry)) for entry in stored["renames"]),
        imports={str(name): dict(entry) for name, entry in stored["imports"].items()},
    )


def partition_of(stored: dict[str, Any]) -> Partition:
    """Return a partition that was written as a JSON object of its fields."""
    return Partition(**{**stored, "groups": tuple(RowGroup(*group) for group in stored["groups"])})


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

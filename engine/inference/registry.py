"""Which model serves: versions, staged → live → retired, switched and rolled back without stopping.

    folder/registry.json       the pointer: every version's state and which one is live
    folder/models/SHA256.onnx  the models, by content, never changed

A switch is one rename of a complete, synced `registry.json`, so a reader sees the state before or the state
after, and a writer killed at any instant leaves one of the two. Writers queue at a lock that the kernel
releases when they die. `watch` tells a long-running process of a switch for the price of one `stat`.

Bytes come in through `stage` alone, which refuses whatever `graph.check_graph` or a first run refuses.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from data.errors import ConfigError, DataError

from .graph import GraphLimits
from .model_file import read_model
from .session import OrtSession

SCHEMA_VERSION: Final = 2
POINTER_NAME: Final = "registry.json"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class ModelState(StrEnum):
    STAGED = "staged"
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """One version of a named model.

    Parameters
    ----------
    number : int
        From 1 up, per name.
    sha256 : str
        Of the file.
    changed_ns : int
        When it entered this state, ns since the Unix epoch.
    note : str
        The user's own words.
    rung : str
        What a ladder's manifest says of it (`rungs.py`), empty for a model of no ladder.
    """

    name: str
    number: int
    sha256: str
    state: ModelState
    changed_ns: int
    note: str = ""
    rung: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Contents:
    """What the pointer says. `lives` holds, per name, the versions that were live, oldest first."""

    versions: tuple[ModelVersion, ...] = ()
    lives: dict[str, tuple[int, ...]]


class ModelRegistry:
    """A folder of models and the pointer to the live ones.

    Parameters
    ----------
    folder : Path
        Made by the first `stage`.
    clock : callable
        Wall time in ns, for notes only.
    limits : GraphLimits, optional
        What a model may be.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], int] = time.time_ns,
        limits: GraphLimits | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.pointer = self.folder / POINTER_NAME
        self._clock = clock
        self._limits = limits

    def versions(self, name: str | None = None) -> tuple[ModelVersion, ...]:
        """Return every version, or those of one name, in order of staging."""
        found = self._read().versions
        return tuple(version for version in found if name in (None, version.name))

    def live(self, name: str) -> ModelVersion | None:
        """Return the live version of a name."""
        return next((v for v in self.versions(name) if v.state is ModelState.LIVE), None)

    def load(self, version: ModelVersion) -> bytes:
        """Return a version's bytes.

        Raises
        ------
        ModelError
            The file cannot be read, or is damaged.
        """
        return read_model(self._path(version.sha256), sha256=version.sha256, limits=self._limits)

    def stamp(self) -> tuple[int, int, int]:
        """Return what is another after every switch; to be taken before reading, never after."""
        try:
            status = os.stat(self.pointer)
        except FileNotFoundError:
            return (0, 0, 0)
        # Inodes are used again at once; every switch has a later time (`_write`).
        return status.st_ino, status.st_mtime_ns, status.st_size

    def watch(self, name: str) -> RegistryWatch:
        """Return a watch that has seen the present live version."""
        return RegistryWatch(self, name)

    def path(self, version: ModelVersion) -> Path:
        """Return where a version's file lies."""
        return self._path(version.sha256)

    def versions_before(self) -> dict[str, ModelVersion]:
        """Return by name the versions that `rollback` would make live."""
        contents = self._read()
        lives = {name: numbers for name, numbers in contents.lives.items() if len(numbers) > 1}
        return {name: _find(contents, name, numbers[-2]) for name, numbers in lives.items()}

    def stage(self, model: bytes, *, name: str, note: str = "", rung: str = "") -> ModelVersion:
        """Check a model, keep it, and give it the next number.

        Bytes that are staged or live under this name already keep their number, if `rung` is the same too.

        Raises
        ------
        ModelError
            The bytes are unreadable, refused, or fail when run.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"a model's name must be lower-case letters, digits, dots and dashes, was {name!r}"
            )
        digest = OrtSession.from_bytes(model, source=name, limits=self._limits).sha256
        with self._writing() as contents:
            own = [version for version in contents.versions if version.name == name]
            for version in own:
                same = (version.sha256, version.rung) == (digest, rung)
                if same and version.state is not ModelState.RETIRED:
                    return version
            self._keep(model, digest)
            version = ModelVersion(
                name=name,
                number=1 + max((version.number for version in own), default=0),
                sha256=digest,
                state=ModelState.STAGED,
                changed_ns=self._clock(),
                note=note,
                rung=rung,
            )
            self._write(replace(contents, versions=(*contents.versions, version)))
            return version

    def promote(self, name: str, number: int) -> ModelVersion:
        """Make a staged or retired version live; the one that was live retires, one rollback away."""
        return self.promote_together({name: number})[0]

    def promote_together(self, numbers: Mapping[str, int]) -> tuple[ModelVersion, ...]:
        """Make versions of several names live in one switch: whoever looks sees all of them, or none."""
        with self._writing() as contents:
            after = contents
            for name, number in numbers.items():
                version = _find(contents, name, number)
                if version.state is not ModelState.LIVE:
                    self.load(version)  # a damaged file must never become live
                    lives = (*(n for n in contents.lives.get(name, ()) if n != number), number)
                    after = self._switched(after, name, number, lives)
            if after is not contents:
                self._write(after)
            return tuple(_find(after, name, number) for name, number in numbers.items())

    def rollback(self, name: str, *, failed: str | None = None) -> ModelVersion:
        """Make the version live that was live before; the present one retires.

        Parameters
        ----------
        failed : str, optional
            SHA-256 that the live version must have, so that two who saw one failure go back one step.
        """
        with self._writing() as contents:
            lives = contents.lives.get(name, ())
            if failed is not None and lives and _find(contents, name, lives[-1]).sha256 != failed:
                raise ConfigError(f"{name} must still be {failed} to be rolled back, was switched already")
            if len(lives) < 2:
                raise ConfigError(f"{name} must have an earlier live version to roll back to, was none")
            self.load(_find(contents, name, lives[-2]))
            after = self._switched(contents, name, lives[-2], lives[:-1])
            self._write(after)
            return _find(after, name, lives[-2])

    def retire(self, name: str, number: int) -> ModelVersion:
        """Retire a version that is not live; `rollback` will pass it over."""
        with self._writing() as contents:
            version = _find(contents, name, number)
            if version.state is ModelState.LIVE:
                raise ConfigError(f"{name} {number} must not be live to retire; promote another or roll back")
            retired = replace(version, state=ModelState.RETIRED, changed_ns=self._clock())
            lives = tuple(n for n in contents.lives.get(name, ()) if n != number)
            self._write(
                _Contents(
                    versions=tuple(retired if v == version else v for v in contents.versions),
                    lives=contents.lives | {name: lives},
                )
            )
            return retired

    def _switched(self, contents: _Contents, name: str, number: int, lives: tuple[int, ...]) -> _Contents:
        now, changed = self._clock(), []
        for version in contents.versions:
            if version.name == name and version.number == number:
                version = replace(version, state=ModelState.LIVE, changed_ns=now)
            elif version.name == name and version.state is ModelState.LIVE:
                version = replace(version, state=ModelState.RETIRED, changed_ns=now)
            changed.append(version)
        return _Contents(versions=tuple(changed), lives=contents.lives | {name: lives})

    def _path(self, digest: str) -> Path:
        return self.folder / "models" / f"{digest}.onnx"

    def _keep(self, model: bytes, digest: str) -> None:
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Rewritten even where it exists: the one that lies there may be damaged.
        _replace_file(path, model)

    @contextmanager
    def _writing(self) -> Iterator[_Contents]:
        """Hold the lock of writers; it dies with the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._read()
        finally:
            os.close(lock)

    def _write(self, contents: _Contents) -> None:
        body = {
            "schema_version": SCHEMA_VERSION,
            "versions": [asdict(version) for version in contents.versions],
            "lives": {name: list(numbers) for name, numbers in contents.lives.items() if numbers},
        }
        text = json.dumps(body | {"checksum": _checksum(body)}, sort_keys=True, indent=1)
        # The clock may stand still between two switches, or go back; a watch must see both.
        before_ns = self.stamp()[1]
        _replace_file(self.pointer, text.encode(), changed_ns=max(time.time_ns(), before_ns + 1))

    def _read(self) -> _Contents:
        try:
            text = self.pointer.read_text(encoding="utf-8")
        except FileNotFoundError:
            return _Contents(lives={})
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the registry must be readable, was not: {error}", path=self.pointer) from error
        try:
            return _parse(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"the registry must be undamaged, was not: {error}", path=self.pointer) from error


class RegistryWatch:
    """Tells a running process when another version became live.

    Examples
    --------
    In a worker's loop, between two requests::

        version = watch.poll()
        if version is not None:
            session = OrtSession.from_bytes(registry.load(version))
    """

    def __init__(self, registry: ModelRegistry, name: str) -> None:
        self._registry, self._name = registry, name
        self._seen = registry.stamp()
        self.version = registry.live(name)

    def poll(self) -> ModelVersion | None:
        """Return the live version where it changed since the last call, otherwise None."""
        stamp = self._registry.stamp()
        if stamp == self._seen:
            return None
        found = self._registry.live(self._name)
        # Only now: should reading fail, the next call tries again.
        self._seen = stamp
        if found is None or (self.version is not None and found.sha256 == self.version.sha256):
            self.version = found
            return None
        self.version = found
        return found


def _find(contents: _Contents, name: str, number: int) -> ModelVersion:
    for version in contents.versions:
        if version.name == name and version.number == number:
            return version
    known = [version.number for version in contents.versions if version.name == name]
    raise ConfigError(f"{name} must have a version {number}, was {known or 'none'}")


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _parse(table: dict[str, Any]) -> _Contents:
    checksum = table.pop("checksum", None)
    if checksum != _checksum(table):
        raise ValueError("its checksum is another")
    if table["schema_version"] not in (1, SCHEMA_VERSION):
        raise ValueError(f"schema_version must be 1 or {SCHEMA_VERSION}, was {table['schema_version']}")
    names = {entry.name for entry in fields(ModelVersion)}
    versions = []
    for entry in table["versions"]:
        if table["schema_version"] == 1:
            entry = {"rung": ""} | entry
        if entry.keys() != names or not _DIGEST.fullmatch(entry["sha256"]):
            raise ValueError(f"a version must hold {sorted(names)}")
        versions.append(ModelVersion(**(entry | {"state": ModelState(entry["state"])})))
    lives = {name: tuple(numbers) for name, numbers in table["lives"].items()}
    return _Contents(versions=tuple(versions), lives=lives)


def _replace_file(path: Path, content: bytes, *, changed_ns: int | None = None) -> None:
    """Write a file whole or not at all, durable when this returns. Callers hold the lock of writers."""
    # One fixed name, so that what a killed writer left goes with the next; a new file, as a link there would
    # lead elsewhere.
    partial = path.with_name(".partial")
    partial.unlink(missing_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(partial, flags, 0o644), "wb") as stream:
            stream.write(content)
            stream.flush()
            if changed_ns is not None:
                os.utime(stream.fileno(), ns=(changed_ns, changed_ns))
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

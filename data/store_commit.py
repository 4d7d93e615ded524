"""How a store changes: one writer, one step, and readers that keep what they began to read.

1. New files are written and synced under ``.staging``, where nobody looks.
2. They are renamed to names that no file has, which no manifest lists yet.
3. The manifest is replaced: this is the commit.
4. Files that it no longer lists move under ``.superseded`` and go once no reader holds an older manifest.

A process that dies leaves the old state before step 3 and the new one after it. What it left lying
around is cleared by the next writer. Readers take a shared lock on a file named after their manifest's
generation, which the kernel drops with the process.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError, DataError
from .manifest import MANIFEST_NAME, Manifest, read_manifest, sync_path, write_manifest
from .packed_cache import CACHE_FOLDER, cache_path_of
from .partition import Key, Partition
from .read_ahead import WorkBehind

STAGING: Final = ".staging"
SUPERSEDED: Final = ".superseded"
LEASES: Final = ".leases"
SNAPSHOTS: Final = ".snapshots"
# Not .parquet: a user's glob of **/*.parquet must not find what is no longer, or not yet, there.
SUPERSEDED_SUFFIX: Final = ".old"
STAGED_SUFFIX: Final = ".tmp"
HELD_SUFFIX: Final = ".held"

# A disk syncs several files in little more time than one.
_SYNC_THREADS: Final = 4
_SYNC_DEPTH: Final = 64


def step(name: str) -> None:
    """Mark a point between two steps of a commit; a test replaces this to die there."""


@contextmanager
def only_writer(root: Path) -> Iterator[None]:
    """Hold the store's lock; the kernel drops it with the process, however that ends."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{root}: another process is writing to this store") from None
        yield


@contextmanager
def leased(root: Path) -> Iterator[Manifest]:
    """Yield the committed state and keep its files readable until the end.

    Without the right to write into the store there is no lease: such a reader fails by name if a
    writer supersedes its files meanwhile.
    """
    while True:
        before = _identity(root)
        manifest = read_manifest(root)
        descriptor = _lease(root, manifest.generation) if before is not None else None
        # A commit between reading and locking may have swept what was read.
        if _identity(root) == before:
            break
        if descriptor is not None:
            os.close(descriptor)
    try:
        yield manifest
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _identity(root: Path) -> tuple[int, int] | None:
    try:
        found = (root / MANIFEST_NAME).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _lease(root: Path, generation: int) -> int | None:
    path = root / LEASES / str(generation)
    while True:
        try:
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # A writer may have removed the file between opening and locking it.
        with suppress(OSError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)


def holder_of(root: Path, manifest: Manifest) -> Path:
    """Return a folder name for one snapshot's links."""
    return root / SNAPSHOTS / f"{manifest.generation}-{os.getpid()}-{secrets.token_hex(4)}"


def locate(root: Path, partition: Partition) -> Path:
    """Return where a partition's file is now: at its place, or superseded and kept for its readers."""
    path = partition.path(root)
    if path.exists():
        return path
    kept = next(iter(root.glob(f"{SUPERSEDED}/*/{partition.name}{SUPERSEDED_SUFFIX}")), None)
    return path if kept is None else kept


@dataclass(slots=True)
class Transaction:
    """A change under way; made under `only_writer`.

    Parameters
    ----------
    root : Path
    manifest : Manifest
        What is committed; never changed.
    staging : Path
        A folder of this transaction's own.
    syncing : WorkBehind
        Makes staged files durable while the next ones are written.
    """

    root: Path
    manifest: Manifest
    staging: Path
    syncing: WorkBehind
    added: list[tuple[Path, Partition]] = field(default_factory=list)
    removed: set[Key] = field(default_factory=set)

    def staged_path(self) -> Path:
        """Return a name for the next file to be staged."""
        self.staging.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in self.staging.iterdir()}
        number = len(taken)
        while f"{number:06}.parquet{STAGED_SUFFIX}" in taken:
            number += 1
        return self.staging / f"{number:06}.parquet{STAGED_SUFFIX}"

    def sync(self, path: Path) -> None:
        """Begin to make a staged file durable; the commit waits for it."""
        self.syncing.do(sync_path, path)

    def add(self, path: Path, partition: Partition) -> None:
        self.sync(path)
        self.added.append((path, partition))

    def remove(self, partition: Partition) -> None:
        self.removed.add(partition.key)

    def commit(self, **changes: Any) -> tuple[Partition, ...]:
        """Make every addition and removal visible at once.

        Parameters
        ----------
        changes
            Fields of the new manifest besides generation and partitions.

        Returns
        -------
        tuple of Partition
            The additions under their final names.
        """
        generation = self.manifest.generation + 1
        named = [(path, self._named(part, generation, at)) for at, (path, part) in enumerate(self.added)]
        self.syncing.wait()
        step("staged")
        folders = set()
        for path, partition in named:
            final = partition.path(self.root)
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)
            folders |= {final.parent, final.parent.parent}
            step("renamed one")
        for folder in folders:
            self.sync(folder)
        self.syncing.wait()
        step("renamed")
        partitions = self.manifest.partitions.changed(
            removed=self.removed, added=[partition for _, partition in named]
        )
        manifest = replace(self.manifest, generation=generation, partitions=partitions, **changes)
        write_manifest(self.root, manifest)
        step("committed")
        sweep(self.root, manifest)
        shutil.rmtree(self.staging, ignore_errors=True)
        step("swept")
        return tuple(partition for _, partition in named)

    def _named(self, partition: Partition, generation: int, index: int) -> Partition:
        """Give a file the plain name of its day if nobody has it, or could still be reading it."""
        plain = replace(partition, generation=0, index=0)
        held = plain.key in self.manifest.partitions or any(
            self.root.glob(f"{SUPERSEDED}/*/{plain.name}{SUPERSEDED_SUFFIX}")
        )
        earlier = any(other.day_key == plain.day_key for _, other in self.added[:index])
        return replace(partition, generation=generation, index=index) if held or earlier else plain


@contextmanager
def transaction(root: Path, *, staging: str | None = None) -> Iterator[Transaction]:
    """Lock the store, clear what a dead writer left, and yield a change to make.

    Parameters
    ----------
    staging : str, optional
        Name of a staging folder that outlives a failure; without, it goes with it.
    """
    with only_writer(root):
        manifest = read_manifest(root)
        recover(root, manifest)
        folder = root / STAGING / (staging or f"write-{os.getpid()}")
        try:
            with WorkBehind(threads=_SYNC_THREADS, depth=_SYNC_DEPTH) as syncing:
                yield Transaction(root, manifest, folder, syncing)
        finally:
            if staging is None:
                shutil.rmtree(folder, ignore_errors=True)


def strays(root: Path, manifest: Manifest) -> list[Path]:
    """Return partition files that the manifest does not list."""
    known = set(manifest.partitions.names())
    return [
        path
        for path in root.glob("instrument=*/venue=*/date=*.parquet")
        if path.relative_to(root).as_posix() not in known
    ]


def recover(root: Path, manifest: Manifest) -> None:
    """Clear what a writer that died left behind; needs the lock."""
    for path in (root / STAGING).glob("write-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f".{MANIFEST_NAME}.*{STAGED_SUFFIX}"):
        path.unlink(missing_ok=True)
    sweep(root, manifest)


def sweep(root: Path, manifest: Manifest) -> None:
    """Move unlisted files out of sight and remove those that no reader can hold; needs the lock."""
    for path in strays(root, manifest):
        kept = root / SUPERSEDED / str(manifest.generation) / path.relative_to(root)
        kept = kept.with_name(kept.name + SUPERSEDED_SUFFIX)
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.replace(kept)
        step("superseded one")
    live = _live_generations(root, manifest.generation)
    for folder in (root / SNAPSHOTS).glob("*"):
        if folder.name.partition("-")[0] not in map(str, live):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in (root / SUPERSEDED).glob("*"):
        if folder.name.isdecimal() and not any(held < int(folder.name) for held in live):
            shutil.rmtree(folder, ignore_errors=True)
            step("removed superseded")
    known = {cache_path_of(root, name) for name in manifest.partitions.names()}
    for path in (root / CACHE_FOLDER).glob("instrument=*/venue=*/*"):
        if path not in known:
            path.unlink(missing_ok=True)


def _live_generations(root: Path, current: int) -> list[int]:
    """Return generations that somebody reads; lease files of others go."""
    live = []
    for path in (root / LEASES).glob("*"):
        if not path.name.isdecimal():
            continue
        with path.open("r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                live.append(int(path.name))
                continue
            if int(path.name) != current:
                path.unlink(missing_ok=True)
    return live


def require_store(root: Path) -> None:
    if not (root / MANIFEST_NAME).is_file():
        raise DataError(f"expected a tick store with a {MANIFEST_NAME}", path=root)

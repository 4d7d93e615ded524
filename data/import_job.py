"""One import: from a source's blocks to committed partitions, all or nothing, resumable.

Finished parts are staged in a folder named after what is imported, and listed there. Checking events and
encoding parts are work for threads of their own, in the order of the events. A killed import that is started
again writes only what is not staged yet: it looks at the staged events again and goes on in the source behind
them, where the source can be entered there, or else reads it from the start. All parts become visible in one
commit, which also notes that this import is done, so repeating it changes nothing, unless all its days were
deleted since. An error removes what was
staged: there is no partial store.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import CheckFailed, DataError
from .events import EventSource
from .import_progress import ImportProgress, Mark
from .manifest import Manifest
from .partition import Partition, require_path_part
from .partition_file import PartitionWriter
from .quality import QualityReport
from .quality_gate import Gate
from .quarantine import FOLDER_SUFFIX, Quarantine, Quarantining
from .read_ahead import WorkBehind
from .resumable import Place, Resumable
from .screen import Screen
from .store import TickStore
from .store_commit import STAGED_SUFFIX, Transaction, transaction
from .store_stage import Stage, by_day
from .table_file import file_sha256

PART_EVENTS: Final = 1 << 22

Watch = Callable[[Iterable[NDArray[np.void]]], Iterator[NDArray[np.void]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """What to do with what is found.

    Parameters
    ----------
    venue : str
    overwrite, append : bool
        Replace days that are there already, or add to them.
    out_of_order : str
        refuse, quarantine or carry (give a late event the newest time seen).
    receive_offset_ns : int or None
        Added to every receipt, which is then kept from running backwards or before its event; None
        leaves receipts alone.
    strict : bool
        Make every rejected row an error.
    gate : Gate or None
        Nothing is committed unless it opens.
    part_events : int
        Events after which a part is staged for good.
    read_as : str
        What else decides which events the files hold: the format and the text of the mapping. Part of what
        identifies the import.
    """

    venue: str
    overwrite: bool = False
    append: bool = False
    out_of_order: str = "refuse"
    receive_offset_ns: int | None = None
    strict: bool = False
    gate: Gate | None = None
    part_events: int = PART_EVENTS
    read_as: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """What an import did.

    Parameters
    ----------
    partitions : tuple of Partition
        Committed; empty where the import was done before.
    report : QualityReport or None
        None where the import was done before.
    resumed_events : int
        Found staged by an earlier attempt.
    quarantine : Path or None
        The side file, where a row was rejected.
    deleted_days : tuple of str
        Of an import done before: days of it that the store holds no more.
    """

    partitions: tuple[Partition, ...]
    report: QualityReport | None
    resumed_events: int
    quarantine: Path | None
    done_before: bool
    deleted_days: tuple[str, ...] = ()

    @property
    def events(self) -> int:
        return sum(partition.rows for partition in self.partitions)


def import_id(source: EventSource, files: Mapping[Path, _Seen], options: ImportOptions) -> str:
    """Return what identifies an import: names and bytes of its files, the instrument, what shapes events."""
    digest = hashlib.sha256()
    for file, seen in files.items():
        digest.update(repr((file.name, seen.sha256)).encode())
    shape = (
        options.venue, options.out_of_order, options.receive_offset_ns, options.strict, options.read_as,
    )  # fmt: skip
    digest.update(repr((type(source).__name__, source.instrument, shape)).encode())
    return digest.hexdigest()[:32]


class _Seen(NamedTuple):
    """What a file was before it was imported: its bytes, and what tells cheaply that they are the same."""

    size: int
    written_ns: int
    sha256: str


def _files_seen(paths: Sequence[Path], root: Path) -> dict[Path, _Seen]:
    """Return the files of a recording in order, without a store among them."""
    found = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    ours = (root.resolve(), _side_folder(root).resolve())
    files = [
        file
        for file in found
        if file.is_file() and (file in paths or not any(file.resolve().is_relative_to(own) for own in ours))
    ]
    with ThreadPoolExecutor() as pool:
        # A file's state is looked at first: what is written while it is hashed must show.
        return dict(zip(files, pool.map(_seen, files), strict=True))


def _seen(file: Path) -> _Seen:
    stat = file.stat()
    return _Seen(stat.st_size, stat.st_mtime_ns, file_sha256(file))


def _require_unchanged(files: Mapping[Path, _Seen]) -> None:
    """Refuse what was written to meanwhile: the digest and the events would be of different bytes."""
    for file, seen in files.items():
        try:
            stat = file.stat()
            # A new time alone is no change: file systems on a network round it after a while.
            same = stat.st_size == seen.size and (
                stat.st_mtime_ns == seen.written_ns or file_sha256(file) == seen.sha256
            )
        except OSError:  # gone since
            same = False
        if not same:
            raise DataError("a file must not change while it is imported, was written to", path=file)


def _side_folder(root: Path) -> Path:
    return root.with_name(root.name + FOLDER_SUFFIX)


def import_events(
    store: TickStore,
    source: EventSource,
    *,
    paths: Sequence[Path],
    options: ImportOptions,
    watch: Watch = iter,
) -> ImportResult:
    """Bring a source's events into a store.

    Parameters
    ----------
    store : TickStore
    source : EventSource
    paths : sequence of Path
        What the source was opened from; their bytes identify the import.
    options : ImportOptions
    watch : callable
        Wraps the blocks, for a progress bar.

    Raises
    ------
    DataError
        The recording breaks a rule; the store is as it was.
    CheckFailed
        The gate stayed shut; the store is as it was.
    """
    require_path_part("instrument", source.instrument.symbol)
    files = _files_seen(paths, store.root)
    name = import_id(source, files, options)
    manifest = store.manifest()
    if name in manifest.imports and not options.overwrite:
        days = manifest.imports[name].get("days", [])
        gone = _gone(manifest, source.instrument.symbol, options.venue, days)
        if not days or len(gone) < len(days):
            return ImportResult(
                partitions=(), report=None, resumed_events=0, quarantine=None, done_before=True,
                deleted_days=gone,
            )  # fmt: skip
    with transaction(store.root, staging=f"import-{name}") as change:
        try:
            made = _Import(store, source, change, name, options)
            return made.run(watch, lambda: _require_unchanged(files))
        except Exception:
            # A kill or Ctrl-C leaves the parts for the next attempt; what is wrong now stays wrong.
            shutil.rmtree(change.staging, ignore_errors=True)
            raise


def _gone(manifest: Manifest, symbol: str, venue: str, days: Sequence[str]) -> tuple[str, ...]:
    return tuple(day for day in days if not manifest.partitions.parts_of((symbol, venue, day)))


class _Import:
    def __init__(
        self, store: TickStore, source: EventSource, change: Transaction, name: str, options: ImportOptions
    ) -> None:
        self._store, self._source, self._change, self._name = store, source, change, name
        self._options = options
        self._stage = Stage(
            change,
            instrument=source.instrument,
            venue=options.venue,
            overwrite=options.overwrite,
            append=options.append,
        )
        self._progress = ImportProgress(change.staging, venue_id=self._stage.venue_id)
        self._writer: PartitionWriter | None = None
        self._seen = 0
        self._place: Place | None = None

    def run(self, watch: Watch, require_unchanged: Callable[[], None]) -> ImportResult:
        options, source = self._options, self._source
        resumed = self._progress.events
        gate = options.gate or Gate()
        check = gate.check(source.instrument)
        rejected = self._change.staging / f"quarantine.parquet{STAGED_SUFFIX}"
        with Quarantine(
            None if options.strict else rejected, damaged_share_max=gate.settings.damaged_share
        ) as quarantine:
            if isinstance(source, Quarantining) and not options.strict:
                source.quarantine = quarantine
            screen = Screen(
                source=source.source,
                quarantine=None if options.strict else quarantine,
                out_of_order=options.out_of_order,
                receive_offset_ns=options.receive_offset_ns,
            )

            def looked_at(blocks: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
                as_told = True
                for block in blocks:
                    looking.do(check.update, block)
                    kept = screen.kept(block)
                    as_told = as_told and kept is block and not quarantine.counts
                    self._pass(len(block), marked=as_told)
                    yield kept

            with WorkBehind() as looking, WorkBehind() as behind:
                if (mark := self._entered()) is not None:
                    for _ in looked_at(self._progress.events_before(mark)):
                        pass
                blocks = looked_at(watch(self._blocks(mark)))
                staged = resumed - (mark.events if mark else 0)
                for day, events in by_day(_after(blocks, staged), self._store.root):
                    self._stage.require_day(day)
                    for block in events:
                        behind.do(self._write, day, block)
                    behind.do(self._finish, day)
                looking.wait()
                behind.wait()
        require_unchanged()
        report = check.report(
            source=source.source, quarantined=quarantine.counts, sequence_gaps=quarantine.sequence_gaps,
            notes=source.notes,
        )  # fmt: skip
        if options.gate is not None and (found := options.gate.violations(report)):
            raise CheckFailed(f"{source.source}: the gate stays shut: {'; '.join(found)}")
        side_file = self._publish(rejected) if rejected.exists() else None
        return ImportResult(
            partitions=self._commit(report),
            report=report,
            resumed_events=resumed,
            quarantine=side_file,
            done_before=False,
        )

    def _entered(self) -> Mark | None:
        """Return where to enter the source, None for its start."""
        return self._progress.mark if isinstance(self._source, Resumable) else None

    def _blocks(self, mark: Mark | None) -> Iterator[NDArray[np.void]]:
        if not isinstance(self._source, Resumable):
            yield from self._source.blocks()
            return
        for block, place in self._source.marked_blocks(mark.place if mark else None):
            self._place = place
            yield block

    def _pass(self, events: int, *, marked: bool) -> None:
        """Count events that were looked at, and note the place behind them."""
        self._seen += events
        if marked and self._place is not None:
            self._progress.passed(Mark(self._seen, self._place))

    def _write(self, day: str, block: NDArray[np.void]) -> None:
        """Stage events of a day in parts of bounded size."""
        self._writer = self._writer or PartitionWriter(
            self._change.staged_path(),
            instrument_id=self._source.instrument.instrument_id,
            venue_id=self._stage.venue_id,
        )
        self._writer.write(block)
        if self._writer.taken >= self._options.part_events:
            self._finish(day)

    def _finish(self, day: str) -> None:
        """Close a part; it counts from when the list names it."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        part = writer.finish(instrument=self._source.instrument.symbol, venue=self._options.venue, day=day)
        self._change.sync(writer.path)
        self._progress.add(writer.path, part)

    def _commit(self, report: QualityReport) -> tuple[Partition, ...]:
        for path, part in self._progress.parts:
            self._stage.adopt(path, part)
        done = {
            "source": report.source,
            "events": self._progress.events,
            "quarantined": sum(report.quarantined.values()),
            "days": sorted({part.day for _, part in self._progress.parts}),
        }
        return self._stage.commit(imports=self._change.manifest.imports | {self._name: done})

    def _publish(self, rejected: Path) -> Path:
        """Put the side file beside the store; the commit removes the staging folder."""
        folder = _side_folder(self._store.root)
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{self._source.instrument.symbol}-{self._name[:12]}.parquet"
        rejected.replace(final)
        return final


def _after(blocks: Iterator[NDArray[np.void]], skipped: int) -> Iterator[NDArray[np.void]]:
    """Leave out the first events, which are staged already."""
    for block in blocks:
        if skipped >= len(block):
            skipped -= len(block)
            continue
        yield block[skipped:]
        skipped = 0

"""The journal file: written as the run goes, committed whole or not at all, verified record by record.

docs/JOURNAL.md gives the format and what it guarantees; the bytes stand in ``journal_format.py``,
replaying in ``journal_replay.py``, comparing in ``journal_diff.py``. All of it is imported from here.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError, DataError
from data.schema import JOURNAL_DTYPE, JournalKind
from ext.journal import JournalBuffer, start_chain, verify_records

from .journal_diff import JournalDifference, describe_record, diff_journals
from .journal_format import (
    CHUNK_RECORDS,
    COUNTED_KINDS,
    END_DTYPE,
    FORMAT_VERSION,
    HEADER_BYTES,
    RUN_DTYPE,
    open_journal,
    pack_header,
    payloads,
    read_header,
    record_chunks,
)
from .journal_replay import JournalState, replay_state

__all__ = [
    "JournalDifference",
    "JournalReader",
    "JournalState",
    "JournalSummary",
    "JournalWriter",
    "describe_record",
    "diff_journals",
    "replay_state",
    "verify_journal",
]

_BROKEN: Final = {
    "version": "the record version must be 1",
    "crc32c": "the checksum must match the record",
    "kind": "the kind must be a journal kind",
    "sequence": "the sequence must run on without a gap",
    "chain": "the chain must follow from the record before",
}


class JournalWriter:
    """Writes one run's records to a file that appears, whole and synced, at `commit`.

    The RUN record is appended to the buffer at once, the END record by `commit`; whatever the loop
    appends stands between. Leaving a ``with`` block without `commit` removes the file.

    Parameters
    ----------
    path : path-like or None
        The final name; until `commit` the file is called ``{path}.partial``. None writes no file and
        still returns the hash.
    buffer : JournalBuffer
        Fresh; its run id names the run. The loop appends to it, `flush` drains it.
    config_hash : str
        Hexadecimal, at most 64 digits.
    seed : int
    """

    def __init__(
        self, path: str | PathLike[str] | None, *, buffer: JournalBuffer, config_hash: str = "", seed: int = 0
    ) -> None:
        if buffer.sequence != 0:
            raise ConfigError(f"a journal begins with a fresh buffer, was at record {buffer.sequence}")
        run = _run_payload(buffer.run_id, config_hash, seed)
        self.path = None if path is None else Path(path)
        self.record_count = 0
        self._buffer = buffer
        self._counts = np.zeros(len(JournalKind) + 1, dtype=np.int64)
        self._last_ts_ns = 0
        self._sha256 = hashlib.sha256()
        self._partial = None if self.path is None else self.path.with_name(self.path.name + ".partial")
        self._stream: BinaryIO | None = None if self._partial is None else self._partial.open("wb")
        self._write(pack_header(buffer.run_id))
        buffer.append(JournalKind.RUN, 0, run)

    def flush(self) -> None:
        """Write what the buffer holds; between batches, by the engine thread."""
        records = self._buffer.drain()
        if len(records) == 0:
            return
        self._counts += np.bincount(records["kind"], minlength=len(self._counts))
        self._last_ts_ns = int(records["ts_ns"][-1])
        self.record_count += len(records)
        self._write(records.view(np.uint8).data)

    def commit(self) -> str:
        """End the journal, make it durable under its final name and return its SHA-256."""
        self.flush()
        totals = np.zeros((), dtype=END_DTYPE)
        for kind in COUNTED_KINDS:
            totals[kind.name.lower()] = self._counts[kind]
        self._buffer.append(JournalKind.END, self._last_ts_ns, totals.tobytes())
        self.flush()
        if self._stream is not None and self._partial is not None and self.path is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None
            self._partial.replace(self.path)
            _sync_folder(self.path.parent)
        return self._sha256.hexdigest()

    def abort(self) -> None:
        """Remove what was written; does nothing after `commit`."""
        if self._stream is not None and self._partial is not None:
            self._stream.close()
            self._stream = None
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        if self._stream is not None:
            self._stream.write(data)


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalSummary:
    """A journal that holds every rule.

    Parameters
    ----------
    records_by_kind : dict of str to int
        Kinds that occur, by name.
    first_ts_ns, last_ts_ns : int or None
        Of the records between RUN and END; None when there are none.
    chain : int
        Of the last record.
    sha256 : str
        Of the whole file, as `JournalWriter.commit` returned it.
    """

    path: Path
    run_id: int
    record_count: int
    records_by_kind: dict[str, int]
    first_ts_ns: int | None
    last_ts_ns: int | None
    chain: int
    sha256: str


class JournalReader:
    """A journal mapped into memory for reading by kind; checks the header and the length only.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    DataError
        Where the file is missing, foreign or truncated.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        with open_journal(self.path) as stream:
            self.run_id = read_header(stream, self.path)
        self.records: NDArray[np.void] = np.memmap(
            self.path, dtype=JOURNAL_DTYPE, mode="r", offset=HEADER_BYTES
        )

    def of_kind(self, kind: JournalKind, *, limit: int | None = None) -> NDArray[np.void]:
        """Return copies of the records of one kind, the first `limit` of them, in order."""
        found = [np.empty(0, dtype=JOURNAL_DTYPE)]
        left = len(self.records) if limit is None else limit
        for start in range(0, len(self.records), CHUNK_RECORDS):
            if left <= 0:
                break
            chunk = self.records[start : start + CHUNK_RECORDS]
            found.append(np.asarray(chunk[chunk["kind"] == kind][:left]))
            left -= len(found[-1])
        return np.concatenate(found)

    def orders(self, *, limit: int | None = None) -> NDArray[np.void]:
        """Return the orders sent, ORDER_DTYPE."""
        return payloads(self.of_kind(JournalKind.ORDER, limit=limit), JournalKind.ORDER)

    def refusals(self, *, limit: int | None = None) -> NDArray[np.void]:
        """Return the risk gate's refusals, REPORT_DTYPE."""
        return payloads(self.of_kind(JournalKind.REFUSAL, limit=limit), JournalKind.REFUSAL)

    def reports(self, *, limit: int | None = None) -> NDArray[np.void]:
        """Return the venues' reports, REPORT_DTYPE."""
        return payloads(self.of_kind(JournalKind.REPORT, limit=limit), JournalKind.REPORT)

    def decisions(self, *, limit: int | None = None) -> NDArray[np.void]:
        """Return the router's decisions, DECISION_DTYPE."""
        return payloads(self.of_kind(JournalKind.DECISION, limit=limit), JournalKind.DECISION)

    def rewards(self, *, limit: int | None = None) -> NDArray[np.void]:
        """Return the rewards applied, REWARD_DTYPE."""
        return payloads(self.of_kind(JournalKind.REWARD, limit=limit), JournalKind.REWARD)

    def parents(self, *, limit: int | None = None) -> NDArray[np.void]:
        """Return every state of every parent order, PARENT_DTYPE."""
        return payloads(self.of_kind(JournalKind.PARENT, limit=limit), JournalKind.PARENT)


def verify_journal(path: str | PathLike[str]) -> JournalSummary:
    """Check every record of a journal and return what it holds.

    Raises
    ------
    DataError
        Naming file, record and rule: a missing, foreign or truncated file, another version, a
        checksum, sequence or chain that does not hold, missing ends, totals that do not add up.
    """
    sha256 = hashlib.sha256()
    counts = np.zeros(len(JournalKind) + 1, dtype=np.int64)
    first_ts_ns = last_ts_ns = None
    row = 0
    with open_journal(path) as stream:
        run_id = read_header(stream, path)
        stream.seek(0)
        sha256.update(stream.read(HEADER_BYTES))
        chain = start_chain(run_id)
        for row, records in record_chunks(stream):
            sha256.update(records.view(np.uint8).data)
            index, rule = verify_records(records, chain, row)
            if rule:
                was = records[index]["kind" if rule == "kind" else rule]
                raise DataError(f"{_BROKEN[rule]}, was {was}", path=path, row=row + index)
            if row == 0:
                _check_first(records[0], run_id, path)
            counts += np.bincount(records["kind"], minlength=len(counts))
            chain = int(records["chain"][-1])
            between = records["ts_ns"][~np.isin(records["kind"], (JournalKind.RUN, JournalKind.END))]
            if len(between):
                first_ts_ns = int(between[0]) if first_ts_ns is None else first_ts_ns
                last_ts_ns = int(between[-1])
        _check_last(records[-1], counts, path, row + len(records) - 1)
    return JournalSummary(
        path=Path(path),
        run_id=run_id,
        record_count=int(counts.sum()),
        records_by_kind={kind.name: int(counts[kind]) for kind in JournalKind if counts[kind]},
        first_ts_ns=first_ts_ns,
        last_ts_ns=last_ts_ns,
        chain=chain,
        sha256=sha256.hexdigest(),
    )


def _run_payload(run_id: int, config_hash: str, seed: int) -> bytes:
    try:
        digest = bytes.fromhex(config_hash)
    except ValueError as error:
        raise ConfigError(f"config_hash must be hexadecimal, was {config_hash!r}") from error
    if len(digest) > 32:
        raise ConfigError(f"config_hash must have at most 64 digits, was {len(config_hash)}")
    run = np.zeros((), dtype=RUN_DTYPE)
    run["run_id"], run["seed"], run["layout_version"] = run_id, seed, FORMAT_VERSION
    run["config_sha256"] = np.frombuffer(digest.ljust(32, b"\0"), dtype=np.uint8)
    return run.tobytes()


def _check_first(record: np.void, run_id: int, path: str | PathLike[str]) -> None:
    kind = JournalKind(int(record["kind"]))
    if kind != JournalKind.RUN:
        raise DataError(f"the first record must be RUN, was {kind.name}", path=path, row=0)
    was = int(record["payload"].view(RUN_DTYPE)["run_id"][0])
    if was != run_id:
        raise DataError(f"RUN must carry the header's run id {run_id}, was {was}", path=path, row=0)


def _check_last(record: np.void, counts: NDArray[np.int64], path: str | PathLike[str], row: int) -> None:
    kind = JournalKind(int(record["kind"]))
    if kind != JournalKind.END or counts[JournalKind.END] != 1:
        raise DataError(
            f"a whole journal has one END record, its last, was {counts[JournalKind.END]} and {kind.name}",
            path=path,
            row=row,
        )
    totals = record["payload"].view(END_DTYPE)[0]
    for counted in COUNTED_KINDS:
        was, expected = int(totals[counted.name.lower()]), int(counts[counted])
        if was != expected:
            raise DataError(
                f"END must count {expected} {counted.name} records, was {was}", path=path, row=row
            )


def _sync_folder(folder: Path) -> None:
    # The rename itself is durable only once the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

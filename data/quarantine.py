"""Rows that were not taken: nothing is dropped without a line that says what, where and why.

They go to a Parquet file of their own, `file`, `row`, `rule` and `raw` (the values as read, as JSON). It
lies beside the store, not in it, where a user's ``**/*.parquet`` would find it among the events.

An importer tells two things apart, see `LeftOut`: rows of its instrument that break a rule are rejected, one
line each; messages that were never this instrument's events (other symbols, heartbeats, what `verify` uses)
are passed over and only counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER_SUFFIX: Final = ".quarantine"
SCHEMA: Final = pa.schema(
    [("file", pa.string()), ("row", pa.int64()), ("rule", pa.string()), ("raw", pa.string())]
)
_HELD_MAX: Final = 8_192
_HELD_BYTES_MAX: Final = 8 << 20


class Quarantine:
    """Takes rejected rows and writes them down; counts them by rule.

    Parameters
    ----------
    path : Path, optional
        Of the side file, which is made with the first row. Without, rows are only counted.
    damaged_share_max : float
        Share of a feed's lines that may be damaged before the whole recording is refused.

    Attributes
    ----------
    counts : Counter
        Rejected rows by rule.
    sequence_gaps : int
        Places where the feed's own numbers say that messages are missing.
    """

    def __init__(self, path: Path | None = None, *, damaged_share_max: float = 0.01) -> None:
        self.path, self.damaged_share_max = path, damaged_share_max
        self.sequence_gaps = 0
        self.counts: Counter[str] = Counter()
        self._held: list[dict[str, Any]] = []
        self._held_bytes = 0
        self._writer: Any = None

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def add(self, *, file: Path | str, row: int, rule: str, raw: Mapping[str, Any]) -> None:
        """Take one row.

        Parameters
        ----------
        file : path
        row : int
            Zero-based, without the header.
        rule : str
            The rule that it breaks, the same words for every row that breaks it.
        raw : mapping
            The values as read.
        """
        self.counts[rule] += 1
        if self.path is None:
            return
        text = json.dumps(raw, default=_plain, ensure_ascii=False)
        self._held.append({"file": str(file), "row": row, "rule": rule, "raw": text})
        self._held_bytes += len(text)
        if len(self._held) >= _HELD_MAX or self._held_bytes >= _HELD_BYTES_MAX:
            self._flush()

    def close(self) -> None:
        """Write what is held and finish the file."""
        if self._held:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        assert self.path is not None
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self.path, SCHEMA, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._held, schema=SCHEMA))
        self._held, self._held_bytes = [], 0


class LeftOut:
    """What one reading of a source did not turn into events.

    Parameters
    ----------
    quarantine : Quarantine or None
        Takes the rejected rows; without, they are only counted.

    Attributes
    ----------
    rejected, passed : Counter
        Rows by rule, and messages by what they are.
    gaps : Counter
        Places where messages are missing, by what counts them.
    first : str or None
        File, row and rule of the first rejected row.
    """

    def __init__(self, quarantine: Quarantine | None = None) -> None:
        self.rejected: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.gaps: Counter[str] = Counter()
        self.first: str | None = None
        self._first_gaps: dict[str, str] = {}
        self._quarantine = quarantine
        self._file: Path | str = ""
        self._row = 0
        self._line = b""

    @property
    def damaged_share_max(self) -> float:
        """Share of a feed's lines that may be damaged, beside the first few."""
        return 0.01 if self._quarantine is None else self._quarantine.damaged_share_max

    def at(self, file: Path | str, row: int, line: bytes = b"") -> None:
        """Note what is being read: `reject` writes it down."""
        self._file, self._row, self._line = file, row, line

    def reject(
        self,
        rule: str,
        *,
        file: Path | str | None = None,
        row: int | None = None,
        raw: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a row that breaks a rule; the one being read, unless another is named."""
        file, row = self._file if file is None else file, self._row if row is None else row
        self.rejected[rule] += 1
        if self.first is None:
            self.first = f"{file}:row {row}: {rule}"
        if self._quarantine is not None:
            raw = {"line": self._line.decode("utf-8", "backslashreplace")} if raw is None else raw
            self._quarantine.add(file=file, row=row, rule=rule, raw=raw)

    def reject_all(self, rule: str, *, file: Path | str, rows: Iterable[int], records: Any) -> None:
        """Take the rows of a table that break a rule.

        Parameters
        ----------
        rows : iterable of int
            Place of each in the file.
        records : structured array
            The rows as read.
        """
        names = records.dtype.names or ()
        for row, record in zip(rows, records, strict=True):
            raw = {name: record[name] for name in names} if self._quarantine is not None else {}
            self.reject(rule, file=file, row=int(row), raw=raw)

    def pass_over(self, what: str, count: int = 1) -> None:
        """Count messages that are not this source's events."""
        if count:
            self.passed[what] += count

    def miss(self, what: str, found: str) -> None:
        """Count a gap in the feed's own numbers, at the row that is being read.

        Parameters
        ----------
        what : str
            What is numbered, in the plural.
        found : str
            What was expected, and was found.
        """
        self.gaps[what] += 1
        self._first_gaps.setdefault(what, f"{Path(self._file).name}:row {self._row}: {found}")
        if self._quarantine is not None:
            self._quarantine.sequence_gaps += 1

    def state(self) -> dict[str, Any]:
        """Return what was counted so far, as JSON, for `go_on`."""
        return {
            "rejected": dict(self.rejected), "passed": dict(self.passed), "gaps": dict(self.gaps),
            "first": self.first, "first_gaps": dict(self._first_gaps),
        }  # fmt: skip

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Count on from what another reading had counted up to here."""
        self.rejected, self.passed, self.gaps = (
            Counter(state[name]) for name in ("rejected", "passed", "gaps")
        )
        self.first, self._first_gaps = state["first"], dict(state["first_gaps"])
        if self._quarantine is not None:
            self._quarantine.sequence_gaps += self.gaps.total()

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each rule and each kind of message."""
        gaps = (
            f"{count:,} gaps in {what}; {self._first_gaps[what]}" for what, count in sorted(self.gaps.items())
        )
        passed = (f"{count:,} {what}" for what, count in sorted(self.passed.items()))
        rejected = (f"{count:,} rows rejected: {rule}" for rule, count in sorted(self.rejected.items()))
        return (*gaps, *passed, *rejected)


@runtime_checkable
class Quarantining(Protocol):
    """An event source that leaves rows out: the import sets `quarantine` before it reads the blocks."""

    quarantine: Quarantine | None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, bool | int | float | str) else str(value)

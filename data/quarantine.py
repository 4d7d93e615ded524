"""Rows that were not taken: nothing is dropped without a line that says what, where and why.

They go to a Parquet file of their own, `file`, `row`, `rule` and `raw` (the values as read, as JSON). It
lies beside the store, not in it, where a user's ``**/*.parquet`` would find it among the events.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
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


class Quarantine:
    """Takes rejected rows and writes them down; counts them by rule.

    Parameters
    ----------
    path : Path, optional
        Of the side file, which is made with the first row. Without, rows are only counted.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._held: list[dict[str, Any]] = []
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
        if len(self._held) >= _HELD_MAX:
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
        self._held = []


@runtime_checkable
class Quarantining(Protocol):
    """An event source that leaves rows out: the import sets `quarantine` before it reads the blocks."""

    quarantine: Quarantine | None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)

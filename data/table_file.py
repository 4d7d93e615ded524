"""Parquet and CSV files as streams of record batches.

Everything a file can do wrong below the level of columns (absent, truncated, foreign, damaged, ragged)
surfaces here as a `DataError` that names the file, so that no reader above sees a pyarrow exception.
A file is a sequence of sections: the row groups of a Parquet file, or the one body of a CSV file.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from .errors import DataError
from .input_file import require_file
from .ragged_rows import RaggedRows
from .text_stream import TextStream, is_quoted

PARQUET_SUFFIXES: Final = (".parquet", ".pq")
CSV_SUFFIXES: Final = (".csv", ".csv.gz", ".csv.zst", ".csv.bz2", ".tsv", ".txt")

# A row group is decoded page by page, but a hostile header can still ask for any amount of memory.
ROW_GROUP_BYTES_MAX: Final = 1 << 30
# Reading column chunks through a window of this size is both bounded and twice as fast as whole chunks.
READ_BUFFER_BYTES: Final = 1 << 20
HEADER_BYTES_MAX: Final = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A run of rows that can be read alone.

    Parameters
    ----------
    index : int
        Position in the file.
    first_row : int
        Zero-based row of the file.
    rows : int or None
        None where only reading tells (CSV).
    """

    index: int
    first_row: int
    rows: int | None


class TableFile(Protocol):
    """One table on disk."""

    path: Path
    types: dict[str, Any]
    """Arrow type of each column, by its name in the file."""
    metadata: dict[str, str]
    sections: tuple[Section, ...]

    def batches(
        self, section: Section, columns: Mapping[str, Any], *, batch_rows: int
    ) -> Iterator[tuple[int, Any]]:
        """Yield (row of the batch's first record, record batch) with the columns in the given order.

        `columns` maps each name to the Arrow type to read it as; Parquet files keep their own types.
        """


def open_table(path: Path) -> TableFile:
    """Open a Parquet or CSV file by its name."""
    require_file(path)
    name = path.name.lower()
    if name.endswith(PARQUET_SUFFIXES):
        return ParquetTable(path)
    if name.endswith(CSV_SUFFIXES):
        return CsvTable(path)
    raise DataError(
        f"expected a name ending in one of {', '.join(PARQUET_SUFFIXES + CSV_SUFFIXES)}, was {path.name}",
        path=path,
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"expected a readable file, was {error.strerror}", path=path) from error


def files_sha256(paths: tuple[Path, ...]) -> str:
    """Return one digest for several files: of the file itself if alone, else of the digests in order."""
    digests = [file_sha256(path) for path in paths]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


_ROW: Final = re.compile(r"Row #(\d+)")
_LIBRARY_ERRORS: Final = (
    pa.ArrowException, OSError, EOFError, UnicodeDecodeError, KeyError, OverflowError,
    zipfile.BadZipFile, zlib.error, NotImplementedError,
)  # fmt: skip


@contextmanager
def library_errors(path: Path, expected: str, *, header_lines: int = 1) -> Iterator[None]:
    """Turn what pyarrow, zipfile and the decompressors raise on a bad file into a DataError."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        # pyarrow counts lines from 1, the header included; our rows start after it at 0.
        line = _ROW.search(first_line)
        row = max(int(line[1]) - 1 - header_lines, 0) if line else None
        raise DataError(f"expected {expected}, was: {first_line}", path=path, row=row) from error


class ParquetTable:
    """A Parquet file, one section per row group.

    Column statistics are left alone: pyarrow ends the whole process over some damaged ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with library_errors(path, "a whole Parquet file"):
            with pq.ParquetFile(path) as file:
                footer, schema = file.metadata, file.schema_arrow
            self.types = dict(zip(schema.names, schema.types, strict=True))
            self.metadata = {
                key.decode(errors="replace"): value.decode(errors="replace")
                for key, value in (schema.metadata or {}).items()
            }
            counts = [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
            sizes = [footer.row_group(index).total_byte_size for index in range(footer.num_row_groups)]
        for size in sizes:
            if not 0 <= size <= ROW_GROUP_BYTES_MAX:
                raise DataError(f"expected row groups of at most 1 GiB decoded, was {size} bytes", path=path)
        first_row, sections = 0, []
        for index, rows in enumerate(counts):
            if rows < 0:
                raise DataError(f"expected row counts from 0 up, was {rows}", path=path)
            sections.append(Section(index=index, first_row=first_row, rows=rows))
            first_row += rows
        self.sections = tuple(sections)

    def batches(
        self, section: Section, columns: Mapping[str, Any], *, batch_rows: int
    ) -> Iterator[tuple[int, Any]]:
        names, row = list(columns), section.first_row
        with library_errors(self.path, "an undamaged Parquet file"):
            file = pq.ParquetFile(self.path, pre_buffer=False, buffer_size=READ_BUFFER_BYTES)
        with file:
            stream = file.iter_batches(
                batch_size=batch_rows, row_groups=[section.index], columns=names, use_threads=False
            )
            while True:
                with library_errors(self.path, f"an undamaged Parquet row group {section.index}"):
                    batch = next(stream, None)
                    if batch is None:
                        break
                    batch = batch.select(names)
                yield row, batch
                row += batch.num_rows
        if section.rows is not None and row != section.first_row + section.rows:
            raise DataError(
                f"expected {section.rows} rows in row group {section.index}, was {row - section.first_row}",
                path=self.path,
            )


def csv_header(path: Path) -> tuple[str, list[str]]:
    """Return the delimiter and the column names of a text file's first line."""
    with library_errors(path, "a readable text file"), _open_text(path) as stream:
        header = stream.read(HEADER_BYTES_MAX).partition(b"\n")[0].decode("utf-8-sig").strip()
    delimiter = max(",;\t|", key=header.count)
    names = [name.strip().strip('"') for name in header.split(delimiter)]
    if len(set(names)) != len(names) or not all(names) or len(names) < 2:
        raise DataError(f"expected a header line naming each column once, was {header[:80]!r}", path=path)
    return delimiter, names


def _open_text(path: Path) -> Any:
    return pa.input_stream(str(path), compression="detect")


class CsvTable:
    """A CSV file with a header line; compression is told by the suffix.

    Parameters
    ----------
    path : Path
    is_ragged : bool
        Rows with too few or too many columns are left out, and not refused.
    """

    def __init__(self, path: Path, *, is_ragged: bool = False) -> None:
        self.path, self._is_ragged = path, is_ragged
        with library_errors(path, "a readable text file"):
            self._is_quoted = not is_ragged or is_quoted(path)
        self.metadata: dict[str, str] = {}
        self.sections: tuple[Section, ...] = (Section(index=0, first_row=0, rows=None),)
        self._delimiter, self._names = csv_header(path)
        with library_errors(path, "a CSV file"), self._reader({}, self._ragged()) as reader:
            self.types = dict(zip(reader.schema.names, reader.schema.types, strict=True))

    def _ragged(self) -> RaggedRows | None:
        return RaggedRows(self.path, share_max=0.5) if self._is_ragged else None

    def _reader(self, columns: Mapping[str, Any], ragged: RaggedRows | None) -> Any:
        return pc.open_csv(
            _open_text(self.path) if ragged is None else TextStream(self.path),
            read_options=pc.ReadOptions(
                column_names=self._names, skip_rows=1, use_threads=False, block_size=READ_BUFFER_BYTES
            ),
            parse_options=pc.ParseOptions(
                delimiter=self._delimiter,
                quote_char='"' if self._is_quoted else False,
                invalid_row_handler=None if ragged is None else ragged.skip,
            ),
            convert_options=pc.ConvertOptions(
                column_types={name: kind for name, kind in columns.items() if kind is not None},
                include_columns=list(columns),
                # Words for nothing, such as NaN or N/A, are refused as they stand, not as a null.
                null_values=[""],
            ),
        )

    def batches(
        self,
        section: Section,
        columns: Mapping[str, Any],
        *,
        batch_rows: int,
        ragged: RaggedRows | None = None,
    ) -> Iterator[tuple[int, Any]]:
        ragged = ragged or self._ragged()
        with library_errors(self.path, "an undamaged CSV file"):
            reader = self._reader(columns, ragged)
        with reader:
            yield from csv_parts(reader, self.path, ragged, batch_rows=batch_rows)


def csv_parts(
    reader: Any, path: Path, ragged: RaggedRows | None, *, batch_rows: int, header_lines: int = 1
) -> Iterator[tuple[int, Any]]:
    """Yield (row of the first, record batch) of what a CSV reader reads; no part spans a row left out."""
    row = 0
    while True:
        with library_errors(path, "an undamaged CSV file", header_lines=header_lines):
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
        for first, part in [(row, batch)] if ragged is None else ragged.parts(batch):
            for offset in range(0, part.num_rows, batch_rows):
                yield first + offset, part.slice(offset, batch_rows)
        row += batch.num_rows
    if ragged is not None:
        ragged.finish()

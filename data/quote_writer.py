"""Writing quotes as Parquet that `open_quotes` reads back bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import ConfigError, writing_to
from .quote_file import METADATA_PREFIX
from .quotes import QuoteBlock, QuoteRecording

_ROW_GROUP_ROWS: Final = 1 << 20
_OPTIONS: Final[dict[str, Any]] = {
    "compression": "zstd",
    "use_dictionary": False,
    "column_encoding": {"ts_ns": "DELTA_BINARY_PACKED", "bid": "DELTA_BINARY_PACKED",
                        "ask": "DELTA_BINARY_PACKED"},
    "write_page_checksum": True,
}  # fmt: skip

Watch = Callable[[Iterable[QuoteBlock]], Iterator[QuoteBlock]]


def write_quotes(quotes: QuoteRecording, folder: Path, *, watch: Watch = iter) -> tuple[Path, ...]:
    """Write one file per calendar year and return their names.

    Files appear whole or not at all, and none is replaced.

    Parameters
    ----------
    quotes : QuoteRecording
    folder : Path
        Made if it is not there.
    watch : function
        Wraps the iterator of blocks, for a progress bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = quotes.instrument.symbol.lower()
    years = range(_year(quotes.first_ns), _year(quotes.last_ns) + 1)
    paths = tuple(folder / f"{stem}_quotes_{year}.parquet" for year in years)
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} is there already")
    temporaries = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    try:
        for year, temporary in zip(years, temporaries, strict=True):
            with writing_to(folder):
                _write_year(quotes, year, temporary, watch)
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
    return paths


def _write_year(quotes: QuoteRecording, year: int, path: Path, watch: Watch) -> None:
    fields = [("ts_ns", pa.int64()), ("bid", pa.int32()), ("ask", pa.int32()), ("pressure", pa.int8())]
    blocks = watch(quotes.blocks(start_ns=_year_ns(year), stop_ns=_year_ns(year + 1)))
    first = next(blocks)
    if first.pressure is None:
        fields.pop()
    schema = pa.schema(fields).with_metadata(
        {
            METADATA_PREFIX + "symbol": quotes.instrument.symbol,
            METADATA_PREFIX + "price_increment": repr(quotes.instrument.price_increment),
            METADATA_PREFIX + "recorded": str(quotes.recorded).lower(),
            METADATA_PREFIX + "source": quotes.source,
        }
    )
    with path.open("wb") as stream:
        with pq.ParquetWriter(stream, schema, **_OPTIONS) as writer:
            for table in _grouped(first, blocks, schema):
                writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
        stream.flush()
        os.fsync(stream.fileno())


def _grouped(first: QuoteBlock, blocks: Iterator[QuoteBlock], schema: Any) -> Iterator[Any]:
    held, rows = [first], len(first.ts_ns)
    for block in blocks:
        if rows + len(block.ts_ns) > _ROW_GROUP_ROWS:
            yield _table(held, schema)
            held, rows = [], 0
        held.append(block)
        rows += len(block.ts_ns)
    yield _table(held, schema)


def _table(held: list[QuoteBlock], schema: Any) -> Any:
    columns = [np.concatenate([block[place] for block in held]) for place in range(len(schema))]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=schema)


def _year(ts_ns: int) -> int:
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).year


def _year_ns(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**9

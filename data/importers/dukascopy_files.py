"""One hour of Dukascopy ticks: LZMA around big-endian rows of 20 bytes.

======  ====  =====================================
offset  type  meaning
======  ====  =====================================
0       u32   ms since the hour began, UTC
4       u32   ask, in points
8       u32   bid, in points
12      f32   size at the ask, in millions for pairs
16      f32   size at the bid
======  ====  =====================================

The hour stands in the path alone, as the data feed lays it out: ``EURUSD/2014/04/01/13h_ticks.bi5``, or
the same joined by ``_`` or ``-``. There **the month counts from 00**: that is the first of May. A date of
eight digits (``EURUSD_20140501_13h_ticks.bi5``) is the calendar's.
"""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..input_file import require_file

ROW_DTYPE: Final = np.dtype(
    [("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("ask_size", ">f4"), ("bid_size", ">f4")]
)
HOUR_BYTES_MAX: Final = 64 << 20
"""A busy hour has some ten thousand rows; this is three million."""

_LZMA_MEMORY_MAX: Final = 256 << 20
_FEED_PATH: Final = re.compile(
    r"(?:.*?/)??(?:(?P<symbol>[A-Z0-9.]{3,30})[/_-])?(?P<year>\d{4})[/_-](?P<month>\d\d)[/_-](?P<day>\d\d)"
    r"[/_-](?P<hour>\d\d)h_ticks\.bi5",
    re.ASCII | re.IGNORECASE,
)
_DATED_NAME: Final = re.compile(
    r"(?:.*?/)??(?:(?P<symbol>[A-Z0-9.]{3,30})[_-])?(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)[_-]?"
    r"(?P<hour>\d\d)(?:h_ticks|h)?\.bi5",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HourFile:
    """One hour of one instrument.

    Parameters
    ----------
    path : Path
    symbol : str
        In capitals, "" where the path names none.
    start_ns : int
        Begin of the hour, ns since the Unix epoch.
    """

    path: Path
    symbol: str
    start_ns: int

    def rows(self) -> NDArray[np.void]:
        """Return the hour's rows; an empty file is an hour without ticks.

        Raises
        ------
        DataError
            The file is damaged, or no whole number of rows.
        """
        try:
            packed = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"expected a readable file, was {error.strerror}", path=self.path) from error
        if not packed:
            return np.empty(0, ROW_DTYPE)
        decoder = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_LZMA_MEMORY_MAX)
        try:
            data = decoder.decompress(packed, HOUR_BYTES_MAX)
        except (lzma.LZMAError, MemoryError) as error:
            raise DataError(f"expected undamaged LZMA data, was: {error}", path=self.path) from error
        if not decoder.eof or decoder.unused_data:
            raise DataError(
                f"expected one whole LZMA stream of at most {HOUR_BYTES_MAX >> 20} MiB, was another",
                path=self.path,
                offset=len(packed) - len(decoder.unused_data),
            )
        if len(data) % ROW_DTYPE.itemsize:
            raise DataError(
                f"expected rows of {ROW_DTYPE.itemsize} bytes, was {len(data)} bytes", path=self.path
            )
        return np.frombuffer(data, ROW_DTYPE)


def hour_file(path: Path) -> HourFile:
    """Describe an hour by its path.

    Raises
    ------
    DataError
        There is no such file, or its path tells no hour.
    """
    require_file(path)
    text = path.absolute().as_posix()
    match, first_month = _FEED_PATH.fullmatch(text), 0
    if match is None:
        match, first_month = _DATED_NAME.fullmatch(text), 1
    if match is None:
        raise DataError(
            "expected a path like EURUSD/2014/04/01/13h_ticks.bi5 (months from 00) or "
            "EURUSD_20140501_13h_ticks.bi5, was another",
            path=path,
        )
    year, month, day, hour = (int(match[name]) for name in ("year", "month", "day", "hour"))
    try:
        start = datetime(year, month + 1 - first_month, day, hour, tzinfo=UTC)
    except ValueError as error:
        raise DataError(
            f"expected a date with months from {first_month:02}, was {year}-{month:02}-{day:02} {hour:02}h",
            path=path,
        ) from error
    return HourFile(
        path=path, symbol=(match["symbol"] or "").upper(), start_ns=int(start.timestamp()) * 10**9
    )

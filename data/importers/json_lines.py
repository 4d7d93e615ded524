"""JSON messages as typed records.

msgspec, because it checks a message against its declaration while it parses: a flipped bit is found here,
with the line, and fields that nobody reads are skipped without being built. Prices stay text, also where a
venue writes them as numbers. It has no dependencies of its own. orjson parses as fast but builds everything
and turns numbers into doubles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from ..errors import DataError

Record = TypeVar("Record")


class JsonRecords(Generic[Record]):
    """Decodes JSON into one type.

    Parameters
    ----------
    kind : type
        Where it leaves a number's type open, one with a point or an exponent stays text.
    """

    def __init__(self, kind: type[Record]) -> None:
        self._decoder = msgspec.json.Decoder(kind, float_hook=str)

    def decode(self, text: bytes | msgspec.Raw, *, path: Path, row: int) -> Record:
        """Return the record.

        Raises
        ------
        DataError
            The text is no JSON, or not of the type.
        """
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            shown = bytes(text)[:60]
            raise DataError(f"expected a JSON message: {error}, was {shown!r}", path=path, row=row) from error

"""Importers: one module a recording format, found by name.

Every importer module offers two functions and documents clocks, units, sequence rules and what it drops:

``open_source(paths, *, symbol=None, instrument=None, strict=False) -> EventSource``
    One instrument's events in order of time, streaming. A recording of many instruments needs `symbol`.
``verify(paths) -> Verification``
    Replay the recording through the book and compare with the truth it carries.

A source that rejects rows has an attribute ``quarantine``, None or a `data.quarantine.Quarantine`, which
the import sets before it reads the blocks. Each reading fills a `data.quarantine.LeftOut`, which hands
rejected rows on with file, row, rule and raw values, and makes the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..events import EventSource
    from ..instrument import Instrument


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a comparison with a recording's own truth found.

    Parameters
    ----------
    matched, total : int
        Comparisons that agreed, and all that were made.
    what : str
        What one comparison is, in the plural: "book rows", "checksums".
    first_mismatch : str or None
        File, place, expected and found; None when all agree.
    notes : tuple of str
        What was left out and why.
    """

    matched: int
    total: int
    what: str
    first_mismatch: str | None = None
    notes: tuple[str, ...] = ()


class Importer(Protocol):
    """What an importer module offers."""

    def open_source(
        self,
        paths: Sequence[Path],
        *,
        symbol: str | None = None,
        instrument: Instrument | None = None,
        strict: bool = False,
    ) -> EventSource: ...

    def verify(self, paths: Sequence[Path]) -> Verification: ...


MODULES: Final[dict[str, str]] = {
    "itch": "itch",
    "sse": "sse",
    "lean": "lean",
    "binance": "binance",
    "bitstamp": "bitstamp",
    "coinbase": "coinbase",
    "databento": "databento",
    "dbn": "databento",
    "dukascopy": "dukascopy",
    "hftbacktest": "hftbacktest",
    "jsonl": "json_streams",
    "kraken": "kraken",
    "tardis": "tardis",
}
"""Module of this package by format name, in the order in which help lists them."""

_EXTRAS: Final = {"msgspec": "crypto", "databento_dbn": "databento"}


def importer(name: str) -> Importer:
    """Return the importer of a format.

    Raises
    ------
    ConfigError
        There is none of that name, or a library that it needs is not installed.
    """
    if name not in MODULES:
        raise ConfigError(f"format must be one of {', '.join(MODULES)}, was {name!r}")
    try:
        module: Importer = import_module("." + MODULES[name], __name__)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise ConfigError(
            f"reading {name} needs {error.name}: pip install 'anytick[{_EXTRAS[error.name]}]'"
        ) from error
    return module

"""Vocabulary of market data, recordings, importers, the tick store and the built-in market.

The names below load their module on first use, so that code which needs only the vocabulary
(`data.schema`, `data.instrument`, `data.errors`) never pays for pyarrow or polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import AnytickError as AnytickError
    from .errors import CheckFailed as CheckFailed
    from .errors import ConfigError as ConfigError
    from .errors import DataError as DataError
    from .events import EventSource as EventSource
    from .events import open_events as open_events
    from .instrument import Instrument as Instrument
    from .lobster import open_lobster as open_lobster
    from .lobster_verify import verify_lobster as verify_lobster
    from .quotes import QuoteBlock as QuoteBlock
    from .quotes import QuoteRecording as QuoteRecording
    from .quotes import open_quotes as open_quotes
    from .schema import EVENT_DTYPE as EVENT_DTYPE
    from .schema import QUOTE_DTYPE as QUOTE_DTYPE
    from .store import TickStore as TickStore
    from .synthetic import SyntheticQuotes as SyntheticQuotes

_HOME = {
    "AnytickError": "errors",
    "CheckFailed": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "EVENT_DTYPE": "schema",
    "EventSource": "events",
    "Instrument": "instrument",
    "QUOTE_DTYPE": "schema",
    "QuoteBlock": "quotes",
    "QuoteRecording": "quotes",
    "SyntheticQuotes": "synthetic",
    "TickStore": "store",
    "open_events": "events",
    "open_lobster": "lobster",
    "open_quotes": "quotes",
    "verify_lobster": "lobster_verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("." + _HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

"""The trading engine: strategy API, orders, risk, routing, inference and journal.

The names below load their module on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .journal import JournalReader as JournalReader
    from .journal import verify_journal as verify_journal
    from .strategy import Strategy as Strategy
    from .strategy import StrategyError as StrategyError

_HOME = {
    "JournalReader": "journal",
    "Strategy": "strategy",
    "StrategyError": "strategy",
    "verify_journal": "journal",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("." + _HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

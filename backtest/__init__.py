"""Simulated venues and clock, runner, walk-forward, statistics, reports and the command line.

The names below load their module on first use, so that the command line answers ``--help`` at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import backtest as backtest
    from .replayer import replay as replay
    from .result import Result as Result
    from .result import RunResult as RunResult
    from .trials import TrialRegistry as TrialRegistry
    from .trials import record_backtests as record_backtests
    from .venue_config import VenueConfig as VenueConfig
    from .walkforward import walk_forward as walk_forward

_HOME = {
    "Result": "result",
    "RunResult": "result",
    "TrialRegistry": "trials",
    "VenueConfig": "venue_config",
    "backtest": "api",
    "record_backtests": "trials",
    "replay": "replayer",
    "walk_forward": "walkforward",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("." + _HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

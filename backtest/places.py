"""Where commands look for market data and keep their trials when nobody says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MARKET_DATA_VARIABLE: Final = "ANYTICK_MARKET_DATA"
MARKET_DATA: Final = Path("var/market-data")
TRIALS: Final = Path("var/trials.sqlite")
MODEL_LADDER: Final = Path("var/models/ladder")
MODEL_REGISTRY: Final = Path("var/models/registry")


def find_market_data() -> Path | None:
    """Return the market data at hand: what the environment names, else `MARKET_DATA` where it exists.

    What the environment names is returned unchecked, so that a wrong path is told and not passed over.
    """
    named = os.environ.get(MARKET_DATA_VARIABLE)
    if named:
        return Path(named)
    return MARKET_DATA if MARKET_DATA.exists() else None

"""Candidates compete on the days behind; the verdict counts every try on the same data."""

from __future__ import annotations

from backtest import walk_forward
from backtest.venue_config import VenueConfig
from engine.strategies import MarketMaker

# Ticks to try with: anytick data generate --out ticks --years 0.1, and "ticks" instead of the file.
result = walk_forward(
    {
        "tight": lambda: MarketMaker(skew_ticks=1.0),
        "wide": lambda: MarketMaker(edge_ticks=2, skew_ticks=3.0),
    },
    "ticks.parquet",
    train_days=4,
    test_days=2,
    venue=VenueConfig(flow=0.1, maker_fee_bps=0.1),
    registry="trials.sqlite",
)
for window in result.windows:
    print(window.test_from, window.chosen, round(window.pnl, 2))
print(f"Sharpe {result.sharpe}, deflated {result.deflated_sharpe:.2f} of {result.trials} tries")

"""A market maker between two fill bounds: the truth lies between the columns."""

from __future__ import annotations

from backtest import backtest
from backtest.console import print_backtest_table
from backtest.order_flow import GeneratedFlow
from backtest.report import write_backtest_report
from backtest.venue_config import VenueConfig
from engine.strategies import MarketMaker

# Any LOBSTER zip does as well: backtest(..., "AMZN_2012-06-21.zip", ...).
flow = GeneratedFlow(seed=1, steps=20_000)
results = [
    backtest(
        MarketMaker(size_lots=100, position_lots_max=1_000, skew_ticks=3.0),
        flow,
        venue=VenueConfig(queue=queue, taker_fee_per_lot=0.003, maker_fee_per_lot=-0.002),
        name=queue,
    )
    for queue in ("optimistic", "pessimistic")
]
print_backtest_table(results)
write_backtest_report(results, "bounds.html")

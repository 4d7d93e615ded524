"""A strategy of one's own with orders that rest: post at the bid, follow it, count what was refused."""

from __future__ import annotations

from backtest import backtest
from backtest.venue_config import VenueConfig
from data.schema import Reason, ReportKind
from engine import Strategy
from engine.strategy import Context, Report


class PassiveBuyer(Strategy):
    """Buys ten lots without ever crossing the spread."""

    def __init__(self, *, size_lots: int = 10) -> None:
        self.size_lots = size_lots
        self.refused: dict[str, int] = {}

    def on_start(self, ctx: Context) -> None:
        self._follow(ctx)

    def on_touch(self, ctx: Context) -> None:
        self._follow(ctx)

    def on_reject(self, ctx: Context, report: Report) -> None:
        name = Reason(report.reason).name
        self.refused[name] = self.refused.get(name, 0) + 1

    def on_report(self, ctx: Context, report: Report) -> None:
        if report.kind == ReportKind.CANCELLED:
            self._follow(ctx)

    def _follow(self, ctx: Context) -> None:
        """Have one order at the bid; a new one only once the old one is known to have ended."""
        wanted = self.size_lots - ctx.position_lots
        for order in ctx.open_orders:
            if order.price_ticks != ctx.bid_price_ticks:
                ctx.cancel(order.client_order_id)
        if ctx.two_sided and wanted > 0 and not ctx.open_orders:
            ctx.buy(wanted, ctx.bid_price_ticks, post_only=True)


# Ticks to try with: anytick data generate --out ticks --years 0.1, and "ticks" instead of the file.
strategy = PassiveBuyer()
result = backtest(strategy, "ticks.parquet", venue=VenueConfig(flow=0.2), seed=7)
print(f"position {result.position_lots[-1]}, {result.fills.size} fills, refused {strategy.refused}")

from backtest import backtest
from engine import Strategy


class BuyTheDip(Strategy):
    timer_ns = 60_000_000_000  # once a minute

    def on_timer(self, ctx):
        if ctx.features[6] < -4 and ctx.position_lots < 5:  # far below the average of 64 quotes
            ctx.buy(1)
        elif ctx.features[6] > 4 and ctx.position_lots > 0:
            ctx.sell(ctx.position_lots)


result = backtest(BuyTheDip(), data="ticks.parquet")
print(result.pnl, result.sharpe)
result.report("report.html")

"""Generated markets: how fast quotes and order flow come out of a seed.

Floor of the quotes: as many normal draws and one running sum, which any random walk takes. Floor of the
flow: one draw, one dictionary store and one row in plain Python for each event.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backtest.order_flow import GeneratedFlow
from data.quotes import QuoteBlock
from data.schema import EVENT_DTYPE
from data.synthetic import SyntheticQuotes
from ext.order_book import OrderBook

from .flow import order_flow, standing
from .harness import Bench, scenario


@scenario(
    "generator",
    "generated markets: quotes, order flow of a day, order flow of the benchmarks",
    conditions="quotes: built-in market, whole days, one thread; day's flow: the readable generator in "
    "Python; benchmark flow: through our matching engine; floor: normal draws and a running sum, or a draw "
    "and a store.",
)
def generator(bench: Bench) -> None:
    _quotes(bench)
    _day_of_flow(bench)
    _benchmark_flow(bench)


def _quotes(bench: Bench) -> None:
    days = bench.parameter("days", smoke=1, full=8)
    rows = SyntheticQuotes(seed=bench.seed, years=days / 260).rows()
    last: list[QuoteBlock] = []

    def quote() -> None:
        market = SyntheticQuotes(seed=bench.seed, years=days / 260)
        last[:] = [market.day(day) for day in range(days)]

    def walk() -> None:
        np.cumsum(np.random.default_rng(bench.seed).standard_normal(rows))

    bench.throughput("quote", quote, count=rows, floor=walk)
    first = [day.ts_ns.tobytes() + day.bid_ticks.tobytes() for day in last]
    quote()
    again = [day.ts_ns.tobytes() + day.bid_ticks.tobytes() for day in last]
    bench.verify(sum(len(day.ts_ns) for day in last) == rows, "the days hold the rows they announce")
    bench.verify(first == again, "one seed gives one market")


def _day_of_flow(bench: Bench) -> None:
    steps = bench.parameter("steps", smoke=500, full=8_000)
    events = np.concatenate(list(GeneratedFlow(seed=bench.seed, steps=steps).blocks()))
    made: list[NDArray[np.void]] = []

    def flow() -> None:
        made[:] = GeneratedFlow(seed=bench.seed, steps=steps).blocks()

    def store() -> None:
        draws = np.random.default_rng(bench.seed).random(len(events)).tolist()
        table: dict[int, float] = {}
        rows = []
        for index, draw in enumerate(draws):
            table[index & 511] = draw
            rows.append((index, draw))

    bench.throughput("event, a day's flow", flow, count=len(events), floor=store)
    bench.verify(np.concatenate(made).tobytes() == events.tobytes(), "one seed gives one day")


def _benchmark_flow(bench: Bench) -> None:
    count = bench.parameter("events", smoke=2_000, full=200_000)
    made = np.zeros(0, EVENT_DTYPE)

    def flow() -> None:
        nonlocal made
        made = order_flow(count, live=200 if bench.smoke else 1_000, seed=bench.seed)

    def draws() -> None:
        np.random.default_rng(bench.seed).standard_normal(6 * count)

    bench.throughput("event, benchmark flow", flow, count=count, floor=draws)
    book = OrderBook()
    book.apply(made)
    shown = all(book.size_at(side, price) == lots for (side, price), lots in standing(made).items())
    bench.verify(shown and not book.unknown_orders and not book.crossed, "a book follows the flow")

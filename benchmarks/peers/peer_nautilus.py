"""NautilusTrader beside our replay: the same market as order book deltas, no strategy on either side.

Its deltas are made and added before the clock starts; logging is bypassed, statistics are off, data is
neither validated nor sorted again. The book that its simulated exchange keeps is compared in a pass of its
own, because asking for it takes a module that would cost time.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.schema import EventKind

from ..flow import level_flow, order_flow, remaining_lots, standing
from ..harness import Bench, peer_scenario
from .peer_hftbacktest import OurReplay

GOAL: Final = 80.0
LAST_IN_PACKET: Final = 128


class Engine:
    """A backtest engine with one equity and the events as deltas."""

    def __init__(self, flow: NDArray[np.void], *, by_order: bool, module: Any = None) -> None:
        from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
        from nautilus_trader.config import LoggingConfig
        from nautilus_trader.model.currencies import USD
        from nautilus_trader.model.enums import AccountType, BookType, OmsType
        from nautilus_trader.model.objects import Money

        instrument = _equity()
        quiet = BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False)
        self.engine = BacktestEngine(quiet)
        self.engine.add_venue(
            instrument.id.venue,
            OmsType.NETTING,
            AccountType.MARGIN,
            [Money(1_000_000, USD)],
            base_currency=USD,
            book_type=BookType.L3_MBO if by_order else BookType.L2_MBP,
            modules=None if module is None else [module],
        )
        self.engine.add_instrument(instrument)
        self.engine.add_data(_deltas(flow, instrument.id, by_order=by_order), validate=False, sort=False)

    def prepare(self) -> None:
        self.engine.reset()

    def run(self) -> None:
        self.engine.run()


def _equity() -> Any:
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
    from nautilus_trader.model.instruments import Equity
    from nautilus_trader.model.objects import Price, Quantity

    return Equity(
        instrument_id=InstrumentId(Symbol("FLOW"), Venue("SIM")),
        raw_symbol=Symbol("FLOW"),
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        ts_event=0,
        ts_init=0,
    )


def _deltas(flow: NDArray[np.void], instrument_id: Any, *, by_order: bool) -> list[Any]:
    from nautilus_trader.core.nautilus_pyo3 import FIXED_PRECISION
    from nautilus_trader.model.data import BookOrder, OrderBookDelta
    from nautilus_trader.model.enums import BookAction, OrderSide
    from nautilus_trader.model.objects import Price, Quantity

    rows = flow if by_order else level_flow(flow)
    lots = remaining_lots(flow) if by_order else rows["size_lots"]
    is_new = (rows["kind"] == EventKind.ADD).tolist()
    columns = (rows[name].tolist() for name in ("side", "price_ticks", "order_id", "ts_ns"))
    deltas = []
    for number, (new, left, side, price, order_id, ts_ns) in enumerate(
        zip(is_new, lots.tolist(), *columns, strict=True)
    ):
        action = BookAction.ADD if new else BookAction.UPDATE if left else BookAction.DELETE
        order = BookOrder(
            OrderSide.BUY if side > 0 else OrderSide.SELL,
            Price.from_raw(price * 10 ** (FIXED_PRECISION - 2), 2),
            Quantity.from_raw(left * 10**FIXED_PRECISION, 0),
            order_id,
        )
        deltas.append(OrderBookDelta(instrument_id, action, order, LAST_IN_PACKET, number, ts_ns, ts_ns))
    return deltas


def _final_levels(flow: NDArray[np.void], *, by_order: bool) -> dict[tuple[int, int], int]:
    """Return lots by (side, price_ticks) of the simulated exchange's book after all events."""
    from nautilus_trader.backtest.config import SimulationModuleConfig
    from nautilus_trader.backtest.modules import SimulationModule

    class Witness(SimulationModule):  # type: ignore[misc]
        """Knows the exchange that it is added to."""

        def process(self, ts_now: int) -> None:
            pass

        def log_diagnostics(self, logger: Any) -> None:
            pass

        def reset(self) -> None:
            pass

    witness = Witness(SimulationModuleConfig())
    engine = Engine(flow, by_order=by_order, module=witness)
    engine.run()
    book = witness.exchange.get_book(_equity().id)
    found = {
        (side, round(float(level.price) * 100)): int(level.size())
        for side, levels in ((1, book.bids()), (-1, book.asks()))
        for level in levels
    }
    engine.engine.dispose()
    return found


@peer_scenario(
    "nautilus",
    "replay beside NautilusTrader",
    conditions="one venue, nobody trades; ours: one book, with all features where the row says so; theirs: "
    "one delta an event, added beforehand, logging bypassed, no analysis; books compared level by level.",
    needs=("nautilus_trader",),
)
def nautilus(bench: Bench) -> None:
    count = bench.parameter("events", smoke=1_000, full=100_000)
    flow = order_flow(count, live=min(1_000, count // 8), seed=bench.seed)
    wanted = standing(flow)
    for name, by_order in (("by level", False), ("by order", True)):
        theirs = Engine(flow, by_order=by_order)
        for features in (False, True):
            ours = OurReplay(flow if by_order else level_flow(flow), features=features)
            bench.throughput(
                f"event, {name}, 1,000 live{', all features' if features else ''}",
                ours.run,
                count=count,
                prepare=ours.prepare,
                peer=theirs.run,
                prepare_peer=theirs.prepare,
                peer_name="NautilusTrader",
                goal=None if features else GOAL,
            )
            bench.verify(ours.levels() == wanted, "our book shows every level that numpy counts")
        theirs.engine.dispose()
        shown = _final_levels(flow, by_order=by_order) == wanted
        bench.verify(shown, "NautilusTrader's book shows every level that numpy counts")

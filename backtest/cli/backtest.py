"""``anytick backtest``: strategies on your ticks or on recorded order flow, between two fill bounds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..places import find_market_data
from .parser import add_trials, number, whole
from .strategies import Maker, limits_for, open_model, strategy_makers, typical_lots

if TYPE_CHECKING:
    from data.events import EventSource
    from engine.inference.session import InferenceSession
    from engine.risk import RiskLimits

    from ..result import Result
    from ..trials import DeflatedSharpe
    from ..venue_config import VenueConfig

DEFAULT_REPORT: Final = Path("var/reports/backtest.html")
BOUNDS: Final = ("optimistic", "pessimistic")

# Nasdaq's prices of 2012 for US equities, USD a share: 0.0030 to take, 0.0020 back to make (remove and
# add liquidity, Nasdaq Rule 7018(a), rounded to its base tiers).
LOBSTER_TAKER_FEE: Final = 0.0030
LOBSTER_MAKER_FEE: Final = -0.0020

EPILOG = """\
examples:
  anytick backtest                                  a LOBSTER day if one is at hand (ANYTICK_MARKET_DATA
                                                    or var/market-data), otherwise generated order flow
  anytick backtest day.zip --strategy twap          one strategy on that day
  anytick backtest quotes.csv --strategy mine.py:Mine --report mine.html

Where a resting order stands in the queue is known only between bounds: with --queue both, each
strategy runs once optimistically and once pessimistically, and the fills lie between (profit need not).
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "backtest",
        help="one strategy on your ticks or on recorded order flow",
        description="Run strategies over a recording, our orders queueing behind the recorded ones.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", nargs="?", type=Path, help="quotes, trades, a LOBSTER zip, a tick store or .npy events"
    )
    parser.add_argument(
        "--strategy",
        action="append",
        metavar="NAME",
        help="market_maker, twap, signal_taker (with --model) or FILE.py:Class; may be given again; "
        "default: the first two",
    )
    parser.add_argument(
        "--queue",
        choices=("both", *BOUNDS, "flow"),
        default="both",
        help="how resting orders fill; for quotes always flow; default: %(default)s",
    )
    parser.add_argument(
        "--size", type=whole(1, 10_000_000), metavar="LOTS", help="of a quote; a TWAP works 100 times that"
    )
    parser.add_argument(
        "--taker-fee", type=number(-1e6, 1e6), metavar="FEE", help="per lot, in the instrument's currency"
    )
    parser.add_argument(
        "--maker-fee", type=number(-1e6, 1e6), metavar="FEE", help="the same for resting; negative: rebate"
    )
    parser.add_argument("--latency-us", type=whole(1, 3_600_000_000), default=500, metavar="US",
                        help="one way, of feed, orders and answers each; default: %(default)s")  # fmt: skip
    parser.add_argument(
        "--model", type=Path, metavar="ONNX", help="behind ctx.signal, which is 0 without; of 16 features"
    )
    parser.add_argument(
        "--report", type=Path, default=DEFAULT_REPORT, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--journal", type=Path, metavar="DIR", help="keep the journals in this folder")
    add_trials(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run every strategy under every bound, print the table, write the report."""
    from ..console import print_backtest_table, print_performance
    from ..report import write_backtest_report
    from ..sources import open_feed
    from ..trials import TrialRegistry, record_backtests

    source = find_source(args.path, seed=args.seed)
    feed = open_feed(source)
    queues = _queues(args.queue, feed.queue)
    lots = args.size or typical_lots(source)
    names = args.strategy or ["market_maker", "twap"]
    makers = strategy_makers(names, lots=lots, has_model=args.model is not None)
    limits = limits_for(lots, source)
    session = None if args.model is None else open_model(args.model)
    # Before the runs, which may take long: a file that cannot be used must not cost their results.
    registry = TrialRegistry(args.trials)
    results = []
    for label, make in makers.items():
        for queue in queues:
            name = f"{label}, {queue}" if len(queues) > 1 else label
            venue = _venue(args, source, queue)
            results.append(
                _run_one(args, source, make, name=name, venue=venue, limits=limits, session=session)
            )
    report = write_backtest_report(results, args.report)
    judged = record_backtests(results, registry)
    print_backtest_table(results)
    if not args.quiet:
        for result in results:
            print_performance(result.performance)
    for result in results:
        print(f"journal {result.journal_hash}  {result.name}")
    print(_verdict(results, judged))
    print(f"report {report}")
    if args.json:
        print(json.dumps(_summary(results, judged, args.report), sort_keys=True))
    return 0


def find_source(path: Path | None, *, seed: int) -> EventSource:
    """Open what the user named, the largest LOBSTER file at hand, or generated order flow."""
    from data.events import open_events

    from ..order_flow import GeneratedFlow

    if path is not None:
        return open_events(path)
    found = _lobster_at_hand()
    return GeneratedFlow(seed=seed) if found is None else open_events(found, format="lobster")


def _queues(wanted: str, suited: str) -> tuple[str, ...]:
    if suited == "flow" or wanted == "flow":
        return ("flow",)
    return BOUNDS if wanted == "both" else (wanted,)


def _venue(args: argparse.Namespace, source: EventSource, queue: str) -> VenueConfig:
    from data.lobster import LobsterEvents

    from ..venue_config import VenueConfig

    lobster = isinstance(source, LobsterEvents)
    taker = args.taker_fee if args.taker_fee is not None else LOBSTER_TAKER_FEE if lobster else 0.0
    maker = args.maker_fee if args.maker_fee is not None else LOBSTER_MAKER_FEE if lobster else 0.0
    latency_ns = args.latency_us * 1_000
    return VenueConfig(
        feed_latency_ns=latency_ns,
        order_latency_ns=latency_ns,
        ack_latency_ns=latency_ns,
        taker_fee_per_lot=taker,
        maker_fee_per_lot=maker,
        queue=queue,
    )


def _run_one(
    args: argparse.Namespace,
    source: EventSource,
    make: Maker,
    *,
    name: str,
    venue: VenueConfig,
    limits: RiskLimits,
    session: InferenceSession | None,
) -> Result:
    from ..api import backtest

    journal = None
    if args.journal is not None:
        args.journal.mkdir(parents=True, exist_ok=True)
        journal = args.journal / f"{name.replace(', ', '-').replace('/', '-')}.journal"
    return backtest(
        make(),
        source,
        seed=args.seed,
        venue=venue,
        limits=limits,
        session=session,
        name=name,
        journal=journal,
        quiet=args.quiet,
    )


def _lobster_at_hand() -> Path | None:
    root = find_market_data()
    if root is None or not root.is_dir():
        return None
    zips = [path for path in root.rglob("*.zip") if "lobster" in str(path.relative_to(root)).lower()]
    return max(zips, key=lambda path: (path.stat().st_size, str(path)), default=None)


def _verdict(results: list[Result], judged: list[DeflatedSharpe]) -> str:
    """Say how many tries the data have seen, and what that leaves of each daily Sharpe ratio."""
    import math

    left = (
        f"{result.name} {'–' if math.isnan(verdict.deflated) else f'{verdict.deflated:.2f}'}"
        for result, verdict in zip(results, judged, strict=True)
    )
    return (
        f"probability of a true daily Sharpe ratio above the best of {judged[0].trials} tries by luck: "
        f"{'; '.join(left)}"
    )


def _summary(results: list[Result], judged: list[DeflatedSharpe], report: Path) -> dict[str, Any]:
    import math

    def plain(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "report": str(report),
        "trials": judged[0].trials,
        "results": [
            {
                "name": result.name,
                "events": result.events,
                "orders": result.orders,
                "fills": int(result.fills.size),
                "filled_lots": int(result.fills["size_lots"].sum()),
                "pnl": plain(result.pnl),
                "fees": plain(result.fees),
                "sharpe": plain(result.sharpe.mean),
                "deflated_sharpe": plain(verdict.deflated),
                "max_drawdown": plain(result.max_drawdown),
                "rejections": result.rejections,
                "config_hash": result.config_hash,
                "data_hash": result.data_hash,
                "journal_hash": result.journal_hash,
                "seconds": result.performance.seconds,
            }
            for result, verdict in zip(results, judged, strict=True)
        ],
    }

"""``anytick walkforward``: a strategy over rolling windows, with statistics that count the tries."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import add_trials, number, whole

if TYPE_CHECKING:
    from ..walkforward import WalkForwardResult


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "walkforward",
        help="a strategy over rolling windows, with a deflated Sharpe ratio",
        description="Run strategies over rolling windows. Several candidates compete on the training days "
        "of each window; with one, the training days are only left untested. Every try on the same data "
        "is counted, and the verdict is deflated by their number.",
    )
    parser.add_argument("path", type=Path, help="quotes, trades, LOBSTER, a tick store or .npy events")
    parser.add_argument(
        "--strategy",
        action="append",
        metavar="NAME",
        help="market_maker, twap or FILE.py:Class; again for candidates; default: market_maker",
    )
    parser.add_argument(
        "--train-days", type=whole(1, 36_500), default=60, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--test-days", type=whole(1, 36_500), default=20, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--anchored", action="store_true", help="train on everything before the test")
    parser.add_argument(
        "--size", type=whole(1, 10_000_000), metavar="LOTS", help="of a quote; default: what the data show"
    )
    parser.add_argument(
        "--taker-fee-bps",
        type=number(-10_000, 10_000),
        default=0.0,
        metavar="BPS",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--maker-fee-bps",
        type=number(-10_000, 10_000),
        default=0.0,
        metavar="BPS",
        help="default: %(default)s",
    )
    add_trials(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Walk forward, print a row a window and the verdict."""
    from data.events import open_events

    from ..console import run_progress
    from ..venue_config import VenueConfig
    from ..walkforward import walk_forward
    from .strategies import limits_for, strategy_makers, typical_lots

    source = open_events(args.path)
    lots = args.size or typical_lots(source)
    makers = strategy_makers(args.strategy or ["market_maker"], lots=lots)
    with run_progress(0, description="walk-forward", quiet=args.quiet) as bar:
        result = walk_forward(
            makers,
            source,
            train_days=args.train_days,
            test_days=args.test_days,
            anchored=args.anchored,
            seed=args.seed,
            registry=args.trials,
            venue=VenueConfig(taker_fee_bps=args.taker_fee_bps, maker_fee_bps=args.maker_fee_bps),
            limits=limits_for(lots, source),
            equity_interval="1h",
            progress=lambda done, total: bar.update(done, f"window {done} of {total}"),
        )
    _print(result)
    if args.json:
        print(json.dumps(_summary(result), sort_keys=True))
    return 0


def _print(result: WalkForwardResult) -> None:
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..console import WIDTH

    title = f"{result.name} on {result.source}"
    table = Table("window", "train", "test", "chosen", box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for heading in ("Sharpe, train", "Sharpe, test", "profit", "trades"):
        table.add_column(heading, justify="right")
    for window in result.windows:
        table.add_row(
            str(window.index + 1),
            f"{window.train_from}/{window.train_until}",
            f"{window.test_from}/{window.test_until}",
            window.chosen,
            _ratio(window.train_sharpe),
            _ratio(window.test_sharpe),
            f"{window.pnl:,.2f}",
            f"{window.trades:,}",
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH, soft_wrap=True)
    console.print(table)
    console.print("Sharpe ratios of the windows are daily; dates are ISO, ends exclusive.")
    interval = result.sharpe
    console.print(
        f"profit {result.pnl:,.2f} {result.currency} on {len(result.daily_profit)} test days; "
        f"annual Sharpe {_ratio(interval.mean)} [{_ratio(interval.low)}, {_ratio(interval.high)}]"
    )
    console.print(
        f"probability of a true ratio above 0: {_ratio(result.probabilistic_sharpe)}; above the best of "
        f"{result.trials} tries by luck: {_ratio(result.deflated_sharpe)}"
    )
    console.print(f"journal {result.journal_hash}")


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _summary(result: WalkForwardResult) -> dict[str, Any]:
    from dataclasses import asdict

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    summary = {
        name: plain(getattr(result, name))
        for name in ("name", "source", "seed", "pnl", "probabilistic_sharpe", "deflated_sharpe", "trials",
                     "config_hash", "data_hash", "journal_hash")
    }  # fmt: skip
    summary["sharpe"] = {name: plain(value) for name, value in asdict(result.sharpe).items()}
    summary["windows"] = [
        {name: plain(value) for name, value in asdict(window).items()} for window in result.windows
    ]
    return summary

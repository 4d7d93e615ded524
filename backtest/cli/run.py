"""``anytick run``: the main job."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..places import find_market_data
from .parser import add_trials

if TYPE_CHECKING:
    from data.quotes import QuoteRecording

    from ..result import RunResult

SYNTHETIC_YEARS = 5.0

EPILOG = """\
examples:
  anytick run                                five years of the built-in market, or of your ticks when
                                             ANYTICK_MARKET_DATA or var/market-data names them
  anytick run --market-data ticks/           recorded quotes: Parquet or CSV with time, bid, ask
  anytick run --years 0.5 --seed 7           a shorter history, other draws
  anytick run --config run.toml --json       your own windows, parents, policies; JSON on the last line

what it leaves in --out (default var/runs/NAME): report.html, result.json, journals/*.journal
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "run",
        help="the main job: years of ticks, every routing policy, walk-forward, report",
        description="Stream years of ticks over several venues through the engine, execute a stream of "
        "parent orders with LinUCB and its baselines, walk-forward, and write a report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--market-data", type=Path, metavar="PATH", help="a file or folder of recorded quotes"
    )
    source.add_argument(
        "--synthetic", action="store_true", help="the built-in market even if ticks are at hand"
    )
    parser.add_argument(
        "--years",
        type=float,
        metavar="N",
        help="the first N years of the history; default: all, five if built in",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file, see docs/CONFIG.md")
    parser.add_argument("--out", "--output", type=Path, metavar="DIR", help="folder for report and journals")
    parser.add_argument("--no-sensitivity", action="store_true", help="leave out the sensitivity table")
    parser.add_argument("--no-journals", action="store_true", help="hash the journals, keep no files")
    parser.add_argument("--strict", action="store_true", help="a crossed quote is an error, not quarantined")
    add_trials(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the main job; see `add_parser`."""
    from data.errors import ConfigError

    from .. import console
    from ..config import load_config
    from ..run import RunOptions, planned_events, run_to_folder
    from ..trials import TrialRegistry

    if args.years is not None and not 0 < args.years <= 100:
        raise ConfigError(f"--years must be above 0 and at most 100, was {args.years}")
    config = load_config(args.config)
    recording = open_recording(args)
    options = RunOptions(
        seed=args.seed,
        years=args.years if recording.recorded else None,
        sensitivity=not args.no_sensitivity,
    )
    folder = args.out or default_folder(recording, config.digest(), options.seed, args.years)
    registry = TrialRegistry(args.trials)
    total = planned_events(recording, config, options)
    with console.run_progress(total, description="run", quiet=args.quiet) as bar:
        result = run_to_folder(
            recording,
            config,
            options,
            folder=folder,
            registry=registry,
            keep_journals=not args.no_journals,
            progress=bar.update,
        )
    console.print_run_table(result)
    print()
    console.print_strategies(result)
    console.print_performance(result.performance)
    print(f"report  {folder / 'report.html'}")
    if args.json:
        print(json.dumps(summary(result, folder), sort_keys=True))
    return 0


def open_recording(args: argparse.Namespace) -> QuoteRecording:
    """Open what the user named, what is at hand, or the built-in market."""
    from data.quotes import open_quotes
    from data.synthetic import SyntheticQuotes

    path = args.market_data
    if path is None and not args.synthetic:
        path = find_market_data()
    if path is not None:
        return open_quotes(path, strict=args.strict)
    return SyntheticQuotes(seed=args.seed, years=args.years or SYNTHETIC_YEARS)


def default_folder(recording: QuoteRecording, config_hash: str, seed: int, years: float | None) -> Path:
    """Return the run's own folder: same input and configuration, same folder."""
    span = "all" if years is None else f"{years:g}y"
    name = (
        f"{recording.instrument.symbol.lower()}-{span}-seed{seed}-{config_hash[:8]}-{recording.data_hash[:8]}"
    )
    return Path("var/runs") / name


def summary(result: RunResult, folder: Path) -> dict[str, Any]:
    """Return the machine-readable answer: journal hash, counts, memory and the result table."""
    return {
        "config_hash": result.config_hash,
        "data_hash": result.data_hash,
        "events": result.events,
        "headline": result.headline,
        "journal_hash": result.journal_hash,
        "peak_memory_bytes": result.performance.peak_memory_bytes,
        "policies": len(result.policies),
        "report": str(folder / "report.html"),
        "rows": result.rows,
        "seconds": result.performance.seconds,
        "seed": result.seed,
        "table": [
            {
                "policy": policy.name,
                "cost_bps": _finite(policy.cost_bps.mean),
                "cost_bps_low": _finite(policy.cost_bps.low),
                "cost_bps_high": _finite(policy.cost_bps.high),
                "difference_bps": None
                if policy.difference_bps is None
                else _finite(policy.difference_bps.mean),
                "fee_bps": _finite(policy.fee_bps),
                "decisions": policy.decisions,
                "parents": policy.parents,
                "journal_hash": policy.journal_hash,
            }
            for policy in result.policies
        ],
        "trials": result.trials,
        "venues": list(result.venues),
    }


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None

"""`anytick models build`: train, quantize and judge a ladder of order-book forecasters."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from ..places import MODEL_LADDER
from .parser import CommandParser, explain, whole


def add_action(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add `build`."""
    parser = actions.add_parser(
        "build",
        help="train a ladder of order-book models (needs the extra [train])",
        description="Train a ladder of order-book forecasters on the generated market, and on "
        "recordings if any are "
        "named; quantize each, judge both on days never trained on, and write models, manifest and "
        "card. A stopped "
        "build goes on where it was.",
    )
    parser.add_argument(
        "--out",
        "--output",
        type=Path,
        metavar="DIR",
        default=MODEL_LADDER,
        help="folder, default: %(default)s",
    )
    parser.add_argument(
        "--market-data",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="recordings of order books to train on and judge by; not to be passed on unless their "
        "licence allows",
    )
    parser.add_argument("--families", nargs="+", default=[], metavar="NAME", help="only these; default: all")
    parser.add_argument("--horizon", type=int, choices=(10, 50, 100), default=50, help="default: %(default)s")
    parser.add_argument(
        "--days",
        type=whole(1, 10_000),
        default=20,
        metavar="N",
        help="generated days for training, default: %(default)s",
    )
    parser.add_argument(
        "--arrivals",
        type=whole(2_000, 10_000_000),
        default=60_000,
        metavar="N",
        help="packets a day, default: %(default)s",
    )
    parser.add_argument(
        "--epochs", type=whole(1, 1_000), metavar="N", help="passes over the data; default: each family's own"
    )
    parser.set_defaults(action=_build)
    explain(parser, "anytick models build --out var/models/ladder")


def _build(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from ..ladder_build import BuildConfig, build_ladder

    config = BuildConfig(
        seed=args.seed,
        days=(args.days, 2, 8),
        arrivals=args.arrivals,
        horizon=args.horizon,
        epochs=args.epochs,
        families=tuple(args.families),
    )
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}", markup=False),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def show(task: str, done: float, state: str) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=1.0, state="")
                if not console.is_terminal:
                    print(f"anytick models build: {task}", file=sys.stderr, flush=True)
            bars.update(tasks[task], completed=done, state=state)

        card = build_ladder(
            args.out, config, recordings=args.market_data, command=_command(args), progress=show
        )
    if args.json:
        print(json.dumps({"output": str(args.out), "card": asdict(card)}, sort_keys=True))
    else:
        print((args.out / "CARD.md").read_text(encoding="utf-8"), end="")
    return 0


def _command(args: argparse.Namespace) -> str:
    """Return what repeats this build."""
    words = [
        "anytick models build",
        f"--seed {args.seed}",
        f"--days {args.days}",
        f"--arrivals {args.arrivals}",
    ]
    words.append(f"--horizon {args.horizon}")
    if args.epochs is not None:
        words.append(f"--epochs {args.epochs}")
    if args.families:
        words.append(f"--families {' '.join(args.families)}")
    if args.market_data:
        words.append(f"--market-data {' '.join(path.name for path in args.market_data)}")
    return " ".join(words)

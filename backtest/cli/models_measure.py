"""`anytick models profile`: what models cost on this machine, and what backtests charge for them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import ConfigError

from .models_files import MODEL_HELP, print_found, print_table, write_file
from .parser import CommandParser, explain, whole

if TYPE_CHECKING:
    from engine.inference.machine_profile import MachineProfile


def add_action(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add `profile`."""
    parser = actions.add_parser(
        "profile",
        help="measure models on this machine: batches, workers, idle and under load",
        description="Measure models on this machine (the ladder of the package when none is named) at "
        "batch 1 to "
        "64, with one worker and one a core, idle and with a hog on every core. Kept in the user's "
        "cache folder "
        "and measured again when CPU, Python, NumPy or ONNX Runtime change. With --out, measure "
        "single calls "
        "instead and write the profile that backtests charge.",
    )
    parser.add_argument(
        "model", type=Path, nargs="*", help=f"{MODEL_HELP}; with --out, one each of fp32 and int8"
    )
    parser.add_argument(
        "--repetitions",
        type=whole(1, 100_000_000),
        help="timed calls; default: 20,000 with --out, otherwise at most 2,000 a cell",
    )
    parser.add_argument(
        "--out",
        "--output",
        type=Path,
        metavar="FILE",
        help="store as a TOML profile that backtests can charge",
    )
    parser.add_argument("--refresh", action="store_true", help="measure again even where a profile is kept")
    parser.set_defaults(action=_profile)
    explain(parser, "anytick models profile model.onnx model.int8.onnx --out profile.toml")


def _profile(args: argparse.Namespace) -> int:
    return _store_backtest_profile(args) if args.out is not None else _profile_machine(args)


def _store_backtest_profile(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from engine.inference.model_file import read_model
    from engine.inference.profile import format_profile, measure_latency, profile_of
    from engine.inference.tiers import open_session

    if not args.model:
        raise ConfigError("--out must come with the models to measure, was none")
    latency, digests = {}, {}
    for path in args.model:
        session = open_session(read_model(path), source=path, batch_max=1)
        if session.precision in latency:
            raise ConfigError(f"models must differ in precision, was {session.precision} twice")
        repetitions = args.repetitions or 20_000
        latency[session.precision] = measure_latency(session, repetitions=repetitions, seed=args.seed)
        digests[session.precision] = session.sha256
    label = ", ".join(path.name for path in args.model)
    profile = profile_of(latency, model=label)
    write_file(args.out, format_profile(profile).encode())
    found: dict[str, Any] = asdict(profile) | {"sha256": digests, "output": str(args.out)}
    print_found(found, as_json=args.json)
    return 0


def _profile_machine(args: argparse.Namespace) -> int:
    from engine.inference.ladder import load_ladder
    from engine.inference.machine_profile import ProfilePlan, cache_folder, machine_profile
    from engine.inference.model_file import read_model

    models = [(path.name, read_model(path)) for path in args.model]
    models = models or [(variant.name, variant.read()) for variant in load_ladder()]
    plan = ProfilePlan() if args.repetitions is None else ProfilePlan(calls=args.repetitions)
    found: list[tuple[str, MachineProfile]] = []
    for name, model in models:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{name}", end="", file=sys.stderr, flush=True)
        profile = machine_profile(model, plan=plan, source=name, refresh=args.refresh, say=_say)
        found.append((name, profile))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    _print_profiles(found, cache_folder(), as_json=args.json)
    return 0


def _say(text: str) -> None:
    print(f"anytick: {text}", file=sys.stderr)


def _print_profiles(found: list[tuple[str, MachineProfile]], folder: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(
            json.dumps({"cache": str(folder), "models": {name: asdict(profile) for name, profile in found}})
        )
        return
    columns = ["model", "load", "workers", "batch", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "p50 / item µs"]
    rows = [
        [
            name,
            cell.load,
            str(cell.workers),
            str(cell.batch),
            *(f"{v / 1e3:,.1f}" for v in (cell.p50_ns, cell.p99_ns, cell.p999_ns, cell.max_ns)),
            f"{cell.p50_ns / 1e3 / cell.batch:,.1f}",
        ]
        for name, profile in found
        for cell in profile.cells
    ]
    print_table(columns, rows, words=2)
    conditions = asdict(found[0][1].conditions)
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    print(f"kept in {folder}")

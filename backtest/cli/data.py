"""``anytick data``: bring recordings in, make them up, look at them, prove them, take them out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from data.events import EventSource

FORMATS = ("auto", "quotes", "trades", "lobster", "events")
VERIFIABLE = ("lobster", "store")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("data", help="import, generate, inspect, verify and export recordings")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("import", help="write recordings into a tick store")
    verb.add_argument("format", choices=FORMATS, help="auto tells by name and columns")
    verb.add_argument("source", nargs="+", type=Path, help="files or folders")
    verb.add_argument("--store", required=True, type=Path, metavar="DIR", help="made if it is not there")
    verb.add_argument("--venue", default="VENUE", help="default: %(default)s")
    verb.add_argument("--symbol", help="instead of what the recording tells")
    verb.add_argument("--overwrite", action="store_true", help="replace days that are there already")
    verb.add_argument(
        "--strict", action="store_true", help="refuse crossed quotes instead of leaving them out"
    )
    _finish(verb, run_import)

    verb = verbs.add_parser("generate", help="write the built-in synthetic market as Parquet quotes")
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="one file a year goes here")
    verb.add_argument("--years", type=float, default=5.0, help="of 260 days; default: %(default)s")
    verb.add_argument("--rows-per-day", type=int, default=34_500, help="default: %(default)s")
    _finish(verb, run_generate)

    verb = verbs.add_parser("info", help="say what a file, folder or store holds")
    verb.add_argument("path", type=Path)
    _finish(verb, run_info)

    verb = verbs.add_parser(
        "verify", help="compare a recording with the truth it carries; the last line is matched/total"
    )
    verb.add_argument("format", choices=VERIFIABLE)
    verb.add_argument("files", nargs="+", type=Path)
    _finish(verb, run_verify)

    verb = verbs.add_parser("export", help="write a store's events as Parquet or CSV")
    verb.add_argument("store", type=Path)
    verb.add_argument("out", type=Path, help="a name ending in .parquet or .csv")
    verb.add_argument("--instrument", help="may be left out where the store holds one")
    verb.add_argument("--overwrite", action="store_true")
    _finish(verb, run_export)


def _finish(parser: argparse.ArgumentParser, run: Any) -> None:
    parser.add_argument("--json", action="store_true", help="last line of standard output: one JSON object")
    parser.add_argument("--seed", type=int, default=1, help="of whatever is generated; default: %(default)s")
    parser.set_defaults(run=run)


def run_import(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from data.events import open_events
    from data.store import TickStore

    store = TickStore(args.store)
    written: list[dict[str, Any]] = []
    for path in args.source:
        source = open_events(path, format=None if args.format == "auto" else args.format, strict=args.strict)
        instrument = replace(source.instrument, symbol=args.symbol) if args.symbol else source.instrument
        with _progress(f"importing {path.name}") as watch:
            partitions = store.write(
                watch(source.blocks()), instrument=instrument, venue=args.venue, overwrite=args.overwrite
            )
        for partition in partitions:
            print(f"{partition.path(store.root)}: {partition.rows:,} events", file=_text_stream(args))
            written.append({"day": partition.day, "instrument": partition.instrument, "rows": partition.rows})
        for note in source.notes:
            print(f"note: {note}", file=_text_stream(args))
    rows = sum(entry["rows"] for entry in written)
    _conclude(
        args,
        f"{rows:,} events in {len(written)} partitions of {store.root}",
        {"store": str(store.root), "events": rows, "partitions": written},
    )
    return 0


def run_generate(args: argparse.Namespace) -> int:
    from data.quote_writer import write_quotes
    from data.synthetic import SyntheticQuotes

    quotes = SyntheticQuotes(seed=args.seed, years=args.years, rows_per_day=args.rows_per_day)
    with _progress("generating", total=quotes.rows()) as watch:
        paths = write_quotes(quotes, args.out, watch=watch)
    _conclude(
        args,
        f"{quotes.rows():,} quotes in {len(paths)} files of {args.out}",
        {"rows": quotes.rows(), "files": [str(path) for path in paths], "data_hash": quotes.data_hash},
    )
    return 0


def run_info(args: argparse.Namespace) -> int:
    import numpy as np

    from data.events import open_events, sniff_format

    name = sniff_format(args.path)
    facts: dict[str, Any] = {"format": name}
    if name == "store":
        from data.store import TickStore

        partitions = TickStore(args.path).partitions()
        facts |= {
            "instruments": sorted({partition.instrument for partition in partitions}),
            "venues": sorted({partition.venue for partition in partitions}),
            "partitions": len(partitions),
            "rows": sum(partition.rows for partition in partitions),
            "bytes": sum(partition.bytes for partition in partitions),
            "days": sorted({partition.day for partition in partitions}),
        }
    else:
        source = open_events(args.path, format=name)
        count, first_ns, last_ns = 0, None, 0
        kinds = np.zeros(256, np.int64)
        with _progress("reading") as watch:
            for block in watch(source.blocks()):
                first_ns = int(block["ts_ns"][0]) if first_ns is None else first_ns
                count, last_ns = count + len(block), int(block["ts_ns"][-1])
                kinds += np.bincount(block["kind"], minlength=256)
        facts |= _facts_of(source) | {
            "events": count,
            "first": str(np.datetime64(first_ns or 0, "ns")),
            "last": str(np.datetime64(last_ns, "ns")),
            "kinds": {_kind_name(kind): int(kinds[kind]) for kind in np.flatnonzero(kinds).tolist()},
            "notes": list(source.notes),
        }
    for key, value in facts.items():
        print(f"{key:16} {value}", file=_text_stream(args))
    if args.json:
        print(json.dumps(facts))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    matched, total = 0, 0
    problems: list[str] = []
    for path in args.files:
        if args.format == "lobster":
            from data.lobster_verify import verify_lobster

            check = verify_lobster(path)
            found = (check.matched, check.total, [check.first_mismatch] if check.first_mismatch else [])
        else:
            from data.store import TickStore

            store = TickStore(path)
            damage, count = store.verify(), len(store.partitions())
            found = (count - len(damage), count, list(damage))
        print(f"{path}: {found[0]}/{found[1]}", file=_text_stream(args))
        for problem in found[2]:
            print(f"  {problem}", file=_text_stream(args))
        matched, total, problems = matched + found[0], total + found[1], problems + found[2]
    _conclude(args, f"{matched}/{total}", {"matched": matched, "total": total, "problems": problems})
    return 0 if matched == total and total > 0 else 1


def run_export(args: argparse.Namespace) -> int:
    from data.errors import ConfigError
    from data.store import TickStore

    if args.out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"out must end in .parquet or .csv, was {args.out.name}")
    if args.out.exists() and not args.overwrite:
        raise ConfigError(f"{args.out} is there already; say --overwrite to replace it")
    store = TickStore(args.store)
    frame = store.scan(instrument=store.instrument(args.instrument).symbol)
    temporary = args.out.with_name(f".{args.out.name}.tmp")
    try:
        if args.out.suffix == ".csv":
            frame.sink_csv(temporary)
        else:
            frame.sink_parquet(temporary)
        temporary.replace(args.out)
    finally:
        temporary.unlink(missing_ok=True)
    _conclude(args, f"{args.out}: {args.out.stat().st_size:,} bytes", {"out": str(args.out)})
    return 0


def _facts_of(source: EventSource) -> dict[str, Any]:
    instrument = source.instrument
    return {
        "source": source.source,
        "instrument": instrument.symbol,
        "price_increment": instrument.price_increment,
        "lot_size": instrument.lot_size,
        "data_hash": source.data_hash,
    }


def _kind_name(kind: int) -> str:
    from data.schema import EventKind

    return EventKind(kind).name


def _text_stream(args: argparse.Namespace) -> Any:
    """Return where people read: with --json standard output is for the machine."""
    return sys.stderr if args.json else sys.stdout


def _conclude(args: argparse.Namespace, line: str, facts: dict[str, Any]) -> None:
    print(json.dumps(facts) if args.json else line)


@contextmanager
def _progress(title: str, total: int | None = None) -> Iterator[Any]:
    """Show rows and rows per second on standard error; yields a function that wraps an iterator of blocks."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} rows"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)

        def watch(blocks: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
            for block in blocks:
                yield block
                progress.advance(task, len(block) if not isinstance(block, tuple) else len(block[0]))

        yield watch

"""``anytick data``: bring recordings in, make them up, look at them, prove them, take them out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .data_import import (
    add_import,
    add_source,
    conclude,
    progress,
    run_import,
    run_quality,
    run_sniff,
    text_stream,
)
from .parser import CommandParser

if TYPE_CHECKING:
    from data.events import EventSource
    from data.store import TickStore


STORE_HELP: Final = "the folder of a tick store"


def verifiable() -> tuple[str, ...]:
    """Return the formats that carry a truth to compare with."""
    from data.importers import MODULES

    return ("store", "lobster", *(name for name in MODULES if name != "lobster"))


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("data", help="import, generate, inspect, verify and export recordings")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = _add_verb(verbs, "import", "write recordings into a tick store")
    add_import(verb)
    verb.set_defaults(run=run_import)

    verb = _add_verb(verbs, "quality", "say how good a recording is; with --gate exit 1 if it is not")
    add_source(verb)
    verb.set_defaults(run=run_quality)

    verb = _add_verb(verbs, "sniff", "propose a mapping for a CSV, Parquet, Arrow or JSON-lines file")
    verb.add_argument("path", type=Path, metavar="FILE")
    verb.add_argument("--symbol", metavar="NAME", help="which of several, or the name to give it")
    verb.add_argument("--out", "--output", type=Path, metavar="FILE", help="also write it there")
    verb.set_defaults(run=run_sniff)

    verb = _add_verb(verbs, "generate", "write the built-in synthetic market as Parquet quotes")
    verb.add_argument(
        "--out", "--output", required=True, type=Path, metavar="DIR", help="one file a year goes here"
    )
    verb.add_argument(
        "--years", metavar="N", type=float, default=5.0, help="of 260 days; default: %(default)s"
    )
    verb.add_argument(
        "--rows-per-day", metavar="N", type=int, default=34_500, help="quotes a day; default: %(default)s"
    )
    verb.set_defaults(run=run_generate)

    verb = _add_verb(verbs, "info", "say what a file, folder or store holds")
    verb.add_argument("path", type=Path, help="a file, a folder of them, or a tick store")
    verb.set_defaults(run=run_info)

    verb = _add_verb(
        verbs, "verify", "compare a recording with the truth it carries; the last line is matched/total"
    )
    verb.add_argument("format", choices=verifiable(), metavar="FORMAT", help=", ".join(verifiable()))
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files, or stores with `store`")
    verb.set_defaults(run=run_verify)

    _add_store_verbs(verbs)


def _add_store_verbs(verbs: Any) -> None:
    verb = _add_verb(verbs, "compact", "join the parts of days that were appended to")
    verb.add_argument("store", type=Path, help=STORE_HELP)
    verb.set_defaults(run=run_compact)

    verb = _add_verb(verbs, "clean", "list what killed imports left in a store, and take it away by age")
    verb.add_argument("store", type=Path, help=STORE_HELP)
    verb.add_argument(
        "--older-than",
        type=float,
        metavar="DAYS",
        help="remove what was last written longer ago; without, only list: each goes on if it is repeated",
    )
    verb.set_defaults(run=run_clean)

    verb = _add_verb(verbs, "delete", "remove an instrument's events from a store, all or between times")
    verb.add_argument("store", type=Path, help=STORE_HELP)
    verb.add_argument("--instrument", required=True, metavar="NAME", help="whose events")
    verb.add_argument("--venue", action="append", metavar="NAME", help="only there; may be given again")
    verb.add_argument("--from", dest="start", metavar="TIME", help="ISO 8601, UTC; included")
    verb.add_argument("--until", dest="stop", metavar="TIME", help="ISO 8601, UTC; excluded")
    verb.set_defaults(run=run_delete)

    verb = _add_verb(verbs, "cache", "write, or drop, the packed cache that streams faster")
    verb.add_argument("store", type=Path, help=STORE_HELP)
    verb.add_argument("--drop", action="store_true", help="remove the cache instead")
    verb.set_defaults(run=run_cache)

    verb = _add_verb(verbs, "export", "write a store's events as Parquet or CSV")
    verb.add_argument("store", type=Path, help=STORE_HELP)
    verb.add_argument("out", type=Path, help="a name ending in .parquet or .csv")
    verb.add_argument("--instrument", metavar="NAME", help="may be left out where the store holds one")
    verb.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    verb.set_defaults(run=run_export)


def _add_verb(verbs: Any, name: str, said: str) -> CommandParser:
    """Return a verb's parser; its own help begins with what the list of verbs says."""
    parser: CommandParser = verbs.add_parser(name, help=said, description=f"{said[0].upper()}{said[1:]}.")
    return parser


def run_generate(args: argparse.Namespace) -> int:
    from data.quote_writer import write_quotes
    from data.synthetic import SyntheticQuotes

    quotes = SyntheticQuotes(seed=args.seed, years=args.years, rows_per_day=args.rows_per_day)
    with progress("generating", total=quotes.rows()) as watch:
        paths = write_quotes(quotes, args.out, watch=watch)
    conclude(
        args,
        f"{quotes.rows():,} quotes in {len(paths)} file{'s' * (len(paths) != 1)} of {args.out}",
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
        with progress("reading") as watch:
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
        print(f"{key:16} {value}", file=text_stream(args))
    if args.json:
        print(json.dumps(facts))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    found = verify_format(args.format, args.files)
    for name, matched, total in found.by_file:
        print(f"{name}: {matched}/{total}", file=text_stream(args))
    for line in (*found.notes, *found.problems):
        print(f"  {line}", file=text_stream(args))
    matched = sum(entry[1] for entry in found.by_file)
    total = sum(entry[2] for entry in found.by_file)
    conclude(
        args, f"{matched}/{total}", {"matched": matched, "total": total, "problems": list(found.problems)}
    )
    return 0 if matched == total and total > 0 else 1


class Found(NamedTuple):
    """What a verification says: (name, matched, total) by file, and in words."""

    by_file: list[tuple[str, int, int]]
    notes: list[str]
    problems: list[str]


def verify_format(name: str, paths: list[Path]) -> Found:
    """Compare recordings with the truth they carry; an importer takes all its files as one."""
    from data.importers import MODULES, importer

    found = Found([], [], [])
    if name in MODULES:
        with _damage_is_a_mismatch(found, paths):
            check = importer(name).verify(paths)
            found.by_file.append((f"{check.what} of {paths[0].resolve().name}", check.matched, check.total))
            found.notes.extend(check.notes)
            found.problems.extend([check.first_mismatch] if check.first_mismatch else [])
        return found
    for path in paths:
        with _damage_is_a_mismatch(found, [path]):
            if name == "store":
                from data.store import TickStore

                report = TickStore(path).check()
                found.by_file.append((str(path), report.matched, report.total))
                found.problems.extend(report.damage)
            else:
                from data.lobster_verify import verify_lobster

                rows = verify_lobster(path)
                found.by_file.append((str(path), rows.matched, rows.total))
                found.problems.extend([rows.first_mismatch] if rows.first_mismatch else [])
    return found


@contextmanager
def _damage_is_a_mismatch(found: Found, paths: list[Path]) -> Iterator[None]:
    """Count a recording that is there and cannot be read to its end as one comparison that failed."""
    from data.errors import DataError

    try:
        yield
    except DataError as error:
        if not all(path.exists() for path in paths):
            raise
        found.by_file.append((str(paths[0]), 0, 1))
        found.problems.append(str(error))


def run_compact(args: argparse.Namespace) -> int:
    joined = _store_at(args.store).compact()
    conclude(args, f"{joined} files fewer in {args.store}", {"files_fewer": joined})
    return 0


def run_clean(args: argparse.Namespace) -> int:
    from time import time_ns

    from data.errors import ConfigError
    from data.store_clean import clean, leftovers

    root, now_ns = _store_at(args.store).root, time_ns()
    if args.older_than is not None and not args.older_than >= 0:
        raise ConfigError(f"--older-than must be 0 or more days, was {args.older_than}")
    found = leftovers(root)
    gone = (
        () if args.older_than is None else clean(root, older_than_s=args.older_than * 86_400, now_ns=now_ns)
    )
    for entry in found:
        what = "removed" if entry in gone else "kept"
        days = entry.age_s(now_ns) / 86_400
        print(f"{entry.path}: {entry.bytes:,} bytes, {days:.1f} days old, {what}", file=text_stream(args))
    freed = sum(entry.bytes for entry in gone)
    facts = {"found": len(found), "removed": [str(entry.path) for entry in gone], "freed_bytes": freed}
    conclude(args, f"{len(gone)} of {len(found)} killed imports removed, {freed:,} bytes freed", facts)
    return 0


def run_delete(args: argparse.Namespace) -> int:
    from data.errors import ConfigError

    store = _store_at(args.store)
    known = sorted(store.manifest().instruments)
    if args.instrument not in known:
        raise ConfigError(f"--instrument must be one of {', '.join(known) or 'none'}, was {args.instrument}")
    deleted = store.delete(
        instrument=args.instrument,
        venues=args.venue,
        start_ns=_time_ns(args.start),
        stop_ns=_time_ns(args.stop),
    )
    conclude(args, f"{deleted:,} events deleted from {args.store}", {"deleted": deleted})
    return 0


def run_cache(args: argparse.Namespace) -> int:
    store = _store_at(args.store)
    if args.drop:
        freed = store.drop_cache()
        conclude(args, f"{freed:,} bytes freed", {"freed_bytes": freed})
        return 0
    written = store.build_cache()
    conclude(args, f"{written} caches written", {"written": written})
    return 0


def _store_at(path: Path) -> TickStore:
    from data.store import TickStore
    from data.store_commit import require_store

    require_store(path)
    return TickStore(path)


def _time_ns(text: str | None) -> int | None:
    from datetime import UTC, datetime

    from data.errors import ConfigError

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"times must be ISO 8601, was {text!r}") from None
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


def run_export(args: argparse.Namespace) -> int:
    from data.errors import ConfigError

    if args.out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"out must end in .parquet or .csv, was {args.out.name}")
    if args.out.exists() and not args.overwrite:
        raise ConfigError(f"{args.out} is there already; say --overwrite to replace it")
    store = _store_at(args.store)
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
    conclude(args, f"{args.out}: {args.out.stat().st_size:,} bytes", {"out": str(args.out)})
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

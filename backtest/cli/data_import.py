"""``anytick data import``, ``quality`` and ``sniff``: from anybody's files to a store, with a report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data_sources import (
    add_recording,
    nothing_left_behind,
    on_a_fitting_grid,
    on_the_stores_grid,
    openers,
    proposed_mapping,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from data.events import EventSource
    from data.import_job import ImportResult
    from data.quality import QualityReport
    from data.quality_gate import Gate


def add_import(verb: argparse.ArgumentParser) -> None:
    add_source(verb)
    verb.add_argument("--store", required=True, type=Path, metavar="DIR", help="made if it is not there")
    verb.add_argument("--venue", default="VENUE", metavar="NAME", help="default: %(default)s")
    present = verb.add_mutually_exclusive_group()
    present.add_argument("--overwrite", action="store_true", help="replace days that are there already")
    present.add_argument("--append", action="store_true", help="add to days that are there already")
    verb.add_argument(
        "--out-of-order",
        choices=("refuse", "quarantine", "carry"),
        default="refuse",
        help="what to do with events whose time runs backwards; default: %(default)s",
    )
    verb.add_argument(
        "--receive-offset-ns",
        type=int,
        metavar="NS",
        help="added to every receipt, which is then kept from running backwards or before its event",
    )
    verb.add_argument("--cache", action="store_true", help="also write the packed cache")


def add_source(verb: argparse.ArgumentParser) -> None:
    """Add what import and quality share."""
    add_recording(verb)
    verb.add_argument("--strict", action="store_true", help="make every rejected row an error")
    verb.add_argument("--gate", type=Path, metavar="FILE", help="limits in TOML: exit 1 if one is broken")
    verb.add_argument("--quality", type=Path, metavar="FILE", help="write the report as .html or .json")


def run_import(args: argparse.Namespace) -> int:
    from data.import_job import ImportOptions, import_events
    from data.store import TickStore

    store, gate = TickStore(args.store), load_gate_of(args)
    options = ImportOptions(
        venue=args.venue, overwrite=args.overwrite, append=args.append, out_of_order=args.out_of_order,
        receive_offset_ns=args.receive_offset_ns, strict=args.strict, gate=gate,
    )  # fmt: skip
    written: list[dict[str, Any]] = []
    reports: list[QualityReport] = []
    done_before = 0

    def bring_in(paths: list[Path], read_as: str, source: EventSource) -> ImportResult:
        known = replace(options, read_as=read_as)
        with progress(f"importing {paths[0].resolve().name}") as watch:
            return import_events(store, source, paths=paths, options=known, watch=watch)

    for paths, open_source, read_as in openers(args):
        with nothing_left_behind(store.root):
            opened = on_the_stores_grid(args, store, open_source)
            source, result = on_a_fitting_grid(opened, partial(bring_in, paths, read_as))
        done_before += result.done_before
        say_result(args, store.root, source, result)
        written += [
            {"day": part.day, "instrument": part.instrument, "rows": part.rows} for part in result.partitions
        ]
        if result.report is not None:
            reports.append(result.report)
    if args.cache:
        store.build_cache()
    write_reports(args, reports, gate)
    rows = sum(entry["rows"] for entry in written)
    conclude(
        args,
        f"{rows:,} events in {len(written)} partitions of {store.root}",
        {
            "store": str(store.root), "events": rows, "partitions": written, "done_before": done_before,
            "quality": [report.as_dict() for report in reports],
        },
    )  # fmt: skip
    if rows or done_before:
        return 0
    print("nothing was imported: every row was rejected, or there was none", file=sys.stderr)
    return 1


def looked_at(gate: Gate | None, paths: list[Path], source: EventSource) -> QualityReport:
    """Read a source to its end and return what was found."""
    from data.quality_gate import Gate
    from data.quarantine import Quarantine, Quarantining

    gate = gate or Gate()
    check, quarantine = (
        gate.check(source.instrument),
        Quarantine(damaged_share_max=gate.settings.damaged_share),
    )
    if isinstance(source, Quarantining):
        source.quarantine = quarantine
    with progress(f"reading {paths[0].resolve().name}") as watch:
        for block in watch(source.blocks()):
            check.update(block)
    return check.report(
        source=source.source, quarantined=quarantine.counts, sequence_gaps=quarantine.sequence_gaps,
        notes=source.notes,
    )  # fmt: skip


def run_quality(args: argparse.Namespace) -> int:
    """Look at a recording and write nothing but the report."""
    from data.quality_page import quality_lines

    gate = load_gate_of(args)
    reports: list[QualityReport] = []
    violations: list[str] = []
    for paths, open_source, _ in openers(args):
        _, report = on_a_fitting_grid(open_source, partial(looked_at, gate, paths))
        for line in quality_lines(report):
            print(line, file=text_stream(args))
        reports.append(report)
        violations += gate.violations(report) if gate else ()
    write_reports(args, reports, gate)
    facts = {"quality": [report.as_dict() for report in reports], "violations": violations}
    conclude(args, "; ".join(violations) or "no limit is broken", facts)
    return 1 if violations else 0


def run_sniff(args: argparse.Namespace) -> int:
    from data.errors import ConfigError
    from data.lobster_files import NAME_LIKE, part_told_by

    part = part_told_by(args.path)
    if part is not None:
        if args.out is not None:
            raise ConfigError("--out writes a mapping; LOBSTER needs none")
        if args.json:
            print(json.dumps({"format": "lobster", "part": part}))
        else:
            print(f"# LOBSTER's {part} file, no mapping needed: anytick data import lobster FILE --store DIR")
            print(f"# The pair must be called like {NAME_LIKE}")
        return 0
    mapping = proposed_mapping(args.path, symbol=args.symbol)
    if args.out is not None:
        if args.out.exists():
            raise ConfigError(f"{args.out} is there already")
        args.out.write_text(mapping.to_toml(), encoding="utf-8")
    if args.json:
        print(json.dumps({"mapping": mapping.to_toml()}))
    else:
        print(mapping.to_toml(), end="")
    return 0


def say_result(args: argparse.Namespace, root: Path, source: EventSource, result: ImportResult) -> None:
    from data.quality_page import quality_lines

    def say(line: str) -> None:
        print(line, file=text_stream(args))

    if result.done_before:
        gone = f", of which {', '.join(result.deleted_days)} was deleted since" if result.deleted_days else ""
        say(f"{source.source}: imported before{gone}, nothing to do; --overwrite imports it again")
        return
    if result.resumed_events:
        say(f"resumed: {result.resumed_events:,} events were staged by an earlier attempt")
    for part in result.partitions:
        say(f"{part.path(root)}: {part.rows:,} events")
    for note in source.notes:
        say(f"note: {note}")
    if result.report is not None:
        for line in quality_lines(result.report):
            say(line)
    if result.quarantine is not None:
        say(f"rejected rows: {result.quarantine}")


def write_reports(args: argparse.Namespace, reports: list[QualityReport], gate: Gate | None) -> None:
    """Write the quality report where the user wants it, as the name's ending says."""
    from data.errors import ConfigError
    from data.quality_page import quality_page

    if args.quality is None:
        return
    if args.quality.suffix == ".json":
        text = json.dumps([report.as_dict() for report in reports], indent=1)
    elif args.quality.suffix in (".html", ".htm"):
        text = "".join(quality_page(report, gate) for report in reports)
    else:
        raise ConfigError(f"--quality must end in .html or .json, was {args.quality.name}")
    args.quality.write_text(text, encoding="utf-8")


def load_gate_of(args: argparse.Namespace) -> Gate | None:
    from data.quality_gate import load_gate

    return None if args.gate is None else load_gate(args.gate)


def text_stream(args: argparse.Namespace) -> Any:
    """Return where people read: with --json standard output is for the machine."""
    return sys.stderr if args.json else sys.stdout


def conclude(args: argparse.Namespace, line: str, facts: dict[str, Any]) -> None:
    print(json.dumps(facts) if args.json else line)


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Any]:
    """Show rows and rows per second on standard error; yields a function that wraps an iterator of blocks."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} rows"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)

        def watch(blocks: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
            for block in blocks:
                yield block
                bar.advance(task, len(block) if not isinstance(block, tuple) else len(block[0]))

        yield watch

"""Which recordings a command reads: by format, mapping, symbol and grid."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from data.events import EventSource
    from data.importers.json_mapping import JsonMapping
    from data.instrument import Instrument
    from data.mapping import Mapping
    from data.store import TickStore

Opener = Callable[["Instrument | None"], "EventSource"]
"""Opens a recording, on the instrument given or the one it tells."""

OWN_FORMATS: Final = ("auto", "quotes", "trades", "lobster", "events", "table")

Result = TypeVar("Result")


def formats() -> tuple[str, ...]:
    """Return every format that can be read: the built-in ones and the importers'."""
    from data.importers import MODULES

    return (*OWN_FORMATS, *(name for name in MODULES if name not in OWN_FORMATS))


def add_recording(verb: argparse.ArgumentParser) -> None:
    """Add what says which recording to read and how."""
    verb.add_argument(
        "format",
        choices=formats(),
        metavar="FORMAT",
        help=f"auto tells by name and columns; or one of {', '.join(formats()[1:])}",
    )
    verb.add_argument("source", nargs="+", type=Path, metavar="SOURCE", help="files or folders")
    verb.add_argument(
        "--symbol", metavar="NAME", help="which instrument, or its name instead of what the recording tells"
    )
    verb.add_argument("--price-increment", type=float, metavar="X", help="one tick, instead of what is told")
    verb.add_argument("--lot-size", type=float, metavar="X", help="one lot, instead of what is told")
    verb.add_argument(
        "--mapping", type=Path, metavar="FILE", help="of columns, for any CSV, Parquet, Arrow or JSON lines"
    )


def openers(args: argparse.Namespace) -> Iterator[tuple[list[Path], Opener, str]]:
    """Yield each source's files, what opens them, and how they are read: format and mapping.

    Importers take all files as one. Of our own formats the source's class tells which was found.
    """
    from data.importers import MODULES, importer

    if args.format == "jsonl":
        importer(args.format)
    if args.mapping is not None or args.format in ("table", "jsonl"):
        mapping = _mapping_of(args)
        yield args.source, _with_grid(args, partial(_mapped, args, mapping)), args.format + mapping.to_toml()
    elif args.format in MODULES:
        yield args.source, _with_grid(args, partial(_imported, args)), args.format
    else:
        for path in args.source:
            yield [path], _with_grid(args, partial(_opened, args, path)), ""


def _imported(args: argparse.Namespace, instrument: Instrument | None) -> EventSource:
    from data.importers import importer

    return importer(args.format).open_source(
        args.source, symbol=args.symbol, instrument=instrument, strict=args.strict
    )


def _opened(args: argparse.Namespace, path: Path, instrument: Instrument | None) -> EventSource:
    from data.events import open_events

    name = None if args.format == "auto" else args.format
    source = open_events(path, format=name, strict=args.strict, instrument=instrument)
    if not args.symbol or source.instrument.symbol == args.symbol:
        return source
    renamed = replace(source.instrument, symbol=args.symbol)
    return open_events(path, format=name, strict=args.strict, instrument=renamed)


def _mapping_of(args: argparse.Namespace) -> Mapping | JsonMapping:
    from data.importers.json_mapping import load_json_mapping
    from data.mapping import load_mapping

    if args.mapping is None:
        mapping = proposed_mapping(args.source[0], symbol=args.symbol)
        print("proposed mapping:", file=sys.stderr)
        print(mapping.to_toml(), file=sys.stderr)
        return mapping
    is_json = args.format == "jsonl" or holds_json(args.source[0])
    return load_json_mapping(args.mapping) if is_json else load_mapping(args.mapping)


def _mapped(
    args: argparse.Namespace, mapping: Mapping | JsonMapping, instrument: Instrument | None
) -> EventSource:
    from data.mapped_source import MappedSource
    from data.mapping import Mapping

    if isinstance(mapping, Mapping):
        named = replace(mapping, symbol=args.symbol) if args.symbol else mapping
        return MappedSource(args.source, named, instrument=instrument, strict=args.strict)
    from data.importers.json_streams import open_source

    return open_source(
        args.source, symbol=args.symbol, instrument=instrument, strict=args.strict, mapping=mapping
    )


def proposed_mapping(path: Path, *, symbol: str | None = None) -> Mapping | JsonMapping:
    """Return the mapping that a file's first rows or lines suggest."""
    from data.sniff import sniff_mapping

    if holds_json(path):
        # Not above: it needs msgspec, tables do not.
        from data.importers.json_sniff import sniff_json

        return sniff_json(path, symbol=symbol)
    mapping = sniff_mapping(path)
    return replace(mapping, symbol=symbol) if symbol else mapping


def holds_json(path: Path) -> bool:
    """Tell whether one of a file's first lines is JSON."""
    from itertools import islice

    from data.arrow_file import SUFFIXES as ARROW_SUFFIXES
    from data.errors import ConfigError, DataError
    from data.table_file import PARQUET_SUFFIXES

    if not path.is_file() or path.name.lower().endswith((*ARROW_SUFFIXES, *PARQUET_SUFFIXES)):
        return False
    from data.importers import importer
    from data.importers.text_lines import lines

    try:
        importer("jsonl")
    except ConfigError:
        return False  # without msgspec there is nothing that could read it
    from data.importers.json_streams import parse_line

    try:
        for _, line in islice(lines(path), 3):
            try:
                parse_line(line)
            except ValueError:
                continue
            return True
    except DataError:
        return False
    return False


def _with_grid(args: argparse.Namespace, open_source: Opener) -> Opener:
    """Put what the command line says of the grid in place of what the recording tells."""
    from data.errors import ConfigError
    from data.instrument import Instrument

    told = {"price_increment": args.price_increment, "lot_size": args.lot_size}
    given: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if not given:
        return open_source

    def opened(instrument: Instrument | None) -> EventSource:
        if instrument is None:
            try:
                instrument = open_source(None).instrument
            except ConfigError:
                if not args.symbol or args.price_increment is None:
                    raise
                instrument = Instrument(symbol=args.symbol)
            if "price_increment" in given:
                instrument = replace(instrument, tick_size_ticks=1)
            instrument = replace(instrument, **given)
        return open_source(instrument)

    return opened


def on_the_stores_grid(args: argparse.Namespace, store: TickStore, open_source: Opener) -> Opener:
    """Open a recording on the grid that a store has for its symbol and venue, where that is as fine or finer.

    So a day on which no price needs the last digit goes beside others. Another venue counts in units of its
    own. What the command line states is left as it is.
    """
    if args.price_increment is not None or args.lot_size is not None:
        return open_source

    def opened(instrument: Instrument | None) -> EventSource:
        source = open_source(instrument)
        own = source.instrument
        known = store.manifest().listings.get((own.symbol, args.venue), ())
        if not known:
            return source
        price, lot = known[-1].price_increment, known[-1].lot_size
        steps = _steps(own.price_increment, price), _steps(own.lot_size, lot)
        if None in steps or steps == (1, 1):
            return source
        finer = replace(
            own, price_increment=price, lot_size=lot, tick_size_ticks=own.tick_size_ticks * (steps[0] or 1)
        )
        print(f"{own.symbol}: counted in {price:g} and {lot:g}, as in the store", file=sys.stderr)
        return open_source(finer)

    return opened


def _steps(coarse: float, fine: float) -> int | None:
    """Return how many fine units a coarse one is, None where that is no whole number."""
    steps, rest = divmod(Decimal(repr(coarse)), Decimal(repr(fine)))
    return int(steps) if rest == 0 and steps >= 1 else None


def on_a_fitting_grid(
    open_source: Opener, use: Callable[[EventSource], Result]
) -> tuple[EventSource, Result]:
    """Use a source as `data.importers.grid.on_a_fitting_grid` does, and say why once more."""
    from data.importers.grid import on_a_fitting_grid as fitted

    return fitted(
        open_source, use, tell=lambda error: print(f"{error}: once more on a finer grid", file=sys.stderr)
    )


@contextmanager
def nothing_left_behind(root: Path) -> Iterator[None]:
    """Remove what a failed import made of a store that was not there before."""
    was_there = root.exists()
    try:
        yield
    except Exception:
        if not was_there:
            for path in (root / ".lock", root / ".staging", root / ".leases", root):
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
                elif path.name == ".lock":
                    path.unlink(missing_ok=True)
        raise

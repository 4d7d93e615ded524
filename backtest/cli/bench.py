"""``anytick bench``: measure this machine; the suite is found through the entry point ``anytick.bench``.

The suite stands above this package in the order of imports, so nothing here imports it by name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

GROUP: Final = "anytick.bench"
_DOCUMENT: Final = Path("docs/BENCHMARKS.md")
_BEGIN: Final = "<!-- anytick bench: begin -->"
_END: Final = "<!-- anytick bench: end -->"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure throughput and latency beside floors and peers",
        description="Measure throughput and latency. Every scenario verifies its answer, and runs a floor "
        "probe (the least a machine must do for that work) beside it, so that results read as ratios.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; default: all")
    parser.add_argument("--list", action="store_true", help="name the scenarios and stop")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: do the scenarios still run?")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON document here too")
    parser.add_argument(
        "--write-docs", action="store_true", help=f"replace the measured section of {_DOCUMENT}"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the suite, print its table, and write what was asked for."""
    from data.errors import ConfigError

    from ..report.files import write_text_atomically

    run_suite = _find_suite()
    if args.list:
        listed = run_suite(list_only=True)
        if args.json:
            print(json.dumps(listed))
        else:
            for entry in listed["scenarios"]:
                print(f"{entry['name']:<18}{entry['title']}")
        return 0
    if args.write_docs and (args.smoke or not _DOCUMENT.parent.is_dir()):
        raise ConfigError("--write-docs takes a full run in a source checkout, was --smoke or elsewhere")
    document = run_suite(tuple(args.names), smoke=args.smoke, seed=args.seed)
    if args.output is not None:
        write_text_atomically(args.output, json.dumps(document, indent=1, sort_keys=True) + "\n")
    if args.write_docs:
        write_text_atomically(_DOCUMENT, with_section(_read(_DOCUMENT), markdown_table(document)))
    if args.json:
        print(json.dumps(document, sort_keys=True))
    else:
        _print_table(document)
    return 0


def _find_suite() -> Any:
    from importlib.metadata import entry_points

    from data.errors import ConfigError

    # An editable install can leave the same entry point twice: in the environment and in the checkout.
    found = {entry.value: entry for entry in entry_points(group=GROUP)}
    if len(found) != 1:
        raise ConfigError(f"expected one entry point in {GROUP}, was {sorted(found) or 'none: reinstall'}")
    return next(iter(found.values())).load()


_COLUMNS: Final = ("scenario", "measure", "unit", "p50", "p99", "max", "floor", "x floor", "peer", "x peer")


def table_rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of the result table, one row per measure, in the order of `_COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for scenario in document["scenarios"]:
        for measure in scenario["measures"]:
            floor, peer = measure["floor"], measure["peer"]
            rows.append(
                (
                    scenario["name"],
                    measure["name"],
                    measure["unit"],
                    _number(measure["p50"]),
                    _number(measure["p99"]),
                    _number(measure["max"]),
                    _number(floor),
                    _ratio(measure["p50"], floor),
                    _number(peer),
                    _ratio(measure["p50"], peer),
                )
            )
    return rows


def conditions_of(document: Mapping[str, Any]) -> list[str]:
    """Return the sentences that belong under the table."""
    machine = document["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; Python {machine['python']}, "
        f"numpy {machine['numpy']}, onnxruntime {machine['onnxruntime']}; commit {document['commit']}, "
        f"seed {document['seed']}{', smoke sizes' if document['smoke'] else ''}.",
        "p50 is the median of the repetitions (throughput) or of the calls (latency). Floor and peer are "
        "medians from the same run on the same data; x is our p50 over theirs, smaller is better.",
    ]
    lines += [f"{scenario['name']}: {scenario['conditions']}" for scenario in document["scenarios"]]
    return lines


def markdown_table(document: Mapping[str, Any]) -> str:
    """Return table and conditions as Markdown."""
    header = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * 3}{'---:|' * (len(_COLUMNS) - 3)}"]
    body = [f"| {' | '.join(row)} |" for row in table_rows(document)]
    return "\n".join([*header, *body, "", *(f"- {line}" for line in conditions_of(document))])


def _print_table(document: Mapping[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if index < 3 else "right", no_wrap=True)
    for row in table_rows(document):
        table.add_row(*row)
    console = Console()
    # Not a terminal: as wide as the table needs, since a cut number is worse than a long line.
    Console(width=None if console.is_terminal else 140).print(table)
    for line in conditions_of(document):
        print(line)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float, base: float | None) -> str:
    return "-" if not base else f"{value / base:.3g}"


def _read(path: Path) -> str:
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return f"# Benchmarks\n\nWritten by `anytick bench --write-docs`.\n\n{_BEGIN}\n{_END}\n"


def with_section(text: str, section: str) -> str:
    """Return `text` with what stands between the two marks replaced."""
    from data.errors import DataError

    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise DataError(f"expected the marks {_BEGIN} and {_END}, was without", path=_DOCUMENT)
    return f"{before}{_BEGIN}\n{section}\n{_END}{after}"

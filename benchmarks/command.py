"""What ``anytick bench`` does with its arguments; the command line finds `run` by its entry point."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backtest.report.files import require_writable, write_text_atomically
from data.errors import ConfigError, DataError

from .comparison import Change, compare, load_document, require_comparable
from .curves import render_curves
from .machine import machine_facts
from .suite import run_suite
from .tables import (
    CHANGE_COLUMNS,
    COLUMNS,
    PEER_COLUMNS,
    change_rows,
    conditions_of,
    markdown,
    peer_rows,
    peers_markdown,
    print_table,
    table_rows,
)

PAGE: Final = Path("docs/BENCHMARKS.md")
STORED: Final = Path("docs/measured")
_DONE, _CHECK_FAILED = 0, 1


def run(args: argparse.Namespace) -> int:
    """Run the suite or read a document, print it, and write what was asked for."""
    if args.list:
        return _list(args)
    if args.fail_on is not None and args.compare is None:
        raise ConfigError("--fail-on judges a comparison, was without --compare")
    if args.input is not None and args.names:
        raise ConfigError(f"--input takes a document as it is, was with {', '.join(args.names)}")
    if args.write_docs and (args.smoke or not PAGE.parent.is_dir()):
        raise ConfigError("--write-docs takes a full run in a source checkout, was --smoke or elsewhere")
    earlier = load_document(args.compare) if args.compare else None
    _require_outputs(args)
    if args.input is None and earlier is not None:
        require_comparable(earlier, machine=machine_facts(), smoke=args.smoke)
    document = load_document(args.input) if args.input else _measure(args)
    if args.output is not None:
        write_text_atomically(args.output, as_text(document))
    changes = compare(earlier, document, seed=args.seed) if earlier else []
    if args.html is not None:
        write_text_atomically(args.html, render_curves(document, changes))
    if args.write_docs:
        write_docs(document)
    if args.json:
        extra = {"changes": [_change_json(change) for change in changes]} if changes else {}
        print(json.dumps({**document, **extra}, sort_keys=True))
    else:
        _print(document, changes)
    return _verdict(changes, args.fail_on)


def _require_outputs(args: argparse.Namespace) -> None:
    """Refuse now what could not be written once everything is measured."""
    for path in (args.output, args.html):
        if path is not None:
            require_writable(path)
    stored = STORED / f"{'peers' if args.peers else 'suite'}.json"
    if args.write_docs and args.input is None and stored.is_file():
        _require_one_machine(load_document(stored)["machine"], machine_facts())


def as_text(document: Mapping[str, Any]) -> str:
    """Return a document as the text of its file."""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def write_docs(document: Mapping[str, Any]) -> None:
    """Put the document's scenarios into the stored one, and write the page from what is then stored.

    Raises
    ------
    ConfigError
        The stored figures are another machine's: they would stand in one table with these.
    """
    name = "peers" if document["peers"] else "suite"
    stored = STORED / f"{name}.json"
    merged = merge(load_document(stored), document) if stored.is_file() else dict(document)
    STORED.mkdir(parents=True, exist_ok=True)
    write_text_atomically(stored, as_text(_without_histograms(merged)))
    section = peers_markdown(merged) if document["peers"] else markdown(merged)
    write_text_atomically(PAGE, with_section(PAGE.read_text(encoding="utf-8"), name, section))


def merge(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Return `fresh` with the scenarios of `stored` that it lacks; each keeps the facts of its own run."""
    _require_one_machine(stored["machine"], fresh["machine"])
    names = {scenario["name"] for scenario in fresh["scenarios"]}
    kept = [scenario for scenario in stored["scenarios"] if scenario["name"] not in names]
    scenarios = sorted([*kept, *fresh["scenarios"]], key=lambda scenario: str(scenario["name"]))
    return {**fresh, "scenarios": scenarios}


def _require_one_machine(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    machines = [{key: facts[key] for key in ("cpu", "cores")} for facts in (stored, fresh)]
    if machines[0] != machines[1]:
        raise ConfigError(f"stored figures must be of this machine, was {machines[0]} and {machines[1]}")


def with_section(text: str, name: str, section: str) -> str:
    """Return `text` with what stands between the two marks of that name replaced."""
    begin_mark, end_mark = (f"<!-- anytick bench {name}: {place} -->" for place in ("begin", "end"))
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end:
        raise DataError(f"expected the marks {begin_mark} and {end_mark}, was without", path=PAGE)
    return f"{before}{begin_mark}\n{section}\n{end_mark}{after}"


def _without_histograms(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept in the repository: the figures, without the shape of every distribution."""
    bare = {"histogram": None, "floor_histogram": None, "peer_histogram": None}
    scenarios = [
        {**scenario, "measures": [{**measure, **bare} for measure in scenario["measures"]]}
        for scenario in document["scenarios"]
    ]
    return {**document, "scenarios": scenarios}


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    return run_suite(
        tuple(args.names),
        smoke=args.smoke,
        seed=args.seed,
        peers=args.peers,
        instructions=args.instructions,
        repetitions=args.repetitions,
        progress=_progress if sys.stderr.isatty() else None,
    )


def _progress(name: str) -> None:
    print(f"measuring {name}", file=sys.stderr)


def _list(args: argparse.Namespace) -> int:
    listed = run_suite(tuple(args.names), list_only=True, peers=args.peers)
    if args.json:
        print(json.dumps(listed))
    else:
        width = max(len(entry["name"]) for entry in listed["scenarios"]) + 2
        for entry in listed["scenarios"]:
            print(f"{entry['name']:<{width}}{entry['title']}")
    return _DONE


def _print(document: Mapping[str, Any], changes: Sequence[Change]) -> None:
    if not document["peers"]:
        print_table(COLUMNS, table_rows(document))
    if rows := peer_rows(document):
        print_table(PEER_COLUMNS, rows)
    for line in conditions_of(document):
        print(line)
    if changes:
        print_table(CHANGE_COLUMNS, change_rows(changes))
        print(
            "ratio: new over old, above 1 is slower; band: 95 % bootstrap interval over the repetitions, "
            "widened by how much the machine moved."
        )


def _verdict(changes: Sequence[Change], fail_on: float | None) -> int:
    """Return the exit code; a regression is time whose whole band, or instructions that, lie above it."""
    if fail_on is None:
        return _DONE
    bound, code = 1.0 + fail_on / 100.0, _DONE
    for change in changes:
        found = []
        if change.low > bound:
            found.append(f"{change.ratio:.3f} times the earlier time, at least {change.low:.3f}")
        if change.instructions is not None and change.instructions > bound:
            found.append(f"{change.instructions:.3f} times the instructions")
        if found:
            print(f"{change.scenario}, {change.measure}: {'; '.join(found)}", file=sys.stderr)
            code = _CHECK_FAILED
    return code


def _change_json(change: Change) -> dict[str, Any]:
    from dataclasses import asdict

    # JSON has no infinity: a measure without repetitions has no band.
    return {
        key: value if not isinstance(value, float) or abs(value) != float("inf") else None
        for key, value in asdict(change).items()
    } | {"verdict": change.verdict}

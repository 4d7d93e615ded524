"""``anytick journal``: verify, compare and read the journals of runs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .parser import CommandParser, explain, whole, with_shared


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "journal",
        help="verify, compare and read journals",
        description="Verify, compare and read the journals of runs (docs/JOURNAL.md).",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=CommandParser)

    verify = verbs.add_parser(
        "verify",
        help="check every record, and that it replays",
        description="Check checksum, order and chain of every record, and replay them to a state. "
        "A damaged journal is named with the record.",
    )
    verify.add_argument("files", type=Path, nargs="+", metavar="FILE")
    verify.set_defaults(run=run, verb=_verify)

    diff = verbs.add_parser(
        "diff",
        help="name the first record in which two journals differ (exit 1)",
        description="Name the first record in which two journals differ, field by field. "
        "Exit code 1 when they do.",
    )
    diff.add_argument("a", type=Path, metavar="A")
    diff.add_argument("b", type=Path, metavar="B")
    diff.set_defaults(run=run, verb=_diff)

    show = verbs.add_parser(
        "show", help="print records in words", description="Print records in words, from the first on."
    )
    show.add_argument("file", type=Path, metavar="FILE")
    show.add_argument(
        "--kind", type=str.upper, metavar="NAME", help="run, parent, decision, order, refusal, report, ..."
    )
    show.add_argument(
        "--limit",
        type=whole(0, 1 << 62),
        default=20,
        metavar="N",
        help="records to print; default: %(default)s",
    )
    show.set_defaults(run=run, verb=_show)

    explain(verify, "anytick journal verify var/runs/NAME/journals/*.journal")
    explain(diff, "anytick journal diff a/linucb.journal b/linucb.journal")
    explain(show, "anytick journal show linucb.journal --kind order --limit 5")


def run(args: argparse.Namespace) -> int:
    """Run one verb and return the exit code; bad files raise DataError."""
    code: int = args.verb(with_shared(args))
    return code


def _verify(args: argparse.Namespace) -> int:
    from engine.journal import replay_state, verify_journal

    rows: list[dict[str, Any]] = []
    for path in args.files:
        summary = verify_journal(path)
        state_hash = replay_state(path).state_hash
        rows.append(
            {
                "file": str(path),
                "run_id": summary.run_id,
                "records": summary.record_count,
                "records_by_kind": summary.records_by_kind,
                "first_ts_ns": summary.first_ts_ns,
                "last_ts_ns": summary.last_ts_ns,
                "chain": f"{summary.chain:016x}",
                "sha256": summary.sha256,
                "state_hash": state_hash,
            }
        )
        if args.json:
            continue
        kinds = ", ".join(f"{count:,} {name}" for name, count in summary.records_by_kind.items())
        print(f"{path}: every record holds")
        print(f"  run {summary.run_id}, {summary.record_count:,} records: {kinds}")
        print(f"  chain {summary.chain:016x}, sha256 {summary.sha256}")
        print(f"  replays to state {state_hash}")
    if args.json:
        print(json.dumps({"journals": rows}))
    return 0


def _diff(args: argparse.Namespace) -> int:
    from engine.journal import diff_journals

    found = diff_journals(args.a, args.b)
    if args.json:
        print(json.dumps({"same": found is None, "difference": None if found is None else asdict(found)}))
    elif found is None:
        print("the journals are the same")
    else:
        print(f"record {found.row} is the first that differs")
        for name, (in_a, in_b) in found.fields.items():
            print(f"  {name}: {in_a} | {in_b}")
        for path, record in ((args.a, found.a), (args.b, found.b)):
            print(f"{path}: {'has ended' if record is None else _line(record)}")
    return 0 if found is None else 1


def _show(args: argparse.Namespace) -> int:
    import numpy as np

    from data.errors import ConfigError
    from data.schema import JournalKind
    from engine.journal import JournalReader, describe_record

    if args.kind is not None and args.kind not in JournalKind.__members__:
        raise ConfigError(f"--kind must be one of {', '.join(JournalKind.__members__)}, was {args.kind}")
    reader = JournalReader(args.file)
    if args.kind is None:
        records = np.asarray(reader.records[: args.limit])
    else:
        records = reader.of_kind(JournalKind[args.kind], limit=args.limit)
    described = [describe_record(record) for record in records]
    if args.json:
        print(json.dumps({"records": described}))
    else:
        for record in described:
            print(_line(record))
    return 0


def _line(record: dict[str, Any]) -> str:
    import numpy as np

    instant = np.datetime64(record["ts_ns"], "ns")
    rest = " ".join(
        f"{name}={value}"
        for name, value in record.items()
        if name not in ("sequence", "ts_ns", "version", "kind")
    )
    return f"{record['sequence']:>9} {instant} {record['kind']:<8} {rest}"

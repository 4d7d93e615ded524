"""``anytick report``: write a run's page again from its result file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "report",
        help="write the HTML report of a finished run again",
        description="Write the HTML report of a finished run again, from the JSON that the run left.",
    )
    parser.add_argument("result", type=Path, help="a result file, or the folder of a run")
    parser.add_argument("--output", type=Path, help="default: report.html beside the result")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the result and write the page; a foreign or damaged file raises DataError."""
    from ..report import read_json, write_backtest_report, write_run_report
    from ..result import RunResult

    source = _result_file(args.result)
    result = read_json(source)
    target = args.output or source.with_name("report.html")
    if isinstance(result, RunResult):
        written = write_run_report(result, target)
    else:
        written = write_backtest_report(result, target)
    if args.json:
        print(json.dumps({"report": str(written), "result": str(source), "headline": result.headline}))
    else:
        print(written)
    return 0


def _result_file(path: Path) -> Path:
    """Return the result file that a path means."""
    from data.errors import DataError

    if not path.is_dir():
        return path
    found = sorted(path.glob("*.json"))
    named = [file for file in found if file.name == "result.json"]
    if len(named or found) == 1:
        return (named or found)[0]
    rule = f"expected result.json or one other JSON file, was {len(found)} files"
    raise DataError(rule, path=path)

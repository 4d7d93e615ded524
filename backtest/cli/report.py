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
    parser.add_argument(
        "--out", "--output", type=Path, metavar="FILE", help="default: report.html beside the result"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the results and write the page; a foreign or damaged file raises DataError."""
    from data.errors import DataError

    from ..report import read_json, write_backtest_report, write_run_report
    from ..result import Result, RunResult

    sources = _result_files(args.result)
    found = [read_json(source) for source in sources]
    target = args.out or sources[0].with_name("report.html")
    single = [result for result in found if isinstance(result, Result)]
    if len(single) == len(found):
        # Several results of one strategy, such as fill bounds, stand side by side on one page.
        written = write_backtest_report(single, target)
    elif len(found) == 1 and isinstance(found[0], RunResult):
        written = write_run_report(found[0], target)
    else:
        raise DataError("expected one run or several backtests, was a mixture", path=args.result)
    if args.json:
        print(json.dumps({"report": str(written), "results": [str(source) for source in sources]}))
    else:
        print(written)
    return 0


def _result_files(path: Path) -> list[Path]:
    """Return the result files that a path means: itself, or those of a run's folder."""
    from data.errors import DataError

    if not path.is_dir():
        return [path]
    named = path / "result.json"
    found = [named] if named.is_file() else sorted(path.glob("*.json"))
    if not found:
        raise DataError("expected result.json or other results as JSON, was without", path=path)
    return found

"""``anytick bench``: measure this machine; the suite is found through the entry point ``anytick.bench``.

The suite stands above this package in the order of imports, so nothing here imports it by name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from .parser import explain, number, whole

GROUP: Final = "anytick.bench"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure throughput and latency beside floors and peers",
        description="Measure throughput and latency. Every scenario verifies its answer, and runs a floor "
        "probe (the least a machine must do for that work) beside it, so that results read as ratios.",
    )
    explain(parser, "anytick bench ring book --out now.json --compare before.json --fail-on 5")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="scenarios or groups (ring: ring and every ring-...); default: all",
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument("--list", action="store_true", help="name the scenarios and stop")
    what.add_argument("--smoke", action="store_true", help="tiny sizes: do the scenarios still run?")
    what.add_argument(
        "--peers",
        action="store_true",
        help="other people's engines on the same data, ratios printed; pip install 'anytick[peers]'",
    )
    what.add_argument(
        "--instructions", action="store_true", help="also count instructions per item (Linux perf events)"
    )
    what.add_argument(
        "--repetitions",
        type=whole(2, 1_000),
        default=7,
        metavar="N",
        help="timed passes of each throughput (default: 7)",
    )
    what.add_argument(
        "--input", type=Path, metavar="FILE", help="measure nothing: take this document of --out"
    )
    out = parser.add_argument_group("what is written")
    out.add_argument(
        "--out", "--output", dest="output", type=Path, metavar="FILE", help="write the JSON document here too"
    )
    out.add_argument(
        "--html", type=Path, metavar="FILE", help="draw latency curves and throughputs as one page"
    )
    out.add_argument(
        "--compare", type=Path, metavar="FILE", help="print ratios to an earlier document of --out"
    )
    out.add_argument(
        "--fail-on",
        type=number(0.0, 1_000.0),
        metavar="PERCENT",
        help="with --compare: exit 1 where the whole noise band of the time, or the number of instructions, "
        "lies more than this above the earlier one",
    )
    out.add_argument(
        "--write-docs",
        action="store_true",
        help="put what was measured into docs/measured and write docs/BENCHMARKS.md from it",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Hand the arguments to the suite."""
    code: int = _find_suite()(args)
    return code


def _find_suite() -> Any:
    from importlib.metadata import entry_points

    from data.errors import ConfigError

    # An editable install can leave the same entry point twice: in the environment and in the checkout.
    found = {entry.value: entry for entry in entry_points(group=GROUP)}
    if len(found) != 1:
        raise ConfigError(f"expected one entry point in {GROUP}, was {sorted(found) or 'none: reinstall'}")
    return next(iter(found.values())).load()

"""The entry point: from an argument list to an exit code.

====  =========================================================================
code  meaning
====  =========================================================================
0     done
1     a check ran and failed
2     bad input: arguments, configuration, files, environment
70    a bug of ours; the traceback stands on standard error
130   interrupted
141   the reader of our output went away
====  =========================================================================

Errors are one line on standard error; with ``--json`` the last line of standard output is an object
with the key ``error``.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from .interrupts import interrupts_kept
from .parser import SHARED_DEFAULTS, CommandParser, UsageError, check_shared

DONE: Final = 0
CHECK_FAILED: Final = 1
BAD_INPUT: Final = 2
OUR_BUG: Final = 70
INTERRUPTED: Final = 130
READER_GONE: Final = 141

# In the order in which a newcomer needs them.
COMMANDS: Final = (
    "run",
    "data",
    "replay",
    "backtest",
    "walkforward",
    "models",
    "journal",
    "stress",
    "bench",
    "report",
    "doctor",
)
PACKAGES: Final = ("ext", "data", "engine", "backtest", "benchmarks")


def console() -> int:
    """Run the command line of this process; the exit code is the return value."""
    return main(sys.argv[1:])


def main(argv: Sequence[str]) -> int:
    """Run one command line.

    Parameters
    ----------
    argv : sequence of str
        Without the program's name.

    Returns
    -------
    int
        The exit code.
    """
    try:
        return _run_guarded(argv)
    except BrokenPipeError:
        # The interpreter flushes at exit and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


def _run_guarded(argv: Sequence[str]) -> int:
    """Run one command line and turn every error but a broken pipe into a line and a code."""
    as_json = "--json" in argv
    shadowed = shadowed_package()
    if shadowed is not None:
        return _fail("ShadowedPackage", shadowed, BAD_INPUT, as_json=as_json)
    # Only now: until the packages were checked, `data` might be anybody's.
    from data.errors import AnytickError, CheckFailed

    try:
        with interrupts_kept():
            code = _dispatch(argv)
            sys.stdout.flush()
    except CheckFailed as error:
        return _fail(type(error).__name__, str(error), CHECK_FAILED, as_json=as_json, error=error)
    except (AnytickError, UsageError) as error:
        # A strategy is the user's own code: they need its traceback, and only its.
        print(getattr(error, "user_traceback", ""), end="", file=sys.stderr)
        return _fail(type(error).__name__, str(error), BAD_INPUT, as_json=as_json, error=error)
    except KeyboardInterrupt:
        return _fail("KeyboardInterrupt", "interrupted", INTERRUPTED, as_json=as_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        # Commands name the file and the rule themselves; this is for a disk that fills up.
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _fail(type(error).__name__, message, BAD_INPUT, as_json=as_json)
    except Exception as error:
        traceback.print_exc()
        message = f"this is a bug in anytick, please report it: {type(error).__name__}: {error}"
        return _fail(type(error).__name__, message, OUR_BUG, as_json=as_json)
    return code


def shadowed_package() -> str | None:
    """Return what to tell a user whose own folder hides one of ours, None when all is well."""
    root = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            if name == "benchmarks":
                continue
            return f"package {name!r} is missing beside {root / 'backtest'}"
        found = Path(spec.origin).resolve().parent
        if found != root / name:
            return (
                f"package {name!r} is loaded from {found}, but anytick's is {root / name}: "
                "rename that folder or take it off PYTHONPATH"
            )
    return None


def build_parser() -> CommandParser:
    """Return the parser with every subcommand that this installation has."""
    parser = CommandParser(
        prog="anytick",
        description="Low-latency trading and inference engine: replay, simulate, compare, measure.",
        epilog="Exit codes: 0 done, 1 a check failed, 2 bad input. anytick COMMAND --help tells more.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands: Any = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=CommandParser)
    for name in COMMANDS:
        module_name = f"{__package__}.{name}"
        if find_spec(module_name) is not None:
            import_module(module_name).add_parser(commands)
    return parser


def _dispatch(argv: Sequence[str]) -> int:
    parser = build_parser()
    try:
        args = parser.parse_args(argv, Namespace(**SHARED_DEFAULTS))
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    check_shared(args)
    if args.version:
        return _print_version(as_json=args.json)
    if args.command is None:
        parser.print_help(sys.stderr)
        return BAD_INPUT
    code: int = args.run(args)
    return code


def _print_version(*, as_json: bool) -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("anytick")
    except PackageNotFoundError:
        number = "unknown (not installed)"
    print(json.dumps({"version": number}) if as_json else f"anytick {number}")
    return DONE


def _fail(kind: str, message: str, code: int, *, as_json: bool, error: Exception | None = None) -> int:
    print(f"anytick: {message}", file=sys.stderr)
    if as_json:
        details: dict[str, Any] = {"type": kind, "message": message, "exit_code": code}
        for name in ("path", "row", "offset", "rule"):
            value = getattr(error, name, None)
            if value is not None:
                details[name] = value
        print(json.dumps({"error": details}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(console())

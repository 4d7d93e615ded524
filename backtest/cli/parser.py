"""The argument parser that every subcommand uses, so that all speak with one voice."""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from ..places import TRIALS

SEED_MAX: Final = (1 << 63) - 1
SHARED_DEFAULTS: Final[dict[str, Any]] = {"seed": 1, "json": False}


class UsageError(Exception):
    """The command line itself is wrong; the message is one line."""


def with_shared(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with the defaults that `main` gives, for a command under another parser."""
    return argparse.Namespace(**(SHARED_DEFAULTS | vars(args)))


def check_shared(args: argparse.Namespace) -> None:
    """Refuse a seed that does not fit 63 bits; here, because a command may declare ``--seed`` anew."""
    if not 0 <= args.seed <= SEED_MAX:
        raise UsageError(f"--seed must be 0 to 2**63 - 1, was {args.seed}")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return what reads an argument as a whole number within bounds, both allowed."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number, {low} to {high}, was {text[:40]}")
        return value

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Return what reads an argument as a number within bounds, both allowed; NaN lies outside."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number, {low:g} to {high:g}, was {text[:40]}")
        return value

    return read


def add_trials(parser: argparse.ArgumentParser) -> None:
    """Let a command be told where trials are counted; `walkforward` had a name of its own for it."""
    parser.add_argument(
        "--trials",
        "--registry",
        type=Path,
        default=TRIALS,
        metavar="FILE",
        help="where everything tried on the same data is counted; default: %(default)s",
    )


def explain(parser: argparse.ArgumentParser, example: str) -> None:
    """Show an example below a command's help."""
    parser.epilog = f"example:\n  {example}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that knows ``--seed`` and ``--json`` and raises instead of exiting.

    A nested parser would overwrite with its default what an outer one was given
    (``anytick models --json inspect``), so the shared options have none here: their values come from
    the namespace that `main` starts with. A command may declare either option again in its own words.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("conflict_handler", "resolve")
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)
        shared = self.add_argument_group("everywhere")
        shared.add_argument(
            "--seed",
            type=int,
            default=argparse.SUPPRESS,
            metavar="N",
            help="of every random draw; default: 1",
        )
        shared.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="for machines: the last line of standard output is one JSON object",
        )

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`; argparse would print six lines and exit."""
        command = self.prog.partition(" ")[2]
        raise UsageError(f"{command + ': ' if command else ''}{message} ({self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown here: the outermost parser would name itself, not the command."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown[0])}")
        return found, unknown

    def _hint(self, unknown: str) -> str:
        """Return what an argument that is not known may have been meant for."""
        if unknown.startswith("-"):
            close = difflib.get_close_matches(unknown.partition("=")[0], self._option_string_actions, 1)
            return f"; did you mean {close[0]}?" if close else ""
        # argparse takes one run of them, and what follows the next option is left.
        many = [each for each in self._actions if not each.option_strings and each.nargs in ("+", "*")]
        return f"; each {many[0].metavar or many[0].dest} must stand beside the others" if many else ""

    def format_help(self) -> str:
        """Return the help with its description wrapped, which argparse leaves alone beside examples."""
        width = shutil.get_terminal_size().columns - 2
        self.description = textwrap.fill(self.description or "", width) or None
        return super().format_help()

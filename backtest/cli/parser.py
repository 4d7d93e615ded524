"""The argument parser that every subcommand uses, so that all speak with one voice."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Callable
from typing import Any, Final, NoReturn

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
        raise UsageError(f"{self.prog}: {message} ({self.prog} --help)")

    def format_help(self) -> str:
        """Return the help with its description wrapped, which argparse leaves alone beside examples."""
        width = shutil.get_terminal_size().columns - 2
        self.description = textwrap.fill(self.description or "", width) or None
        return super().format_help()

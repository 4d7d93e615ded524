"""The argument parser that every subcommand uses, so that all speak with one voice."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class UsageError(Exception):
    """The command line itself is wrong; the message is one line."""


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

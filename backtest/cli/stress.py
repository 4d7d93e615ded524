"""``anytick stress``: not there yet."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("stress", help="faults and overload on purpose (not there yet)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Say so."""
    from data.errors import ConfigError

    raise ConfigError("stress: not there yet")

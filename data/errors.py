"""The one tree of errors that anytick raises for bad input or environment.

AnytickError
├── DataError      a recording, quote or store breaks a rule; names file, row and rule
├── ConfigError    a configuration or command-line value is not acceptable
└── CheckFailed    a verification ran and found a difference (exit code 1)

Expected outcomes (a full ring, a refused order) are values, not exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath


class AnytickError(Exception):
    """Root of every error anytick raises on purpose."""


class DataError(AnytickError):
    """A recording breaks a rule.

    Parameters
    ----------
    rule : str
        What was expected, ending in ``was {value}``.
    path : path-like
        The file.
    row : int, optional
        Zero-based row or record, where one is to blame.
    offset : int, optional
        Byte offset, for binary formats.
    """

    def __init__(
        self, rule: str, *, path: str | PathLike[str], row: int | None = None, offset: int | None = None
    ) -> None:
        place = fspath(path)
        if row is not None:
            place += f":row {row}"
        if offset is not None:
            place += f":byte {offset}"
        super().__init__(f"{place}: {rule}")
        self.rule, self.path, self.row, self.offset = rule, fspath(path), row, offset


class ConfigError(AnytickError):
    """A configuration value or key is not acceptable."""


@contextmanager
def writing_to(place: str | PathLike[str]) -> Iterator[None]:
    """Name the place in an error of the system that names none: a disk that fills up while it is written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = fspath(place)
        raise


class CheckFailed(AnytickError):
    """A verification ran to its end and found a difference."""

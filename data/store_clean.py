"""Imports that were killed and never started again: what they left in a store, and taking it away.

Their parts are kept so that the same import goes on behind them, however long after. Nothing takes them away
by itself; whoever knows that no import will be repeated says from which age on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .store_commit import STAGING, only_writer

_IMPORTS = "import-*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """What a killed import left.

    Parameters
    ----------
    path : Path
        Its staging folder.
    bytes : int
        On disk.
    touched_ns : int
        When it last wrote, since the Unix epoch.
    """

    path: Path
    bytes: int
    touched_ns: int

    def age_s(self, now_ns: int) -> float:
        """Return the seconds since it last wrote."""
        return (now_ns - self.touched_ns) / 10**9


def leftovers(root: Path) -> tuple[Leftover, ...]:
    """Return what killed imports left in a store, the oldest first; one that runs now is among them."""
    return tuple(sorted(_leftovers(root), key=lambda entry: (entry.touched_ns, entry.path)))


def clean(root: Path, *, older_than_s: float, now_ns: int) -> tuple[Leftover, ...]:
    """Remove what imports left that last wrote longer ago; such an import then begins anew.

    Raises
    ------
    ConfigError
        Another process is writing to the store.
    """
    with only_writer(root):
        gone = tuple(entry for entry in leftovers(root) if entry.age_s(now_ns) > older_than_s)
        for entry in gone:
            shutil.rmtree(entry.path)
    return gone


def _leftovers(root: Path) -> Iterator[Leftover]:
    for folder in (root / STAGING).glob(_IMPORTS):
        try:
            stats = [path.stat() for path in (folder, *folder.rglob("*"))]
        except FileNotFoundError:
            continue  # an import that runs has just moved its parts to their places
        yield Leftover(
            path=folder,
            bytes=sum(stat.st_blocks * 512 for stat in stats),
            touched_ns=max(stat.st_mtime_ns for stat in stats),
        )

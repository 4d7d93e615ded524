"""How far an import has come: its staged parts, and where in the source to go on behind them.

The list gets a line for each part. A source that can be entered again gives the place behind a block with
the block, and a part is listed with the newest mark that lies before its end. Marks are kept only while every
event so far was staged as the source told it: then the staged parts say all that the source, entered there,
no longer will.

A line counts where it is whole and its part carries the number that the store gives the venue now: somebody
else's commit may have taken the number that a killed import stamped into its events.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.packed_block import crc32c

from .errors import ConfigError
from .manifest import partition_of
from .partition import Partition
from .partition_file import damage_of, read_partition
from .resumable import Place

_PROGRESS: Final = "progress.jsonl"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a source.

    Parameters
    ----------
    events : int
        That the source yields before it.
    place : dict
        What the source itself needs to find it: JSON.
    """

    events: int
    place: Place


class ImportProgress:
    """The staged parts of one import.

    Parameters
    ----------
    staging : Path
        The import's own folder; what an earlier attempt finished there is taken over, the rest removed.
    venue_id : int
        That its events carry.
    """

    def __init__(self, staging: Path, *, venue_id: int) -> None:
        self._list, self._venue_id = staging / _PROGRESS, venue_id
        self._marks: deque[Mark] = deque()
        self._newest: Mark | None = None
        self.parts: list[tuple[Path, Partition]] = []
        staging.mkdir(parents=True, exist_ok=True)
        self._take_over()

    @property
    def events(self) -> int:
        return sum(part.rows for _, part in self.parts)

    @property
    def mark(self) -> Mark | None:
        """Where the source can go on, None where it has to be read from its start."""
        return self._newest

    def events_before(self, mark: Mark) -> Iterator[NDArray[np.void]]:
        """Yield the staged events that come before a mark."""
        left = mark.events
        for path, part in self.parts:
            for block in read_partition(part, path) if left else ():
                yield block[:left]
                left -= min(left, len(block))

    def passed(self, mark: Mark) -> None:
        """Note a place up to which every event is on its way to a part."""
        self._marks.append(mark)

    def add(self, path: Path, part: Partition) -> None:
        """List a finished part; it counts from then on."""
        self.parts.append((path, part))
        staged = self.events
        while self._marks and self._marks[0].events <= staged:
            self._newest = self._marks.popleft()
        mark = None if self._newest is None else [self._newest.events, self._newest.place]
        stored = {item.name: getattr(part, item.name) for item in fields(Partition)}
        entry = json.dumps([path.name, stored, mark])
        # Not synced: who goes on after a power cut compares every part with its checksum anyway.
        with self._list.open("a", encoding="utf-8") as stream:
            stream.write(f"{self._seal(entry)} {entry}\n")

    def _seal(self, entry: str) -> str:
        """Return the checksum of a line of the list, over the venue's number too."""
        return f"{crc32c(f'{self._venue_id} {entry}'.encode()):08x}"

    def _take_over(self) -> None:
        """Find the parts that are whole, up to the first that is not; a line may have been cut off."""
        lines = []
        with suppress(OSError, ValueError, TypeError, KeyError, ConfigError):
            for line in self._list.read_text(encoding="utf-8").splitlines():
                seal, _, entry = line.partition(" ")
                if seal != self._seal(entry):
                    break
                name, stored, mark = json.loads(entry)
                part, path = partition_of(stored), self._list.with_name(Path(name).name)
                found = None if mark is None else Mark(*mark)
                if damage_of(part, path) is not None:
                    break
                self._newest = found
                self.parts.append((path, part))
                lines.append(line)
        kept = {path.name for path, _ in self.parts}
        for path in self._list.parent.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)
        self._list.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

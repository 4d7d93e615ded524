"""Dies by SIGKILL at every point of a change to a store, each time in a child of its own.

Run as ``python dying_writer.py FOLDER CHANGE STRIDE``: copies FOLDER/base to FOLDER/0, FOLDER/1, ... and
makes the change there, ending at the n-th system call that touches the disk, until one child lives to the
end. Prints its number. STRIDE leaves points out.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data import store_commit
from data.import_job import ImportOptions, ImportResult, import_events
from data.instrument import Instrument
from data.schema import EVENT_DTYPE
from data.store import TickStore

DAY_NS = 86_400 * 10**9
START_NS = 15_000 * DAY_NS
ACME = Instrument(symbol="ACME", instrument_id=7)


def steady_events(count: int, *, first: int, step_ns: int = 1_000_000) -> np.ndarray:
    """Events number `first` and on of one endless feed."""
    events = np.zeros(count, EVENT_DTYPE)
    number = np.arange(first, first + count)
    events["ts_ns"], events["seq"] = START_NS + number * step_ns, number
    events["kind"], events["instrument_id"] = 5, ACME.instrument_id
    return events


CHANGES: dict[str, Callable[[TickStore], Any]] = {
    "write": lambda store: store.write([steady_events(50, first=10**8)], instrument=ACME, venue="V"),
    "overwrite": lambda store: store.write(
        [steady_events(70, first=5)], instrument=ACME, venue="V", overwrite=True
    ),
    "append": lambda store: store.write(
        [steady_events(60, first=300)], instrument=ACME, venue="V", append=True
    ),
    "delete": lambda store: store.delete(
        instrument="ACME", start_ns=START_NS + 20_000_000, stop_ns=START_NS + 150_000_000
    ),
    "compact": lambda store: store.compact(),
}

# Not a change of one step like those above: a killed import leaves parts for the next attempt.
IMPORT_OPTIONS = ImportOptions(venue="V", part_events=40, append=True)


class MadeUp:
    """A recording of two days in small blocks, which can be entered at any of them."""

    notes: tuple[str, ...] = ()
    source = "made up"
    data_hash = "0" * 64
    instrument = ACME

    def blocks(self, block_events: int = 25) -> Iterator[np.ndarray]:
        return (block for block, _ in self.marked_blocks())

    def marked_blocks(
        self, place: dict[str, Any] | None = None
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        events = steady_events(75, first=1_000, step_ns=DAY_NS // 50)
        for first in range(place["next"] if place else 0, len(events), 25):
            yield events[first : first + 25].copy(), {"next": first + 25}


def run_import(store: TickStore) -> ImportResult:
    return import_events(store, MadeUp(), paths=[Path(__file__)], options=IMPORT_OPTIONS)


def die_at(point: int) -> None:
    """Replace what touches the disk: the call number `point` finds the process dead."""
    calls = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return function(*args, **kwargs)

        return counted

    # A killed process loses nothing that it wrote, so waiting for the disk would only cost time.
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    for name in ("replace", "rename", "unlink", "fsync", "mkdir", "rmdir"):
        setattr(os, name, deadly(getattr(os, name)))
    store_commit.step = deadly(store_commit.step)


def main(folder: Path, change: str, stride: int) -> None:
    for point in range(0, 1_000, stride):
        place = folder / str(point)
        shutil.copytree(folder / "base", place)
        child = os.fork()
        if child == 0:
            die_at(point)
            {**CHANGES, "import": run_import}[change](TickStore(place))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, f"the change {change} failed by itself"
            print(point)
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

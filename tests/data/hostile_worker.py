"""Reads mutants in a process of its own, whose memory and time are bounded.

``python hostile_worker.py FOLDER mutants FIRST STOP SAMPLE...`` imports mutants FIRST to STOP - 1 of each
sample into a store under FOLDER, ``... attacks MEGABYTES SAMPLE...`` the attacks made by hand. One line of
JSON each: sample, what it is, what came of it. What kills or hangs the process comes after the last line.

Each must either be read, and then the store holds it and verifies, or be refused by a `DataError` that names
the file, and then the store is as it was.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import resource
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile_mutants import attacks, mutant
from hostile_samples import SAMPLES, Files, Sample

from data.errors import AnytickError, DataError
from data.import_job import ImportOptions, import_events
from data.store import TickStore

MEMORY_BYTES_MAX = 512 << 20
"""What a mutant of a few kilobytes may add to the process, resident or not."""

SECONDS_MAX = 120
"""After so long it hangs: one takes milliseconds, a bomb a few seconds."""

OPTIONS = ImportOptions(venue="V", out_of_order="carry")


def main(
    folder: Path, samples: list[Sample], hostile: Callable[[Sample], Iterator[tuple[str, Files]]]
) -> None:
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # nothing here needs to outlive the machine
    # The valid files first: they must be read, and they load whatever is loaded late.
    for sample in samples:
        report(sample.name, "valid", *outcome_of(folder, sample, sample.pack(sample.parts())))
    bound_memory()
    for sample in samples:
        for what, files in hostile(sample):
            faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
            found = outcome_of(folder, sample, files)
            faulthandler.cancel_dump_traceback_later()
            report(sample.name, what, *found)


def report(*row: str) -> None:
    print(json.dumps(row), flush=True)


def bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def outcome_of(folder: Path, sample: Sample, files: Files) -> tuple[str, str]:
    """Return (read, refused or what went wrong; the error's text)."""
    shutil.rmtree(folder, ignore_errors=True)
    paths = []
    for name, content in sorted(files.items()):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    store = TickStore(folder / "store")
    first = judged(lambda: _imported(sample, store, paths), folder)
    if first[0] == "refused" and (wrong := _left_behind(store)):
        return wrong, first[1]
    strangers = {entry.name for entry in folder.iterdir()} - {"in", "store", "store.quarantine"}
    if strangers:
        return f"wrote {sorted(strangers)}", first[1]
    if sample.verify is not None and first[0] in ("read", "refused"):
        check = sample.verify
        second = judged(lambda: check(paths), folder)
        if second[0] not in ("read", "refused"):
            return f"verify: {second[0]}", second[1]
    return first


def judged(action: Callable[[], Any], folder: Path) -> tuple[str, str]:
    try:
        # A library's own warnings are no outcome.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            wrong = action()
    except AnytickError as error:
        text = f"{type(error).__name__}: {error}"
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, MemoryError):
                return "memory ran out", text
            link = link.__cause__ or link.__context__
        if isinstance(error, DataError) and str(folder) not in str(error):
            return "the error names no file", text
        return "refused", text
    except BaseException as error:
        place: Any = error.__traceback__
        while place.tb_next is not None:
            place = place.tb_next
        where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
        return f"raised {type(error).__name__}", f"{where}: {error}"
    return ("read", "") if not isinstance(wrong, str) else (wrong, "")


def _imported(sample: Sample, store: TickStore, paths: list[Path]) -> str | None:
    result = import_events(store, sample.open(paths), paths=paths, options=OPTIONS)
    if sum(map(len, store.stream())) != result.events:
        return "the store holds something else"
    return None if not store.verify() else "the store is damaged"


def _left_behind(store: TickStore) -> str | None:
    if not store.root.exists():
        return None
    found = [path.name for path in store.root.rglob("*") if path.is_file() and path.name != ".lock"]
    return f"left {found} behind" if found else None


if __name__ == "__main__":
    where, verb, *rest = sys.argv[1:]
    if verb == "attacks":
        size, *names = rest
        main(Path(where), [SAMPLES[name] for name in names], lambda kind: attacks(kind, megabytes=int(size)))
    else:
        first, stop, *names = rest
        numbers = range(int(first), int(stop))
        main(
            Path(where),
            [SAMPLES[name] for name in names],
            lambda kind: ((f"mutant {number}", mutant(kind, number)) for number in numbers),
        )

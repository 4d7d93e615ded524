"""The tick store: what importing, decoding, packing and opening cost.

The floor of decoding is the least that any reader must do: fill the events' 48 bytes once in memory,
which numpy does by copying an array that is there already. That of importing is to get the files' bytes.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.import_job import ImportOptions, import_events
from data.instrument import Instrument
from data.lobster import open_lobster
from data.manifest import read_manifest
from data.partition_file import read_partition, write_events
from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventFlag
from data.store import TickStore
from ext.packed_block import pack, unpack

from .harness import Bench, scenario
from .lobster_days import lobster_day, write_lobster_days, zip_lobster_days

DAY_NS = 86_400 * 10**9
START_NS = 15_000 * DAY_NS
BLOCK_EVENTS = 4_096
IMPORT_ROWS_A_SECOND = 3_000_000
SEEK_NS = 50_000_000
REUSED_EVENTS = 16 * BLOCK_EVENTS
X = Instrument(symbol="X")


def random_flow(count: int, *, seed: int) -> NDArray[np.void]:
    """Return order flow with the marginals of a recorded day: ids that come back, few sizes, near prices."""
    random = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    events["ts_ns"] = START_NS + np.cumsum(random.exponential(100_000, count).astype(np.int64))
    events["recv_ns"] = RECV_NOT_RECORDED
    fresh = np.cumsum(random.integers(1, 40, count)).astype(np.uint64)
    back = np.maximum(np.arange(count) - random.geometric(0.02, count), 0)
    events["order_id"] = np.where(random.random(count) < 0.5, fresh, fresh[back])
    events["size_lots"] = random.choice((100, 100, 100, 200, 50, 1, 18), count)
    events["price_ticks"] = 2_200_000 + 100 * np.cumsum(random.integers(-1, 2, count)).astype(np.int32)
    events["seq"] = np.arange(count)
    events["kind"] = random.choice((1, 2, 3, 4, 6), count)
    events["side"] = random.choice((-1, 1), count)
    events["flags"] = 1
    return events


@scenario(
    "store-import",
    "LOBSTER files to a committed store",
    conditions="generated days of one level, in the page cache, all cores: digest of the files, parsing, "
    "rules, quality report, Parquet, sync to disk, commit; floor: the files' bytes, unpacked.",
)
def store_import(bench: Bench) -> None:
    rows = bench.parameter("rows_a_day", smoke=300, full=60_000)
    days = bench.parameter("days", smoke=2, full=20)
    day = lobster_day(rows, seed=bench.seed)
    with tempfile.TemporaryDirectory() as folder:
        files, archive, root = Path(folder) / "files", Path(folder) / "days.zip", Path(folder) / "store"
        files.mkdir()
        write_lobster_days(files, day, days=days)
        zip_lobster_days(archive, day, days=days)

        def imported(path: Path) -> None:
            result = import_events(
                TickStore(root), open_lobster(path), paths=[path], options=ImportOptions(venue="V")
            )
            assert result.report is not None

        def removed() -> None:
            shutil.rmtree(root, ignore_errors=True)

        def read_files() -> None:
            for path in files.iterdir():
                path.read_bytes()

        def read_zip() -> None:
            with zipfile.ZipFile(archive) as opened:
                for name in opened.namelist():
                    opened.read(name)

        for name, path, floor in (("CSV", files, read_files), ("zip", archive, read_zip)):
            bench.throughput(
                f"row, {name}", partial(imported, path), count=rows * days, prepare=removed,
                floor=floor, goal=1e9 / IMPORT_ROWS_A_SECOND,
            )  # fmt: skip
            found = np.concatenate(list(TickStore(root).stream()))
            told = np.concatenate(list(open_lobster(path).blocks()))
            bench.verify(found.tobytes() == told.tobytes(), "the store holds what the files tell")
            packets = int(np.count_nonzero(found["flags"] & EventFlag.LAST_IN_PACKET))
            bench.verify(packets == rows * days, "every row is a packet of events")
        bench.parameters["bytes_per_1000_events"] = (
            sum(part.bytes for part in TickStore(root).partitions()) * 1_000 // len(found)
        )


@scenario(
    "store-parquet",
    "Parquet partition to 48-byte events",
    conditions="one thread, file in the page cache, checksums verified; floor: one copy of the events.",
)
def store_parquet(bench: Bench) -> None:
    count = bench.parameter("events", smoke=3_000, full=1_000_000)
    events = random_flow(count, seed=bench.seed)
    target = np.empty_like(events)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.parquet"
        writer = write_events([events], path, instrument_id=0, venue_id=0)
        part = writer.finish(instrument="X", venue="V", day="2011-01-26")
        found = np.concatenate(list(read_partition(part, path)))
        bench.verify(found.tobytes() == events.tobytes(), "the file holds the events")

        def read() -> None:
            for _ in read_partition(part, path):
                pass

        def copy() -> None:
            # As bytes: numpy copies structured rows field by field.
            target.view(np.uint8)[:] = events.view(np.uint8)

        bench.throughput("event", read, count=count, floor=copy)
        bench.parameters["bytes_per_1000_events"] = part.bytes * 1_000 // count


@scenario(
    "store-packed",
    "packed cache to 48-byte events",
    conditions="blocks of 4,096 into one reused array, checksums verified; floor: one copy of the events.",
)
def store_packed(bench: Bench) -> None:
    count = bench.parameter("events", smoke=REUSED_EVENTS, full=16 * REUSED_EVENTS)
    events = random_flow(count, seed=bench.seed)
    pieces = [
        b"".join(
            pack(events[at : at + BLOCK_EVENTS]) for at in range(first, first + REUSED_EVENTS, BLOCK_EVENTS)
        )
        for first in range(0, count, REUSED_EVENTS)
    ]
    target = np.empty(REUSED_EVENTS, EVENT_DTYPE)
    for number, piece in enumerate(pieces):
        taken = unpack(piece, target)
        expected = events[number * REUSED_EVENTS :][:taken]
        bench.verify(taken == REUSED_EVENTS and target.tobytes() == expected.tobytes(), "blocks round-trip")

    def decode() -> None:
        for piece in pieces:
            unpack(piece, target)

    def copy() -> None:
        for first in range(0, count, REUSED_EVENTS):
            target.view(np.uint8)[:] = events[first : first + REUSED_EVENTS].view(np.uint8)

    bench.throughput("event", decode, count=count, floor=copy)
    bench.parameters["bytes_per_1000_events"] = sum(map(len, pieces)) * 1_000 // count


@scenario(
    "store-seek",
    "open a store and read the first block of any day",
    conditions="one instrument and venue, a file a day; a call opens, seeks and decodes one row group, the "
    "first also reads and checks the manifest; floor: the bytes of the manifest and of one file.",
)
def store_seek(bench: Bench) -> None:
    days = bench.parameter("days", smoke=5, full=1_300)
    calls = bench.parameter("calls", smoke=5, full=100)
    random = np.random.default_rng(bench.seed)
    with tempfile.TemporaryDirectory() as folder:
        flow = random_flow(500, seed=bench.seed)

        def one_day(day: int) -> NDArray[np.void]:
            events = flow.copy()
            events["ts_ns"] += day * DAY_NS
            return events

        TickStore(folder).write(map(one_day, range(days)), instrument=X, venue="V")
        right = True

        def seek() -> None:
            nonlocal right
            start_ns = START_NS + int(random.integers(days)) * DAY_NS
            block = next(TickStore(folder).stream(start_ns=start_ns))
            right = right and 0 <= int(block["ts_ns"][0]) - start_ns < DAY_NS

        manifest, (first, *_) = Path(folder) / "manifest.json", TickStore(folder).partitions()

        def read_bytes() -> None:
            manifest.read_bytes()
            first.path(Path(folder)).read_bytes()

        def first_seek() -> None:
            # What a process pays once: later openings remember an unchanged manifest.
            read_manifest(Path(folder), fresh=True)
            seek()

        bench.latency("seek", seek, count=calls, floor=read_bytes, goal=SEEK_NS)
        bench.latency("first seek", first_seek, count=calls, floor=read_bytes, goal=SEEK_NS)
        bench.verify(right, "the day that was asked for comes")

"""Journal records: append with checksum and hash chain.

Floor: the checksum of the same bytes in one call, and their copy.
"""

from __future__ import annotations

import numpy as np

from data.schema import JOURNAL_DTYPE, JournalKind
from ext.journal import JournalBuffer, crc32c, start_chain, verify_records

from .harness import Bench, scenario

PAYLOAD_BYTES = 64
CAPACITY = 1 << 14
RUN_ID = 7


@scenario(
    "journal",
    "journal: append and drain records",
    conditions="96-byte records appended one by one from Python, drained by 16,384; floor: one CRC-32C over "
    "the same bytes and one copy of them.",
)
def journal(bench: Bench) -> None:
    count = bench.parameter("records", smoke=2_000, full=400_000)
    random = np.random.default_rng(bench.seed)
    payloads = [random.bytes(PAYLOAD_BYTES) for _ in range(256)]
    records = np.zeros(0, JOURNAL_DTYPE)

    def append() -> None:
        nonlocal records
        buffer, drained = JournalBuffer(CAPACITY, run_id=RUN_ID), []
        for index in range(count):
            buffer.append(JournalKind.ORDER, index, payloads[index & 255])
            if buffer.pending == CAPACITY:
                drained.append(buffer.drain())
        records = np.concatenate([*drained, buffer.drain()])

    raw = np.zeros(count, JOURNAL_DTYPE).tobytes()
    target = bytearray(len(raw))

    def checksum() -> None:
        target[:] = raw
        crc32c(raw)

    bench.throughput("record", append, count=count, floor=checksum)
    bench.verify(len(records) == count, "every record was drained")
    _, rule = verify_records(records, start_chain(RUN_ID), int(records["sequence"][0]))
    bench.verify(not rule, "checksums and chain hold")

"""Checksums against known answers, records against a reference in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.schema import JOURNAL_DTYPE
from ext import journal
from ext.journal import JournalBuffer, crc32c, crc32c_portable, start_chain, verify_records

MASK = 2**64 - 1


def reference_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def reference_mix(chain: int, crc: int) -> int:
    mixed = (chain + 0x9E3779B97F4A7C15 * (crc + 1)) & MASK
    mixed = (mixed ^ mixed >> 33) * 0xFF51AFD7ED558CCD & MASK
    mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return mixed ^ mixed >> 33


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"a", 0xC1D04330),
        (b"123456789", 0xE3069283),
        # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_gives_the_published_answers(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc32c_portable(data) == reference_crc32c(data) == crc


@given(st.binary(max_size=200))
def test_the_instruction_and_the_tables_agree(data: bytes) -> None:
    assert journal.VARIANT in ("sse4.2", "armv8", "portable")
    assert crc32c(data) == crc32c_portable(data)


RECORDS = st.lists(
    st.tuples(st.integers(1, 10), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=64, max_size=64)),
    max_size=30,
)


def filled(records: list[tuple[int, int, bytes]], *, run_id: int = 7) -> JournalBuffer:
    buffer = JournalBuffer(max(1, len(records)), run_id=run_id)
    for kind, ts_ns, payload in records:
        assert buffer.append(kind, ts_ns, payload)
    return buffer


@given(RECORDS, st.integers(0, 2**15 - 1))
def test_records_are_what_the_reference_writes(written: list[tuple[int, int, bytes]], run_id: int) -> None:
    buffer = filled(written, run_id=run_id)
    assert (buffer.pending, buffer.sequence) == (len(written), len(written))
    records = buffer.drain()
    assert records.dtype == JOURNAL_DTYPE
    chain = reference_mix(run_id, 0)
    assert start_chain(run_id) == chain
    for sequence, (record, (kind, ts_ns, payload)) in enumerate(zip(records, written, strict=True)):
        assert record["sequence"] == sequence
        assert record["ts_ns"] == ts_ns
        assert (record["kind"], record["version"], record["_reserved"]) == (kind, 1, 0)
        assert record["payload"].tobytes() == payload
        blank = record.copy()
        blank["crc32c"] = blank["chain"] = 0
        assert record["crc32c"] == reference_crc32c(blank.tobytes())
        chain = reference_mix(chain, int(record["crc32c"]))
        assert record["chain"] == chain
    assert buffer.chain == chain
    assert verify_records(records, start_chain(run_id), 0) == (-1, "")


def test_draining_makes_room_and_keeps_sequence_and_chain() -> None:
    in_one, in_two = JournalBuffer(4), JournalBuffer(2)
    drained = []
    for index in range(4):
        in_one.append(4, index, bytes(64))
        in_two.append(4, index, bytes(64))
        if index % 2:
            drained.append(in_two.drain())
    assert in_two.pending == 0
    np.testing.assert_array_equal(np.concatenate(drained), in_one.drain())
    assert (in_one.chain, in_one.sequence) == (in_two.chain, in_two.sequence)
    assert verify_records(drained[1], int(drained[0]["chain"][-1]), 2) == (-1, "")


def test_an_append_without_room_is_our_bug_and_is_never_silent() -> None:
    buffer = JournalBuffer(1)
    assert buffer.append(1, 0, bytes(64))
    assert not buffer.append(1, 0, bytes(64))
    assert buffer.overflowed
    assert buffer.sequence == 1
    with pytest.raises(AssertionError, match="reserves room"):
        buffer.drain()


@settings(max_examples=200)
@given(st.integers(0, 9), st.integers(0, 95), st.integers(1, 255))
def test_any_flipped_byte_is_found_at_its_record(row: int, offset: int, flip: int) -> None:
    records = filled([(4, index, bytes([index] * 64)) for index in range(10)]).drain()
    records.view(np.uint8).reshape(10, 96)[row, offset] ^= flip
    index, rule = verify_records(records, start_chain(7), 0)
    assert index == row
    expected = {range(16, 24): "chain", range(28, 30): "version"}
    assert rule == next((name for places, name in expected.items() if offset in places), "crc32c")


@pytest.mark.parametrize(
    ("rows", "index", "rule"),
    [
        ([0, 2, 3], 1, "sequence"),
        ([0, 2, 1, 3], 1, "sequence"),
        ([0, 1, 1, 2], 2, "sequence"),
        ([1, 2, 3], 0, "sequence"),
    ],
)
def test_a_lost_swapped_or_repeated_record_is_found(rows: list[int], index: int, rule: str) -> None:
    records = filled([(4, row, bytes(64)) for row in range(4)]).drain()
    assert verify_records(records[rows], start_chain(7), 0) == (index, rule)


def test_a_record_of_another_run_breaks_the_chain() -> None:
    ours = filled([(4, row, bytes(64)) for row in range(4)]).drain()
    theirs = filled([(4, row, bytes(64)) for row in range(4)], run_id=8).drain()
    ours[2] = theirs[2]
    assert verify_records(ours, start_chain(7), 0) == (2, "chain")


def test_wrong_arguments_are_refused() -> None:
    buffer = JournalBuffer(1)
    with pytest.raises(ValueError, match="64 bytes"):
        buffer.append(1, 0, b"short")
    with pytest.raises(ValueError, match="kind"):
        buffer.append(11, 0, bytes(64))
    with pytest.raises(ValueError, match="capacity"):
        JournalBuffer(0)
    with pytest.raises(ValueError, match="15 bits"):
        JournalBuffer(1, run_id=2**15)
    with pytest.raises(TypeError, match="JOURNAL_DTYPE"):
        verify_records(np.zeros(96, dtype=np.uint8), 0, 0)
    with pytest.raises(TypeError, match="JOURNAL_DTYPE"):
        verify_records(np.zeros(4, dtype=JOURNAL_DTYPE)[::2], 0, 0)

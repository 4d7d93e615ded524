"""The packed block: every bit pattern round-trips, every damaged byte is noticed, nothing is overrun."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.event_array import EVENT_DTYPE
from ext.event_columns import interleave
from ext.journal import crc32c_portable
from ext.packed_block import EVENTS_MAX, HEADER_BYTES, crc32c, pack, unpack

COLUMNS = [name for name in EVENT_DTYPE.names or () if name != "_reserved"]


def unpacked(data: bytes, room: int) -> np.ndarray:
    out = np.zeros(room, EVENT_DTYPE)
    return out[: unpack(data, out)]


@st.composite
def event_arrays(draw: st.DrawFn) -> np.ndarray:
    """Events whose columns are each constant, near a base, stepping, or any bits at all."""
    count = draw(st.integers(1, 300))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    events = np.zeros(count, EVENT_DTYPE)
    for name in EVENT_DTYPE.names or ():
        kind = np.iinfo(EVENT_DTYPE[name])
        base = draw(st.sampled_from((0, kind.min, kind.max)) | st.integers(kind.min, kind.max))
        bits = draw(st.integers(0, 8 * EVENT_DTYPE[name].itemsize))
        noise = random.integers(0, 256, (count, 8), np.uint8).view(np.uint64).ravel()
        noise &= np.uint64((1 << bits) - 1)
        if draw(st.booleans()):
            noise = np.cumsum(noise)
        with np.errstate(over="ignore"):
            wide = np.uint64(base & (1 << 64) - 1) + noise
        events[name] = wide.astype(EVENT_DTYPE[name].str.replace("i", "u")).view(EVENT_DTYPE[name])
    return events


@settings(max_examples=200)
@given(events=event_arrays())
def test_any_events_round_trip_bit_for_bit(events: np.ndarray) -> None:
    data = pack(events)
    assert len(data) <= HEADER_BYTES + 64 * len(events) + 64
    assert unpacked(data, len(events)).tobytes() == events.tobytes()


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_consecutive_blocks_decode_in_one_call(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    blocks = [random.integers(0, 256, (size, 48), np.uint8).view(EVENT_DTYPE).ravel() for size in sizes]
    data = b"".join(map(pack, blocks))
    assert unpacked(data, sum(sizes)).tobytes() == np.concatenate(blocks).tobytes()
    with pytest.raises(ValueError, match="no more events than there is room for"):
        unpacked(data, sum(sizes) - 1)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 4_096, EVENTS_MAX])
def test_sizes_at_the_edges(count: int) -> None:
    random = np.random.default_rng(count)
    events = random.integers(0, 256, (count, 48), np.uint8).view(EVENT_DTYPE).ravel()
    assert unpacked(pack(events), count).tobytes() == events.tobytes()


def test_what_is_no_block_of_events_is_refused() -> None:
    with pytest.raises(ValueError, match="a block holds 1 to"):
        pack(np.zeros(0, EVENT_DTYPE))
    with pytest.raises(ValueError, match="a block holds 1 to"):
        pack(np.zeros(EVENTS_MAX + 1, EVENT_DTYPE))
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        pack(np.zeros(3))
    read_only = np.zeros(3, EVENT_DTYPE)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        unpack(pack(np.zeros(3, EVENT_DTYPE)), read_only)
    assert unpack(b"", np.zeros(0, EVENT_DTYPE)) == 0


def sample() -> np.ndarray:
    events = np.zeros(20, EVENT_DTYPE)
    events["ts_ns"] = 1_700_000_000_000_000_000 + np.cumsum(np.arange(20) * 1_000)
    events["recv_ns"] = events["ts_ns"] + 250
    events["order_id"], events["kind"] = np.arange(20) * 7, np.arange(20) % 3 + 1
    return events


def test_every_flipped_bit_is_noticed() -> None:
    whole = pack(sample())
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            with pytest.raises(ValueError, match="byte 0: expected"):
                unpacked(bytes(damaged), 20)


def test_every_truncation_is_noticed() -> None:
    whole = pack(sample())
    for length in range(1, len(whole)):
        with pytest.raises(ValueError, match="byte 0: expected"):
            unpacked(whole[:length], 20)


@settings(max_examples=300)
@given(
    edits=st.lists(st.tuples(st.integers(0, HEADER_BYTES + 40), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_a_forged_block_decodes_or_is_refused_but_overruns_nothing(edits: list[tuple[int, int]]) -> None:
    forged = bytearray(pack(sample()))
    for place, value in edits:
        forged[place % len(forged)] = value
    resign(forged)
    out = np.zeros(64, EVENT_DTYPE)
    guard = out[32:].tobytes()
    try:
        count = unpack(bytes(forged), out[:32])
    except ValueError:
        count = 0
    assert count <= 32
    assert out[32:].tobytes() == guard


def resign(block: bytearray) -> None:
    """Give a changed block checksums that fit: lane k covers words k, k + 4, ... from byte 32."""
    length = len(block).to_bytes(4, "little")
    start = int.from_bytes(length, "little")
    for lane in range(4):
        words = b"".join(bytes(block[at : at + 8]) for at in range(32 + 8 * lane, len(block), 32))
        begin = start if lane % 2 == 0 else start ^ 0xFFFFFFFF
        # crc32c(data, start) flips its register on the way in and out.
        crc = crc32c(words, begin ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
        block[8 + 4 * lane : 12 + 4 * lane] = crc.to_bytes(4, "little")


def test_resigning_an_unchanged_block_changes_nothing() -> None:
    block = bytearray(pack(sample()))
    before = bytes(block)
    resign(block)
    assert bytes(block) == before


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_checksums_agree_with_the_portable_form_and_go_on(data: bytes, cut: int) -> None:
    assert crc32c(data) == crc32c_portable(data)
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


@given(seed=st.integers(0, 1000), count=st.integers(0, 100))
def test_columns_become_events(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    events = random.integers(0, 256, (count, 48), np.uint8).view(EVENT_DTYPE).ravel()
    events["_reserved"] = 0
    out = np.empty(count, EVENT_DTYPE)
    interleave([np.ascontiguousarray(events[name]) for name in COLUMNS], out)
    assert out.tobytes() == events.tobytes()


def test_columns_of_other_types_or_lengths_are_refused() -> None:
    events = np.zeros(4, EVENT_DTYPE)
    columns = [np.ascontiguousarray(events[name]) for name in COLUMNS]
    for place, bad in ((0, columns[0][:3]), (4, columns[4].astype(np.int64)), (2, events["order_id"])):
        changed = [*columns[:place], bad, *columns[place + 1 :]]
        with pytest.raises(ValueError, match=f"column {place} must be"):
            interleave(changed, events)
    with pytest.raises(ValueError, match="11 columns"):
        interleave(columns[:3], events)

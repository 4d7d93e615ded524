"""Packets in order, beside the plain rule: a message is used if any line brought it in time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.importers.packet_capture import Datagram
from data.importers.packet_order import HELD_BYTES_MAX, WAIT_NS, NumberedPacket, PacketOrder


def packet(sequence: int, messages: int = 1, *, at_ns: int = 0, size: int = 100) -> NumberedPacket:
    return NumberedPacket(sequence, messages, Datagram(0, at_ns, 1, bytes(size)))


def used(order: PacketOrder, received: list[NumberedPacket]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the numbers in the order of their use, and each gap as (first missing, how many)."""
    numbers: list[int] = []
    gaps: list[tuple[int, int]] = []
    dues = [due for one in received for due in order.put(one)] + list(order.rest())
    for due in dues:
        if due.missing:
            gaps.append((due.packet.sequence - due.missing, due.missing))
        numbers += range(due.packet.sequence + due.skip, due.packet.end)
    return numbers, gaps


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=60),
    st.integers(0, WAIT_NS // 2),
    st.integers(0, 2**32),
)
def test_two_lines_together_lose_only_what_both_lost(sizes: list[int], behind_ns: int, seed: int) -> None:
    draw = random.Random(seed)
    sent, at = [], 1
    for number, size in enumerate(sizes):
        sent.append((at, size, number * 1_000_000))
        at += size
    first, *others = sent
    lines = [[first, *(one for one in others if draw.random() > 0.2)] for _ in range(2)]
    received = sorted(
        (at_ns + line * behind_ns + draw.randrange(3_000_000), sequence, size)
        for line, packets in enumerate(lines)
        for sequence, size, at_ns in packets
    )
    # A recording starts with the first of its first packets.
    start = min(sequence for _, sequence, _ in received[:8])
    order = PacketOrder()
    numbers, gaps = used(order, [packet(sequence, size, at_ns=ns) for ns, sequence, size in received])
    brought = {at for _, sequence, size in received for at in range(sequence, sequence + size) if at >= start}
    assert numbers == sorted(brought)
    lost = set(range(start, max(numbers) + 1)) - brought
    assert {at for first, count in gaps for at in range(first, first + count)} == lost
    assert order.duplicates == sum(size for _, _, size in received) - len(numbers)
    assert order.strays == 0


def test_a_line_far_behind_costs_no_look_at_all_that_is_held() -> None:
    count, step = 6_000, WAIT_NS // 20_000
    first = [packet(at, at_ns=at * step) for at in range(1, count) if at != 2]
    second = [packet(at, at_ns=at * step + WAIT_NS // 4) for at in range(1, count)]
    received = sorted([*first, *second], key=lambda one: (one.datagram.recv_ns, one.sequence))
    order = PacketOrder()
    assert used(order, received) == ([*range(1, count)], [])
    assert (order.strays, order.duplicates) == (0, count - 2)


def test_what_is_repeated_does_not_prolong_the_wait_or_make_strays() -> None:
    order, half = PacketOrder(), WAIT_NS // 2
    received = [
        packet(1),
        packet(3, at_ns=5),
        packet(1, at_ns=half),
        packet(1, at_ns=3 * half),
        packet(4, at_ns=3 * half),
    ]
    assert used(order, received) == ([1, 3, 4], [(2, 1)])
    assert (order.strays, order.duplicates) == (0, 2)


def test_waiting_ends_with_the_captures_clock() -> None:
    order = PacketOrder()
    late = [packet(1), packet(3, at_ns=5), packet(4, at_ns=WAIT_NS + 5), packet(2, at_ns=WAIT_NS + 6)]
    assert used(order, late) == ([1, 3, 4], [(2, 1)])
    assert order.duplicates == 1


def test_waiting_ends_with_what_may_be_held() -> None:
    order, size = PacketOrder(), 60_000
    count = HELD_BYTES_MAX // size + 2
    received = [packet(1), *(packet(3 + at, size=size) for at in range(count))]
    found = [due for one in received for due in order.put(one)]
    assert len(found) > count - 2


@pytest.mark.parametrize("wrong", [1 << 61, 1 << 31, 5, 1 << 30 | 5_000])
def test_a_wrong_first_number_makes_nothing_old_and_no_gap(wrong: int) -> None:
    step, begin = WAIT_NS // 100, 1 << 30
    received = [packet(begin + at, at_ns=at * step) for at in range(1_000)]
    received[0] = packet(wrong)
    order = PacketOrder()
    assert used(order, received) == ([*range(begin + 1, begin + 1_000)], [])
    assert order.strays + order.duplicates == 1


def test_a_few_packets_far_apart_are_all_used() -> None:
    order = PacketOrder()
    assert used(order, [packet(5), packet(1 << 40)]) == ([5, 1 << 40], [(6, (1 << 40) - 6)])


@pytest.mark.parametrize("behind", [0, 1, 5])
def test_a_wrong_number_in_the_last_second_makes_no_gap(behind: int) -> None:
    """Told by heartbeats where it is near, by what came behind it where it is far."""
    for wrong, has_heartbeats in ((1 << 61, False), (1 << 21, False), (90, True), (1 << 61, True)):
        if not behind and not has_heartbeats:
            continue  # Nothing tells such a packet from one behind a gap.
        order = PacketOrder()
        received = [packet(at, at_ns=at) for at in range(1, 60)]
        received[58 - behind] = packet(wrong, at_ns=59 - behind)
        found = [due for one in received for due in order.put(one)]
        for _ in range(2 * has_heartbeats):
            order.heartbeat(60)
        found += order.rest()
        numbers = [*range(1, 59 - behind), *range(60 - behind, 60)]
        assert [due.packet.sequence for due in found] == numbers
        assert (order.strays, order.missing_at_end) == (1, 0 if behind else 1)


@pytest.mark.parametrize("names", [[], [61], [61, 63], [9, 9], [1 << 61, 62]])
def test_what_one_heartbeat_says_alone_is_not_believed(names: list[int]) -> None:
    order = PacketOrder()
    found = [due for at in (*range(1, 50), 55, 90) for due in order.put(packet(at))]
    for name in names:
        order.heartbeat(name)
    found += order.rest()
    assert [due.packet.sequence for due in found] == [*range(1, 50), 55, 90]
    assert (order.strays, order.missing_at_end) == (0, 0)


def test_heartbeats_say_nothing_of_what_comes_after_them() -> None:
    order = PacketOrder()
    found = [due for at in range(1, 50) for due in order.put(packet(at))]
    for _ in range(3):
        order.heartbeat(50)
    found += [due for at in range(51, 60) for due in order.put(packet(at))]
    found += order.rest()
    assert [due.packet.sequence for due in found] == [*range(1, 50), *range(51, 60)]
    assert (order.strays, order.missing_at_end, found[49].missing) == (0, 0, 1)


def test_heartbeats_among_the_first_packets_tell_the_same() -> None:
    """Of the first eight, which wait for each other, one is wrong, and some come after the heartbeats."""
    order = PacketOrder()
    found = [due for at in (1, 2, 3, 90, 5) for due in order.put(packet(at))]
    for _ in range(2):
        order.heartbeat(6)
    found += [due for at in (7, 8) for due in order.put(packet(at))]
    found += order.rest()
    assert [(due.packet.sequence, due.missing) for due in found] == [
        (1, 0), (2, 0), (3, 0), (5, 1), (7, 1), (8, 0),
    ]  # fmt: skip
    assert (order.strays, order.missing_at_end) == (1, 0)


def test_messages_that_never_came_are_missing_at_the_end() -> None:
    order = PacketOrder()
    assert len([due for at in range(1, 50) for due in order.put(packet(at))]) == 49
    order.heartbeat(53)
    order.heartbeat(53)
    assert not list(order.rest())
    assert (order.strays, order.missing_at_end) == (0, 3)


@pytest.mark.parametrize("wrong", [1 << 61, 5_000])
def test_one_wrong_number_costs_its_own_packet(wrong: int) -> None:
    step = WAIT_NS // 100
    received = [packet(at, at_ns=at * step) for at in range(1, 1_000)]
    received[99] = packet(wrong, at_ns=100 * step)
    order = PacketOrder()
    assert used(order, received) == ([*range(1, 100), *range(101, 1_000)], [(100, 1)])
    assert (order.strays, order.duplicates) == (1, 0)

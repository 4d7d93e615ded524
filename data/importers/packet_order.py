"""Packets of one numbered feed in the order of their numbers, however a capture received them.

A capture of both lines of a feed holds each packet twice, and what one line lost stands behind packets that
the other sent later; packets also overtake each other. So a packet that comes too early is held until those
before it have come. Waiting ends when the capture's clock has gone on by `WAIT_NS`, when `HELD_BYTES_MAX` are
held, or at the end: what is missing then is a gap. A packet whose number the feed did not reach in that time,
though it went on without a gap, has a wrong number and is left out: one flipped bit must not make all that
follows look old. Nor may the first packet's: where the feed begins is told by the first few together. In
the last second of a capture that time is not over. There a number is wrong that later heartbeats, two alike,
do not know yet, or that lies far beyond a packet with new messages that came after it. What heartbeats know
and never came is missing at the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

from .packet_capture import Datagram

WAIT_NS: Final = 1_000_000_000
HELD_BYTES_MAX: Final = 16 << 20
_FIRST_PACKETS: Final = 8
_FAR_MESSAGES: Final = 1 << 20


class NumberedPacket(NamedTuple):
    """A packet of messages that are numbered one after another.

    Parameters
    ----------
    sequence : int
        Number of the first message.
    messages : int
        At least one.
    datagram : Datagram
    """

    sequence: int
    messages: int
    datagram: Datagram

    @property
    def end(self) -> int:
        return self.sequence + self.messages


class Due(NamedTuple):
    """A packet whose turn has come.

    Parameters
    ----------
    packet : NumberedPacket
    skip : int
        Messages at its beginning that were used already.
    missing : int
        Messages before it that never came.
    """

    packet: NumberedPacket
    skip: int
    missing: int


class PacketOrder:
    """Hand packets on in the order of their numbers, each message once.

    Attributes
    ----------
    duplicates : int
        Messages received more than once.
    strays : int
        Packets left out because their number was far ahead of the feed's.
    missing_at_end : int
        Messages that heartbeats tell of behind the last packet.
    """

    def __init__(self) -> None:
        self.duplicates = self.strays = self.missing_at_end = 0
        self._expected: int | None = None
        self._first: list[NumberedPacket] = []
        self._held: list[tuple[int, int, NumberedPacket]] = []  # a heap by number, then by arrival
        self._held_bytes = 0
        self._arrivals = self._last_new = 0
        self._named: list[int] = []  # by the last two heartbeats
        self._named_at = 0  # arrivals before the last
        self._waiting_since_ns = self._next_look_ns = 0

    def put(self, packet: NumberedPacket) -> Iterator[Due]:
        """Take a packet as it was received; yield those whose turn has come."""
        self._arrivals += 1
        if self._expected is None:
            self._first.append(packet)
            if len(self._first) == _FIRST_PACKETS:
                yield from self._begin()
            return
        now_ns = packet.datagram.recv_ns
        if packet.sequence <= self._expected:
            goes_on = packet.end > self._expected
            self._last_new = self._arrivals if goes_on else self._last_new
            yield from self._use(packet, missing=0)
            # What the slower line repeats says nothing about what is held.
            if not self._held or not goes_on:
                return
            yield from self._continue()
            self._drop_strays(now_ns)
            self._waiting_since_ns = now_ns
            return
        if not self._held:
            self._waiting_since_ns = now_ns
        heapq.heappush(self._held, (packet.sequence, self._arrivals, packet))
        self._held_bytes += len(packet.datagram.payload)
        while self._held and (
            now_ns - self._waiting_since_ns >= WAIT_NS or self._held_bytes > HELD_BYTES_MAX
        ):
            yield from self._pass_gap()
            self._waiting_since_ns = now_ns

    def heartbeat(self, sequence: int) -> None:
        """Note the number that the next message will have, as the feed says while it has nothing to send."""
        self._named, self._named_at = [*self._named[-1:], sequence], self._arrivals

    def _begin(self) -> Iterator[Due]:
        """Start at the lowest number, or the next where that one alone is far behind all the others."""
        numbers = sorted(packet.sequence for packet in self._first)
        is_alone = len(numbers) == _FIRST_PACKETS and numbers[0] + _FAR_MESSAGES < numbers[1]
        self._expected = numbers[1] if is_alone and numbers[-1] - numbers[1] < _FAR_MESSAGES else numbers[0]
        self._arrivals = 0  # they are numbered again, as they came
        for packet in self._first:
            yield from self.put(packet)

    def rest(self) -> Iterator[Due]:
        """Yield what is still held when the capture ends."""
        if self._expected is None and self._first:
            yield from self._begin()
        if self._expected is None:
            return
        named = self._named[0] if len(self._named) == 2 and self._named[0] == self._named[1] else None
        if named is not None and named < self._expected:
            named = None
        kept = [entry for entry in self._held if not self._is_beyond(entry, named, self._expected)]
        self.strays += len(self._held) - len(kept)
        heapq.heapify(kept)
        self._held = kept
        while self._held:
            yield from self._pass_gap()
        if named is not None:
            self.missing_at_end = max(named - self._expected, 0)

    def _is_beyond(self, entry: tuple[int, int, NumberedPacket], named: int | None, expected: int) -> bool:
        """Tell whether a held packet's number is none that the feed had reached."""
        sequence, arrival, _ = entry
        if named is not None and sequence >= named and arrival <= self._named_at:
            return True
        if self._last_new > arrival and sequence > expected + _FAR_MESSAGES:
            return True
        return any(
            later > arrival and sequence > packet.end + _FAR_MESSAGES for _, later, packet in self._held
        )

    def _pass_gap(self) -> Iterator[Due]:
        assert self._expected is not None
        packet = self._pop()
        yield from self._use(packet, missing=packet.sequence - self._expected)
        yield from self._continue()

    def _continue(self) -> Iterator[Due]:
        """Use what is held up to the next gap."""
        assert self._expected is not None
        while self._held and self._held[0][0] <= self._expected:
            yield from self._use(self._pop(), missing=0)

    def _use(self, packet: NumberedPacket, *, missing: int) -> Iterator[Due]:
        assert self._expected is not None
        skip = min(max(self._expected - packet.sequence, 0), packet.messages)
        self.duplicates += skip
        self._expected = max(self._expected, packet.end)
        if skip < packet.messages:
            yield Due(packet, skip, missing)

    def _pop(self) -> NumberedPacket:
        packet = heapq.heappop(self._held)[2]
        self._held_bytes -= len(packet.datagram.payload)
        return packet

    def _drop_strays(self, now_ns: int) -> None:
        if now_ns < self._next_look_ns:
            return
        self._next_look_ns = now_ns + WAIT_NS // 8
        kept = [entry for entry in self._held if now_ns - entry[2].datagram.recv_ns < WAIT_NS]
        self.strays += len(self._held) - len(kept)
        heapq.heapify(kept)
        self._held = kept
        self._held_bytes = sum(len(entry[2].datagram.payload) for entry in kept)

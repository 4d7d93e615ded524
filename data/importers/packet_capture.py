"""UDP payloads of packet captures: classic pcap (µs and ns) and pcapng, over IPv4 and IPv6.

A capture is read as a stream of bounded memory. Packets that carry no UDP are counted by whoever asks;
a frame cut short by the capture's own limit is refused, since a message could be cut with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import DataError

PACKET_BYTES_MAX: Final = 1 << 18
_CLASSIC: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_NEXT_GENERATION: Final = b"\x0a\x0d\x0d\x0a"
# Bytes before the EtherType of each link type: Ethernet, Linux cooked.
_ETHER_TYPE_AT: Final = {1: 12, 113: 14}
_RAW_IP: Final = (12, 101, 228, 229)
_VLAN: Final = (0x8100, 0x88A8, 0x9100)


class Datagram(NamedTuple):
    """One UDP payload.

    Parameters
    ----------
    offset : int
        Of its frame's bytes in the capture.
    recv_ns : int
        The capture's stamp, ns since the Unix epoch.
    port : int
        Destination.
    payload : bytes
    """

    offset: int
    recv_ns: int
    port: int
    payload: bytes


def is_capture(first: bytes) -> bool:
    """Tell a capture from its first four bytes."""
    return first[:4] in _CLASSIC or first[:4] == _NEXT_GENERATION


def datagrams(stream: Iterator[bytes], path: Path) -> Iterator[Datagram]:
    """Yield the UDP datagrams of a capture.

    Raises
    ------
    DataError
        With the byte offset of the record that breaks the format.
    """
    reader = _Bytes(stream, path)
    magic = reader.take(4)
    frames = _classic(reader, magic) if magic in _CLASSIC else _next_generation(reader)
    for offset, recv_ns, link, frame in frames:
        found = _udp(frame, link, path, offset)
        if found is not None:
            yield Datagram(offset, recv_ns, *found)


class _Bytes:
    """Exact reads from a stream of chunks."""

    def __init__(self, stream: Iterator[bytes], path: Path) -> None:
        self._stream, self.path = stream, path
        self._held, self._at, self.offset = b"", 0, 0

    def take(self, count: int, *, or_end: bool = False) -> bytes:
        """Return the next `count` bytes; b"" at the very end where that is legal."""
        while len(self._held) - self._at < count:
            chunk = next(self._stream, b"")
            if not chunk:
                left = len(self._held) - self._at
                if or_end and left == 0:
                    return b""
                raise DataError(
                    f"expected {count} more bytes of a packet capture, was {left}",
                    path=self.path,
                    offset=self.offset,
                )
            self._held, self._at = self._held[self._at :] + chunk, 0
        found = self._held[self._at : self._at + count]
        self._at += count
        self.offset += count
        return found


def _bounded(length: int, reader: _Bytes, least: int = 0) -> int:
    if not least <= length <= PACKET_BYTES_MAX:
        raise DataError(
            f"expected {least} to {PACKET_BYTES_MAX} bytes in a record, was {length}",
            path=reader.path,
            offset=reader.offset,
        )
    return length


def _classic(reader: _Bytes, magic: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    order, unit_ns = _CLASSIC[magic]
    link = struct.unpack(order + "HHIIII", reader.take(20))[5] & 0xFFFF
    record = struct.Struct(order + "IIII")
    while head := reader.take(16, or_end=True):
        seconds, rest, kept, length = record.unpack(head)
        if kept < length:
            raise DataError(f"expected whole packets, was {kept} of {length} bytes", path=reader.path,
                            offset=reader.offset)  # fmt: skip
        offset = reader.offset
        yield offset, seconds * 10**9 + rest * unit_ns, link, reader.take(_bounded(kept, reader))


def _next_generation(reader: _Bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the packets of enhanced packet blocks; other blocks are passed over."""
    order, links = "<", list[tuple[int, int]]()
    head = _NEXT_GENERATION + reader.take(4)
    while head:
        offset = reader.offset
        if head[:4] == _NEXT_GENERATION:
            order_mark = reader.take(4)
            order = "<" if order_mark == b"\x4d\x3c\x2b\x1a" else ">"
            links = []
            body = reader.take(_bounded(struct.unpack(order + "I", head[4:])[0], reader, 28) - 16)
            kind = 0
        else:
            kind, total = struct.unpack(order + "II", head)
            body = reader.take(_bounded(total, reader, 12) - 12)
        reader.take(4)
        if kind == 1 and len(body) >= 8:
            links.append((struct.unpack(order + "H", body[:2])[0], _ticks_per_second(body[8:], order)))
        elif kind == 6 and len(body) >= 20:
            interface, high, low, kept, length = struct.unpack(order + "IIIII", body[:20])
            if interface >= len(links) or kept < length or kept > len(body) - 20:
                raise DataError("expected a whole packet of a described interface, was otherwise",
                                path=reader.path, offset=offset)  # fmt: skip
            link, ticks = links[interface]
            yield offset, (high << 32 | low) * 10**9 // ticks, link, body[20 : 20 + kept]
        head = reader.take(8, or_end=True)


def _ticks_per_second(options: bytes, order: str) -> int:
    """Return the time resolution of an interface: option 9, microseconds without it."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack(order + "HH", options[at : at + 4])
        if code == 9 and length >= 1 and at + 4 < len(options):
            value = options[at + 4]
            return int((2 if value & 0x80 else 10) ** min(value & 0x7F, 60))
        if code == 0:
            break
        at += 4 + (length + 3) // 4 * 4
    return 1_000_000


def _udp(frame: bytes, link: int, path: Path, offset: int) -> tuple[int, bytes] | None:
    """Return destination port and payload; None for what is no whole UDP datagram."""
    if link in _RAW_IP:
        at = 0
    elif link in _ETHER_TYPE_AT:
        at = _ETHER_TYPE_AT[link]
        kind = int.from_bytes(frame[at : at + 2], "big")
        while kind in _VLAN:
            at += 4
            kind = int.from_bytes(frame[at : at + 2], "big")
        if kind not in (0x0800, 0x86DD):
            return None
        at += 2
    else:
        raise DataError(f"expected Ethernet, Linux cooked or raw IP packets, was link type {link}",
                        path=path, offset=offset)  # fmt: skip
    version = frame[at] >> 4 if at < len(frame) else 0
    if version == 4 and len(frame) >= at + 20:
        fragment = int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF
        if frame[at + 9] != 17 or fragment:
            return None
        at += 4 * (frame[at] & 15)
    elif version == 6 and len(frame) >= at + 40 and frame[at + 6] == 17:
        at += 40
    else:
        return None
    if len(frame) < at + 8:
        return None
    port, length = struct.unpack(">HH", frame[at + 2 : at + 6])
    if not 8 <= length <= len(frame) - at:
        raise DataError(f"expected a datagram of 8 to {len(frame) - at} bytes, was {length}",
                        path=path, offset=offset)  # fmt: skip
    return port, frame[at + 8 : at + length]

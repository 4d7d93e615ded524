"""ITCH 5.0 recordings as blocks of decoded events: framed files, and MoldUDP64 in packet captures."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.itch50 import LENGTHS, Itch50Decoder

from ..errors import DataError
from ..lobster import exchange_midnight_ns
from ..schema import EVENT_DTYPE
from .compressed import chunks
from .packet_capture import Datagram, datagrams, is_capture
from .packet_order import Due, NumberedPacket, PacketOrder

MOLD_HEADER: Final = struct.Struct(">10sQH")
END_OF_SESSION: Final = 0xFFFF
_FRAME_BYTES_MAX: Final = 2 + max(LENGTHS.values())
_DAY_FORMS: Final = (
    (re.compile(r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)(?!\d)"), (1, 2, 3)),
    (re.compile(r"(?<!\d)(\d\d)(\d\d)(20\d\d)(?!\d)"), (3, 1, 2)),
    (re.compile(r"(?<![A-Za-z\d])S(\d\d)(\d\d)(\d\d)(?!\d)"), (3, 1, 2)),
)


def day_in(name: str) -> date | None:
    """Return the day in a file's name: 20190130, 2019-01-30, 01302019 or S013019."""
    for form, (year, month, day) in _DAY_FORMS:
        for match in form.finditer(name):
            number = int(match[year])
            try:
                return date(number if number > 99 else 2000 + number, int(match[month]), int(match[day]))
            except ValueError:
                continue
    return None


class ItchFile:
    """One recording of one day, decoded once through.

    Parameters
    ----------
    path : Path
    symbol : bytes, optional
        As for `Itch50Decoder`.
    strict : bool
        Make a gap in the packets' sequence an error instead of counting it.

    Attributes
    ----------
    decoder : Itch50Decoder
        Made when the first bytes told the day.
    day : date or None
        In New York; None where neither name nor capture tells it.
    gaps, lost, duplicates, foreign, strays : int
        Of a capture: breaks in the sequence, messages missing in them, messages received more than
        once, packets that are not MoldUDP64 of the session, and packets with a number far ahead.
    """

    def __init__(
        self,
        path: Path,
        *,
        symbol: bytes | None = None,
        instrument_id: int = 0,
        strict: bool = False,
    ) -> None:
        self.path, self.strict = path, strict
        self.day = day_in(path.name)
        self.decoder = Itch50Decoder()
        self._symbol, self._instrument_id = symbol, instrument_id
        self.session: bytes | None = None
        self.gaps = self.lost = self.duplicates = self.foreign = self.strays = 0

    def _start(self) -> None:
        midnight_ns = exchange_midnight_ns(self.day) if self.day is not None else 0
        self.decoder = Itch50Decoder(
            midnight_ns=midnight_ns, symbol=self._symbol, instrument_id=self._instrument_id
        )

    def blocks(self, block_events: int) -> Iterator[NDArray[np.void]]:
        """Yield the events, in arrays that are the caller's to keep."""
        stream = chunks(self.path)
        first = next(stream, b"")
        if len(first) < 3:
            raise DataError(f"expected at least one message, was {len(first)} bytes", path=self.path)
        if is_capture(first):
            yield from self._captured(_rejoined(first, stream), block_events)
        else:
            self._start()
            yield from self._framed(_rejoined(first, stream), block_events)
        if self.decoder.messages == 0:
            raise DataError("expected at least one ITCH message, was none", path=self.path)

    def _framed(self, stream: Iterator[bytes], block_events: int) -> Iterator[NDArray[np.void]]:
        out = np.empty(block_events, EVENT_DTYPE)
        held, offset = b"", 0
        for chunk in stream:
            data, at = held + chunk, 0
            while True:
                written, position = self.decoder.decode(data, out, start=at)
                if written:
                    yield out[:written].copy()
                self._require_sound(offset + position, data[position:])
                if position == at:
                    break
                at = position
            held, offset = data[at:], offset + at
        # A length of 0 with nothing behind it is how the binary file format ends a session.
        if held not in (b"", b"\0\0"):
            raise DataError(f"expected a whole message, was {len(held)} bytes", path=self.path, offset=offset)

    def _require_sound(self, offset: int, rest: bytes) -> None:
        if self.decoder.fault is not None:
            found = rest[:_FRAME_BYTES_MAX].hex(" ")
            raise DataError(f"{self.decoder.fault}, was {found}", path=self.path, offset=offset)

    def _captured(self, stream: Iterator[bytes], block_events: int) -> Iterator[NDArray[np.void]]:
        room = max(block_events, 1 << 17)  # a datagram of the smallest messages, replaces twofold
        out, held = np.empty(room, EVENT_DTYPE), 0
        for due in self._in_order(stream):
            datagram, messages = due.packet.datagram, due.packet.messages - due.skip
            if self.decoder.messages == 0:
                self._start()
            if due.missing:
                self._gap(due)
            before = self.decoder.messages
            if room - held < 2 * messages + 2:
                yield out[:held].copy()
                held = 0
            written, position = self.decoder.decode(
                datagram.payload,
                out[held:],
                start=self._skip(datagram, MOLD_HEADER.size, due.skip),
                recv_ns=datagram.recv_ns,
            )
            self._require_sound(datagram.offset, datagram.payload[position:])
            if position != len(datagram.payload) or self.decoder.messages - before != messages:
                raise DataError(
                    f"expected {due.packet.messages} whole messages in a packet, "
                    f"was {due.skip + self.decoder.messages - before}",
                    path=self.path,
                    offset=datagram.offset,
                )
            held += written
            if held >= block_events:
                yield out[:held].copy()
                held = 0
        if held:
            yield out[:held].copy()

    def _in_order(self, stream: Iterator[bytes]) -> Iterator[Due]:
        order = PacketOrder()
        for datagram in datagrams(stream, self.path):
            packet = self._mold(datagram, order)
            if packet is None:
                continue
            if self.day is None:
                self.day = _new_york_day(datagram.recv_ns)
            yield from order.put(packet)
        yield from order.rest()
        self.duplicates, self.strays = order.duplicates, order.strays
        if order.missing_at_end:
            if self.strict:
                raise DataError(
                    f"expected {order.missing_at_end} messages more, as heartbeats tell, was the end",
                    path=self.path,
                )
            self.gaps += 1
            self.lost += order.missing_at_end

    def _mold(self, datagram: Datagram, order: PacketOrder) -> NumberedPacket | None:
        """Return the packet if it holds messages of the session."""
        if len(datagram.payload) < MOLD_HEADER.size:
            self.foreign += 1
            return None
        session, sequence, count = MOLD_HEADER.unpack_from(datagram.payload)
        if self.session is None and count not in (0, END_OF_SESSION):
            self.session = session
        if count in (0, END_OF_SESSION):
            if session == self.session:
                order.heartbeat(sequence)
            return None
        if session != self.session:
            self.foreign += 1
            return None
        if sequence >= 1 << 62:
            raise DataError(f"sequence number must fit 62 bits, was {sequence}", path=self.path,
                            offset=datagram.offset)  # fmt: skip
        return NumberedPacket(sequence, count, datagram)

    def _gap(self, due: Due) -> None:
        if self.strict:
            sequence = due.packet.sequence
            raise DataError(f"expected sequence number {sequence - due.missing}, was {sequence}",
                            path=self.path, offset=due.packet.datagram.offset)  # fmt: skip
        self.gaps += 1
        self.lost += due.missing

    def _skip(self, datagram: Datagram, at: int, messages: int) -> int:
        """Return where the message stands that comes `messages` later."""
        payload = datagram.payload
        for _ in range(messages):
            if at + 2 > len(payload):
                raise DataError("expected a whole message in a packet, was less", path=self.path,
                                offset=datagram.offset)  # fmt: skip
            at += 2 + int.from_bytes(payload[at : at + 2], "big")
        return min(at, len(payload))


def _rejoined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _new_york_day(recv_ns: int) -> date:
    days = recv_ns // (86_400 * 10**9)
    try:
        today = date.fromordinal(date(1970, 1, 1).toordinal() + days)
        # Before midnight in New York it is still yesterday there.
        return today if recv_ns >= exchange_midnight_ns(today) else date.fromordinal(today.toordinal() - 1)
    except (ValueError, OverflowError):
        return date(1970, 1, 1)

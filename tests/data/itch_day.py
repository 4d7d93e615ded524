"""A made-up ITCH 5.0 day, and the slow decoder that the compiled one is compared with.

Both are written from the message tables of the specification, field by field, with nothing in common
but the `struct` formats.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

FORMATS = {
    "S": "c", "R": "8sccIcc2scccccIc", "H": "8scc4s", "Y": "8sc", "L": "4s8sccc", "V": "QQQ", "W": "c",
    "K": "8sIcI", "J": "8sIIII", "h": "8scc", "A": "QcI8sI", "F": "QcI8sI4s", "E": "QIQ", "C": "QIQcI",
    "X": "QI", "D": "Q", "U": "QQII", "P": "QcI8sIQ", "Q": "Q8sIQc", "B": "Q", "I": "QQc8sIIIcc",
    "N": "8sc", "O": "8scIIIQII",
}  # fmt: skip
"""Struct format of each type's fields after its 11-byte head, big-endian."""


RARE = "LVWKJhPQBINOYHQ"


def message(kind: str, locate: int, clock_ns: int, *fields: object) -> bytes:
    """Encode one message, without its length."""
    head = kind.encode() + struct.pack(">HH", locate, 0) + clock_ns.to_bytes(6, "big")
    return head + struct.pack(">" + FORMATS[kind], *fields)


def framed(messages: list[bytes], *, zero: bool = False) -> bytes:
    return b"".join((0 if zero else len(body)).to_bytes(2, "big") + body for body in messages)


class ItchDay:
    """Random orders on books of several symbols; bids below 100.00 and asks above, so never crossed.

    Parameters
    ----------
    every_type : bool
        Mix in all types of the specification, not only those of orders.
    """

    def __init__(self, *, seed: int, symbols: int, messages: int, every_type: bool = True) -> None:
        self.draw = random.Random(seed)
        self.every_type = every_type
        self.clock_ns, self.next_id = 4 * 3_600 * 10**9, 1
        self.names = [f"T{number:04}".encode().ljust(8) for number in range(symbols)]
        self.orders: list[tuple[int, int]] = []  # (id, locate)
        self.left: dict[int, int] = {}
        self.sides: dict[int, bytes] = {}
        self.rare = 0
        self.messages = [message("S", 0, self.clock_ns, b"O")]
        for locate, name in enumerate(self.names, start=1):
            self._put("R", locate, name, b"Q", b"N", 100, b"N", b"C", b"Z ", b"P", b"N", b"N", b"1", b"N", 0,
                      b"N")  # fmt: skip
            self._put("H", locate, name, b"T", b" ", b"    ")
            self._put("Y", locate, name, b"0")
        self._put("S", 0, b"S")
        while len(self.messages) < messages - 1:
            self._step()
        self._put("S", 0, b"C")

    def _put(self, kind: str, locate: int, *fields: object) -> None:
        self.messages.append(message(kind, locate, self.clock_ns, *fields))

    def _price(self, side: bytes) -> int:
        away = min(int(self.draw.expovariate(0.1)), 5_000) + 1
        return 1_000_000 + 100 * (-away if side == b"B" else away)

    def _step(self) -> None:
        draw = self.draw
        self.clock_ns += int(draw.expovariate(1e-4))
        action = draw.random()
        if action < 0.46 or len(self.orders) < 5:
            locate, side, size = draw.randint(1, len(self.names)), draw.choice((b"B", b"S")), 100
            size *= draw.randint(1, 9)
            fields = (self.next_id, side, size, self.names[locate - 1], self._price(side))
            if draw.random() < 0.05:
                self._put("F", locate, *fields, b"MPID")
            else:
                self._put("A", locate, *fields)
            self._live(locate, size, side)
            return
        if action >= 0.985:
            if self.every_type:
                self._rare()
            return
        place = draw.randrange(len(self.orders))
        order_id, locate = self.orders[place]
        if action < 0.86:
            self._put("D", locate, order_id)
            self._dead(place)
        elif action < 0.92:
            side = self.sides[order_id]
            self._put("U", locate, order_id, self.next_id, 300, self._price(side))
            self._dead(place)
            self._live(locate, 300, side)
        else:
            kind = draw.choice("EEECX")
            size = draw.randint(1, self.left[order_id])
            if kind == "E":
                self._put("E", locate, order_id, size, 7)
            elif kind == "C":
                self._put("C", locate, order_id, size, 7, draw.choice((b"Y", b"N")), 1_000_000)
            else:
                self._put("X", locate, order_id, size)
            self.left[order_id] -= size
            if self.left[order_id] == 0:
                self._dead(place)

    def _live(self, locate: int, size: int, side: bytes) -> None:
        self.orders.append((self.next_id, locate))
        self.left[self.next_id], self.sides[self.next_id] = size, side
        self.next_id += 1

    def _dead(self, place: int) -> None:
        order_id, _ = self.orders[place]
        self.orders[place] = self.orders[-1]
        self.orders.pop()
        del self.left[order_id], self.sides[order_id]

    def _rare(self) -> None:
        locate = self.draw.randint(1, len(self.names))
        name = self.names[locate - 1]
        price, size = self.draw.randint(1, 2_000_000), self.draw.randint(1, 1_000)
        # Each type in its turn, so that no day of some length lacks one.
        kind = RARE[self.rare % len(RARE)]
        self.rare += 1
        fields: dict[str, tuple[object, ...]] = {
            "L": (b"MPID", name, b"Y", b"N", b"A"),
            "V": (10**8, 10**9, 10**10),
            "W": (b"1",),
            "K": (name, 34_200, b"A", price),
            "J": (name, price, price + 1, price - 1, 0),
            "h": (name, b"Q", b"T"),
            "P": (0, b"B", size, name, price, 9),
            "Q": (self.draw.choice((0, size)), name, price, 11, b"O"),
            "B": (9,),
            "I": (size, size, b"B", name, price, price, price, b"O", b" "),
            "N": (name, b"A"),
            "O": (name, b"N", 1, 2, 3, 4, 5, 6),
            "Y": (name, b"1"),
            "H": (name, self.draw.choice((b"H", b"P", b"Q", b"T")), b" ", b"T1  "),
        }
        self._put(kind, 0 if kind in "VW" else locate, *fields[kind])


Row = tuple[int, int, int, int, int, int, int, int, int]


def reference_events(messages: list[bytes], *, midnight_ns: int, locate: int | None = None) -> Iterator[Row]:
    """Yield (ts_ns, order_id, size, price, seq, locate, kind, side, flags) as complete events."""
    orders: dict[int, list[int]] = {}  # id -> [side, price, left]
    add, cancel, reduce, execute, trade, status = 1, 2, 3, 4, 5, 9
    last, hidden, auction = 1, 2, 8
    for seq, body in enumerate(messages):
        kind, its_locate = chr(body[0]), int.from_bytes(body[1:3], "big")
        if locate is not None and its_locate != locate and kind not in "SW":
            continue
        ts_ns = midnight_ns + int.from_bytes(body[5:11], "big")
        fields = struct.unpack(">" + FORMATS[kind], body[11:])

        def event(order_id: int, size: int, price: int, code: int, side: int = 0, flags: int = last,
                  ts_ns: int = ts_ns, seq: int = seq, its_locate: int = its_locate) -> Row:  # fmt: skip
            return ts_ns, order_id, size, price, seq, its_locate, code, side, flags

        if kind in "AF":
            order_id, letter, size, _, price = fields[:5]
            orders[order_id] = [1 if letter == b"B" else -1, price, size]
            yield event(order_id, size, price, add, orders[order_id][0])
        elif kind in "ECX":
            side, price, _ = orders[fields[0]]
            orders[fields[0]][2] -= fields[1]
            if orders[fields[0]][2] == 0:
                del orders[fields[0]]
            flags = last
            if kind == "C":
                price, flags = fields[4], last if fields[3] == b"Y" else last | auction
            yield event(fields[0], fields[1], price, reduce if kind == "X" else execute, side, flags)
        elif kind == "D":
            side, price, left = orders.pop(fields[0])
            yield event(fields[0], left, price, cancel, side)
        elif kind == "U":
            side, price, left = orders.pop(fields[0])
            orders[fields[1]] = [side, fields[3], fields[2]]
            yield event(fields[0], left, price, cancel, side, 0)
            yield event(fields[1], fields[2], fields[3], add, side)
        elif kind == "P":
            yield event(0, fields[2], fields[4], trade, 0, last | hidden)
        elif kind == "Q" and fields[0]:
            yield event(0, fields[0], fields[2], trade, 0, last | auction)
        elif kind == "H":
            yield event(0, {b"H": -1, b"P": -1, b"Q": 0, b"T": 1}[fields[1]], 0, status)
        elif kind in "SWYhKJ":
            detail = {"S": 0, "W": 0, "Y": 1, "h": 2, "K": 2}.get(kind)
            code = ord(kind) << 8 | (fields[detail][0] if detail is not None else 0)
            price = fields[3] if kind == "K" else fields[1] if kind == "J" else 0
            yield event(0, code, price, status)


def mold_packet(session: bytes, sequence: int, messages: list[bytes], *, count: int | None = None) -> bytes:
    """Encode one MoldUDP64 packet."""
    number = len(messages) if count is None else count
    return session.ljust(10) + struct.pack(">QH", sequence, number) + framed(messages)


def pcap(packets: list[tuple[int, bytes]], *, nanoseconds: bool = True) -> bytes:
    """Encode UDP payloads with their receipt times (ns) as a classic capture over Ethernet and IPv4."""
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1_000)
    out = [struct.pack("<IHHIIII", magic, 2, 4, 0, 0, 65_535, 1)]
    for recv_ns, payload in packets:
        udp = struct.pack(">HHHH", 5_000, 26_400, 8 + len(payload), 0) + payload
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 16, 17, 0, bytes(4), bytes(4)) + udp
        frame = bytes(12) + b"\x08\x00" + ip
        seconds, rest = divmod(recv_ns, 10**9)
        out.append(struct.pack("<IIII", seconds, rest // unit, len(frame), len(frame)) + frame)
    return b"".join(out)

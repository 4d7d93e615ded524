"""ITCH 5.0 bytes to events, and on into every symbol's book, from a generated day in memory.

The floor reads the day's bytes and writes as many as the events have: what any decoder of this layout
must do. On an even day every symbol is as likely as any and orders live for exponential times, so what a
message touches is mostly not in the cache: the worst case of a real day. On an uneven day activity falls
with a symbol's rank and most orders leave soon after they came, while as many stand on average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE
from ext.book_table import BookTable
from ext.itch50 import Itch50Decoder

from .harness import Bench, scenario

BLOCK_EVENTS = 8_192
SYMBOLS = 500
_LIFE_SIGMA = 2.0  # of the logarithm: half of the orders are gone after an eighth of the mean life
_HEAD = [
    ("length", ">u2"),
    ("kind", "S1"),
    ("locate", ">u2"),
    ("track", ">u2"),
    ("high", ">u2"),
    ("low", ">u4"),
]
_ADD = np.dtype([*_HEAD, ("id", ">u8"), ("side", "S1"), ("size", ">u4"), ("stock", "S8"), ("price", ">u4")])
_EXECUTE = np.dtype([*_HEAD, ("id", ">u8"), ("size", ">u4"), ("match", ">u8")])
_DELETE = np.dtype([*_HEAD, ("id", ">u8")])


def generated_day(orders: int, *, symbols: int, seed: int, even: bool = True) -> tuple[bytes, int]:
    """Return framed messages of orders that come, sometimes trade in part, and go; and their number."""
    random = np.random.default_rng(seed)
    # Clock in ns after midnight; a mean life of 40,000 arrivals keeps about as many orders standing.
    born = 34_200 * 10**9 + np.cumsum(random.integers(100, 2_000, orders))
    if even:
        lives = random.exponential(1.0, orders)
        locate = random.integers(1, symbols + 1, orders)
    else:
        lives = random.lognormal(-(_LIFE_SIGMA**2) / 2, _LIFE_SIGMA, orders)
        weights = 1 / np.arange(1, symbols + 1)
        locate = random.choice(random.permutation(symbols) + 1, orders, p=weights / weights.sum())
    gone = born + 1 + (lives * 40_000 * 1_050).astype(np.int64)
    hit = random.random(orders) < 0.1
    side = np.where(random.random(orders) < 0.5, b"B", b"S")
    away = 100 * (1 + np.minimum(random.exponential(10, orders), 500).astype(np.int64))
    parts: list[tuple[NDArray[np.int64], NDArray[np.void]]] = []
    ids = np.arange(1, orders + 1)
    for dtype, kind, clock_ns, chosen in (
        (_ADD, b"A", born, slice(None)),
        (_EXECUTE, b"E", (born + gone) // 2, hit),
        (_DELETE, b"D", gone, slice(None)),
    ):
        times = clock_ns[chosen]
        records = np.zeros(len(times), dtype)
        records["length"], records["kind"] = dtype.itemsize - 2, kind
        records["locate"], records["id"] = locate[chosen], ids[chosen]
        records["high"], records["low"] = times >> 32, times & 0xFFFFFFFF
        if dtype is _ADD:
            records["side"], records["size"] = side, 300
            records["price"] = 1_000_000 + np.where(side == b"B", -away, away)
            records["stock"] = np.char.mod(b"T%07d", locate)
        elif dtype is _EXECUTE:
            records["size"] = 100
        parts.append((times, records))
    order = np.argsort(np.concatenate([times for times, _ in parts]), kind="stable")
    lengths = np.concatenate([np.full(len(times), records.itemsize) for times, records in parts])
    starts = np.empty(len(order), np.int64)
    starts[order] = np.concatenate(([0], np.cumsum(lengths[order])[:-1]))
    data, done = np.empty(int(lengths.sum()), np.uint8), 0
    for times, records in parts:
        places = starts[done : done + len(times), None] + np.arange(records.itemsize)
        data[places] = records.view(np.uint8).reshape(len(times), -1)
        done += len(times)
    return data.tobytes(), len(order)


def _replay(data: bytes, books: BookTable | None) -> Itch50Decoder:
    decoder, out, at = Itch50Decoder(), np.empty(BLOCK_EVENTS, EVENT_DTYPE), 0
    while at < len(data):
        written, position = decoder.decode(data, out, start=at)
        if books is not None:
            books.complete(out[:written])
        if position == at:
            break
        at = position
    return decoder


def _floor(data: bytes, messages: int) -> Callable[[], None]:
    source = np.frombuffer(data, np.uint8)
    target = np.zeros(BLOCK_EVENTS * EVENT_DTYPE.itemsize, np.uint8)
    blocks = -(-messages // BLOCK_EVENTS)
    read = -(-len(source) // blocks)

    def copy() -> None:
        for block in range(blocks):
            part = source[block * read : (block + 1) * read]
            target.fill(1)
            target[: len(part)] = part[: len(target)]

    return copy


@scenario(
    "itch-decode",
    "ITCH 5.0 messages into events",
    conditions=f"{SYMBOLS} symbols, all kept, blocks of {BLOCK_EVENTS}; floor: bytes read, events written.",
)
def itch_decode(bench: Bench) -> None:
    orders = bench.parameter("orders", smoke=2_000, full=1_000_000)
    data, messages = generated_day(orders, symbols=SYMBOLS, seed=bench.seed)
    done: list[Itch50Decoder] = []

    def decode() -> None:
        done[:] = [_replay(data, None)]

    bench.throughput("message", decode, count=messages, floor=_floor(data, messages))
    bench.verify(done[0].messages == messages and done[0].fault is None, "every message is decoded")


@scenario(
    "itch-books",
    "ITCH 5.0 messages into the books of all symbols",
    conditions=f"{SYMBOLS} symbols, blocks of {BLOCK_EVENTS}, ids counted through all symbols, about 40,000 "
    "orders standing; even: any symbol as likely, exponential lives; uneven: a symbol's share is as 1/rank, "
    "log-normal lives of sigma 2; floor: as itch-decode.",
)
def itch_books(bench: Bench) -> None:
    orders = bench.parameter("orders", smoke=2_000, full=1_000_000)
    for name, even in (("message, even day", True), ("message, uneven day", False)):
        data, messages = generated_day(orders, symbols=SYMBOLS, seed=bench.seed, even=even)
        _measure_books(bench, name, data, messages)


def _measure_books(bench: Bench, name: str, data: bytes, messages: int) -> None:
    done: list[BookTable] = []

    def replay() -> None:
        done[:] = [BookTable()]
        _replay(data, done[0])

    bench.throughput(name, replay, count=messages, floor=_floor(data, messages))
    table = done[0]
    live = sum(table.book(locate).live_orders for locate in table.instruments())
    bench.verify(
        live == table.unknown_orders == table.overdrawn == table.crossed == 0,
        "every order is known when it trades and leaves, and all have left",
    )

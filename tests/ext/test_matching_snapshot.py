"""Snapshots of the matching engine: what they keep, and what a forged one is refused for."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from alone import run_alone
from matching_flow import flow, orders, rows
from numpy.typing import NDArray

from data.schema import REPORT_DTYPE, OrderAction, OrderFlag, OrderType, TimeInForce
from ext.matching_engine import MatchingEngine
from tests.reference.matching_orders import INT32_MAX, INT64_MAX, Command

HEADER_BYTES = 120
RECORD = np.dtype(
    [
        ("order_id", "<u8"), ("size_lots", "<i8"), ("price_ticks", "<i4"), ("book", "u1"), ("side", "u1"),
        ("special", "u1"), ("_unused", "u1"), ("_reserved", "<u8"), ("reserve_lots", "<i8"),
        ("expire_ns", "<i8"), ("owner", "<u4"), ("display_lots", "<u4"), ("limit_ticks", "<i4"),
        ("peg_offset_ticks", "<i4"), ("minimum_lots", "<u4"), ("next_free", "<u4"), ("order_type", "u1"),
        ("time_in_force", "u1"), ("flags", "u1"), ("_pad", "u1"), ("_padding", "<u4"),
        ("peg_sequence", "<u8"),
    ]
)  # fmt: skip
PLAIN, ICEBERG, HIDDEN, PEG, STOP, ENDING = 1, 2, 3, 4, 5, 6


def crc32c(block: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in block:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sealed(block: bytearray) -> bytes:
    """Give a snapshot that was tampered with its checksum back."""
    block[12:16] = bytes(4)
    block[12:16] = crc32c(bytes(block)).to_bytes(4, "little")
    return bytes(block)


def every_kind() -> MatchingEngine:
    engine = MatchingEngine(tick_size_ticks=2)
    more = {"flags": OrderFlag.HIDDEN, "minimum": 3}
    engine.submit(
        orders(
            Command(PLAIN, ts_ns=50, side=1, size=5, price=100),
            Command(ICEBERG, side=1, size=70, price=100, display=10),
            Command(HIDDEN, side=1, size=9, price=98, **more),
            Command(7, side=-1, size=9, price=110),
            Command(PEG, side=1, size=4, price=INT32_MAX, order_type=OrderType.PEG_MID),
            Command(STOP, side=1, size=4, price=130, stop=120, order_type=OrderType.STOP_LIMIT, display=2),
            Command(ENDING, side=-1, size=4, price=112, tif=TimeInForce.GTD, expire_ns=60),
        )
    )
    return engine


def forged(of: int, **changes: int) -> bytes:
    block = bytearray(every_kind().snapshot())
    records = np.frombuffer(block, RECORD, offset=HEADER_BYTES)
    place = records["order_id"].tolist().index(of)
    for name, value in changes.items():
        records[name][place] = value
    return sealed(block)


def test_a_snapshot_with_its_own_checksum_is_taken() -> None:
    engine, copy = every_kind(), MatchingEngine()
    assert sealed(bytearray(engine.snapshot())) == engine.snapshot()
    copy.restore(engine.snapshot())
    assert copy.snapshot() == engine.snapshot()
    assert copy.state_hash() == engine.state_hash()


@pytest.mark.parametrize(
    ("order_id", "changes", "rule"),
    [
        (PLAIN, {"order_id": 0}, "unique"),
        (PLAIN, {"order_id": ICEBERG}, "unique"),
        (PLAIN, {"size_lots": 0}, "positive"),
        (PLAIN, {"book": 3}, "book, side and kind"),
        (PLAIN, {"price_ticks": 99}, "tick size"),
        (PLAIN, {"size_lots": 6}, "lots accepted"),
        (ICEBERG, {"display_lots": 1, "size_lots": 1, "reserve_lots": 65_536}, "65,536"),
        (ICEBERG, {"size_lots": 11, "reserve_lots": 59}, "a slice"),
        (ICEBERG, {"reserve_lots": -1}, "reserves"),
        (ICEBERG, {"reserve_lots": 2**48}, "reserves"),
        (ICEBERG, {"display_lots": 0}, "is an iceberg"),
        (ICEBERG, {"order_type": OrderType.MARKET}, "type that rests"),
        (ICEBERG, {"time_in_force": TimeInForce.IOC}, "end at once"),
        (ICEBERG, {"time_in_force": 9}, "known"),
        (ICEBERG, {"flags": 64}, "known"),
        (ICEBERG, {"flags": OrderFlag.HIDDEN}, "book of hidden"),
        (ICEBERG, {"peg_sequence": 1}, "numbered"),
        (HIDDEN, {"flags": 0}, "book of hidden"),
        (HIDDEN, {"display_lots": 5}, "show nothing"),
        (PEG, {"peg_sequence": 0}, "numbered"),
        (PEG, {"peg_sequence": 9}, "numbered"),
        (PEG, {"price_ticks": 111}, "crossed"),
        (STOP, {"book": 0}, "book of stops"),
        (STOP, {"price_ticks": 121}, "tick size"),
        (STOP, {"reserve_lots": 1}, "is an iceberg"),
        (ENDING, {"expire_ns": 50}, "over"),
        (ENDING, {"time_in_force": TimeInForce.GTC}, "over"),
    ],
)
def test_a_forged_snapshot_is_refused_for_the_rule_it_breaks(
    order_id: int, changes: dict[str, int], rule: str
) -> None:
    engine = every_kind()
    before = engine.state_hash()
    with pytest.raises(ValueError, match=f"snapshot: order .*{rule}"):
        engine.restore(forged(order_id, **changes))
    assert engine.state_hash() == before


def test_orders_that_behave_alike_are_written_alike() -> None:
    def records(*commands: Command) -> bytes:
        engine = MatchingEngine()
        engine.submit(orders(Command(1, side=-1, size=4, price=100), *commands))
        return engine.snapshot()[HEADER_BYTES:]

    held = {"side": 1, "price": 100, "owner": 7}
    rests = records(Command(2, size=9, **held))
    assert records(Command(2, size=9, minimum=3, **held)) == rests
    moved = Command(2, action=OrderAction.REPLACE, size=9, price=100)
    assert records(Command(2, side=1, size=5, price=99, owner=7), moved) == rests


def test_the_touch_of_pegs_that_are_gone_is_not_written() -> None:
    engine = every_kind()
    touch = slice(HEADER_BYTES - 16, HEADER_BYTES)
    empty = MatchingEngine().snapshot()[touch]
    assert engine.snapshot()[touch] != empty
    engine.cancel(PEG)
    assert engine.snapshot()[touch] == empty


def test_looking_at_an_engine_keeps_its_last_reports() -> None:
    engine = every_kind()
    engine.limit(20, -1, 98, 5)
    reports = rows(engine.last_reports())
    assert len(reports) > 1
    for look in (engine.snapshot, engine.state_hash, engine.verify, lambda: engine.indicative(100)):
        look()
        assert rows(engine.last_reports()) == reports
    engine.restore(engine.snapshot())
    assert rows(engine.last_reports()) == []


def test_last_reports_never_reads_past_the_engines_own_block() -> None:
    batch = orders(*(Command(number, side=1, size=1, price=100) for number in range(1, 3_001)))
    engine, out = MatchingEngine(4, 4), np.zeros(10_000, REPORT_DTYPE)
    assert len(engine.submit(batch, out)) == 3_000  # more than the engine has a block for
    assert len(engine.last_reports()) == 0
    assert engine.limit(9_999, 1, 100, 1) == (0, 1, 0)
    assert rows(engine.last_reports())[0][0] == 9_999


Call = Callable[[MatchingEngine], object]
BAD_CALLS: list[Call] = [
    lambda engine: engine.submit(np.zeros(3)),  # type: ignore[arg-type]
    lambda engine: engine.submit(orders(Command(1)), np.zeros(3)),  # type: ignore[arg-type]
    lambda engine: engine.submit(None),  # type: ignore[arg-type]
    lambda engine: engine.time_commands(np.zeros(3)),  # type: ignore[arg-type]
    lambda engine: engine.restore(b""),
    lambda engine: engine.restore(forged(PLAIN, size_lots=0)),
    lambda engine: engine.restore(engine.snapshot()[:-1]),
    lambda engine: engine.resume(),
    lambda engine: engine.uncross(100),
    lambda engine: engine.set_price_band(2, 1),
    lambda engine: engine.depth_array(0, 1),
    lambda engine: engine.depth_array(1, -1),
    lambda engine: engine.queue_array(5, 1),
    lambda engine: engine.limit(-1, 1, 1, 1),
    lambda engine: engine.cancel(2**64),
]


@pytest.mark.parametrize("bad", range(len(BAD_CALLS)))
def test_a_call_that_raises_leaves_the_engine_as_it_was_and_free(bad: int) -> None:
    engine = every_kind()
    before = engine.snapshot()
    with pytest.raises((TypeError, ValueError, OverflowError)):
        BAD_CALLS[bad](engine)
    assert engine.snapshot() == before
    taken: list[NDArray[np.void]] = []
    thread = threading.Thread(target=lambda: taken.append(engine.submit(orders(Command(30, side=1, size=1)))))
    thread.start()
    thread.join()
    assert rows(taken[0])[0][:2] == (30, 1)


def test_a_snapshot_of_any_flow_is_taken_back() -> None:
    for seed in range(8):
        engine, copy = MatchingEngine(self_trade="cancel_oldest"), MatchingEngine(1, 1)
        commands = orders(*flow(seed, 900, core_only=False))
        engine.submit(commands[:600])
        copy.restore(engine.snapshot())
        assert copy.submit(commands[600:]).tobytes() == engine.submit(commands[600:]).tobytes()
        assert copy.snapshot() == engine.snapshot()
        assert copy.now_ns < INT64_MAX


def test_a_snapshot_too_large_for_memory_is_not_called_damaged() -> None:
    told = run_alone("""
        import resource
        import numpy as np
        from data.schema import ORDER_DTYPE
        from ext.matching_engine import MatchingEngine

        orders = np.zeros(200_000, ORDER_DTYPE)
        orders["client_order_id"] = np.arange(1, len(orders) + 1)
        orders["action"], orders["order_type"], orders["time_in_force"] = 1, 1, 1
        orders["side"], orders["size_lots"], orders["price_ticks"] = 1, 5, 100
        full, other = MatchingEngine(), MatchingEngine(16, 16)
        full.submit(orders)
        snapshot, state = full.snapshot(), other.state_hash()
        del full, orders
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize() + len(snapshot)
        resource.setrlimit(resource.RLIMIT_AS, (now + (4 << 20), now + (4 << 20)))
        try:
            other.restore(snapshot)
        except MemoryError as error:
            print(error)
        print(other.state_hash() == state)
    """)
    assert told.splitlines() == ["no memory for a snapshot of 200000 orders", "True"]

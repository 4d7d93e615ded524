"""Commands through the matching engine: adds, cancels and crossing orders at three sizes of book.

The flow is made before the clock starts: 47.5 % passive adds, 42.5 % cancels of live orders, 10 % orders
that cross and take half an average order, so that the book keeps its size. Ids are hashed to 64 bits, or
dense: the numbers from 1 up.
The floor is what any engine must do for it: read each 64-byte command, write its 64-byte answer, and
reach one 32-byte order in a table of the book's size; numpy does the three, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.schema import ORDER_DTYPE, REPORT_DTYPE, OrderAction, OrderType, ReportKind, TimeInForce
from ext.matching_engine import MatchingEngine

from .harness import Bench, scenario

BATCH_COMMANDS = 4_096
LARGE_BATCH_COMMANDS = 250_000
SINGLE_CALLS_MAX = 500_000
FULL_COMMANDS = 10_000_000
MID_TICKS = 1_000_000
DEPTH_TICKS = 32
SIZE_LOTS = 100
P99_PARTS = 16
NEW = int(OrderAction.NEW)
ID_FACTOR = np.uint64(0x9E3779B97F4A7C15)
COUNTER_FACTOR = np.uint64(pow(int(ID_FACTOR), -1, 2**64))
CONDITIONS = (
    f"batches of {BATCH_COMMANDS} commands and their reports through Python into one array, "
    f"plain orders around a fixed mid, mean depth {DEPTH_TICKS} ticks; floor: numpy copies command to answer "
    "and gathers one 32-byte node each."
)


def passive_orders(draw: np.random.Generator, first: int, count: int) -> NDArray[np.void]:
    """Return `count` limit orders that rest, with ids from the counter `first` on."""
    orders = np.zeros(count, ORDER_DTYPE)
    side = draw.choice(np.array([-1, 1]), count)
    orders["client_order_id"] = np.arange(first, first + count, dtype=np.uint64) * ID_FACTOR
    orders["action"], orders["order_type"] = OrderAction.NEW, OrderType.LIMIT
    orders["time_in_force"] = TimeInForce.GTC
    orders["side"] = side
    orders["size_lots"] = draw.integers(1, 2 * SIZE_LOTS, count)
    orders["price_ticks"] = MID_TICKS - side * (1 + draw.exponential(DEPTH_TICKS, count).astype(np.int64))
    return orders


def mixed_flow(live: int, count: int, *, seed: int) -> tuple[NDArray[np.void], NDArray[np.void], float]:
    """Return orders that fill a book, a flow that keeps its size, and the flow's share of stale cancels.

    An engine runs along, so that cancels name orders that are live when their chunk begins.
    """
    draw = np.random.default_rng(seed)
    engine = MatchingEngine(2 * live, 65_536)
    filling = passive_orders(draw, 1, live)
    engine.submit(filling)
    alive = np.arange(1, live + 1, dtype=np.uint64)  # counters, as the index of what rests
    rests = np.zeros(live + count + 1, np.bool_)
    rests[alive] = True
    chunk, next_id, stale = min(live // 8, 20_000), live + 1, 0
    flow = np.zeros(count, ORDER_DTYPE)
    for first in range(0, count, chunk):
        size = min(chunk, count - first)
        part = passive_orders(draw, next_id, size)
        counters = np.arange(next_id, next_id + size, dtype=np.uint64)
        next_id += size
        kind = draw.permutation(size) / size
        cancels = np.flatnonzero((kind >= 0.475) & (kind < 0.9))
        crosses = np.flatnonzero(kind >= 0.9)
        part["action"][cancels] = OrderAction.CANCEL
        cancelled = draw.choice(alive, len(cancels), replace=False, shuffle=False)
        part["client_order_id"][cancels] = cancelled * ID_FACTOR
        part["price_ticks"][crosses] = MID_TICKS + part["side"][crosses].astype(np.int64) * 100 * DEPTH_TICKS
        # A book that has grown meets larger orders, else its size would walk away at random.
        largest = max(2, round(SIZE_LOTS * (len(alive) / live) ** 4))
        part["size_lots"][crosses] = draw.integers(1, largest, len(crosses))
        reports = engine.submit(part)
        stale += int(np.count_nonzero(reports["kind"] == ReportKind.REJECTED))
        gone = reports["client_order_id"][
            np.isin(reports["kind"], (ReportKind.FILL, ReportKind.CANCELLED)) & (reports["leaves_lots"] == 0)
        ]
        added = counters[kind < 0.475]
        rests[added] = True
        rests[gone * COUNTER_FACTOR] = False
        alive = np.concatenate((alive, added))
        alive = alive[rests[alive]]
        flow[first : first + size] = part
    return filling, flow, stale / count


def gather_and_copy(flow: NDArray[np.void], live: int, *, seed: int) -> Callable[[], None]:
    """Return the floor probe."""
    nodes = np.zeros((live, 4), np.int64)
    places = np.random.default_rng(seed).integers(0, live, len(flow))
    found = np.empty((BATCH_COMMANDS, 4), np.int64)
    source = flow.view(np.uint8).reshape(-1, ORDER_DTYPE.itemsize)
    answers = np.empty((BATCH_COMMANDS, ORDER_DTYPE.itemsize), np.uint8)

    def probe() -> None:
        for first in range(0, len(flow), BATCH_COMMANDS):
            count = min(BATCH_COMMANDS, len(flow) - first)
            np.take(nodes, places[first : first + count], axis=0, out=found[:count], mode="clip")
            answers[:count] = source[first : first + count]

    return probe


def measure(
    bench: Bench, live: int, count: int, goals_ns: tuple[float, float], p99_goal_ns: float | None = None
) -> None:
    """Measure commands by dense and by hashed ids, whose goals are given in this order."""
    filling, flow, stale = mixed_flow(live, count, seed=bench.seed)
    # In place and back again: a second flow would be as large as all else together.
    for name, factor, goal_ns in zip(
        ("command, dense ids", "command"), (COUNTER_FACTOR, ID_FACTOR), goals_ns, strict=True
    ):
        for orders in (filling, flow):
            orders["client_order_id"] *= factor
        measure_batches(bench, name, filling, flow, goal_ns=goal_ns)
    bench.verify(stale < 0.03, "cancels name live orders")
    measure_single(bench, filling, flow, p99_goal_ns)


def measure_batches(
    bench: Bench, name: str, filling: NDArray[np.void], flow: NDArray[np.void], *, goal_ns: float
) -> None:
    live, count = len(filling), len(flow)
    out = np.empty(4 * BATCH_COMMANDS, REPORT_DTYPE)
    engine = MatchingEngine()
    expected = MatchingEngine(2 * live, 65_536)
    expected.submit(filling)
    for first in range(0, count, LARGE_BATCH_COMMANDS):
        expected.submit(flow[first : first + LARGE_BATCH_COMMANDS])

    def fill() -> None:
        nonlocal engine
        engine = MatchingEngine(2 * live, 65_536)
        engine.submit(filling)

    def match() -> None:
        for first in range(0, count, BATCH_COMMANDS):
            engine.submit(flow[first : first + BATCH_COMMANDS], out)

    floor = gather_and_copy(flow, live, seed=bench.seed)
    bench.throughput(name, match, count=count, prepare=fill, floor=floor, goal=goal_ns)
    bench.verify(
        engine.state_hash() == expected.state_hash(), "batches leave the book that larger ones leave"
    )
    bench.verify(engine.fill_hash == expected.fill_hash, "both trade the same, in the same order")
    bench.verify(0.7 * live < engine.live_orders < 1.4 * live, "the book keeps its size")
    engine.verify()


def measure_single(
    bench: Bench, filling: NDArray[np.void], flow: NDArray[np.void], p99_goal_ns: float | None
) -> None:
    """Time each command of a batch, and the calls that take one command without an array."""
    engine = MatchingEngine()

    def fill() -> None:
        nonlocal engine
        engine = MatchingEngine(2 * len(filling), 65_536)
        engine.submit(filling)

    fill()
    idle = engine.time_commands(unknown_cancels(min(len(flow), 100_000)))
    times = engine.time_commands(flow)
    bench.samples("one of a batch", times, floor=idle)
    if p99_goal_ns is not None:
        p99 = [float(np.percentile(part, 99)) for part in np.array_split(times, P99_PARTS)]
        bench.record(
            "one of a batch, p99 of a part", "ns", p99, floor=float(np.percentile(idle, 99)), goal=p99_goal_ns
        )
    first = flow[: min(len(flow) // 4, SINGLE_CALLS_MAX)]
    rows = [
        tuple(row)
        for row in zip(
            *(
                first[name].tolist()
                for name in ("action", "client_order_id", "side", "price_ticks", "size_lots")
            ),
            strict=True,
        )
    ]

    def call() -> None:
        limit, cancel = engine.limit, engine.cancel
        for action, order_id, side, price_ticks, size_lots in rows:
            if action == NEW:
                limit(order_id, side, price_ticks, size_lots)
            else:
                cancel(order_id)

    def loop() -> None:
        for action, _order_id, _side, _price_ticks, _size_lots in rows:
            if action == NEW:
                pass

    bench.throughput("one call", call, count=len(rows), prepare=fill, floor=loop, goal=160.0)
    expected = MatchingEngine(2 * len(filling), 65_536)
    expected.submit(filling)
    expected.submit(first)
    bench.verify(engine.state_hash() == expected.state_hash(), "single calls do what a batch does")


def unknown_cancels(count: int) -> NDArray[np.void]:
    """Return commands that find nothing: what time_commands itself takes, and little more."""
    orders = np.zeros(count, ORDER_DTYPE)
    orders["action"], orders["client_order_id"] = OrderAction.CANCEL, 1
    return orders


@scenario("matching-1k", "matching, 1,000 live orders", conditions=CONDITIONS)
def matching_1k(bench: Bench) -> None:
    measure(bench, 1_000, bench.parameter("commands", smoke=4_000, full=FULL_COMMANDS), (14.0, 18.0))


@scenario("matching-50k", "matching, 50,000 live orders", conditions=CONDITIONS)
def matching_50k(bench: Bench) -> None:
    live = bench.parameter("live", smoke=4_000, full=50_000)
    measure(bench, live, bench.parameter("commands", smoke=4_000, full=FULL_COMMANDS), (20.0, 24.0), 100.0)


@scenario("matching-1m", "matching, 1,000,000 live orders", conditions=CONDITIONS)
def matching_1m(bench: Bench) -> None:
    live = bench.parameter("live", smoke=8_000, full=1_000_000)
    measure(bench, live, bench.parameter("commands", smoke=4_000, full=FULL_COMMANDS), (38.0, 45.0))

"""The pool: everything reaches every engine once, and the first failure is the one that surfaces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backtest.engines import Engine, EnginePool
from data.schema import EVENT_DTYPE
from ext.ring_buffer import SpscRing


class Agent:
    error: BaseException | None = None


class Loop:
    """Stands in for an event loop: drains its ring and remembers what came."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.ring = SpscRing(64)
        self.agent = Agent()
        self.signal_error: BaseException | None = None
        self.events = 0
        self.seen: list[int] = []
        self.threads: set[str] = set()
        self._fails_at = fails_at

    def run(self, count_max: int) -> int:
        self.threads.add(threading.current_thread().name)
        taken = self.ring.pop(min(count_max, 7))
        self.seen += taken["order_id"].tolist()
        self.events += len(taken)
        if self._fails_at is not None and self.events >= self._fails_at:
            self.agent.error = ArithmeticError(f"at {self.events}")
        return len(taken)

    def take_samples(self) -> NDArray[np.void]:
        return np.zeros(0, EVENT_DTYPE)

    take_equity = take_fills = take_samples


class Writer:
    def __init__(self) -> None:
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def engine(**options: Any) -> Engine:
    return Engine(name="e", loop=Loop(**options), writer=Writer())  # type: ignore[arg-type]


def reused_blocks(count: int, rows: int = 50) -> Iterator[NDArray[np.void]]:
    """Blocks of consecutive order ids, all in one array that is overwritten for each."""
    block = np.zeros(rows, EVENT_DTYPE)
    for index in range(count):
        block["order_id"] = np.arange(rows) + index * rows
        yield block
    block["order_id"] = 0


def seen(one: Engine) -> list[int]:
    return one.loop.seen  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("engine_count", [1, 2, 7])
def test_every_engine_gets_every_event_once_and_in_order(engine_count: int, threads: int) -> None:
    pool = EnginePool([engine() for _ in range(engine_count)], threads=threads)
    # Blocks of fifty overfill rings of 64, so that pushes are cut.
    pool.run_segment(reused_blocks(40), tick=lambda: None)
    pool.run_segment(reused_blocks(3), tick=lambda: None)
    for one in pool.engines:
        assert seen(one) == [*range(2_000), *range(150)]
        assert len(one.loop.threads) <= 2  # type: ignore[attr-defined]
    assert pool.events == engine_count * 2_150


def test_a_segment_without_events_ends() -> None:
    pool = EnginePool([engine()])
    pool.run_segment([], tick=lambda: None)
    assert pool.events == 0


def test_an_engine_is_driven_by_one_thread_at_a_time() -> None:
    pool = EnginePool([engine() for _ in range(4)], threads=2)
    pool.run_segment(reused_blocks(40), tick=lambda: None)
    assert [len(one.loop.threads) for one in pool.engines] == [1] * 4  # type: ignore[attr-defined]


def living() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread.name.startswith(("producer", "engines-"))
    ]


def test_what_an_agent_raised_surfaces_though_rings_are_full() -> None:
    pool = EnginePool([engine(), engine(fails_at=100), engine()])
    with pytest.raises(ArithmeticError, match="at "):
        pool.run_segment(reused_blocks(10_000), tick=lambda: None)
    assert not living()


def test_what_the_source_raised_surfaces() -> None:
    def broken() -> Iterator[NDArray[np.void]]:
        yield from reused_blocks(3)
        raise OSError("the disk is gone")

    pool = EnginePool([engine(), engine()])
    with pytest.raises(OSError, match="disk"):
        pool.run_segment(broken(), tick=lambda: None)
    assert not living()


def test_an_interrupt_stops_an_endless_source() -> None:
    def endless() -> Iterator[NDArray[np.void]]:
        while True:
            yield from reused_blocks(1)

    def tick() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EnginePool([engine(), engine()]).run_segment(endless(), tick=tick)
    assert not living()


def test_a_failed_model_stops_the_run_too() -> None:
    one = engine()
    one.loop.signal_error = ValueError("no forecast")  # type: ignore[misc]
    with pytest.raises(ValueError, match="no forecast"):
        EnginePool([one]).run_segment(reused_blocks(1), tick=lambda: None)


def test_the_journal_is_flushed_after_each_turn_that_handled_something() -> None:
    one = engine()
    EnginePool([one]).run_segment(reused_blocks(7, rows=10), tick=lambda: None)
    assert one.writer.flushes >= 10  # type: ignore[attr-defined]

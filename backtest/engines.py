"""Engines side by side: one market stream, many engines, two worker threads.

A producer thread decodes and quotes the market once and pushes every event into each engine's ring;
worker threads drain their engines' rings with the GIL released. Engines share nothing but the events,
so their results do not depend on which thread ran them or when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.journal import JournalWriter
from ext.event_loop import EventLoop
from ext.python_router import PythonRouter

from .turns import short_turns

RING_EVENTS: Final = 32_768
_EVENTS_A_TURN: Final = 32_768
_PAUSE_SECONDS: Final = 5e-5


@dataclass(kw_only=True, slots=True)
class Engine:
    """One event loop with its journal file and what it collects between turns.

    Parameters
    ----------
    name : str
    loop : EventLoop
    writer : JournalWriter
    samples, equity : lists of arrays
        Drained from the loop after each turn.
    """

    name: str
    loop: EventLoop
    writer: JournalWriter
    samples: list[NDArray[np.void]] = field(default_factory=list)
    equity: list[NDArray[np.void]] = field(default_factory=list)
    fills: list[NDArray[np.void]] = field(default_factory=list)

    def turn(self) -> int:
        """Handle what waits in the ring, up to a bound; return the number of events."""
        handled = self.loop.run(_EVENTS_A_TURN)
        if handled:
            self.collect()
        return handled

    def collect(self) -> None:
        """Drain the loop's buffers and raise what a user's policy or model raised."""
        self.writer.flush()
        for kept, fresh in (
            (self.samples, self.loop.take_samples()),
            (self.equity, self.loop.take_equity()),
            (self.fills, self.loop.take_fills()),
        ):
            if len(fresh):
                kept.append(fresh)
        error = self.loop.signal_error or getattr(self.loop.agent, "error", None)
        router = getattr(self.loop.agent, "router", None)
        if error is None and isinstance(router, PythonRouter):
            error = router.error
        if error is not None:
            raise error

    def finish(self) -> None:
        """Deliver what is under way after the last event."""
        while not self.loop.finish():
            self.collect()
        self.collect()


class EnginePool:
    """Runs engines over segments of the market.

    Parameters
    ----------
    engines : sequence of Engine
    threads : int
        Worker threads besides the producer.
    """

    def __init__(self, engines: Sequence[Engine], *, threads: int = 2) -> None:
        self.engines = tuple(engines)
        # Neighbours cost about the same, so dealing them round keeps the threads level.
        self._hands = [self.engines[first::threads] for first in range(threads)]
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._fed = threading.Event()

    @property
    def events(self) -> int:
        """Events handled by all engines so far."""
        return sum(engine.loop.events for engine in self.engines)

    def run_segment(self, blocks: Iterable[NDArray[np.void]], *, tick: Callable[[], None]) -> None:
        """Stream blocks of events through every engine; returns when all have handled them.

        Parameters
        ----------
        blocks : iterable of EVENT_DTYPE arrays
            Each may be overwritten once the next is asked for.
        tick : callable
            Called from this thread a few times a second.
        """
        self._fed.clear()
        threads = [threading.Thread(target=self._guard, args=(self._produce, blocks), name="producer")]
        threads += [
            threading.Thread(target=self._guard, args=(self._work, hand), name=f"engines-{index}")
            for index, hand in enumerate(self._hands)
            if hand
        ]
        # Decisions that need the interpreter wait for whoever has it: at the default of 5 ms, a long
        # one in the producer would stall an engine for as long as 10,000 events take.
        with short_turns():
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    while thread.is_alive():
                        thread.join(timeout=0.2)
                        tick()
            except BaseException:
                self._stop.set()
                for thread in threads:
                    thread.join()
                raise
        if self._failure is not None:
            raise self._failure

    def _guard(self, work: Callable[..., None], argument: object) -> None:
        try:
            work(argument)
        except BaseException as error:
            # The first failure is the cause; what other threads say after it is an echo.
            if self._failure is None:
                self._failure = error
            self._stop.set()

    def _produce(self, blocks: Iterable[NDArray[np.void]]) -> None:
        rings = [engine.loop.ring for engine in self.engines]
        for events in blocks:
            waiting = [(ring, events) for ring in rings]
            while waiting:
                refused = []
                for ring, rest in waiting:
                    pushed = ring.try_push(rest)
                    if pushed < len(rest):
                        refused.append((ring, rest[pushed:]))
                if self._stop.is_set():
                    return
                if len(refused) == len(waiting):
                    time.sleep(_PAUSE_SECONDS)
                waiting = refused
        self._fed.set()

    def _work(self, hand: Sequence[Engine]) -> None:
        while not self._stop.is_set():
            # Looked at before the rings are drained, so that an empty round after it is final.
            fed = self._fed.is_set()
            if sum(engine.turn() for engine in hand) == 0:
                if fed:
                    return
                time.sleep(_PAUSE_SECONDS)

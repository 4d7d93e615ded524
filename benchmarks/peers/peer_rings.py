"""What Python itself offers to hand a message to another thread or process, beside our rings.

A round trip of our ring is taken by two pinned threads that spin in compiled code. SimpleQueue sleeps in a
lock, multiprocessing's Queue and Pipe sleep in the kernel, so most of their time is waking up, which a
spinning ring never does and which costs it a core. The one peer that spins as well is plain Python on
shared memory.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE
from ext.ring_buffer import SpscRing

from ..bench_rings import CAPACITY, ring_round_trips
from ..harness import Bench, peer_scenario
from ..other_process import SPAWN, other_process

MESSAGE: Final = bytes(EVENT_DTYPE.itemsize)
BATCH: Final = 512

Turn = Callable[[int], bytes | int]


def answer_queue(there: Any, back: Any, rounds: int) -> None:
    """Send back what comes, as often as asked."""
    for _ in range(rounds):
        back.put(there.get())


def answer_pipe(pipe: Connection, rounds: int) -> None:
    """Send back what comes, as often as asked."""
    for _ in range(rounds):
        pipe.send_bytes(pipe.recv_bytes())


def answer_memory(name: str, rounds: int) -> None:
    """Spin on one word and answer in another, a cache line apart."""
    block = SharedMemory(name)
    assert block.buf is not None
    words = block.buf.cast("Q")
    for number in range(1, rounds + 1):
        while words[0] != number:
            pass
        words[8] = number
    words.release()
    block.close()


def _times(bench: Bench, name: str, turn: Turn, rounds: int) -> NDArray[np.int64]:
    """Take the rounds' times; the first, in which the partner may still be starting, is left out."""
    took = np.zeros(rounds + 1, np.int64)
    right = True
    for number in range(1, rounds + 2):
        begun = time.perf_counter_ns()
        answer = turn(number)
        took[number - 1] = time.perf_counter_ns() - begun
        right = right and answer in (MESSAGE, number)
    bench.verify(right, f"{name} answered every message")
    return took[1:]


@peer_scenario(
    "rings-latency",
    "round trip of one message beside Python's own means",
    conditions=f"ours: stamped ring of {CAPACITY}, two pinned threads, compiled, spins; SimpleQueue between "
    "threads: sleeps; multiprocessing's Queue and Pipe between processes: sleep; Python on shared memory "
    "between processes: spins. A sleeper's figure is mostly the kernel waking it.",
)
def rings_latency(bench: Bench) -> None:
    rounds = bench.parameter("rounds", smoke=20, full=4_000)
    with ExitStack() as stack:
        there: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        back: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        out, home = SPAWN.Queue(), SPAWN.Queue()
        ours_end, their_end = SPAWN.Pipe()
        block = SharedMemory(create=True, size=128)
        stack.callback(block.unlink)
        stack.callback(block.close)
        assert block.buf is not None
        words = block.buf.cast("Q")
        stack.callback(words.release)

        def through_simple_queue(_: int) -> bytes:
            there.put(MESSAGE)
            return back.get()

        def through_queue(_: int) -> bytes:
            out.put(MESSAGE)
            return bytes(home.get())

        def through_pipe(_: int) -> bytes:
            ours_end.send_bytes(MESSAGE)
            return ours_end.recv_bytes()

        def through_memory(number: int) -> int:
            words[0] = number
            while words[8] != number:
                pass
            return words[8]

        partners: tuple[tuple[str, Any, tuple[Any, ...], Turn], ...] = (
            ("SimpleQueue, sleeps", answer_queue, (there, back), through_simple_queue),
            ("multiprocessing.Queue, sleeps", answer_queue, (out, home), through_queue),
            ("multiprocessing.Pipe, sleeps", answer_pipe, (their_end,), through_pipe),
            ("Python on shared memory, spins", answer_memory, (block.name,), through_memory),
        )
        for name, answer, ends, turn in partners:
            if turn is through_simple_queue:
                # A daemon: after an interrupt it waits for a message that never comes.
                threading.Thread(target=answer, args=(*ends, rounds + 1), daemon=True).start()
                theirs = _times(bench, name, turn, rounds)
            else:
                with other_process(answer, *ends, rounds + 1):
                    theirs = _times(bench, name, turn, rounds)
            ours = ring_round_trips(
                SpscRing(CAPACITY, mode="stamped"), SpscRing(CAPACITY, mode="stamped"), rounds
            )
            bench.samples(f"round trip, beside {name}", ours, peer=theirs, peer_name=name)


@peer_scenario(
    "rings-rate",
    "messages a second from thread to thread beside SimpleQueue",
    conditions=f"two Python threads that share the interpreter lock; ours in batches of {BATCH}, theirs one "
    "message a call, as either is meant to be used.",
)
def rings_rate(bench: Bench) -> None:
    count = bench.parameter("messages", smoke=5_000, full=500_000)
    events = np.zeros(count, EVENT_DTYPE)
    events["seq"] = np.arange(count)
    numbers = list(range(count))
    taken, total = 0, 0

    def push_all(ring: SpscRing) -> None:
        pushed = 0
        while pushed < count:
            took = ring.try_push(events[pushed : pushed + BATCH])
            pushed += took
            if not took:
                time.sleep(0)

    def ours() -> None:
        nonlocal taken
        taken = 0
        ring = SpscRing(CAPACITY)
        producer = threading.Thread(target=push_all, args=(ring,))
        producer.start()
        while taken < count:
            batch = ring.pop(BATCH)
            taken += len(batch)
            if not len(batch):
                time.sleep(0)
        producer.join()

    def theirs() -> None:
        nonlocal total
        total = 0
        messages: queue.SimpleQueue[int] = queue.SimpleQueue()

        def put_all() -> None:
            for number in numbers:
                messages.put(number)

        producer = threading.Thread(target=put_all)
        producer.start()
        for _ in range(count):
            total += messages.get()
        producer.join()

    bench.throughput("message", ours, count=count, peer=theirs, peer_name="SimpleQueue, sleeps")
    bench.verify(taken == count, "every event arrived")
    bench.verify(total == count * (count - 1) // 2, "every message arrived")

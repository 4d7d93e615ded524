"""That a network front needs a loop around `submit_many` and `poll_many`, and nothing else: here is one.

A question on the wire is its number, the time that is left for it, and its rows; an answer is the number, how
it ended, and the probabilities. The connection is the stream.
"""

from __future__ import annotations

import select
import selectors
import socket
import struct
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from router_ladder import FEATURES, WINDOW, write_ladder

from data.errors import ConfigError
from engine.inference.arrays import Floats32
from engine.inference.ladder import load_ladder
from engine.inference.serving import front as front_module
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front
from engine.inference.serving.measure import open_variant
from engine.inference.serving.request import Outcome

COSTS = CostTable([[cost * size for size in (1, 2, 4, 8, 16, 32, 64)] for cost in (1e4, 3e4, 1e5)])
QUESTION = struct.Struct("<Iq")
ANSWER = struct.Struct("<IBB3f")
ROWS_BYTES = 4 * WINDOW * FEATURES
CLIENTS, QUESTIONS = 3, 24
AHEAD = 4
SECOND = 1_000_000_000
ROOM_NS = 20 * SECOND


class NetworkFront:
    """Sockets on one side, a front on the other, one thread; it ends with its last connection."""

    def __init__(self, front: Front, connections: list[socket.socket]) -> None:
        self._front, self._connections = front, connections
        self._received = [bytearray() for _ in connections]
        # Of one connection, answers may come in another order than questions.
        self._numbers: dict[int, tuple[int, int]] = {}
        self._selector = selectors.DefaultSelector()
        for stream, connection in enumerate(connections):
            self._selector.register(connection, selectors.EVENT_READ, stream)
        self._selector.register(front, selectors.EVENT_READ)

    def serve(self) -> None:
        while len(self._selector.get_map()) > 1 or self._front.open_requests:
            for key, _ in self._selector.select(self._front.rest()):
                if key.fileobj is not self._front:
                    self._take_in(key.data)
            self._answer(self._front.poll_many())
        self._selector.close()

    def _take_in(self, stream: int) -> None:
        came, received = self._connections[stream].recv(1 << 20), self._received[stream]
        if not came:
            self._selector.unregister(self._connections[stream])
            return
        received += came
        size = QUESTION.size + ROWS_BYTES
        whole = [bytes(received[at : at + size]) for at in range(0, len(received) - size + 1, size)]
        del received[: len(whole) * size]
        if not whole:
            return
        heads = [QUESTION.unpack_from(message) for message in whole]
        rows = np.stack([np.frombuffer(message, np.float32, offset=QUESTION.size) for message in whole])
        room_ns = np.array([room for _, room in heads])
        ids, ended = self._front.submit_many(
            rows.reshape(-1, WINDOW, FEATURES),
            deadlines_ns=time.monotonic_ns() + room_ns,
            streams=np.full(len(whole), stream),
        )
        for request_id, (number, _) in zip(ids.tolist(), heads, strict=True):
            self._numbers[request_id] = (stream, number)
        self._answer(ended)

    def _answer(self, ended: np.ndarray) -> None:
        for one in ended:
            stream, number = self._numbers.pop(int(one["request_id"]))
            assert stream == one["stream"]
            message = ANSWER.pack(number, one["outcome"], one["variant"], *one["probabilities"].tolist())
            self._connections[stream].sendall(message)


def client(connection: socket.socket, rows: Floats32, found: dict[int, tuple[float, ...]]) -> None:
    """Keep some questions open and note every answer."""
    waiting = deque(range(len(rows)))

    def ask() -> None:
        number = waiting.popleft()
        connection.sendall(QUESTION.pack(number, ROOM_NS) + rows[number].tobytes())

    for _ in range(AHEAD):
        ask()
    with connection, connection.makefile("rb") as stream:
        while len(found) < len(rows):
            number, *said = ANSWER.unpack(stream.read(ANSWER.size))
            assert number not in found, "a question is answered once"
            found[number] = tuple(said)
            if waiting:
                ask()


def test_questions_come_and_answers_go_through_sockets(tmp_path: Path) -> None:
    write_ladder(tmp_path)
    variants = load_ladder(tmp_path)
    random = np.random.default_rng(1)
    rows = random.standard_normal((CLIENTS, QUESTIONS, WINDOW, FEATURES)).astype(np.float32)
    found: list[dict[int, tuple[float, ...]]] = [{} for _ in range(CLIENTS)]
    pairs = [socket.socketpair() for _ in range(CLIENTS)]
    with Front(variants, costs=COSTS, workers=1, open_max=64) as front:
        threads = [
            threading.Thread(target=client, args=(pairs[place][1], rows[place], found[place]))
            for place in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        NetworkFront(front, [ours for ours, _ in pairs]).serve()
        for thread in threads:
            thread.join()
    for ours, _ in pairs:
        ours.close()
    sessions = [open_variant(variant) for variant in variants]
    for answers, own in zip(found, rows, strict=True):
        assert sorted(answers) == list(range(QUESTIONS))
        for number, (outcome, variant, *said) in answers.items():
            assert outcome == Outcome.MODEL
            window, _ = variants[int(variant)].input_shape
            row = own[number, -1] if window == 1 else own[number, -window:]
            expected = sessions[int(variant)].probabilities(row[None])[0]
            assert said == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("system", ["this one", "one without eventfd"])
def test_an_answer_wakes_who_waits_at_the_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    if system != "this one":
        monkeypatch.delattr("os.eventfd", raising=False)
    write_ladder(tmp_path)
    rows = np.zeros((WINDOW, FEATURES), np.float32)
    with Front(load_ladder(tmp_path), costs=COSTS, workers=1, open_max=64) as front:
        # Nobody looks by the clock any more: what comes was rung for.
        monkeypatch.setattr(front_module, "_GLANCE_NS", 3_600 * SECOND)
        poller = select.poll()
        poller.register(front, select.POLLIN)
        front.submit(rows, deadline_ns=time.monotonic_ns() + ROOM_NS)
        while not front._shared.answers.look():
            assert front._shared.answers.wait(timeout_s=30.0)
        assert not poller.poll(0), "nobody rings for one who is awake"
        assert front.rest() == 0.0, "it is there already"
        for _ in range(20):
            while not (answers := front.poll()):
                seconds = front.rest()
                assert seconds == 0.0 or poller.poll(seconds * 1e3)
            assert [answer.outcome for answer in answers] == [Outcome.MODEL]
            front.submit(rows, deadline_ns=time.monotonic_ns() + ROOM_NS)
    with pytest.raises(ConfigError, match="was closed"):
        front.fileno()
    with pytest.raises(ConfigError, match="was closed"):
        front.rest()

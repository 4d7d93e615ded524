"""A process that is copied: first with the libraries loaded, then with a ladder open, then to be a worker.

A fresh interpreter takes .2 s of a core to load numpy, ONNX Runtime and this package, and a ladder takes .06
to be opened. A copy of a process that has both takes 2 ms. Each such process does what its front tells it:

==== ==================================================================
copy become two; the new one does its task and serves the channel that came along
open open a ladder's files
time tell what a ladder's variants take, and end
work be a worker until the front closes the ring
==== ==================================================================

Only a process of one thread is copied: a lock that another thread holds at that moment would be held in the
copy for ever. The kernel is asked each time, because a library may start a thread in its next version (and
tools such as ThreadSanitizer do); the front then starts its workers as interpreters of their own.

Nobody outlives the front. All inherit a descriptor of its process, which says that it is gone even if
children of the front hold its channels open. A signal at the parent's death would be simpler and wrong: it is
sent at the end of the thread that started this process, which need not be the end of the front.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from data.errors import AnytickError

from ..capi import runtime_library
from ..errors import RuntimeUnavailable
from ..session import InferenceSession
from .channel import Channel
from .measure import open_variant
from .prepare import times_of
from .processes import is_readable
from .spec import read_spec, variants_of
from .supervise import remove_rings_of
from .worker import work

# Beside a load, opening a ladder takes no more than a quarter of a core.
_PAUSE_PER_WORK: Final = 3.0
_PATIENCE_S: Final = 1.0


class _Node:
    """One process of the family: what it has open, who it was copied to, who tells it what to do."""

    def __init__(self, channel: Channel, front: int, name: str) -> None:
        self._channel, self._front, self._name = channel, front, name
        self._is_copy = False
        self._copies: dict[int, int] = {}
        self._sessions: dict[str, InferenceSession] = {}

    def serve(self) -> int:
        """Do as told until the front has no more to tell; return an exit code."""
        self._greet()
        message = self._next()
        while message is not None:
            table, descriptors = message
            message = None
            if table["do"] == "copy":
                message = self._copy(table["task"], *descriptors)
            elif table["do"] == "open":
                self._open(table)
            elif table["do"] == "time":
                self._say(times_of(variants_of(table["variants"])))
                break
            elif table["do"] == "work":
                return self._work(table, *descriptors)
            message = message or self._next()
        return 0

    def _greet(self) -> None:
        process = os.getpid()
        descriptor = os.pidfd_open(process)
        try:
            self._channel.send({"pid": process}, descriptor)
        except OSError:
            # Given up before it came: nobody wants done what it was made for.
            os._exit(0)
        os.close(descriptor)

    def _say(self, table: dict[str, Any], *descriptors: int) -> None:
        # A front that does not listen any more closes the channel, which the next look at it shows.
        with suppress(OSError):
            self._channel.send(table, *descriptors)

    def _next(self) -> tuple[dict[str, Any], list[int]] | None:
        """Wait for a message; bury copies that end meanwhile, and end them all when there will be none."""
        while True:
            poller = select.poll()
            for descriptor in (self._channel.fileno(), self._front, *self._copies):
                poller.register(descriptor, select.POLLIN)
            ready = {descriptor for descriptor, _ in poller.poll()}
            for descriptor in ready & self._copies.keys():
                os.waitpid(self._copies.pop(descriptor), 0)
                os.close(descriptor)
            message = None
            if self._front not in ready:
                if self._channel.fileno() not in ready:
                    continue
                try:
                    message = self._channel.receive()
                except OSError:
                    continue
            if message is None:
                self._end()
            return message

    def _end(self) -> None:
        """End the copies: workers at once, since they may be stopped; others end their own first."""
        for descriptor, process in self._copies.items():
            if self._sessions or not is_readable(descriptor, _PATIENCE_S):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.waitpid(process, 0)
        # The starter is let go with the front only, whose end is heard here before it can be seen.
        if not self._is_copy or not self._front_lives():
            remove_rings_of(self._name)

    def _front_lives(self) -> bool:
        return not is_readable(self._front, 0.0)

    def _copy(self, task: dict[str, Any], far: int, *shared: int) -> tuple[dict[str, Any], list[int]] | None:
        """Become two; return what the copy is to do, in the copy."""
        channel = Channel.of(far)
        try:
            # Where the kernel does not say there may be any number.
            threads = len(os.listdir("/proc/self/task"))
            if threads != 1:
                raise OSError(f"a process must have one thread to be copied, was {threads}")
            process = os.fork()
        except OSError as error:
            with suppress(OSError):
                channel.send({"error": str(error), "errno": error.errno})
            process = -1
        if process:
            channel.close()
            for descriptor in shared:
                os.close(descriptor)
            if process > 0:
                # It cannot be gone before it is buried here, so its id is still its own.
                self._copies[os.pidfd_open(process)] = process
            return None
        self._channel.close()
        for descriptor in self._copies:
            os.close(descriptor)
        self._channel, self._copies, self._is_copy = channel, {}, True
        self._greet()
        return task, list(shared)

    def _open(self, table: dict[str, Any]) -> None:
        try:
            for variant in variants_of(table["variants"]):
                start_s = time.process_time()
                self._sessions[variant.sha256] = open_variant(variant)
                if table["beside_load"]:
                    time.sleep(_PAUSE_PER_WORK * (time.process_time() - start_s))
        except AnytickError as error:
            self._say({"error": str(error)})
            return
        _settle()
        self._say({"open": True})

    def _work(self, table: dict[str, Any], arena: int, bell: int) -> int:
        # As a process that the front started itself just now would have them.
        os.sched_setaffinity(0, table["cores"])
        return work(
            replace(read_spec(table["spec"]), arena_descriptor=arena, bell_descriptor=bell),
            front_lives=self._front_lives,
            sessions=self._sessions,
            tell=self._say,
        )


def _settle() -> None:
    """Keep the garbage collector off what copies share, which it would make them copy for good."""
    gc.collect()
    gc.freeze()


def main(descriptor: int, front_id: int, name: str) -> None:
    """Load the libraries and serve the channel of this descriptor for the front of this id and name."""
    # Ctrl-C reaches the whole group; the front decides what it means. A hang-up comes when the front is gone
    # and one of us is stopped; what is left to do then takes somebody who lives.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A front that has the system bury its children leaves that to us as well, but ours are buried by us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    front = os.pidfd_open(front_id)
    if os.getppid() != front_id:
        return
    # Without it models run through the Python binding, which is imported already.
    with suppress(RuntimeUnavailable):
        runtime_library()
    _settle()
    code = _Node(Channel.of(descriptor), front, name).serve()
    # Mostly in a copy: what is registered for the end of an interpreter is not its to do.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

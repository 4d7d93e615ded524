"""How a front starts its processes: as copies where that can be done, as fresh interpreters where not.

    front ── starter (libraries loaded) ── original (a ladder open) ── workers

The starter starts with the front, an original with its ladder, and both are renewed when they are lost, which
no worker feels. While there is none, or where the platform has no descriptors of processes, workers start as
interpreters of their own: slower, and otherwise the same.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from ..ladder import Variant
from .channel import Channel
from .processes import ChildProcess, CopiedProcess, SpawnedProcess, environment, interpreter
from .spec import WorkerSpec, variant_table

_START_NS_MAX: Final = 30_000_000_000
_OPEN_NS_MAX: Final = 120_000_000_000
_RENEW_NS_MIN: Final = 1_000_000_000
_RENEW_NS_MAX: Final = 60_000_000_000
# A process that is told to end does so within milliseconds, unless it is stopped or a busy machine keeps it.
_FAREWELL_NS: Final = 500_000_000
_LAST_WAIT_S: Final = 2.0


class Starter:
    """The process that has the libraries loaded. It starts at the first glance at it.

    Parameters
    ----------
    front : str
        The name with which the names of the front's rings begin.
    """

    channel: Channel

    def __init__(self, front: str) -> None:
        self._front = front
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._started_ns, self._retry = 0, _Retry()
        self._is_possible = _has_process_descriptors()
        self._leaving: list[tuple[CopiedProcess, int]] = []

    def is_due(self, now_ns: int) -> bool:
        """Return whether the next glance starts it."""
        return self._is_possible and self._process is None and self._retry.is_due(now_ns)

    @property
    def is_pending(self) -> bool:
        """Whether it is starting."""
        return self._process is not None and not self._is_ready

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked for a copy."""
        return self._process is not None and self._is_ready

    def glance(self, now_ns: int) -> None:
        """Look after it, and after the originals that leave, once."""
        self._bury(now_ns)
        if self.is_due(now_ns):
            self._retry.note(now_ns)
            # No memory or no descriptor: until the next try there is none.
            with suppress(OSError):
                self._start()
                self._started_ns = now_ns
        elif self._process is not None:
            self._hear()
            if self.is_pending and now_ns - self._started_ns > _START_NS_MAX:
                self.kill()

    def kill(self) -> None:
        """End it at once; again is harmless, and the next glance may start another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.channel.close()
            self._process, self._is_ready = None, False

    def see_off(self, original: CopiedProcess) -> None:
        """Let an original end when it has buried its workers; where it does not, it is killed."""
        original.dismiss()
        self._leaving.append((original, time.monotonic_ns() + _FAREWELL_NS))

    def close(self) -> None:
        """End it and every original, however they are; it starts no more."""
        self._is_possible = False
        for original, until_ns in self._leaving:
            original.wait(max(until_ns - time.monotonic_ns(), 0) / 1e9)
            original.kill()
        if self._process is not None:
            self.channel.finish()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_FAREWELL_NS / 1e9)
            self.kill()
        # One that was still to come does so or not, now that nobody is left who would make it.
        for original, _ in self._leaving:
            original.wait(_LAST_WAIT_S)
        self._bury(time.monotonic_ns())

    def _bury(self, now_ns: int) -> None:
        leaving, self._leaving = self._leaving, []
        for original, until_ns in leaving:
            if not original.alive:
                original.close()
                continue
            if now_ns >= until_ns:
                original.kill()
            self._leaving.append((original, until_ns))

    def _start(self) -> None:
        self.channel, far = Channel.pair()
        try:
            self._process = subprocess.Popen(
                interpreter(
                    "engine.inference.serving.copying", str(far.fileno()), str(os.getpid()), self._front
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(far.fileno(),),
                env=environment(),
                process_group=0,
            )
        except BaseException:
            self.channel.close()
            raise
        finally:
            far.close()

    def _hear(self) -> None:
        try:
            message = self.channel.receive()
        except BlockingIOError:
            return
        except OSError:
            message = None
        if message is None:
            self.kill()
            return
        for descriptor in message[1]:
            os.close(descriptor)
        self._is_ready = True


class Original:
    """A process with a ladder open, whose copies are this ladder's workers.

    Parameters
    ----------
    variants, previous : sequence of Variant or None
        Whatever its workers may be asked to run.
    """

    def __init__(
        self,
        starter: Starter,
        variants: Sequence[Variant],
        previous: Sequence[Variant | None],
        *,
        beside_load: bool,
    ) -> None:
        self.refusal = ""
        """Why the ladder cannot be opened; then nothing is tried any more."""
        self._starter = starter
        found = (variant for variant in (*variants, *previous) if variant is not None)
        self._tables = [variant_table(variant) for variant in found]
        self._beside_load = beside_load
        self._process: CopiedProcess | None = None
        self._is_open = False
        self._asked_ns = 0
        self._retry = _Retry()

    @property
    def is_open(self) -> bool:
        """Whether copies can be had."""
        return self._is_open

    @property
    def is_pending(self) -> bool:
        """Whether it is worth waiting for."""
        return not self._is_open and (self._process is not None or self._starter.is_pending)

    def glance(self, now_ns: int) -> None:
        """Look after it, and after the starter, once; ask for another where it is gone."""
        self._starter.glance(now_ns)
        if self._process is not None:
            self._judge(self._process, now_ns)
        elif self._starter.is_ready and not self.refusal and self._retry.is_due(now_ns):
            self._retry.note(now_ns)
            task = {"do": "open", "variants": self._tables, "beside_load": self._beside_load}
            with suppress(OSError):
                self._process, self._asked_ns = CopiedProcess(self._starter, task), now_ns
            # Should it be lost, the next one is opened while its workers are busy.
            self._beside_load = True

    def start_worker(self, spec: WorkerSpec) -> ChildProcess:
        """Start a worker.

        Raises
        ------
        OSError
            There is no memory or no descriptor for it.
        """
        shared = (spec.arena_descriptor, spec.bell_descriptor)
        if self._process is not None and self._is_open:
            cores = sorted(os.sched_getaffinity(0))
            task = {"do": "work", "spec": spec.to_json(), "cores": cores}
            copy = self._copy(self._process, task, *shared)
            if copy is not None:
                return copy
        return SpawnedProcess("engine.inference.serving.worker", spec.to_json(), *shared)

    def start_timing(self) -> ChildProcess:
        """Start timing the ladder.

        Raises
        ------
        OSError
            As for a worker.
        """
        if self._process is not None and self._is_open:
            copy = self._copy(self._process, {"do": "time", "variants": self._tables})
            if copy is not None:
                return copy
        return SpawnedProcess("engine.inference.serving.prepare", json.dumps(self._tables))

    def kill(self) -> None:
        """End it at once, because its copies do not come; its workers stay, and another is opened in time."""
        if self._process is not None:
            self._process.kill()
            self.close()

    def close(self) -> None:
        """Let it end, and any workers of it that have not."""
        if self._process is not None:
            self._starter.see_off(self._process)
            self._process, self._is_open = None, False

    def _copy(self, process: CopiedProcess, task: dict[str, Any], *descriptors: int) -> CopiedProcess | None:
        try:
            return CopiedProcess(process, task, *descriptors)
        except (ConnectionError, BlockingIOError):
            # It is gone, or hears nothing any more.
            self.kill()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
        return None

    def _judge(self, process: CopiedProcess, now_ns: int) -> None:
        if process.came_to_nothing(now_ns):
            if process.pid is None and process.alive:
                # Who should have made it hangs.
                self._starter.kill()
            self.kill()
        elif "error" in process.said:
            self.refusal = process.said["error"]
            self.close()
        elif "open" in process.said:
            self._is_open = True
        elif now_ns - self._asked_ns > _OPEN_NS_MAX:
            self.refusal = f"a ladder must be opened within {_OPEN_NS_MAX / 1e9:g} s, was not"
            self.kill()


class _Retry:
    """When something that failed is tried again: a second after, then twice as long each time."""

    def __init__(self) -> None:
        self._after_ns, self._pause_ns = 0, _RENEW_NS_MIN

    def is_due(self, now_ns: int) -> bool:
        return now_ns >= self._after_ns

    def note(self, now_ns: int) -> None:
        self._after_ns = now_ns + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, _RENEW_NS_MAX)


def _has_process_descriptors() -> bool:
    """Return whether this system has them: Linux 5.3 and newer, where no sandbox forbids them."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True

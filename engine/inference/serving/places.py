"""The status lines of the arena: which are free, and which wait for their worker to be gone.

A process that was killed goes when the machine comes to it, which takes a busy one some ten milliseconds. The
front does not wait for that, and its line is nobody else's meanwhile. The one that has been free for longest
is taken, so that a record of a worker that is gone is not laid at another's door.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from .supervise import WorkerProcess

_LAST_WAIT_S: Final = 2.0


class Places:
    """Status lines, shared by a front's crews."""

    def __init__(self, count: int) -> None:
        self._free = deque(range(count))
        self._going: list[WorkerProcess] = []

    def take(self) -> int:
        """Return a free one, waiting for somebody to go where there is none."""
        self.glance()
        if not self._free:
            self._going[0].process.wait(_LAST_WAIT_S)
            self.glance()
        return self._free.popleft()

    def give_back(self, place: int) -> None:
        """Free one that nobody took up."""
        self._free.append(place)

    def see_off(self, worker: WorkerProcess) -> None:
        """End a worker; its line is free when it is gone."""
        worker.kill()
        self._going.append(worker)
        self.glance()

    def glance(self) -> None:
        """Free the lines of those that are gone."""
        going, self._going = self._going, []
        for worker in going:
            if worker.process.alive:
                self._going.append(worker)
            else:
                worker.process.close()
                self._free.append(worker.place)

    def close(self) -> None:
        """Wait until all are gone; whoever could have made one that is still to come must be gone already."""
        stop_s = time.monotonic() + _LAST_WAIT_S
        for worker in self._going:
            worker.process.wait(max(stop_s - time.monotonic(), 0.0))
        self.glance()

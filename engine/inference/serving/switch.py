"""From one ladder to the next without stopping: prepare, open, hand over.

Preparing opens the models in a process of its own and times them in another. Opening starts new workers one
by one, mostly as copies of the first of these. Both happen beside the shift at work, and a failure of either
leaves that shift as it was. Handing over is one assignment in the front: requests from then on go to the new
shift, the old one answers what it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from data.errors import AnytickError

from ..ladder import Variant
from .forecast import CostTable
from .prepare import LadderRefused, Preparation
from .shift import Shift
from .starter import Original


class SwitchState(StrEnum):
    PREPARING = "preparing"
    OPENING = "opening"
    DONE = "done"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    """Another switch was asked for before this one was done."""


@dataclass(kw_only=True)
class Switch:
    """How a switch stands; the front moves it on whenever it is polled.

    Parameters
    ----------
    reason : str
        Why it was refused.
    asked_ns, done_ns : int
        CLOCK_MONOTONIC; done is 0 until it is done, refused or superseded.
    """

    variants: tuple[Variant, ...]
    previous: tuple[Variant | None, ...]
    asked_ns: int
    state: SwitchState = SwitchState.PREPARING
    reason: str = ""
    done_ns: int = 0

    @property
    def under_way(self) -> bool:
        """Whether it is still to be decided."""
        return self.state in (SwitchState.PREPARING, SwitchState.OPENING)


class LadderSource(Protocol):
    """Where ladders come from while a front runs."""

    def poll(self) -> tuple[tuple[Variant, ...], dict[str, Variant]] | None:
        """Return the ladder that is to serve and the versions before, where it changed; never waits."""

    def failed(self, variant: Variant) -> None:
        """Take note that a variant gave no numbers and was rolled back; never waits."""


class Switcher:
    """Carries one switch out, a step at a time; a step never waits.

    Parameters
    ----------
    costs : CostTable, optional
        Skips the timing.
    original : Original
        Of the new ladder; nothing is asked of it yet.
    build : callable
        Makes the shift, none of whose workers is started yet.
    """

    def __init__(
        self,
        switch: Switch,
        *,
        costs: CostTable | None,
        original: Original,
        build: Callable[[Switch, CostTable, Original], Shift],
    ) -> None:
        self.switch = switch
        self._build, self._costs, self._original = build, costs, original
        self._preparation: Preparation | None = None
        self._shift: Shift | None = None

    @property
    def starts_process(self) -> bool:
        """Whether the next `advance` starts an interpreter, which takes some milliseconds."""
        if self._original.is_open:
            return False
        if self._shift is None:
            return self._costs is None and self._preparation is None
        crew = self._shift.crew
        return not crew.lanes or (len(crew.lanes) < crew.count and crew.is_ready(crew.lanes[-1]))

    def advance(self, now_ns: int) -> Shift | None:
        """Take a step; return the shift when all of its workers are ready."""
        try:
            self._original.glance(now_ns)
            if self._original.refusal:
                raise LadderRefused(self._original.refusal)
            if self._shift is not None:
                return self._shift if self._shift.crew.start_next(now_ns) else None
            if self._original.is_pending:
                return None
            if self._costs is None:
                self._prepare(now_ns)
            else:
                self.switch.state = SwitchState.OPENING
                self._shift = self._build(self.switch, self._costs, self._original)
        except (AnytickError, OSError) as error:
            self.give_up(SwitchState.REFUSED, now_ns, str(error))
        return None

    def give_up(self, state: SwitchState, now_ns: int, reason: str = "") -> None:
        """End whatever was started; the shift at work is not touched."""
        if self._preparation is not None:
            self._preparation.close()
            self._preparation = None
        if self._shift is not None:
            self._shift.crew.abandon()
            self._shift = None
        self._original.close()
        self.switch.state, self.switch.reason, self.switch.done_ns = state, reason, now_ns

    def _prepare(self, now_ns: int) -> None:
        if self._preparation is not None and self._preparation.came_to_nothing(now_ns):
            self._preparation.close()
            self._preparation = None
            self._original.kill()
        if self._preparation is None:
            self._preparation = Preparation(self._original.start_timing())
            return
        found = self._preparation.result(now_ns)
        if found is not None:
            self._preparation = None
            self._costs = CostTable(found.times_ns[: len(self.switch.variants)])

"""The roster: which shift is at work, which one leaves, which one comes; the dead and the hung are replaced.

The front glances at it every few milliseconds. It starts, replaces and ends workers, and says whose are gone,
so that the front sends on what they held.

Of two switches the later one wins, with one exception: a rollback waits for a switch that somebody asked for.
Workers that met the failure are back at the version before by themselves meanwhile. Once the other ladder
serves, there is nothing left to roll back; where that one is refused, the rollback takes its turn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import AnytickError, ConfigError

from ..ladder import Variant
from .arena import PLACES, Arena
from .crew import Crew
from .forecast import CostTable
from .measure import value_table
from .places import Places
from .shift import TURN_NS, Shift
from .spare import SpareWatch
from .spec import WorkerSpec
from .starter import Original, Starter
from .switch import LadderSource, Switch, Switcher, SwitchState

_LOG: Final = logging.getLogger("anytick.serving")
# An idle worker ends within milliseconds; one in a long run is not waited for, since nobody wants its answer.
_FAREWELL_S: Final = 0.5
_SOURCE_NS: Final = 50_000_000
# One beat and a half: a worker that is well has beaten in between.
_SLOW_PER_SILENCE_NS: Final = 30_000_000


class Roster:
    """The shifts of a front.

    Parameters
    ----------
    template : WorkerSpec
        What every worker is told, but for its place, its ladder and that ladder's particulars.
    name : str
        Of the front; the names of its rings begin with it.
    workers : int
        Of a shift, without the spare.
    """

    def __init__(
        self,
        template: WorkerSpec,
        arena: Arena,
        *,
        name: str,
        workers: int,
        first_answers: bool,
        clock: Callable[[], int],
        source: LadderSource | None = None,
    ) -> None:
        self._template, self._arena, self._workers = template, arena, workers
        self._first_answers, self._clock = first_answers, clock
        self._source, self._source_ns = source, 0
        self._places = Places(PLACES)
        self._switcher: Switcher | None = None
        self.leaving: Shift | None = None
        self.switch: Switch | None = None
        self.restarts: list[int] = []
        self._gone: list[tuple[Shift, int]] = []
        self._tripped: set[int] = set()
        self._due: _Rollback | None = None
        self._rollback: Switch | None = None
        costs = CostTable(template.times_ns)
        self._starter = Starter(name)
        original = Original(self._starter, template.variants, template.previous, beside_load=False)
        self.shift = self._build(template.variants, template.previous, costs, original, number=1)
        # Last: it has descriptors, and nobody closes a roster that was refused.
        self._spare_time = SpareWatch(clock=clock)

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """The shifts that may hold requests."""
        return (self.shift,) if self.leaving is None else (self.shift, self.leaving)

    def replace(
        self,
        variants: Sequence[Variant],
        *,
        costs: CostTable | None,
        previous: Mapping[str, Variant] | None,
    ) -> Switch:
        """Begin to go over to another ladder; see `Front.replace`."""
        variants = tuple(variants)
        window, features = self._template.row_shape
        for variant in variants:
            if variant.input_shape[0] > window or variant.input_shape[1] != features:
                raise ConfigError(
                    f"a ladder must take rows of {(window, features)} to be switched to, "
                    f"was {variant.input_shape} ({variant.name})"
                )
        value_table(variants)
        earlier = {own.name: own for own in self.shift.variants} if previous is None else previous
        now_ns = self._clock()
        switch = Switch(variants=variants, previous=versions_before(variants, earlier), asked_ns=now_ns)
        if self._switcher is not None:
            self._switcher.give_up(SwitchState.SUPERSEDED, now_ns)
        self._switcher = Switcher(
            switch,
            costs=costs,
            original=Original(self._starter, variants, switch.previous, beside_load=True),
            build=lambda switch, costs, original: self._build(
                switch.variants, switch.previous, costs, original, number=self.shift.number + 1
            ),
        )
        self.switch = switch
        return switch

    def glance(self, now_ns: int, *, may_pause: Callable[[], bool] = lambda: True) -> list[tuple[Shift, int]]:
        """Look after everybody once; return by shift the lanes whose workers are gone with what they held.

        Parameters
        ----------
        may_pause : callable
            Asked before an interpreter is started, which stops this process for some milliseconds; False is
            "not yet".
        """
        self._places.glance()
        self._arena.front["load_rise"] = self._spare_time.look(self._at_work())
        crew, admission = self.shift.crew, self.shift.admission
        if not self._starter.is_due(now_ns) or may_pause():
            crew.original.glance(now_ns)
        # A copy is asked for at once; an interpreter is not.
        if crew.needs_spare(now_ns) and (crew.original.is_open or may_pause()):
            crew.start_spare(now_ns)
        for lane, worker in enumerate(crew.lanes):
            slowdown = float(self._arena.status["slowdown"][worker.place])
            # Until a silent worker is condemned, others take what comes, as far as they can.
            admission.slowdowns[lane] = max(slowdown, worker.watchdog.silence_ns / _SLOW_PER_SILENCE_NS)
            if admission.open[lane]:
                lost = crew.is_lost(worker, now_ns)
            else:
                # It is still starting, or was lost while there was no spare.
                admission.open[lane] = worker.process.alive and crew.is_ready(worker)
                lost = crew.has_failed(worker, now_ns)
            if lost:
                self._relieve(lane)
        if self.leaving is not None:
            self._see_off(self.leaving, now_ns)
        self._note_trips()
        if self._source is not None and now_ns - self._source_ns >= _SOURCE_NS:
            self._source_ns = now_ns
            self._ask_source(self._source)
        if self._due is not None:
            self._roll_back(self._due)
        if self._switcher is not None:
            self._go_over(self._switcher, now_ns, may_pause)
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """End everybody; again is harmless."""
        if self._switcher is not None:
            self._switcher.give_up(SwitchState.SUPERSEDED, self._clock())
            self._switcher = None
        for shift in self.shifts:
            shift.crew.leave()
        stop_s = time.monotonic() + _FAREWELL_S
        for shift in self.shifts:
            shift.crew.close(stop_s)
        self._starter.close()
        self._spare_time.close()
        self._places.close()

    def _at_work(self) -> list[int]:
        """Return the ids of all workers that hold or may get requests."""
        found = (worker.process.pid for shift in self.shifts for worker in shift.crew.lanes)
        return [process for process in found if process is not None]

    def _relieve(self, lane: int) -> None:
        """Put the spare in a lost worker's place, and note that what that one held is to be sent on.

        Without a spare the lane stays closed, and is looked at again at the next glance.
        """
        shift = self.shift
        shift.admission.open[lane] = False
        if shift.crew.relieve(lane):
            self.restarts.append(self._clock())
            shift.admission.open[lane] = shift.crew.is_ready(shift.crew.lanes[lane])
        self._gone.append((shift, lane))

    def _note_trips(self) -> None:
        """Roll every worker back, not only those that met the failure, and the ladder's source with them."""
        lines = self._arena.status[[worker.place for worker in self.shift.crew.lanes]]
        # What the front runs itself is for the front to roll back.
        first = {self.shift.first.index} if self.shift.first.tripped else set()
        tripped = (_indices(lines["tripped"]) | first) - self._tripped
        if not tripped:
            return
        self._tripped |= tripped
        back = _indices(lines["rolled_back"]) | first
        variants = list(self.shift.variants if self._due is None else self._due.variants)
        for index in sorted(tripped):
            before = self.shift.previous[index] if index in back else None
            _LOG.warning(
                "%s gave no numbers and is %s",
                variants[index].name,
                "taken out" if before is None else "rolled back",
            )
            if before is None:
                continue
            if self._source is not None:
                self._source.failed(variants[index])
            variants[index] = before
        if tuple(variants) != self.shift.variants:
            # The version before takes about what this one does; forecasts learn the rest.
            self._due = _Rollback(tuple(variants), costs=self.shift.costs, waits=self._source is not None)

    def _ask_source(self, source: LadderSource) -> None:
        try:
            found = source.poll()
            if found is None:
                return
            variants, previous = found
            if self._due is not None and _files(variants) == _files(self._due.variants):
                self._due = _Rollback(variants, previous=previous)
            else:
                self.replace(variants, costs=None, previous=previous)
        except (AnytickError, OSError) as error:
            _LOG.error("the ladder's source was not followed: %s", error)

    def _roll_back(self, due: _Rollback) -> None:
        """Begin with a rollback, unless somebody's switch is under way or this one already is."""
        present = None if self._switcher is None else self._switcher.switch
        if present is not None and (present is not self._rollback or present.variants == due.variants):
            return
        if not due.waits:
            self._rollback = self.replace(due.variants, costs=due.costs, previous=due.previous)

    def _go_over(self, switcher: Switcher, now_ns: int, may_pause: Callable[[], bool]) -> None:
        # There are never more than two shifts; the last request of one that leaves has a deadline.
        if self.leaving is not None or (switcher.starts_process and not may_pause()):
            return
        coming = switcher.advance(now_ns)
        if coming is not None:
            self.leaving, self.shift = self.shift, coming
            self.leaving.crew.leave()
            for lane, is_open in enumerate(self.leaving.admission.open):
                if not is_open:
                    self._end(self.leaving, lane)
            self._tripped, self._due = set(), None
            switcher.switch.state, switcher.switch.done_ns = SwitchState.DONE, self._clock()
            _LOG.info("ladder %d serves", coming.number)
        if not switcher.switch.under_way:
            self._switcher = None
            if switcher.switch.state is SwitchState.REFUSED:
                if switcher.switch is self._rollback:
                    self._due = None
                _LOG.error("the next ladder is refused, this one serves on: %s", switcher.switch.reason)

    def _see_off(self, leaving: Shift, now_ns: int) -> None:
        """Look after the workers of the shift that leaves until the last has ended."""
        for lane, worker in enumerate(leaving.crew.lanes):
            # Gone as it should be, or died or hung over what it held.
            if leaving.admission.open[lane] and leaving.crew.is_lost(worker, now_ns):
                self._end(leaving, lane)
        if leaving.crew.spare_has_left(now_ns) and not any(leaving.admission.open):
            leaving.crew.original.close()
            self.leaving = None

    def _end(self, leaving: Shift, lane: int) -> None:
        leaving.crew.end(lane)
        leaving.admission.open[lane] = False
        self._gone.append((leaving, lane))

    def _build(
        self,
        variants: tuple[Variant, ...],
        previous: tuple[Variant | None, ...],
        costs: CostTable,
        original: Original,
        *,
        number: int,
    ) -> Shift:
        template = replace(
            self._template,
            ladder=number,
            variants=variants,
            previous=previous,
            times_ns=costs.plus(TURN_NS).times_ns,
        )
        return Shift(
            number=number,
            variants=variants,
            previous=previous,
            costs=costs,
            crew=Crew(template, self._arena, count=self._workers, places=self._places, original=original),
            limits=self._template.limits,
            open_max=self._template.slots,
            first_answers=self._first_answers,
            reuse=self.shift.first if number > 1 else None,
        )


@dataclass(frozen=True)
class _Rollback:
    """A ladder to go back to; `waits` for the source to say so too."""

    variants: tuple[Variant, ...]
    costs: CostTable | None = None
    previous: Mapping[str, Variant] = field(default_factory=dict)
    waits: bool = False


def _files(variants: Sequence[Variant]) -> list[str]:
    return [variant.sha256 for variant in variants]


def _indices(bits: NDArray[np.uint8]) -> set[int]:
    """Return the variants whose bit is set in any worker's line."""
    return set(np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(bits, axis=0), bitorder="little")).tolist())


def versions_before(
    variants: Sequence[Variant], earlier: Mapping[str, Variant]
) -> tuple[Variant | None, ...]:
    """Return per variant the earlier one of its name; the same file is no way back."""
    found = [(variant, earlier.get(variant.name)) for variant in variants]
    return tuple(None if old is None or old.sha256 == new.sha256 else old for new, old in found)

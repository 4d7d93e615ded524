"""What a front says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from .drift_watch import Drift
from .switch import Switch


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontStatus:
    """A front at one moment.

    Parameters
    ----------
    ladder : int
        Number of the ladder that serves, 1 for the first; `variants` are its names.
    open_requests : int
        Requests that wait for their answer.
    restarts : int
        Workers that were replaced since the start.
    trips : int
        Breakers that tripped in the workers at work.
    slowdowns : tuple of float
        What the workers' pressure gauges say, 1 on a quiet machine.
    switch : Switch or None
        The last one that was asked for.
    drift_verdicts : int
        Windows of inputs that were judged.
    drift : tuple of Drift
        What the last verdicts found.
    """

    ladder: int
    variants: tuple[str, ...]
    open_requests: int
    restarts: int
    trips: int
    slowdowns: tuple[float, ...]
    switch: Switch | None
    drift_verdicts: int
    drift: tuple[Drift, ...]

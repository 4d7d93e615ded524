"""How good a recording is: counted while it streams, shown as a table; `quality_gate` sets limits.

=================  ============================================================================
finding            counts
=================  ============================================================================
out_of_order       events with a time before one already seen
duplicates         events equal to the one before in everything but `seq` and `recv_ns`; an order may lose
                   the same size twice at one time, so there `seq` is compared too
gaps               silences longer than `gap_s` within one session
sequence_gaps      places where the feed's own numbers say that messages are missing
missing_days       session days between the first and the last event that have none
outside_session    events outside the instrument's hours
crossed            quotes with bid > ask; packets that leave the book with bid >= ask, but not while orders
                   are collected for an auction (flag AUCTION) or trading is halted (STATUS 0 or -1)
locked             quotes with bid = ask
outliers           prices further than `outlier_share` from the median of the five around them
clock_steps        jumps of recv_ns - ts_ns by more than `clock_step_s` from one event to the next
negative_latency   events received before they happened
receive_backwards  events received before the one in front of them
quarantined        rows that were not taken
=================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ext.event_survey import survey

from .errors import ConfigError
from .event_blocks import join_events, take_events
from .instrument import Instrument
from .quality_books import BookWatch
from .schema import QUOTE_DTYPE, RECV_NOT_RECORDED, EventKind
from .session_clock import Calendar, SessionClock

if TYPE_CHECKING:
    import polars as pl

RULES: Final = (
    "out_of_order", "duplicates", "gaps", "sequence_gaps", "missing_days", "outside_session", "crossed",
    "locked", "outliers", "clock_steps", "negative_latency", "receive_backwards", "quarantined",
)  # fmt: skip
# Beyond any time there is, so that a gap without a limit needs no case of its own.
_STEP_NS_MAX: Final = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class QualitySettings:
    """From where on something counts.

    Parameters
    ----------
    gap_s, clock_step_s : float
        Seconds.
    outlier_share : float
        Of the median.
    damaged_share : float
        Most of a feed's lines that may be damaged; more refuse the recording.
    """

    gap_s: float = 300.0
    clock_step_s: float = 0.5
    outlier_share: float = 0.05
    damaged_share: float = 0.01

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not getattr(self, entry.name) > 0:
                raise ConfigError(f"{entry.name} must be positive, was {getattr(self, entry.name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One row of the report.

    Parameters
    ----------
    rule : str
    count : int
    worst : float or None
        In `unit`.
    unit : str
    first : str or None
        UTC time of the first.
    """

    rule: str
    count: int
    worst: float | None = None
    unit: str = ""
    first: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityReport:
    """What a check found.

    Parameters
    ----------
    findings : tuple of Finding
        One for each of RULES.
    quarantined : dict
        Rows by rule.
    latency_ns : dict
        Smallest, median and largest receive latency; empty where receipt is not recorded.
    """

    source: str
    events: int
    first: str | None
    last: str | None
    kinds: dict[str, int]
    findings: tuple[Finding, ...]
    quarantined: dict[str, int]
    latency_ns: dict[str, int]
    notes: tuple[str, ...] = ()

    def count(self, rule: str) -> int:
        return next(finding.count for finding in self.findings if finding.rule == rule)

    def frame(self) -> pl.DataFrame:
        """Return the findings as a Polars table."""
        import polars as pl

        return pl.DataFrame([asdict(finding) for finding in self.findings])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)


class _Tally:
    """Count, worst case and first time of one rule."""

    __slots__ = ("count", "first_ns", "worst")

    def __init__(self) -> None:
        self.count, self.worst, self.first_ns = 0, 0.0, None

    def add(self, count: int, first_ns: int) -> None:
        self.count += count
        self.first_ns = first_ns if self.first_ns is None else self.first_ns

    def take(self, ts_ns: NDArray[np.int64], amount: NDArray[Any] | None = None) -> None:
        if len(ts_ns) == 0:
            return
        self.add(len(ts_ns), int(ts_ns[0]))
        if amount is not None:
            self.worst = max(self.worst, float(np.abs(amount).max()))

    first_ns: int | None


class QualityCheck:
    """Looks at blocks as they pass; `report` says what was seen so far.

    Parameters
    ----------
    instrument : Instrument
        For its session and time zone.
    settings : QualitySettings
    calendar : Calendar, optional
        Instead of the instrument's session.
    """

    def __init__(
        self,
        instrument: Instrument,
        settings: QualitySettings = QualitySettings(),
        *,
        calendar: Calendar | None = None,
    ) -> None:
        self._settings = settings
        self._clock = SessionClock(calendar or Calendar.of(instrument))
        self._books = BookWatch()
        self._tallies = {rule: _Tally() for rule in RULES}
        self._kinds = np.zeros(256, np.int64)
        self._events = 0
        self._first_ns: int | None = None
        self._newest_ns = np.iinfo(np.int64).min
        self._before: NDArray[np.void] | None = None
        self._received: NDArray[np.void] | None = None
        self._prices: dict[str, NDArray[np.int64]] = {}
        self._latencies: list[NDArray[np.int64]] = []

    def update(self, events: NDArray[np.void]) -> None:
        """Look at the next block."""
        if len(events) == 0:
            return
        ts_ns = events["ts_ns"]
        if self._first_ns is None:
            self._first_ns = int(ts_ns[0])
        gap_ns = int(min(self._settings.gap_s * 1e9, _STEP_NS_MAX))
        kinds, flags, late, receipts, duplicates, first_duplicate, gaps, minutes, prints = survey(
            events, self._before, self._newest_ns, gap_ns
        )
        self._events += len(events)
        self._kinds += kinds
        self._look_at_order(ts_ns, late=late)
        if duplicates:
            self._tallies["duplicates"].add(duplicates, int(ts_ns[first_duplicate]))
        self._look_at_gaps(ts_ns, gaps)
        self._look_at_session(ts_ns, minutes)
        if kinds[EventKind.QUOTE]:
            self._look_at_quotes(events)
        self._look_at_books(events, kinds, flags)
        if prints.size:
            self._look_at_prices("prints", *prints)
        if receipts:
            self._look_at_receipt(events)
        self._before = events[-1:].copy()

    def report(
        self,
        *,
        source: str = "",
        quarantined: Mapping[str, int] | None = None,
        sequence_gaps: int = 0,
        notes: tuple[str, ...] = (),
    ) -> QualityReport:
        """Return what was found; the source knows what was quarantined and where its feed has gaps."""
        counts = dict(quarantined or {})
        units = {"gaps": "s", "out_of_order": "s", "clock_steps": "s", "negative_latency": "s",
                 "receive_backwards": "s", "outliers": "of price"}  # fmt: skip
        extra = {
            "quarantined": sum(counts.values()), "missing_days": self._clock.missing_days(),
            "sequence_gaps": sequence_gaps,
        }  # fmt: skip
        findings = tuple(
            Finding(
                rule=rule,
                count=extra.get(rule, tally.count),
                worst=tally.worst if tally.count and rule in units else None,
                unit=units.get(rule, ""),
                first=None if tally.first_ns is None else _utc(tally.first_ns),
            )
            for rule, tally in self._tallies.items()
        )
        kinds = {EventKind(kind).name: int(self._kinds[kind]) for kind in range(1, 10) if self._kinds[kind]}
        return QualityReport(
            source=source, events=self._events, kinds=kinds, findings=findings, quarantined=counts,
            notes=notes,
            first=None if self._first_ns is None else _utc(self._first_ns),
            last=_utc(int(self._newest_ns)) if self._events else None, latency_ns=self._latency(),
        )  # fmt: skip

    def _look_at_order(self, ts_ns: NDArray[np.int64], *, late: bool) -> None:
        if not late:
            self._newest_ns = int(ts_ns[-1])
            return
        newest = np.maximum.accumulate(np.concatenate(([self._newest_ns], ts_ns)))
        at = ts_ns < newest[:-1]
        self._tallies["out_of_order"].take(ts_ns[at], (newest[:-1][at] - ts_ns[at]) / 1e9)
        self._newest_ns = int(newest[-1])

    def _look_at_gaps(self, ts_ns: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        for row in rows.tolist():
            before = self._before["ts_ns"] if row == 0 and self._before is not None else ts_ns[row - 1 : row]
            if self._clock.same_session(int(before[0]), int(ts_ns[row])):
                self._tallies["gaps"].take(before, (ts_ns[row : row + 1] - before) / 1e9)

    def _look_at_session(self, ts_ns: NDArray[np.int64], minutes: NDArray[np.int64]) -> None:
        """Judge runs of events within one minute by their first."""
        outside = np.flatnonzero(~self._clock.inside(ts_ns[minutes]))
        if len(outside):
            events = np.diff(minutes, append=len(ts_ns))[outside].sum()
            self._tallies["outside_session"].add(int(events), int(ts_ns[minutes[outside[0]]]))

    def _look_at_quotes(self, events: NDArray[np.void]) -> None:
        quotes = take_events(events, events["kind"] == EventKind.QUOTE).view(QUOTE_DTYPE)
        bid, ask = quotes["bid_price_ticks"], quotes["ask_price_ticks"]
        sided = (quotes["bid_size_lots"] > 0) & (quotes["ask_size_lots"] > 0)
        self._tallies["crossed"].take(quotes["ts_ns"][sided & (bid > ask)])
        self._tallies["locked"].take(quotes["ts_ns"][sided & (bid == ask)])
        middle = bid[sided].astype(np.int64) + ask[sided]
        self._look_at_prices("quotes", quotes["ts_ns"][sided], middle)

    def _look_at_books(self, events: NDArray[np.void], kinds: NDArray[np.int64], flags: int) -> None:
        crossed, first_ns = self._books.crossed(events, kinds, flags)
        if crossed:
            # The book counts them by part of a block, so their first time is that of the part.
            self._tallies["crossed"].add(crossed, first_ns)

    def _look_at_prices(self, series: str, ts_ns: NDArray[np.int64], twice: NDArray[np.int64]) -> None:
        """Compare each price with the median of five around it; the last two wait for what follows."""
        held = self._prices.get(series, np.empty((2, 0), np.int64))
        joined = np.concatenate((held, np.stack((ts_ns, twice))), axis=1)
        self._prices[series] = joined[:, -4:]
        if joined.shape[1] < 5:
            return
        windows = np.lib.stride_tricks.sliding_window_view(joined[1], 5)
        middle = windows[:, 2]
        # Most windows are flat; only where one strays from its neighbours is there a median to find. It lies
        # among those three, so it is no further from the price than they are, nor nearer to nothing than so.
        spread = np.maximum(np.abs(middle - windows[:, 1]), np.abs(middle - windows[:, 3]))
        strays = np.flatnonzero(spread > self._settings.outlier_share * (np.abs(middle) - spread))
        if len(strays):
            median = np.median(windows[strays], axis=1)
            share = np.abs(middle[strays] - median) / np.maximum(np.abs(median), 1)
            far = share > self._settings.outlier_share
            self._tallies["outliers"].take(joined[0, 2:-2][strays][far], share[far])

    def _look_at_receipt(self, events: NDArray[np.void]) -> None:
        """Compare each recorded receipt with its event's time and with the receipt before it."""
        here = take_events(events, events["recv_ns"] != RECV_NOT_RECORDED)
        latency = here["recv_ns"] - here["ts_ns"]
        negative = latency < 0
        self._tallies["negative_latency"].take(here["ts_ns"][negative], latency[negative] / 1e9)
        joined = here if self._received is None else join_events((self._received, here))
        self._received = here[-1:].copy()
        ts_ns = joined["ts_ns"][1:]
        step_ns = np.diff(joined["recv_ns"] - joined["ts_ns"])
        stepped = np.abs(step_ns) > self._settings.clock_step_s * 1e9
        self._tallies["clock_steps"].take(ts_ns[stepped], step_ns[stepped] / 1e9)
        back_ns = np.diff(joined["recv_ns"])
        self._tallies["receive_backwards"].take(ts_ns[back_ns < 0], back_ns[back_ns < 0] / 1e9)
        # A sample of each block is enough for the median; both ends are exact.
        sample = np.sort(latency)[:: max(1, len(latency) // 64)]
        ends = np.array((latency.min(), latency.max()))
        self._latencies.append(np.concatenate((sample, ends)))
        if len(self._latencies) > 1_024:
            known = np.sort(np.concatenate(self._latencies))
            self._latencies = [np.concatenate((known[::16], known[-1:]))]

    def _latency(self) -> dict[str, int]:
        if not self._latencies:
            return {}
        found = np.concatenate(self._latencies)
        return {
            "smallest": int(found.min()), "median": int(np.median(found)), "largest": int(found.max())
        }  # fmt: skip


def _utc(ts_ns: int) -> str:
    return str(np.datetime64(ts_ns, "ns")) + "Z"

"""What a run says on the terminal: progress on standard error, results on standard output.

Standard output holds nothing that depends on the clock, so that two runs of one seed can be compared
with ``cmp``. Where it is not a terminal, tables are 120 columns of plain text.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from .report.backtest_tables import joint_headline, metric_rows
from .report.comparison import Outcome, learner_of, outcome_of, plain_words, ranked, reference_of
from .report.formats import bounds, count, decimal, large_count, memory, nanoseconds, percent, seconds, signed
from .report.markup import printable
from .result import Performance, PolicyResult, Result, RunResult

WIDTH: Final = 120
_WIDTH_MIN: Final = 80
PLAIN_INTERVAL_SECONDS: Final = 10.0
SHORT_HASH: Final = 8
_PERCENTILES: Final = (50.0, 99.0, 99.9)

Clock = Callable[[], float]


class RunProgress(Protocol):
    """What `run_progress` hands out."""

    def update(self, events_done: int, window_label: str = "") -> None:
        """Tell how many events are done in all, and in which window the run stands."""


@contextmanager
def run_progress(
    events_total: int,
    *,
    description: str = "run",
    quiet: bool = False,
    stream: TextIO | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[RunProgress]:
    """Show how far a run is: a live bar on a terminal, otherwise a line every ten seconds.

    Parameters
    ----------
    events_total : int
        Events of the whole run; 0 when unknown.
    description : str
        Stands before the window's label.
    quiet : bool
        Show nothing.
    stream : TextIO, optional
        Standard error by default.
    clock : callable
        Seconds, monotonic; drives the display only.

    Yields
    ------
    RunProgress
        Its `update` may be called as often as the caller likes.
    """
    sink = stream if stream is not None else sys.stderr
    if quiet:
        yield _Silent()
        return
    console = Console(file=sink)
    # FORCE_COLOR and the like must not put a live bar into a log file.
    if not (sink.isatty() and console.is_terminal) or console.is_dumb_terminal:
        yield _PlainLines(events_total, description=description, sink=sink, clock=clock)
        return
    with _live_bar(console, clock) as progress:
        task_id = progress.add_task(printable(description), total=events_total or None, window="")
        yield _Bar(progress, task_id)


class _Silent:
    def update(self, events_done: int, window_label: str = "") -> None:
        pass


class _Bar:
    """Moves a rich bar."""

    def __init__(self, progress: Progress, task_id: int) -> None:
        self._progress = progress
        self._task_id = task_id

    def update(self, events_done: int, window_label: str = "") -> None:
        task = self._progress.tasks[self._task_id]
        self._progress.update(task.id, completed=events_done, window=printable(window_label))


class _PlainLines:
    """Writes one line now and then, so that logs stay readable."""

    def __init__(self, events_total: int, *, description: str, sink: TextIO, clock: Clock) -> None:
        self._total = events_total
        self._description = printable(description)
        self._sink = sink
        self._clock = clock
        self._started = clock()
        self._written = self._started

    def update(self, events_done: int, window_label: str = "") -> None:
        now = self._clock()
        finished = 0 < self._total <= events_done
        if now - self._written < PLAIN_INTERVAL_SECONDS and not finished:
            return
        if finished:
            # Said once: later calls find nothing left to finish.
            self._total = 0
        self._written = now
        self._sink.write(self._line(events_done, window_label, now - self._started, finished) + "\n")
        self._sink.flush()

    def _line(self, events_done: int, window_label: str, elapsed: float, finished: bool) -> str:
        rate = events_done / elapsed if elapsed > 0 else float("nan")
        parts = [f"{self._description} {printable(window_label)}".strip()]
        if finished:
            parts.append("100%")
        elif self._total:
            parts.append(f"{100.0 * events_done / self._total:.0f}%")
        parts += [f"{large_count(events_done)} events", f"{large_count(rate)} events/s", seconds(elapsed)]
        if self._total and not finished and rate > 0:
            parts.append(f"{seconds((self._total - events_done) / rate)} left")
        return " · ".join(parts)


class _TaskText(ProgressColumn):
    """A column computed from the task's events and time."""

    def __init__(self, write: Callable[[Task], str], style: str = "") -> None:
        self._write = write
        self._style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        return Text(self._write(task), style=self._style, no_wrap=True)


def _events_per_second(task: Task) -> str:
    return f"{large_count(task.completed / task.elapsed)}/s" if task.elapsed else "–/s"


def _remaining(task: Task) -> str:
    # From the whole run's mean speed: windows differ, and a moving estimate would jump with them.
    if not task.elapsed or not task.completed or task.total is None:
        return "ETA –"
    return f"ETA {seconds(max(0.0, task.total - task.completed) * task.elapsed / task.completed)}"


def _live_bar(console: Console, clock: Clock) -> Progress:
    return Progress(
        TextColumn("{task.description} {task.fields[window]}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        _TaskText(lambda task: large_count(task.completed)),
        _TaskText(_events_per_second),
        _TaskText(lambda task: seconds(task.elapsed or 0.0)),
        _TaskText(_remaining, style="bold"),
        console=console,
        get_time=clock,
        expand=True,
        redirect_stdout=False,
    )


def print_run_table(result: RunResult, *, stream: TextIO | None = None) -> None:
    """Print the headline, the result table and the verdict.

    Parameters
    ----------
    result : RunResult
    stream : TextIO, optional
        Standard output by default. Not a terminal: plain text, byte-identical for identical results.
    """
    sink = stream if stream is not None else sys.stdout
    _write(sink, lambda console: _say_run(console, result))


def print_strategies(result: RunResult, *, stream: TextIO | None = None) -> None:
    """Print the example strategies, judged by everything tried on this data so far.

    Apart from the result table, because the number of trials grows with every new configuration.
    """
    sink = stream if stream is not None else sys.stdout
    if result.strategies:
        _write(sink, lambda console: _say_strategies(console, result))


def result_table_text(result: RunResult) -> str:
    """Return what `print_run_table` writes into a file: equal results give equal text."""
    sink = io.StringIO()
    _write(sink, lambda console: _say_run(console, result))
    return sink.getvalue()


def print_backtest_table(results: Sequence[Result], *, stream: TextIO | None = None) -> None:
    """Print backtests side by side, one column a result.

    Parameters
    ----------
    results : sequence of Result
    stream : TextIO, optional
        Standard output by default.
    """
    sink = stream if stream is not None else sys.stdout
    _write(sink, lambda console: _say_backtests(console, results))


def print_performance(performance: Performance, *, stream: TextIO | None = None) -> None:
    """Print what the clock said, apart from the results.

    Parameters
    ----------
    performance : Performance
    stream : TextIO, optional
        Standard error by default, so that standard output is the same for the same result.
    """
    histogram = performance.tick_to_order
    named = ", ".join(f"p{p:g} {nanoseconds(histogram.percentile_ns(p))}" for p in _PERCENTILES)
    lines = [
        f"{seconds(performance.seconds)}, {large_count(performance.events_per_second)} events/s, "
        f"peak memory {memory(performance.peak_memory_bytes)}"
    ]
    if int(histogram.counts.sum()):
        lines.append(f"tick to order: {named}, max {nanoseconds(histogram.max_ns)}")
    spent = (f"{stage} {seconds(value)}" for stage, value in performance.stage_seconds.items())
    if performance.stage_seconds:
        lines.append(f"stages: {', '.join(spent)}")
    sink = stream if stream is not None else sys.stderr
    _write(sink, lambda console: _say_lines(console, lines))


def _write(sink: TextIO, say: Callable[[Console], None]) -> None:
    """Let `say` write to the terminal itself, or to a file as plain text of a fixed width."""
    if sink.isatty():
        console = Console(file=sink, highlight=False)
        # Below this a table would cut its figures; a terminal breaks its lines instead.
        console.width = max(console.width, _WIDTH_MIN)
        say(console)
        return
    buffer = io.StringIO()
    say(
        Console(
            file=buffer, width=WIDTH, force_terminal=False, color_system=None, highlight=False,
            legacy_windows=False, force_jupyter=False,
        )
    )  # fmt: skip
    encoding = getattr(sink, "encoding", None) or "utf-8"
    # A Greek letter in a policy's name must not end a run whose results stand.
    sink.write(buffer.getvalue().encode(encoding, "replace").decode(encoding))
    sink.flush()


def _say_lines(console: Console, lines: Sequence[str]) -> None:
    for text in lines:
        console.print(Text(printable(text)))


_SHOWN: Final = {Outcome.CHEAPER: "cheaper", Outcome.DEARER: "dearer", Outcome.UNRESOLVED: "no diff"}


def _difference(policy: PolicyResult) -> str:
    return signed(policy.difference_bps.mean) if policy.difference_bps else "–"


def _difference_bounds(policy: PolicyResult) -> str:
    return bounds(policy.difference_bps, sign=True) if policy.difference_bps else "reference"


def _shown(policy: PolicyResult) -> str:
    return _SHOWN[outcome_of(policy.difference_bps)] if policy.difference_bps else ""


# Title, value, and whether a terminal narrower than WIDTH still shows it.
_COLUMNS: Final[tuple[tuple[str, Callable[[PolicyResult], str], bool], ...]] = (
    ("cost bps", lambda policy: decimal(policy.cost_bps.mean), True),
    ("interval", lambda policy: bounds(policy.cost_bps), False),
    ("vs ref.", _difference, True),
    ("interval", _difference_bounds, True),
    ("shown", _shown, True),
    ("fees", lambda policy: decimal(policy.fee_bps), False),
    ("taker", lambda policy: percent(policy.taker_share), False),
    ("filled", lambda policy: percent(policy.filled_share), False),
    ("journal", lambda policy: policy.journal_hash[:SHORT_HASH], True),
)


def _say_run(console: Console, result: RunResult) -> None:
    _say_lines(console, [result.headline, ""])
    policies, learner, reference = ranked(result), learner_of(result), reference_of(result)
    columns = [column for column in _COLUMNS if column[2] or console.width >= WIDTH]
    table = _table()
    table.add_column("policy", overflow="fold")
    for title, _, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for policy in policies:
        cells = (policy.label, *(write(policy) for _, write, _ in columns))
        table.add_row(*map(_text, cells), style="bold" if policy is learner else "")
    console.print(table)
    found = plain_words(result)
    level = f"{100.0 * policies[0].cost_bps.confidence:g}%" if policies else "no"
    against = reference.label if reference else "none"
    _say_lines(
        console,
        [
            "",
            f"Costs in 1e-4 of notional, lower is better; {level} intervals by day; reference: {against}.",
            "",
            *([found[1]] if found else []),
            result.verdict,
            "",
            f"events  {count(result.events)} = {count(result.rows)} rows x {len(result.venues)} venues x "
            f"{len(policies)} policies",
            f"seed    {result.seed}",
            f"data    {result.data_hash}",
            f"config  {result.config_hash}",
            f"journal {result.journal_hash}",
        ],
    )


def _say_strategies(console: Console, result: RunResult) -> None:
    table = _table()
    for title in ("example strategy", "fills", "profit", "Sharpe", "interval", "PSR", "deflated", "trials"):
        table.add_column(title, justify="left" if title == "example strategy" else "right", no_wrap=True)
    for strategy in result.strategies:
        cells = (
            strategy.name,
            count(strategy.trades),
            signed(strategy.pnl, 2),
            decimal(strategy.sharpe.mean, 2),
            bounds(strategy.sharpe, 2),
            percent(strategy.probabilistic_sharpe),
            percent(strategy.deflated_sharpe),
            count(strategy.trials),
        )
        table.add_row(*map(_text, cells))
    console.print(table)
    _say_lines(
        console,
        [
            "",
            f"{count(result.trials)} policies and strategies were tried on this data so far; a Sharpe ratio "
            "is deflated by the strategies among them. Both probabilities speak of simulated profits.",
        ],
    )


def _say_backtests(console: Console, results: Sequence[Result]) -> None:
    if not results:
        return
    _say_lines(console, [joint_headline(results), ""])
    table = _table()
    table.add_column("", no_wrap=True)
    for result in results:
        table.add_column(_text(result.name), justify="right", overflow="fold")
    for row in metric_rows(results):
        table.add_row(*map(_text, row))
    for reason in sorted({reason for result in results for reason in result.rejections}):
        counts = (count(result.rejections.get(reason, 0)) for result in results)
        table.add_row(*map(_text, (f"  refused: {reason}", *counts)))
    table.add_row(*map(_text, ("journal", *(result.journal_hash[:SHORT_HASH] for result in results))))
    console.print(table)


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold"
    )


def _text(content: str) -> Text:
    # Text, not markup: a name with brackets is a name.
    return Text(printable(content))

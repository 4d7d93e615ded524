"""The base class of strategies, and how one becomes the loop's agent.

A strategy overrides the hooks it wants; the interpreter is entered for those only. It decides by the
verbs of the `Context` it is given and never calls a venue, so the same object runs against history, a
simulation or a live feed (docs/STRATEGIES.md).
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Final

from data.errors import AnytickError, ConfigError
from data.instrument import Instrument
from ext.compiled_agent import CompiledAgent
from ext.context import Context
from ext.python_agent import HOOK_NAMES, PythonAgent
from ext.strategy_orders import Order, Report

__all__ = ["Context", "Order", "Report", "Strategy", "StrategyError", "make_agent"]

_PERIODS: Final = (("timer_ns", "on_timer"), ("batch_events", "on_batch"), ("touch_every_ns", "on_touch"))
_OWN_FOLDERS: Final = tuple(
    str(Path(__file__).resolve().parents[1] / name) + "/" for name in ("ext", "data", "engine", "backtest")
)
_PLAIN: Final = (str, int, float, bool, type(None))


class StrategyError(AnytickError):
    """A user's strategy raised, or could not be loaded or made; `__cause__` is what it raised.

    Parameters
    ----------
    what : str
        What went wrong, as the message begins.
    error : Exception
        What the strategy raised.

    Attributes
    ----------
    user_traceback : str
        The traceback of `error` from the first line of the user's own on.
    """

    def __init__(self, what: str, error: BaseException) -> None:
        told = traceback.TracebackException.from_exception(error)
        users = [at for at, frame in enumerate(told.stack) if not _is_ours(frame.filename)]
        place = ""
        if users:
            # Above the user's first frame stand ours and the import machinery's.
            told.stack = traceback.StackSummary.from_list(told.stack[users[0] :])
            last = told.stack[users[-1] - users[0]]
            place = f" ({last.filename}, line {last.lineno})"
        lines = told.format() if users else told.format_exception_only()
        self.user_traceback = "".join(lines)
        super().__init__(f"{what}: {type(error).__name__}: {error}{place}")


def _is_ours(filename: str) -> bool:
    """Tell our own frames, the compiled ones (relative names) and the import machinery's from a user's."""
    return filename.startswith((*_OWN_FOLDERS, "ext/", "<frozen"))


class Strategy:
    """Decides what to order, called on what it subscribes to.

    Attributes
    ----------
    timer_ns : int or None
        Period of `on_timer`, ns, on the grid of its multiples since the Unix epoch. A market silent
        for ten minutes stops the timer until its next event.
    batch_events : int or None
        `on_batch` is called whenever that many more events have been received.
    touch_sizes : bool
        Call `on_touch` for changes of size too, not of price only.
    touch_every_ns : int or None
        Call it at most so often; a change in between is told when the time is over.

    Examples
    --------
    >>> class Patient(Strategy):
    ...     timer_ns = 60_000_000_000
    ...
    ...     def on_timer(self, ctx):
    ...         if ctx.position_lots < 10 and not ctx.open_orders:
    ...             ctx.buy(1, ctx.bid_price_ticks, post_only=True, ttl_ns=self.timer_ns)
    >>> subscriptions(Patient())
    ('on_timer',)
    """

    timer_ns: int | None = None
    batch_events: int | None = None
    touch_sizes: bool = False
    touch_every_ns: int | None = None

    def on_start(self, ctx: Context) -> None:
        """Begin: the first packet has been received, the clock runs, there may be a market."""

    def on_timer(self, ctx: Context) -> None:
        """Act every `timer_ns` and at the times asked for by `ctx.schedule`; see `ctx.timer_tag`."""

    def on_touch(self, ctx: Context) -> None:
        """Act at the end of a packet that changed a venue's best prices (or sizes: `touch_sizes`)."""

    def on_batch(self, ctx: Context) -> None:
        """Act at the end of the packet in which `batch_events` more events are full."""

    def on_fill(self, ctx: Context, fill: Report) -> None:
        """Take note that an order of ours traded."""

    def on_reject(self, ctx: Context, report: Report) -> None:
        """Take note that the risk gate or a venue refused a command; ``report.reason`` is a `Reason`."""

    def on_report(self, ctx: Context, report: Report) -> None:
        """Take note of every answer, after the hook above that is meant for it."""

    def on_stop(self, ctx: Context) -> None:
        """End: after the last event and the last answer; nothing can be sent any more."""

    def parameters(self) -> dict[str, Any]:
        """Return what distinguishes two objects of this class: part of the run's identity.

        The plain public attributes, those of the class included. Override it where state that matters
        is kept elsewhere.
        """
        found: dict[str, Any] = {}
        for layer in (*reversed(type(self).__mro__), self):
            for name, value in vars(layer).items():
                if not name.startswith("_") and isinstance(value, _PLAIN):
                    found[name] = value
        return dict(sorted(found.items()))


def subscriptions(strategy: Strategy) -> tuple[str, ...]:
    """Return the names of the hooks that a strategy overrides, in the order of HOOK_NAMES."""
    own = type(strategy)
    return tuple(
        name
        for name in HOOK_NAMES
        if getattr(own, name, None) is not getattr(Strategy, name) or name in vars(strategy)
    )


def is_users(strategy: Strategy) -> bool:
    """Tell a user's own strategy from those of `engine.strategies`, whose errors are our bugs."""
    return type(strategy).__module__ != f"{__package__}.strategies"


def make_agent(strategy: Strategy, *, instrument: Instrument, run_id: int) -> PythonAgent | CompiledAgent:
    """Return the agent that calls a strategy's hooks, or its machine code.

    Parameters
    ----------
    strategy : Strategy
    instrument : Instrument
    run_id : int
        15 bits, of the client order ids; see `engine.order_ids.run_id_of`.

    Raises
    ------
    ConfigError
        The object is no strategy, or a subscription is not positive or has no hook.
    """
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"strategy must be an object of a Strategy class, was {strategy!r}")
    compiled = getattr(strategy, "compiled_agent", None)
    if compiled is not None:
        agent: CompiledAgent = compiled(instrument=instrument, run_id=run_id)
        return agent
    names = subscriptions(strategy)
    for setting, hook in _PERIODS:
        value = getattr(strategy, setting)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
            raise ConfigError(f"{setting} must be a positive whole number or None, was {value!r}")
        if value is not None and hook not in names:
            raise ConfigError(f"{type(strategy).__name__} sets {setting} and has no {hook}")
    if "on_batch" in names and strategy.batch_events is None:
        raise ConfigError(f"{type(strategy).__name__} has on_batch and sets no batch_events")
    return PythonAgent(
        {name: getattr(strategy, name) for name in names},
        run_id=run_id,
        tick_value=instrument.tick_value,
        tick_size_ticks=instrument.tick_size_ticks,
        timer_ns=strategy.timer_ns or 0,
        batch_events=strategy.batch_events or 0,
        touch_sizes=strategy.touch_sizes,
        touch_every_ns=strategy.touch_every_ns or 0,
    )

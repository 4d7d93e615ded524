"""Strategies compiled to machine code (extra ``compile``): a function called without the interpreter.

The function takes three arrays and returns how many commands it wrote::

    def join_the_bid(view, commands, state):
        if view["call"] == 1 and view["two_sided"] and state[0] == 0:
            commands[0]["action"] = 1
            ...
            state[0] = 1
            return 1
        return 0

`view` is one record of VIEW_DTYPE and is not to be written; `commands` are COMMANDS_MAX records of
ORDER_DTYPE, all zero; `state` is the array given to `CompiledStrategy`, its memory from call to call. A
new order needs no id: orders are numbered 1, 2, 3, ... as they are written, and ``view["orders"]`` is the
last number so far. A cancel or a replace names the number in `client_order_id`, and a report says it in
``view["order"]``. numba compiles the function; what numba understands is the subset of Python to keep to.
Codes are those of `data.schema`, as plain integers.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from enum import IntEnum
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from data.instrument import Instrument
from data.schema import ORDER_DTYPE
from ext.compiled_agent import COMMANDS_MAX, VIEW_DTYPE, CompiledAgent

from .strategy import Strategy

__all__ = ["COMMANDS_MAX", "VIEW_DTYPE", "CallKind", "CompiledStrategy"]

Function = Callable[[Any, Any, Any], int]


class CallKind(IntEnum):
    """Why a compiled strategy is called: ``view["call"]``."""

    EVENT = 1
    TIMER = 2
    REPORT = 3


class CompiledStrategy(Strategy):
    """A strategy in machine code.

    Parameters
    ----------
    function : callable
        As the module's docstring says; numba compiles it once, here.
    state : array, optional
        One-dimensional, of numbers or of a structured dtype; copied, so that an object may run again. One
        number by default.
    packets : bool
        Call at the end of every packet.
    timer_ns : int, optional
        Call at that period too.
    features : bool
        Fill ``view["features"]`` before each call, which has its price.

    Attributes
    ----------
    state : array
        What the last run left.

    Raises
    ------
    ConfigError
        numba is missing or cannot compile the function, or the state is no plain array.

    Notes
    -----
    A call sees the packet it is made for and nothing later. What the risk gate refuses is counted and
    journaled; the function is not called for it. An exception in compiled code cannot be caught: numba prints
    it, and the call counts as one that wrote nothing. To stop a run, return a negative number.
    """

    def __init__(
        self,
        function: Function,
        *,
        state: NDArray[Any] | None = None,
        packets: bool = True,
        timer_ns: int | None = None,
        features: bool = False,
    ) -> None:
        self._begin = np.zeros(1) if state is None else np.ascontiguousarray(state)
        if self._begin.ndim != 1 or self._begin.size == 0 or self._begin.dtype.hasobject:
            raise ConfigError(
                "state must be a filled one-dimensional array of numbers, "
                f"was {self._begin.dtype} of shape {self._begin.shape}"
            )
        if timer_ns is not None and timer_ns <= 0:
            raise ConfigError(f"timer_ns must be a positive whole number or None, was {timer_ns!r}")
        if not packets and timer_ns is None:
            raise ConfigError("a compiled strategy is called for packets or by a timer, was neither")
        self.state = self._begin.copy()
        self.timer_ns = timer_ns
        self._function, self._packets, self._features = function, packets, features
        self._entry = _machine_code(function, self._begin)

    def parameters(self) -> dict[str, Any]:
        """Return what distinguishes the strategy: its source, its first state, its calls."""
        try:
            text = inspect.getsource(self._function)
        except OSError:
            text = repr(self._function.__code__.co_code)
        return {
            "function": self._function.__qualname__,
            "source_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "state_sha256": hashlib.sha256(self._begin.tobytes()).hexdigest(),
            "packets": self._packets,
            "timer_ns": self.timer_ns,
            "features": self._features,
        }

    def compiled_agent(self, *, instrument: Instrument, run_id: int) -> CompiledAgent:
        """Return a fresh agent, with the state as it was given."""
        self.state = self._begin.copy()
        return CompiledAgent(
            address=self._entry.address,
            owner=self._entry,
            state=self.state,
            run_id=run_id,
            timer_ns=self.timer_ns or 0,
            packets=self._packets,
            features=self._features,
        )


def _machine_code(function: Function, state: NDArray[Any]) -> Any:
    """Compile a function behind the C signature of `ext/compiled_agent.pxd`."""
    try:
        numba: Any = import_module("numba")
    except ImportError as error:
        raise ConfigError("a compiled strategy needs numba: pip install 'anytick[compile]'") from error
    inner = numba.njit(function)
    length, commands_max, carray = len(state), COMMANDS_MAX, numba.carray
    records = [
        numba.types.CPointer(numba.from_dtype(dtype)) for dtype in (VIEW_DTYPE, ORDER_DTYPE, state.dtype)
    ]

    def entry(view: Any, commands: Any, memory: Any) -> Any:
        return inner(carray(view, 1)[0], carray(commands, commands_max), carray(memory, length))

    try:
        return numba.cfunc(numba.types.int64(*records))(entry)
    except Exception as error:
        # What a compiler trips over in a user's function has no common class.
        raise ConfigError(f"numba could not compile {function.__qualname__}: {error}") from error

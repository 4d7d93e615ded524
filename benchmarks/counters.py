"""Instructions that this process executes in user mode, counted by the processor through perf.

Times on a shared machine scatter; the number of instructions of the same work on the same build hardly
does. The counter follows threads that begin after it was opened. Linux only; where the kernel or the
hypervisor refuses (containers, ``perf_event_paranoid`` above 2), `open_counter` says why.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable
from typing import Final

from data.errors import ConfigError

_SYSCALL: Final = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTE_BYTES: Final = 112
_HARDWARE: Final = 0
_INSTRUCTIONS: Final = 1
# Bits of perf_event_attr: follow new threads, leave out the kernel and the hypervisor.
_INHERIT, _NO_KERNEL, _NO_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


class InstructionCounter:
    """A running count; close it, or use it as a context."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> InstructionCounter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self) -> int:
        """Return the instructions since the counter was opened."""
        (count,) = struct.unpack("q", os.read(self._descriptor, 8))
        return int(count)

    def count(self, work: Callable[[], object]) -> int:
        """Return the instructions of one call, less what an empty call costs."""
        spent = []
        for do in (_nothing, work):
            begun = self.read()
            do()
            spent.append(self.read() - begun)
        return max(0, spent[1] - spent[0])


def open_counter() -> InstructionCounter:
    """Return a counter for this thread and those it starts from now on.

    Raises
    ------
    ConfigError
        The system does not count, with its reason.
    """
    number = _SYSCALL.get(platform.machine()) if platform.system() == "Linux" else None
    if number is None:
        raise ConfigError(f"instructions are counted on Linux x86-64 and aarch64, was {platform.platform()}")
    attribute = struct.pack("=IIQ", _HARDWARE, _ATTRIBUTE_BYTES, _INSTRUCTIONS)
    attribute += struct.pack("=QQQQ", 0, 0, 0, _INHERIT | _NO_KERNEL | _NO_HYPERVISOR)
    block = ctypes.create_string_buffer(attribute.ljust(_ATTRIBUTE_BYTES, b"\0"), _ATTRIBUTE_BYTES)
    library = ctypes.CDLL(None, use_errno=True)
    this_process, any_core, no_group, close_on_exec = 0, -1, -1, 8
    descriptor = library.syscall(
        ctypes.c_long(number),
        ctypes.byref(block),
        ctypes.c_int(this_process),
        ctypes.c_int(any_core),
        ctypes.c_int(no_group),
        ctypes.c_ulong(close_on_exec),
    )
    if descriptor < 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigError(f"the processor's instruction counter must be readable, was refused: {reason}")
    return InstructionCounter(int(descriptor))


def _nothing() -> None:
    return None

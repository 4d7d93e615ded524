"""An interrupt stays one while modules are imported.

C modules turn whatever stops their import into an ImportError. Most have the interrupt behind it as its
context; numpy's leaves no trace of it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise KeyboardInterrupt in place of an error that an interrupt became."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    try:
        # Whoever ignores interrupts or has plans for them keeps those.
        handles = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if handles:
            signal.signal(signal.SIGINT, note)
    except ValueError:  # only the main thread may, and gets interrupts
        handles = False
    try:
        yield
    except Exception as error:
        if _was_interrupt(error, came=came):
            raise KeyboardInterrupt from error
        raise
    finally:
        if handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _was_interrupt(error: BaseException, *, came: bool) -> bool:
    """Tell whether an interrupt is the cause of an error, or of a failed import behind it."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        is_import = isinstance(found, ImportError)
        if is_import and came:
            return True
        # What happened to be under way explains a failed import only.
        found = found.__cause__ or (found.__context__ if is_import else None)
    return found is not None

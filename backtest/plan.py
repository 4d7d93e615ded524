"""The stream of parent orders that every policy executes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.executor import PLAN_DTYPE

from .config import ParentConfig
from .splits import DAY_NS

_SECOND_NS: Final = 1_000_000_000
# A parent has to end on its day: most markets pause at the day's end or before.
_LAST_SECOND: Final = 23 * 3_600


def draw_plan(config: ParentConfig, *, first_ns: int, last_ns: int, seed: int) -> NDArray[np.void]:
    """Draw parent orders for every weekday of a history.

    A day's orders depend on the seed and the date only, so a shorter history has the same orders on the
    days it shares. Orders that arrive while the market is closed are skipped by the executor.

    Parameters
    ----------
    first_ns, last_ns : int
        First and last event.
    seed : int

    Returns
    -------
    array of PLAN_DTYPE
        Ascending arrival.
    """
    days = [
        _draw_day(config, day=day, seed=seed)
        for day in range(first_ns // DAY_NS, last_ns // DAY_NS + 1)
        if (day + 3) % 7 < 5  # 1970-01-01 was a Thursday; Monday is 0
    ]
    return np.concatenate(days) if days else np.empty(0, dtype=PLAN_DTYPE)


def _draw_day(config: ParentConfig, *, day: int, seed: int) -> NDArray[np.void]:
    random = np.random.default_rng((seed, day))
    plan = np.zeros(config.per_day, dtype=PLAN_DTYPE)
    seconds = np.sort(random.integers(0, _LAST_SECOND, config.per_day))
    plan["arrival_ns"] = day * DAY_NS + seconds * _SECOND_NS
    plan["deadline_ns"] = plan["arrival_ns"] + round(config.duration_minutes * 60) * _SECOND_NS
    plan["size_lots"] = random.integers(config.size_lots_min, config.size_lots_max + 1, config.per_day)
    plan["slices"] = config.slices
    plan["side"] = random.choice(np.array([-1, 1], dtype=np.int8), config.per_day)
    return plan


def repeat_per_arm(plan: NDArray[np.void], arms: int) -> NDArray[np.void]:
    """Repeat each parent once per arm, so that parent n plays arm ``n % arms``."""
    return np.repeat(plan, arms)

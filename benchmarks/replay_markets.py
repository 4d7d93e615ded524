"""Markets in memory for the replay's scenarios: by level and by order, uncrossed, of any length.

Both are drawn column by column, without a book beside, so that a hundred million events take seconds. The
price for it: an order's price does not follow a market that has moved away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind

START_NS = 1_577_975_400 * 10**9
"""2020-01-02 14:30 UTC."""
MID_TICKS = 100_000


def level_market(count: int, *, seed: int, venue: int = 0, step_ns: int = 20_000) -> NDArray[np.void]:
    """Return LEVEL events around a walking mid, as EVENT_DTYPE, shape (count,).

    One event in fifty moves the mid by a tick and clears the level it moves onto; of the others one in five
    removes a level and the rest set one, near the touch more often than far from it.
    """
    return level_walk(count, seed=seed, venue=venue, step_ns=step_ns)[0]


def level_walk(
    count: int, *, seed: int, venue: int = 0, step_ns: int = 20_000
) -> tuple[NDArray[np.void], int]:
    """Return what `level_market` does, and how many ticks the mid has gone."""
    random = np.random.default_rng([seed, venue])
    moves = np.where(random.random(count) < 0.02, random.choice((-1, 1), count), 0)
    mid = MID_TICKS + np.cumsum(moves)
    side = np.where(moves != 0, -moves, random.choice((-1, 1), count))
    behind = np.where(moves != 0, 0, np.minimum(random.geometric(0.25, count), 40))
    events = _events(count, random, venue=venue, step_ns=step_ns)
    # A bid at mid - 1 and lower, an offer at mid + 1 and higher; a move clears the tick it arrives at.
    events["price_ticks"] = mid - side * behind
    events["size_lots"] = np.where(
        (moves != 0) | (random.random(count) < 0.2), 0, random.integers(1, 500, count)
    )
    events["side"] = side
    events["kind"] = EventKind.LEVEL
    return events, int(moves.sum())


def order_market(count: int, *, seed: int, live: int = 1_000, venue: int = 0) -> NDArray[np.void]:
    """Return ADD, REDUCE, EXECUTE and CANCEL events with about `live` orders resting, shape (count,).

    Each order is announced, every third one is reduced, and all end: four of five cancelled, one executed.
    """
    random = np.random.default_rng([seed, venue, 3])
    orders = count // 2 + 1
    born = np.sort(random.random(orders)) * orders
    life = random.exponential(live, orders)
    reduced = random.random(orders) < 1 / 3
    size = random.integers(2, 500, orders)
    side = random.choice((-1, 1), orders)
    centre = MID_TICKS + random.integers(-1, 2, orders)
    price = centre - side * (1 + np.minimum(random.geometric(0.2, orders), 60))
    ends = np.where(random.random(orders) < 0.2, EventKind.EXECUTE, EventKind.CANCEL)
    left = np.where(reduced, size - size // 2, size)
    numbers = np.arange(orders)
    halfway = numbers[reduced]
    when = np.concatenate((born, (born + life / 2)[halfway], born + life))
    order = np.argsort(when, kind="stable")[:count]
    who = np.concatenate((numbers, halfway, numbers))[order]
    events = _events(count, random, venue=venue, step_ns=20_000)
    events["order_id"] = 1 + who + (random.integers(1, 1 << 20) << 32)
    events["kind"] = np.concatenate(
        (np.full(orders, EventKind.ADD), np.full(len(halfway), EventKind.REDUCE), ends)
    )[order]
    events["size_lots"] = np.concatenate((size, size[halfway] // 2, left))[order]
    events["price_ticks"], events["side"] = price[who], side[who]
    return events


def _events(count: int, random: np.random.Generator, *, venue: int, step_ns: int) -> NDArray[np.void]:
    events = np.zeros(count, EVENT_DTYPE)
    events["ts_ns"] = START_NS + np.cumsum(random.integers(1, 2 * step_ns, count))
    events["recv_ns"], events["seq"] = RECV_NOT_RECORDED, np.arange(count)
    events["venue_id"], events["flags"] = venue, EventFlag.LAST_IN_PACKET
    return events

"""What the cascade gains on a live front: how often answers are right, with it and without it.

    python -m benchmarks.router_live [--users 256] [--deadline-ms 20] [--rounds 6] [--ladder FOLDER]

Requests are labelled windows of a generated day that no build uses, so what is compared is not a table's
promise but answers that are right and in time. Rounds with and without the cascade alternate, in changing
order; the interval is over pairs of rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.inference.arrays import Floats32
from engine.inference.ladder import Variant, load_ladder
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.front import Front
from engine.inference.serving.request import Answer

from .router_days import ratio_interval
from .router_ladders import fresh_windows

_ROWS = 4_000
_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round of closed-loop users: shares of all requests, and answers by variant."""

    requests: int
    in_time: float
    right: float
    variants: Counter[str]


def play(
    front: Front, rows: Floats32, labels: NDArray[np.int64], *, users: int, deadline_ns: int, seconds: float
) -> Round:
    """Let users ask again as soon as they have their answer, and count what was right and in time."""
    truths: dict[int, int] = {}
    done: list[tuple[Answer, int]] = []
    asked, stop_ns = 0, time.monotonic_ns() + int(seconds * 1e9)

    def ask() -> None:
        nonlocal asked
        place, asked = asked % len(rows), asked + 1
        number, answer = front.submit(rows[place], deadline_ns=time.monotonic_ns() + deadline_ns)
        truths[number] = int(labels[place])
        if answer is not None:
            done.append((answer, truths.pop(number)))

    for _ in range(users):
        ask()
    while front.open_requests:
        for answer in front.poll(timeout_s=_POLL_S):
            done.append((answer, truths.pop(answer.request_id)))
            if time.monotonic_ns() < stop_ns:
                ask()
    good = [(answer, truth) for answer, truth in done if answer.on_time and answer.probabilities]
    right = sum(int(np.argmax(answer.probabilities)) == truth for answer, truth in good)
    names = Counter(front.variants[answer.variant].name for answer, _ in good)
    return Round(requests=len(done), in_time=len(good) / len(done), right=right / len(done), variants=names)


def compare(
    ladder: Sequence[Variant], *, users: int, deadline_ns: int, rounds: int, seconds: float
) -> tuple[list[Round], list[Round]]:
    """Return the rounds with the cascade and those without, paired."""
    plain = [replace(variant, margins=None) for variant in ladder]
    rows, labels = fresh_windows(ladder, rows=_ROWS, seed=2)
    found: tuple[list[Round], list[Round]] = ([], [])
    costs: CostTable | None = None
    for turn in range(rounds):
        for kind in (0, 1) if turn % 2 == 0 else (1, 0):
            with Front((ladder, plain)[kind], costs=costs, workers=1) as front:
                costs = front.costs
                play(front, rows, labels, users=users, deadline_ns=deadline_ns, seconds=0.3)
                found[kind].append(
                    play(front, rows, labels, users=users, deadline_ns=deadline_ns, seconds=seconds)
                )
    return found


def main(arguments: Sequence[str]) -> int:
    """Print what was right, in time, and by which variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--deadline-ms", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--ladder", type=Path)
    parser.add_argument("--fp32", action="store_true", help="only the FP32 forms")
    args = parser.parse_args(arguments)
    ladder = [v for v in load_ladder(args.ladder) if v.precision == "fp32" or not args.fp32]
    with_, without = compare(
        ladder,
        users=args.users,
        deadline_ns=int(args.deadline_ms * 1e6),
        rounds=args.rounds,
        seconds=args.seconds,
    )
    for name, found in (("with", with_), ("without", without)):
        total = sum((each.variants for each in found), Counter[str]())
        shares = "  ".join(f"{k} {100 * v / total.total():.1f} %" for k, v in total.most_common())
        in_time, right = (np.mean([getattr(each, what) for each in found]) for what in ("in_time", "right"))
        count = sum(each.requests for each in found)
        print(f"{name:<8}{count:>8,} asked  in time {in_time:.4f}  right {right:.4f}  {shares}")
    gain, low, high = ratio_interval(
        np.array([each.right for each in with_]), np.array([each.right for each in without]), seed=1
    )
    print(f"right with over without: {gain:.4f} ({low:.4f} to {high:.4f})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

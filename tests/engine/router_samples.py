"""Tables of times and values for the router tests; times in the proportions of measured ones."""

from __future__ import annotations

import numpy as np

from engine.inference.serving.forecast import BATCHES, CostTable
from engine.inference.serving.planning import ValueTable
from engine.inference.serving.request import Request

WORKERS = 2
DEADLINE_NS = 50_000_000
NAMES = ("tiny", "small", "medium", "large", "encoder.int8", "encoder.fp32")
VALUES = ValueTable((0.35, 0.6, 0.75, 0.88, 0.985, 1.0))


def _row(one: float, sixteen: float, most: float) -> list[float]:
    return [float(np.interp(size, (1, 16, 64), (one, sixteen, most))) * 1e3 for size in BATCHES]


COSTS = CostTable(
    [
        _row(6, 9, 14),
        _row(37, 308, 1_266),
        _row(76, 771, 2_811),
        _row(190, 2_500, 10_000),
        _row(1_410, 22_000, 90_000),
        _row(2_810, 47_646, 230_434),
    ]
)


def request(number: int, *, arrival_ns: int = 0, deadline_ns: int = DEADLINE_NS, **other: float) -> Request:
    return Request(request_id=number, arrival_ns=arrival_ns, deadline_ns=deadline_ns, **other)  # type: ignore[arg-type]

"""What a rung affords of a queue with margins, against an obvious walk along it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from router_samples import DEADLINE_NS

from engine.inference.serving.forecast import BATCHES, CostTable, LatencyForecast
from engine.inference.serving.planning import Planner, ValueTable

BINS = 4
MARGINS = (0.1, 0.3, 0.6, float("nan"))


def walk(
    planner: Planner,
    rung: tuple[int, ...],
    below: tuple[int, ...],
    line: list[tuple[int, int]],
    usable: float,
) -> tuple[bool, list[int]]:
    """Whether a rung is affordable, and who runs with the head, request by request."""
    batches, forecast = planner.forecast.costs.efficient, planner.forecast
    head_variant = rung[line[0][1]]
    head = [place for place, (_, own) in enumerate(line) if rung[own] == head_variant]
    head = head[: batches[head_variant]]
    behind: dict[int, list[int]] = {}
    for place, (_, own) in enumerate(line):
        if place not in head:
            behind.setdefault(below[own], []).append(place)
    runs = []
    for variant, places in behind.items():
        size = min(len(places), batches[variant])
        runs += [(first, forecast.typical_ns(variant, size, 1.0)) for first in places[::size]]
    ready_ns = forecast.tail_ns(head_variant, len(head), 1.0)
    affordable = True
    for first, run_ns in [(0, 0.0), *sorted(runs)]:
        ready_ns += run_ns
        affordable &= ready_ns <= usable * (line[first][0] - planner.guard_ns)
    return affordable, head


costs = st.lists(st.integers(1, 300), min_size=4, max_size=4)
lines = st.lists(st.tuples(st.integers(0, DEADLINE_NS), st.integers(0, BINS - 1)), min_size=1, max_size=12)


@given(costs, costs, lines, st.integers(1, 25), st.sampled_from([0.85, 1.0]))
@settings(max_examples=150)
def test_every_rung_is_affordable_when_a_walk_along_the_queue_says_so(
    fixed_us: list[int], item_us: list[int], drawn: list[tuple[int, int]], times: int, usable: float
) -> None:
    table = [
        [1e3 * (fixed * 3**variant + size * item) for size in BATCHES]
        for variant, (fixed, item) in enumerate(zip(fixed_us, item_us, strict=True))
    ]
    values = ValueTable(
        (0.3, 0.5, 0.7, 0.9),
        margin_edges=(0.2, 0.5),
        by_margin=((0.1, 0.3, 0.5), (0.4, 0.5, 0.6), (0.7, 0.6, 0.8), (1.0, 0.9, 0.8)),
    )
    planner = Planner(LatencyForecast(CostTable(table)), values)
    # Long queues of several lengths from short samples: what they hold repeats, where they end does not.
    line = sorted(drawn * times)
    bins = bytes(values.bin_of(MARGINS[own]) for _, own in line)
    deadlines = [deadline for deadline, _ in line]
    seen = planner._line(deadlines, bins, 0, 1.0)
    binned = list(zip(deadlines, bins, strict=True))
    for rung, below in zip(planner.rungs, (planner.rungs[0], *planner.rungs), strict=False):
        expected, head = walk(planner, rung.variants, below.variants, binned, usable)
        variant = seen.head_variant(rung.variants)
        assert planner._affordable(rung.variants, below.variants, seen, usable) == expected
        assert list(seen.places(rung.variants, variant, len(head))) == head

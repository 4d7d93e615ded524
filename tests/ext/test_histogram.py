"""The latency histogram: exact counts, edges that are never far above what was counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ext.histogram import Histogram

# Every magnitude is as likely as any other.
nanoseconds = st.integers(0, 62).flatmap(lambda bits: st.integers(0, 2 ** (bits + 1) - 1))


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(value=nanoseconds)
def test_an_edge_is_at_most_3_2_percent_above_its_values(value: int) -> None:
    edges, counts = filled([value]).occupied()
    assert counts.tolist() == [1]
    edge = int(edges[0])
    assert value <= edge
    assert edge - value <= 0.032 * value
    if value < 64:
        assert edge == value


@given(values=st.lists(nanoseconds, max_size=200))
def test_counts_are_exact_and_edges_ascend(values: list[int]) -> None:
    histogram = filled(values)
    edges, counts = histogram.occupied()
    assert histogram.total == counts.sum() == len(values)
    assert histogram.maximum == max(values, default=0)
    assert (counts > 0).all()
    assert (np.diff(edges) > 0).all()
    # Each value belongs to the first bucket whose edge reaches it.
    expected = Counter(edges.tolist()[bisect_left(edges.tolist(), value)] for value in values)
    assert dict(zip(edges.tolist(), counts.tolist(), strict=True)) == expected


@given(value=nanoseconds)
def test_buckets_do_not_overlap(value: int) -> None:
    edge = int(filled([value]).occupied()[0][0])
    assert filled([edge]).occupied()[0].tolist() == [edge]
    if edge < 2**63 - 1:
        assert int(filled([edge + 1]).occupied()[0][0]) > edge


def test_time_before_the_clock_counts_as_none() -> None:
    histogram = filled([-5])
    assert [part.tolist() for part in histogram.occupied()] == [[0], [1]]
    assert histogram.maximum == 0


def test_an_empty_histogram_has_no_buckets() -> None:
    edges, counts = Histogram().occupied()
    assert edges.tolist() == counts.tolist() == []
    assert edges.dtype == counts.dtype == np.int64

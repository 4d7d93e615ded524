"""The survey of a block against a slow reference that asks one question at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventKind
from ext.event_columns import interleave, separate
from ext.event_survey import survey

MINUTE_NS = 60 * 10**9
ENDS = (-(2**63), 2**63 - 1, -1, 0, 1, -MINUTE_NS, MINUTE_NS - 1)
FIELDS = [name for name in EVENT_DTYPE.names or () if name != "_reserved"]


@st.composite
def blocks(draw: st.DrawFn) -> np.ndarray:
    """Few values in every field, so that neighbours are often equal; times also at both ends."""
    count = draw(st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    events = np.zeros(count, EVENT_DTYPE)
    steps = random.choice((0, 0, 1, 7 * 10**9, MINUTE_NS, 400 * 10**9, -(10**9)), count)
    events["ts_ns"] = random.integers(-(2**40), 2**40) + np.cumsum(steps)
    if draw(st.booleans()):
        events["ts_ns"] = random.choice(ENDS, count)
    events["recv_ns"] = random.choice((RECV_NOT_RECORDED, 5), count, p=(0.98, 0.02))
    for name in ("order_id", "size_lots", "price_ticks", "side"):
        events[name] = random.choice((0, 1), count, p=(0.05, 0.95))
    events["kind"] = random.choice((1, 3, 4, 5, 7, 255), count)
    events["flags"] = random.choice((0, 1, 2), count, p=(0.2, 0.7, 0.1))
    events["seq"] = random.integers(0, 2, count)
    return events


def wrapped(step_ns: int) -> int:
    return (step_ns + 2**63) % 2**64 - 2**63


@given(events=blocks(), has_previous=st.booleans(), newest_ns=st.sampled_from((-(2**63), 0, 2**40)))
def test_every_answer_is_that_of_the_slow_reference(
    events: np.ndarray, has_previous: bool, newest_ns: int
) -> None:
    previous, events = (events[:1], events[1:]) if has_previous and len(events) else (None, events)
    gap_ns = 300 * 10**9
    kinds, flags, late, receipts, duplicates, first_duplicate, gaps, minutes, prints = survey(
        events, previous, newest_ns, gap_ns
    )
    rows = [dict(zip(FIELDS, row, strict=False)) for row in events.tolist()]
    before = [] if previous is None else [dict(zip(FIELDS, previous.tolist()[0], strict=False))]
    pairs, offset = list(pairwise([*before, *rows])), 1 - len(before)
    assert kinds.tolist() == [int((events["kind"] == kind).sum()) for kind in range(256)]
    assert flags == int(np.bitwise_or.reduce(events["flags"], initial=0))
    newest = [max([newest_ns, *(row["ts_ns"] for row in rows[:place])]) for place in range(len(rows))]
    assert late == any(row["ts_ns"] < most for row, most in zip(rows, newest, strict=True))
    assert receipts == any(row["recv_ns"] != RECV_NOT_RECORDED for row in rows)
    equal = []
    for place, (early, later) in enumerate(pairs):
        compared = [name for name in FIELDS if name not in ("recv_ns", "instrument_id", "venue_id", "seq")]
        if later["kind"] in (EventKind.REDUCE, EventKind.EXECUTE):
            compared.append("seq")
        if all(early[name] == later[name] for name in compared):
            equal.append(place + offset)
    assert duplicates == len(equal)
    assert not equal or first_duplicate == equal[0]
    steps = [wrapped(later["ts_ns"] - early["ts_ns"]) for early, later in pairs]
    assert gaps.tolist() == [place + offset for place, step in enumerate(steps) if step > gap_ns]
    minute = [row["ts_ns"] // MINUTE_NS for row in rows]
    assert minutes.tolist() == [at for at in range(len(rows)) if at == 0 or minute[at] != minute[at - 1]]
    printed = [row for row in rows if row["kind"] in (4, 5) and row["flags"] in (0, 1)]
    assert prints.T.tolist() == [[row["ts_ns"], 2 * row["price_ticks"]] for row in printed]


def test_only_events_are_looked_at() -> None:
    events = np.zeros(3, EVENT_DTYPE)
    with pytest.raises(ValueError, match="previous must be one event, was 3"):
        survey(events, events, 0, 1)
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        survey(np.zeros(3), None, 0, 1)


@given(events=blocks())
def test_columns_and_events_are_one_another_s_inverse(events: np.ndarray) -> None:
    columns = separate(events)
    for name, column in zip(FIELDS, columns, strict=True):
        assert column.dtype == EVENT_DTYPE[name]
        assert column.tolist() == events[name].tolist()
    back = np.empty(len(events), EVENT_DTYPE)
    interleave(columns, back)
    assert back.tobytes() == events.tobytes()

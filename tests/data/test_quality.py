"""The quality check against a slow reference, its gate and its pages."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConfigError
from data.instrument import Instrument, Session
from data.quality import RULES, QualityCheck, QualityReport, QualitySettings
from data.quality_books import BookWatch
from data.quality_gate import Gate, load_gate
from data.quality_page import quality_lines, quality_page
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from data.session_clock import Calendar, SessionClock

SECOND = 10**9
MONDAY_NS = 1_325_462_400 * SECOND  # 2012-01-02, midnight UTC
ALWAYS = Instrument(symbol="X", session=Session(weekdays=tuple(range(7))))


def quotes(count: int, *, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    events = np.zeros(count, QUOTE_DTYPE)
    events["ts_ns"] = MONDAY_NS + np.cumsum(draw.choice((0, SECOND, 400 * SECOND), count, p=(0.3, 0.6, 0.1)))
    events["ts_ns"] -= draw.choice((0, 30 * SECOND), count, p=(0.95, 0.05))
    events["recv_ns"] = events["ts_ns"] + draw.choice((5_000_000, -2_000_000, SECOND), count)
    events["recv_ns"][draw.random(count) < 0.1] = RECV_NOT_RECORDED
    middle = 100_000 + np.cumsum(draw.integers(-2, 3, count))
    middle[draw.random(count) < 0.02] *= 2
    events["bid_price_ticks"], events["ask_price_ticks"] = (
        middle - 1,
        middle + draw.choice((-2, -1, 1), count),
    )
    events["bid_size_lots"], events["ask_size_lots"] = 1, draw.integers(0, 3, count)
    events["kind"], events["flags"] = 7, 1
    return events.view(EVENT_DTYPE)


def slow_counts(events: np.ndarray) -> dict[str, int]:
    """One event at a time, by the words of the module's table."""
    found = dict.fromkeys(RULES, 0)
    view = events.view(QUOTE_DTYPE)
    newest, before, recv_before = -(2**63), None, None
    prices = []
    for row, event in zip(view.tolist(), events.tolist(), strict=True):
        ts, recv, ask, ask_size, bid_size, bid = row[:6]
        found["out_of_order"] += ts < newest
        newest = max(newest, ts)
        if before is not None:
            same = [event[place] == before[place] for place in (0, 2, 3, 4, 7, 8, 9)]
            kind_side_flags = event[7:10] == before[7:10]
            found["duplicates"] += all(same) and kind_side_flags
            found["gaps"] += ts - before[0] > 300 * SECOND
            both = recv != RECV_NOT_RECORDED
            if both and recv_before is not None:
                found["receive_backwards"] += recv < recv_before[1]
                step = (recv - ts) - (recv_before[1] - recv_before[0])
                found["clock_steps"] += abs(step) > SECOND // 2
        if recv != RECV_NOT_RECORDED:
            found["negative_latency"] += recv < ts
            recv_before = (ts, recv)
        if bid_size > 0 and ask_size > 0:
            found["crossed"] += bid > ask
            found["locked"] += bid == ask
            prices.append(bid + ask)
        before = event
    for at in range(2, len(prices) - 2):
        median = sorted(prices[at - 2 : at + 3])[2]
        found["outliers"] += abs(prices[at] - median) / max(abs(median), 1) > 0.05
    return found


def checked(events: np.ndarray, pieces: int, instrument: Instrument = ALWAYS) -> QualityReport:
    check = QualityCheck(instrument)
    for block in np.array_split(events, pieces):
        check.update(block)
    return check.report(source="x")


@given(seed=st.integers(0, 10_000), count=st.integers(1, 400), pieces=st.integers(1, 7))
def test_every_count_is_that_of_the_slow_reference(seed: int, count: int, pieces: int) -> None:
    events = quotes(count, seed=seed)
    report = checked(events, pieces)
    expected = slow_counts(events)
    for rule in set(RULES) - {"missing_days", "outside_session", "sequence_gaps", "quarantined"}:
        assert report.count(rule) == expected[rule], rule


@given(
    prices=st.lists(st.integers(-3, 3) | st.integers(90, 210) | st.just(2_000), min_size=5, max_size=30),
    share=st.sampled_from((0.05, 0.5, 1.5)),
)
def test_an_outlier_is_far_from_the_median_around_it_whatever_its_neighbours(
    prices: list[int], share: float
) -> None:
    events = np.zeros(len(prices), EVENT_DTYPE)
    events["ts_ns"], events["price_ticks"] = MONDAY_NS + np.arange(len(prices)), prices
    events["kind"], events["size_lots"], events["flags"] = EventKind.TRADE, 1, EventFlag.LAST_IN_PACKET
    check = QualityCheck(ALWAYS, QualitySettings(outlier_share=share))
    check.update(events)
    medians = [sorted(prices[at - 2 : at + 3])[2] for at in range(2, len(prices) - 2)]
    expected = sum(
        2 * abs(price - median) > share * max(2 * abs(median), 1)
        for price, median in zip(prices[2:-2], medians, strict=True)
    )
    assert check.report(source="x").count("outliers") == expected


def test_a_crossed_book_is_seen_between_packets_only() -> None:
    events = np.zeros(4, EVENT_DTYPE)
    events["ts_ns"], events["kind"], events["size_lots"] = MONDAY_NS, 6, 10
    events["price_ticks"], events["side"] = (100, 105, 107, 110), (1, -1, 1, -1)
    events["flags"] = (1, 1, 0, 0)
    assert checked(events, 1).count("crossed") == 0
    events["flags"] = 1
    assert checked(events, 1).count("crossed") == 2


def test_sessions_follow_the_time_zone_and_its_summer_time() -> None:
    stocks = Instrument(
        symbol="S", time_zone="America/New_York", session=Session(opens=time(9, 30), closes=time(16, 0))
    )
    clock = SessionClock(Calendar.of(stocks))

    def utc(text: str) -> int:
        return int(np.datetime64(text, "ns").astype(np.int64))

    times = np.array([utc(text) for text in (
        "2012-03-09T14:29:59", "2012-03-09T14:30:00", "2012-03-09T20:59:59", "2012-03-09T21:00:00",
        "2012-03-10T15:00:00", "2012-03-12T13:29:59", "2012-03-12T13:30:00", "2012-03-14T19:59:59",
    )])  # fmt: skip
    assert clock.inside(times).tolist() == [False, True, True, False, False, False, True, True]
    # Friday, Monday and Wednesday were seen; Tuesday is missing.
    assert clock.missing_days() == 1
    assert not clock.same_session(int(times[2]), int(times[6]))


def test_a_session_over_midnight_belongs_to_the_day_it_opens() -> None:
    futures = Instrument(
        symbol="F", session=Session(weekdays=(6, 0, 1, 2, 3), opens=time(22, 0), closes=time(21, 0))
    )
    clock = SessionClock(Calendar.of(futures))
    sunday_ns = MONDAY_NS - 86_400 * SECOND
    hours = np.array([21, 22, 30, 44, 45, 46]) * 3_600 * SECOND + sunday_ns
    assert clock.inside(hours).tolist() == [False, True, True, True, False, True]
    assert clock.same_session(int(hours[1]), int(hours[3]))
    assert not clock.same_session(int(hours[3]), int(hours[5]))


def test_a_gate_names_what_is_beyond_its_limits(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text("events_min = 10\n[limits]\ncrossed = 1\ngaps = 0\n[settings]\ngap_s = 1000\n")
    gate = load_gate(path)
    assert gate == Gate(limits={"crossed": 1, "gaps": 0}, events_min=10, settings=QualitySettings(gap_s=1000))
    report = checked(quotes(300, seed=1), 2)
    assert [text.split(" must")[0] for text in gate.violations(report)] == ["crossed", "gaps"]
    assert replace(gate, limits={}, events_min=301).violations(report) == (
        "events must be at least 301, was 300",
    )


@pytest.mark.parametrize(
    "text",
    ["crossed = 1", "[limits]\ncrosed = 1", "[limits]\ncrossed = -1", "[limits]\ncrossed = 1.5",
     "[settings]\ngap_s = 0", "[settings]\ngap_s = 'x'", "limits = 3", "= 3"],
)  # fmt: skip
def test_a_gate_that_nobody_understands_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_gate(path)


def test_pages_show_every_finding_and_escape_names() -> None:
    report = replace(checked(quotes(300, seed=1), 1), source="<script>", quarantined={"a & b": 3})
    page = quality_page(report, Gate(limits={"crossed": 0}))
    assert "<script>" not in page.replace("&lt;script&gt;", "")
    assert "a &amp; b" in page
    assert page.count('class="shut"') == 1
    lines = "\n".join(quality_lines(report))
    for rule in RULES:
        assert rule in page
        assert rule in lines
    assert report.frame().height == len(RULES)
    assert checked(np.empty(0, EVENT_DTYPE), 1).events == 0


def test_an_auction_or_a_halt_may_cross() -> None:
    """Orders collected for an auction and orders of a halt wait, so the book may look crossed."""
    watch = BookWatch()
    rows = [
        (EventKind.ADD, 1, 1, 101, EventFlag.AUCTION), (EventKind.ADD, -1, 2, 100, EventFlag.AUCTION),
        (EventKind.CANCEL, -1, 2, 100, EventFlag.AUCTION), (EventKind.STATUS, 0, 0, 0, 0),
        (EventKind.ADD, -1, 3, 100, 0), (EventKind.STATUS, 0, 0, 0, 0), (EventKind.ADD, -1, 4, 100, 0),
    ]  # fmt: skip
    events = np.zeros(len(rows), EVENT_DTYPE)
    for event, (kind, side, order_id, price, flags) in zip(events, rows, strict=True):
        event["kind"], event["side"], event["order_id"], event["price_ticks"] = kind, side, order_id, price
        event["size_lots"], event["flags"] = 1, flags | EventFlag.LAST_IN_PACKET
    events["ts_ns"] = np.arange(len(rows))
    events["size_lots"][[3, 5]] = -1, 1

    def crossed(part: np.ndarray) -> tuple[int, int]:
        kinds = np.bincount(part["kind"], minlength=256)
        return watch.crossed(part, kinds, int(np.bitwise_or.reduce(part["flags"])))

    assert [crossed(part) for part in np.split(events, [2, 5])] == [(0, 0), (0, 0), (1, 6)]

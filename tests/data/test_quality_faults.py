"""Recordings that are whole but for one fault: the command names that fault alone and exits 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backtest.cli.main import main
from data.quality import RULES
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, EventFlag, EventKind

SECOND = 10**9
MONDAY_NS = 1_718_028_000 * SECOND
"""2024-06-10, 14:00 UTC: within the day of New York, Tokyo's is over."""

GATE = "[limits]\n" + "".join(f"{rule} = 0\n" for rule in RULES)


def clean(count: int = 400, start_ns: int = MONDAY_NS) -> np.ndarray:
    """A quote each second, received 2 ms later."""
    quotes = np.zeros(count, QUOTE_DTYPE)
    quotes["ts_ns"] = start_ns + np.arange(count) * SECOND
    quotes["recv_ns"] = quotes["ts_ns"] + 2_000_000
    quotes["bid_price_ticks"] = 10_000 + np.arange(count) % 7
    quotes["ask_price_ticks"] = quotes["bid_price_ticks"] + 2
    quotes["bid_size_lots"], quotes["ask_size_lots"] = 5, 7
    quotes["kind"], quotes["flags"] = EventKind.QUOTE, EventFlag.LAST_IN_PACKET
    return quotes


def _gap(quotes: np.ndarray) -> None:
    for name in ("ts_ns", "recv_ns"):
        quotes[name][200:] += 301 * SECOND


def _duplicate(quotes: np.ndarray) -> None:
    quotes[200] = quotes[199]


def _crossed(quotes: np.ndarray) -> None:
    quotes["bid_price_ticks"][200] = quotes["ask_price_ticks"][200] + 1


def _locked(quotes: np.ndarray) -> None:
    quotes["bid_price_ticks"][200] = quotes["ask_price_ticks"][200]


def _outlier(quotes: np.ndarray) -> None:
    for side in ("bid", "ask"):
        quotes[f"{side}_price_ticks"][200] += 2_000


def _clock_step(quotes: np.ndarray) -> None:
    quotes["recv_ns"][200:] += SECOND


def _negative_latency(quotes: np.ndarray) -> None:
    quotes["recv_ns"][200] -= 2_000_001


def _receive_backwards(quotes: np.ndarray) -> None:
    quotes["ts_ns"][200] = quotes["ts_ns"][199] + 1
    quotes["recv_ns"][200] = quotes["ts_ns"][200] + 1_999_998


def _missing_day(quotes: np.ndarray) -> None:
    for name in ("ts_ns", "recv_ns"):
        quotes[name][200:] += 2 * 86_400 * SECOND


def _outside(quotes: np.ndarray) -> None:
    # Saturday, of an instrument that trades from Monday to Friday.
    for name in ("ts_ns", "recv_ns"):
        quotes[name][399] += 5 * 86_400 * SECOND


FAULTS: dict[str, Callable[[np.ndarray], None]] = {
    "gaps": _gap, "duplicates": _duplicate, "crossed": _crossed, "locked": _locked, "outliers": _outlier,
    "clock_steps": _clock_step, "negative_latency": _negative_latency,
    "receive_backwards": _receive_backwards,
}  # fmt: skip


def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quotes: np.ndarray, gate: str = GATE, *options: str
) -> tuple[int, set[str], str]:
    """Return the exit code, the rules that the last line names, and all that was said."""
    np.save(tmp_path / "quotes.npy", quotes.view(EVENT_DTYPE))
    (tmp_path / "gate.toml").write_text(gate)
    words = ("data", "quality", "events", tmp_path / "quotes.npy", "--gate", tmp_path / "gate.toml", *options)
    code = main([str(word) for word in words])
    said = capsys.readouterr().out
    return code, set(re.findall(r"(\w+) must be at most 0", said.splitlines()[-1])), said


def test_a_whole_recording_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, capsys, clean())[:2] == (0, set())


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_named_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    quotes = clean()
    FAULTS[fault](quotes)
    code, named, said = run(tmp_path, capsys, quotes)
    assert (code, named) == (1, {fault})
    assert f"{fault} must be at most 0, was 1" in said


@pytest.mark.parametrize(("fault", "harm"), [("missing_days", _missing_day), ("outside_session", _outside)])
def test_days_are_those_of_the_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, harm: Callable[[np.ndarray], None]
) -> None:
    quotes = clean()
    harm(quotes)
    session = "[session]\nopens = 13:00:00\ncloses = 20:00:00\n"
    assert run(tmp_path, capsys, quotes, GATE + session)[1] >= {fault}


CALENDARS = {
    # Quotes from 14:00 UTC: the session's end, a holiday and a half day decide what is outside.
    "of New York, open": ("America/New_York", "09:30:00", "16:00:00", "", set()),
    "of Tokyo, long closed": ("Asia/Tokyo", "09:00:00", "15:00:00", "", {"outside_session"}),
    "a holiday": ("America/New_York", "09:30:00", "16:00:00", "holidays = [2024-06-10]", {"outside_session"}),
    "another holiday": ("America/New_York", "09:30:00", "16:00:00", "holidays = [2024-07-04]", set()),
    "a half day": (
        "America/New_York", "09:30:00", "16:00:00", "early_closes = {2024-06-10 = 10:00:00}",
        {"outside_session"},
    ),
    "a half day that is long enough": (
        "America/New_York", "09:30:00", "16:00:00", "early_closes = {2024-06-10 = 13:00:00}", set(),
    ),
    "over midnight, from the evening before": ("America/Chicago", "17:00:00", "16:00:00", "", set()),
    "over midnight, ended early": (
        "America/Chicago", "17:00:00", "16:00:00", "early_closes = {2024-06-09 = 08:00:00}",
        {"outside_session"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("calendar", CALENDARS)
def test_a_gate_knows_the_calendar(tmp_path: Path, capsys: pytest.CaptureFixture[str], calendar: str) -> None:
    time_zone, opens, closes, more, named = CALENDARS[calendar]
    session = f"[session]\ntime_zone = '{time_zone}'\nopens = {opens}\ncloses = {closes}\n{more}\n"
    if "midnight" in calendar:
        session += "weekdays = ['sun', 'mon', 'tue', 'wed', 'thu']\n"
    assert run(tmp_path, capsys, clean(), GATE + session)[1] == named


def test_a_holiday_is_no_missing_day_and_no_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trading days around Juneteenth; without the holiday the day is missing."""
    tuesday_ns = MONDAY_NS + 8 * 86_400 * SECOND
    quotes = np.concatenate((clean(200, tuesday_ns), clean(200, tuesday_ns + 2 * 86_400 * SECOND)))
    session = "[session]\ntime_zone = 'America/New_York'\nopens = 09:30:00\ncloses = 16:00:00\n"
    assert run(tmp_path, capsys, quotes, GATE + session)[:2] == (1, {"missing_days"})
    assert run(tmp_path, capsys, quotes, GATE + session + "holidays = [2024-06-19]\n")[:2] == (0, set())


@pytest.mark.parametrize(
    "session",
    ["time_zone = 'Mars/Olympus'", "weekdays = ['moonday']", "opens = '09:30'", "holidays = ['2024-06-19']",
     "early_closes = {christmas = 13:00:00}", "shuts = 16:00:00"],
)  # fmt: skip
def test_a_calendar_that_nobody_understands_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], session: str
) -> None:
    np.save(tmp_path / "quotes.npy", clean().view(EVENT_DTYPE))
    (tmp_path / "gate.toml").write_text(f"[session]\n{session}\n")
    words = ("data", "quality", "events", tmp_path / "quotes.npy", "--gate", tmp_path / "gate.toml")
    assert main([str(word) for word in words]) == 2
    assert "gate.toml" in capsys.readouterr().err


def test_the_correction_of_a_late_clock_keeps_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report says by how much; the import applies it, and then nothing is received early."""
    quotes = clean()
    quotes["recv_ns"] -= 1_270_000_000
    code, named, said = run(tmp_path, capsys, quotes)
    assert (code, named) == (1, {"negative_latency"})
    (offset,) = re.findall(r"--receive-offset-ns (\d+)", said)
    words = ["data", "import", "events", str(tmp_path / "quotes.npy"), "--store", str(tmp_path / "store")]
    assert main([*words, "--receive-offset-ns", offset]) == 0
    from data.store import TickStore

    events = np.concatenate(list(TickStore(tmp_path / "store").stream()))
    assert (events["recv_ns"] >= events["ts_ns"]).all()
    assert (np.diff(events["recv_ns"]) >= 0).all()

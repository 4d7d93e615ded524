"""LEAN zips: rows become quotes and prints as documented, and damage is refused by row."""

from __future__ import annotations

import random
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from data.errors import ConfigError, DataError
from data.importers import lean
from data.lobster import exchange_midnight_ns
from data.schema import QUOTE_DTYPE, EventFlag, EventKind
from data.session_clock import Calendar, SessionClock

DAY = date(2013, 10, 7)
MIDNIGHT_NS = exchange_midnight_ns(DAY)


def zipped(folder: Path, name: str, rows: list[str], member: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member or f"20131007_{name.split('_')[0]}_{name.split('_')[1][:5]}_tick.csv",
                         "".join(row + "\r\n" for row in rows))  # fmt: skip
    return path


def quotes_file(tmp_path: Path, rows: list[str]) -> Path:
    return zipped(tmp_path, "ibm_quote.zip", rows)


def trades_file(tmp_path: Path, rows: list[str]) -> Path:
    return zipped(tmp_path, "ibm_trade.zip", rows)


def bid(ms: int, price: int, size: int = 100, flag: int = 0) -> str:
    return f"{ms},{price},{size},0,0,N,1,{flag}"


def ask(ms: int, price: int, size: int = 100, flag: int = 0) -> str:
    return f"{ms},0,0,{price},{size},Q,1,{flag}"


def both_sides(events: np.ndarray) -> list[tuple[int, ...]]:
    quotes = events[events["kind"] == EventKind.QUOTE].view(QUOTE_DTYPE)
    names = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
    return [((int(q["ts_ns"]) - MIDNIGHT_NS) // 10**6, *(int(q[name]) for name in names)) for q in quotes]


def events_in(*paths: Path, block_events: int = 65_536, **options: object) -> np.ndarray:
    return np.concatenate(list(lean.open_source(paths, **options).blocks(block_events)))  # type: ignore[arg-type]


def test_a_bid_row_and_its_ask_row_are_one_quote(tmp_path: Path) -> None:
    path = quotes_file(tmp_path, [ask(1, 20_100), bid(2, 20_000, 300), ask(2, 20_200, 500), bid(3, 20_100),
                                  bid(4, 20_110), ask(5, 20_300)])  # fmt: skip
    assert both_sides(events_in(path)) == [
        (1, 0, 0, 20_100, 100),
        (2, 20_000, 300, 20_200, 500),
        (3, 20_100, 100, 20_200, 500),
        (4, 20_110, 100, 20_200, 500),
        (5, 20_110, 100, 20_300, 100),
    ]


@pytest.mark.parametrize("block_events", [1, 2, 3, 7])
def test_blocks_of_any_size_hold_the_same_events(tmp_path: Path, block_events: int) -> None:
    draw, rows, ms = random.Random(4), list[str](), 0
    for _ in range(400):
        ms += draw.choice((0, 0, 1, 5))
        rows.append(
            draw.choice((bid(ms, draw.randint(19_900, 20_000)), ask(ms, draw.randint(19_990, 20_100))))
        )
    path = quotes_file(tmp_path, rows)
    small, large = events_in(path, block_events=block_events), events_in(path)
    assert small.tobytes() == large.tobytes()


def slow_quotes(rows: list[str]) -> list[tuple[int, ...]]:
    """Both sides after every row, a bid row with its ask row behind it as one; crossed ones left out."""
    found, state = [], [0, 0, 0, 0]
    for place, row in enumerate(rows):
        ms, *cells = (int(cell) for cell in row.split(",")[:5])
        after = rows[place + 1].split(",") if place + 1 < len(rows) else None
        if cells[0]:
            state[:2] = cells[:2]
        if cells[2]:
            state[2:] = cells[2:]
        if cells[0] and after and after[0] == str(ms) and int(after[3]):
            continue
        if not (state[1] and state[3] and state[0] > state[2]):
            found.append((ms, *state))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_quotes_are_what_a_slow_reader_says(tmp_path: Path, seed: int) -> None:
    draw, rows, ms = random.Random(seed), list[str](), 0
    for _ in range(700):
        ms += draw.choice((0, 0, 1, 5))
        side = draw.choice((bid, ask))
        rows.append(side(ms, draw.randint(19_950, 20_050), draw.randint(1, 900)))
    events = events_in(quotes_file(tmp_path, rows), block_events=64)
    assert both_sides(events) == slow_quotes(rows)


def test_crossed_and_suspicious_rows_are_left_out_and_counted_or_refused(tmp_path: Path) -> None:
    path = quotes_file(tmp_path, [bid(1, 20_000), ask(1, 20_100), ask(2, 15_000, flag=1), bid(3, 20_200),
                                  bid(4, 20_100)])  # fmt: skip
    source = lean.open_source([path])
    events = np.concatenate(list(source.blocks()))
    assert both_sides(events) == [(1, 20_000, 100, 20_100, 100), (4, 20_100, 100, 20_100, 100)]
    assert source.notes == (
        "1 rows rejected: a row must not be marked suspicious",
        "1 rows rejected: bid must not exceed ask",
    )
    assert events["flags"].tolist() == [
        EventFlag.LAST_IN_PACKET,
        EventFlag.LAST_IN_PACKET | EventFlag.CROSSED,
    ]
    with pytest.raises(DataError, match="a row must not be marked suspicious") as caught:
        events_in(path, strict=True)
    assert caught.value.row == 2
    check = lean.verify([path])
    assert (check.matched, check.total) == (2, 4)
    assert "row 2" in (check.first_mismatch or "")


def test_prints_come_before_the_quotes_of_their_millisecond(tmp_path: Path) -> None:
    quotes = quotes_file(tmp_path, [bid(10, 20_000), ask(10, 20_100), bid(20, 20_050)])
    trades = trades_file(tmp_path, ["5,20050,100,N,1,0", "10,20100,300,D,20,0", "20,20000,5,Q,1,0"])
    events = events_in(quotes, trades)
    assert [EventKind(int(kind)).name for kind in events["kind"]] == [
        "TRADE",
        "TRADE",
        "QUOTE",
        "TRADE",
        "QUOTE",
    ]
    prints = events[events["kind"] == EventKind.TRADE]
    assert prints["price_ticks"].tolist() == [20_050, 20_100, 20_000]
    assert prints["size_lots"].tolist() == [100, 300, 5]
    assert (prints["side"] == 0).all()
    assert (prints["flags"] & EventFlag.HIDDEN != 0).tolist() == [False, True, False]


def test_the_share_of_prints_inside_the_quotes_is_told(tmp_path: Path) -> None:
    ms = 36_000_000
    quotes = quotes_file(tmp_path, [bid(ms, 20_000), ask(ms, 20_100), bid(ms + 500, 20_060)])
    trades = trades_file(tmp_path, [
        f"{ms + 100},20000,1,N,1,0",      # at the bid
        f"{ms + 300},20200,1,N,1,0",      # above
        f"{ms + 495},20150,1,N,1,0",      # above
        f"{ms + 505},20010,1,N,1,0",      # below, but inside the quote of 5 ms ago
        f"{ms + 600},20010,1,N,1,0",      # below
        f"{ms + 36_000_000},1,1,N,1,0",   # after hours
    ])  # fmt: skip
    notes = lean.verify([quotes, trades]).notes
    assert any("2 of 5 prints (40.00%) inside" in note for note in notes)


@pytest.mark.parametrize(("venue", "hours"), [("oanda", 0), ("fxcm", 5), ("dukascopy", 0), ("other", 0)])
def test_currency_clocks_follow_their_venue(tmp_path: Path, venue: str, hours: int) -> None:
    path = zipped(tmp_path / venue, "20131007_quote.zip", ["1000,1.35661,1.3567", "2000,1.356,1.3561"],
                  "20131007_eurusd_tick_quote.csv")  # fmt: skip
    source = lean.open_source([path])
    events = np.concatenate(list(source.blocks()))
    start = int(datetime(2013, 10, 7, tzinfo=UTC).timestamp())
    assert events["ts_ns"].tolist() == [(start + hours * 3_600 + second) * 10**9 for second in (1, 2)]
    quotes = events.view(QUOTE_DTYPE)
    assert quotes["bid_price_ticks"].tolist() == [135_661, 135_600]
    assert quotes["ask_price_ticks"].tolist() == [135_670, 135_610]
    assert source.instrument.price_increment == 1e-5
    assert any("times are taken for UTC" in note for note in source.notes) == (venue == "other")
    assert any("sizes are not recorded" in note for note in source.notes)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("0,1,1,0,0,N,1,0", "time must not run backwards"),
        ("86400000,1,1,0,0,N,1,0", "time must be ms within the day"),
        ("-1,1,1,0,0,N,1,0", "time must be ms within the day"),
        ("9,-5,1,0,0,N,1,0", "a bid must have a size|bid must not be negative"),
        ("9,5,0,0,0,N,1,0", "a bid must have a size"),
        ("9,0,0,5,0,N,1,0", "an ask must have a size"),
        ("9,5,99999999999,0,0,N,1,0", "size must be 0 to"),
        ("9,99999999999,1,0,0,N,1,0", "bid must be between"),
        ("9,x,1,0,0,N,1,0", "x"),
        ("9,,1,0,0,N,1,0", "must be a number, was null"),
        ("9,1,1", "Expected 8 columns, got 3"),
    ],
)
def test_bad_rows_are_refused_by_row_and_rule(tmp_path: Path, row: str, rule: str) -> None:
    path = quotes_file(tmp_path, [bid(5, 20_000)] * 9 + [row] + [bid(9, 20_000)])
    with pytest.raises(DataError, match=rf"ibm_quote\.zip.*(?:{rule})") as caught:
        events_in(path)
    assert caught.value.row == 9


def test_a_row_of_a_later_block_keeps_its_number(tmp_path: Path) -> None:
    path = quotes_file(tmp_path, [bid(5, 20_000)] * 90_000 + ["9,1,1"])
    with pytest.raises(DataError, match="Expected 8 columns, got 3") as caught:
        events_in(path)
    assert caught.value.row == 90_000


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_zip_that_is_damaged_far_inside_is_refused(tmp_path: Path, place: float) -> None:
    random_rows = random.Random(4)
    path = quotes_file(tmp_path, [bid(at, random_rows.randrange(1, 10**6)) for at in range(90_000)])
    packed = bytearray(path.read_bytes())
    at = int(len(packed) * place)
    packed[at : at + 64] = bytes(64)
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"ibm_quote\.zip"):
        events_in(path)


def test_zips_are_told_by_what_they_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file like"):
        lean.open_source([zipped(tmp_path, "a_quote.zip", ["1,1,1"], "prices.csv")])
    with pytest.raises(DataError, match="was 5 of trades"):
        lean.open_source([trades_file(tmp_path, ["1,2,3,4,5"])])
    with pytest.raises(DataError, match="calendar date"):
        lean.open_source([zipped(tmp_path, "a_quote.zip", ["1,1,1"], "20131307_eurusd_tick_quote.csv")])
    with pytest.raises(DataError, match="existing file"):
        lean.open_source([tmp_path / "gone.zip"])
    with pytest.raises(DataError, match="whole zip"):
        lean.open_source([Path(__file__)])
    good = quotes_file(tmp_path, [bid(1, 1)])
    other = zipped(tmp_path, "bac_quote.zip", [bid(1, 1)])
    with pytest.raises(ConfigError, match="BAC usa, IBM usa"):
        lean.open_source([good, other])
    assert lean.open_source([good, other], symbol="bac").instrument.symbol == "BAC"
    with pytest.raises(ConfigError, match="each day once"):
        lean.open_source([good, good])


def test_flipped_and_cut_bytes_raise_only_data_errors(tmp_path: Path) -> None:
    draw = random.Random(8)
    path = quotes_file(tmp_path, [bid(number, 20_000 + number % 7) for number in range(500)])
    whole = path.read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        del damaged[draw.choice((len(damaged), draw.randrange(len(damaged)))) :]
        for _ in range(draw.choice((1, 3, 30))):
            if damaged:
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            lean.verify([path])
        except DataError as error:
            refused += "ibm_quote.zip" in str(error)
    assert refused > 50


@pytest.mark.recording("us_equity_nbbo_trades_2013-10")
@pytest.mark.parametrize(("symbol", "share"), [("ibm", 0.981), ("bac", 0.998)])
def test_recorded_prints_lie_inside_the_recorded_quotes(market_data: Path, symbol: str, share: float) -> None:
    check = lean.verify(sorted(market_data.glob(f"{symbol}_*.zip")))
    assert check.matched / check.total > 0.999
    (note,) = (note for note in check.notes if "prints (" in note)
    assert float(note.split("(")[1].split("%")[0]) / 100 >= share


@pytest.mark.recording("fx_two_venues_eurusd_2014-05")
def test_recorded_venues_agree_once_their_clocks_do(market_data: Path) -> None:
    mids = {}
    for venue in ("fxcm", "oanda"):
        path = market_data / f"{venue}_eurusd_20140506_quote.zip"
        quotes = events_in(path).view(QUOTE_DTYPE)
        seconds = quotes["ts_ns"] // 10**9
        last = np.flatnonzero(np.diff(seconds, append=seconds[-1] + 1))
        mid = (quotes["bid_price_ticks"].astype(int) + quotes["ask_price_ticks"])[last] / 2
        mids[venue] = dict(zip(seconds[last].tolist(), mid.tolist(), strict=True))
    common = sorted(mids["fxcm"].keys() & mids["oanda"].keys())
    apart = np.array([mids["fxcm"][second] - mids["oanda"][second] for second in common])
    assert len(common) > 5_000
    assert np.median(np.abs(apart)) < 3


def test_crypto_has_sizes_and_finds_its_grids(tmp_path: Path) -> None:
    """The finest price and size come last, where a look at the head would miss them."""
    quotes = zipped(
        tmp_path,
        "q.zip",
        ["1000,6500.1,0.5,6500.2,1.25", "2000,6500.15,0.5,6500.2,0.125"],
        "20181007_btcusd_tick_quote.csv",
    )
    trades = zipped(tmp_path, "t.zip", ["1500,6500.2,0.0625"], "20181007_btcusd_tick_trade.csv")
    source = lean.open_source([quotes, trades])
    told = (source.instrument.symbol, source.instrument.price_increment, source.instrument.lot_size)
    assert told == ("BTCUSD", 0.01, 0.0001)
    events = np.concatenate(list(source.blocks()))
    views = events.view(QUOTE_DTYPE)
    assert events["kind"].tolist() == [EventKind.QUOTE, EventKind.TRADE, EventKind.QUOTE]
    assert views["bid_price_ticks"].tolist() == [650_010, 650_020, 650_015]
    assert views["bid_size_lots"].tolist() == [5_000, 625, 5_000]
    assert views["ask_size_lots"].tolist()[::2] == [12_500, 1_250]
    assert (events["ts_ns"] // 10**6 % 86_400_000).tolist() == [1_000, 1_500, 2_000]
    assert source.notes == ("no venue known by the path: times are taken for UTC",)
    check = lean.verify([quotes, trades])
    assert (check.matched, check.total) == (3, 3)


def stored(folder: Path, name: str, member: str, *rows: str) -> Path:
    """Write a zip where LEAN would have it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "".join(row + "\n" for row in rows))
    return path


def utc(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


BARS = [
    # A folder, a member, a row, the end of the bar, price and size of the trade or of the bid.
    ("equity/usa/minute/spy/20131007_trade.zip", "20131007_spy_minute_trade.csv",
     "34200000,1681000,1682000,1680000,1681500,1000", "2013-10-07T13:31:00", (168.15, 1_000)),
    ("equity/usa/daily/spy.zip", "spy.csv",
     "20131104 00:00,1681000,1682000,1680000,1681500,1000", "2013-11-05T05:00:00", (168.15, 1_000)),
    # The day on which the clocks go back has 25 hours.
    ("equity/usa/daily/spy.zip", "spy.csv",
     "20131103 00:00,1681000,1682000,1680000,1681500,1000", "2013-11-04T05:00:00", (168.15, 1_000)),
    ("forex/oanda/hour/usdjpy.zip", "usdjpy.csv",
     "20140501 01:00,102.1,102.4,102.0,102.251,0,102.2,102.5,102.1,102.254,0", "2014-05-01T02:00:00",
     (102.251, 1)),
    ("cfd/fxcm/second/xauusd/20140501_quote.zip", "20140501_xauusd_second_quote.csv",
     "1000,1288.1,1288.1,1288.1,1288.1,0,1288.45,1288.45,1288.45,1288.45,0", "2014-05-01T05:00:02",
     (1288.1, 1)),
    ("crypto/binance/hour/btcusdt_trade.zip", "btcusdt.csv",
     "20180101 08:00,13716.36,13750,13700,13715.65,433.37936900000004", "2018-01-01T09:00:00",
     (13715.65, 433.379369)),
    ("future/cme/minute/es/20131007_quote.zip", "20131007_es_minute_quote_201312_20131220.csv",
     "60000,,,,,0,1680.5,1680.75,1680.5,1680.75,37", "2013-10-07T00:02:00", (0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "utc_hours"),
    [
        # Sunday from 17:00 to Friday 17:00 in New York, in winter and in summer; crypto never closes.
        ("forex/oanda/tick/eurusd", ["2014-02-02T22:00", "2014-02-07T21:59", "2014-06-01T21:00"]),
        ("cfd/fxcm/tick/xauusd", ["2014-11-02T22:00", "2014-03-09T21:00", "2014-06-06T20:59"]),
        ("crypto/kraken/tick/btcusd", ["2014-06-07T12:00"]),
    ],
)
def test_hours_are_those_of_the_market(tmp_path: Path, name: str, utc_hours: list[str]) -> None:
    symbol = name.rpartition("/")[2]
    row = "1000,1.5,1.6" if "crypto" not in name else "1000,1.5,1,1.6,1"
    path = stored(tmp_path, f"{name}/20140602_quote.zip", f"20140602_{symbol}_tick_quote.csv", row)
    clock = SessionClock(Calendar.of(lean.open_source([path]).instrument))
    assert clock.inside(np.array([utc(hour) for hour in utc_hours])).all()
    closed = ["2014-02-02T21:59", "2014-02-07T22:00", "2014-06-01T20:59", "2014-06-06T21:00"]
    assert clock.inside(np.array([utc(hour) for hour in closed])).all() == ("crypto" in name)
    assert "crypto" in name or not clock.inside(np.array([utc(hour) for hour in closed])).any()


@pytest.mark.parametrize(("name", "member", "row", "ends", "told"), BARS)
def test_a_bar_is_one_event_at_its_end(
    tmp_path: Path, name: str, member: str, row: str, ends: str, told: tuple[float, float]
) -> None:
    source = lean.open_source([stored(tmp_path, name, member, row)])
    (event,) = np.concatenate(list(source.blocks()))
    found = event["price_ticks"] * source.instrument.price_increment
    assert (int(event["ts_ns"]), found) == (utc(ends), pytest.approx(told[0]))
    assert event["size_lots"] * source.instrument.lot_size == pytest.approx(told[1])
    assert event["kind"] == (EventKind.TRADE if "trade" in member or "spy" in name else event["kind"])
    assert any(note.startswith("bars (") for note in source.notes)


def test_ticks_of_futures_of_crypto_and_of_fractions_of_a_millisecond(tmp_path: Path) -> None:
    path = tmp_path / "future/cme/tick/es/20131007_quote.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "20131007_es_tick_quote_201312.csv", "60000,1680.25,5,0,0,,0\n60000.5,0,0,1680.5,1,,0\n"
        )
        archive.writestr("20131007_es_tick_quote_201403.csv", "60000,1674.25,5,1674.5,2,,1\n")
    with pytest.raises(ConfigError, match="ES201312, ES201403"):
        lean.open_source([path])
    source = lean.open_source([path], symbol="ES201312")
    quotes = np.concatenate(list(source.blocks())).view(QUOTE_DTYPE)
    assert (quotes["ts_ns"] - utc("2013-10-07T00:01:00")).tolist() == [0, 500_000]
    assert quotes["bid_price_ticks"].tolist() == [168_025, 168_025]
    assert quotes["ask_price_ticks"].tolist() == [0, 168_050]
    check = lean.verify([path])
    assert (check.matched, check.total) == (2, 3)
    rows = "60000,6500.1,0.00000001,0", "60010,6500.12,1.5,1"
    crypto = stored(tmp_path, "crypto/a/t.zip", "20181007_btcusd_Trade_Tick.csv", *rows)
    events = np.concatenate(list(lean.open_source([crypto]).blocks()))
    assert events[["price_ticks", "size_lots"]].tolist() == [(650_010, 1)]


def test_one_import_has_one_resolution(tmp_path: Path) -> None:
    row = "1000,1.1,1.1,1.1,1.1,0,1.2,1.2,1.2,1.2,0"
    paths = [
        stored(tmp_path, f"forex/oanda/{size}/eurusd/q.zip", f"20140501_eurusd_{size}_quote.csv", row)
        for size in ("second", "minute")
    ]
    with pytest.raises(ConfigError, match="one resolution, was minute, second"):
        lean.open_source(paths)

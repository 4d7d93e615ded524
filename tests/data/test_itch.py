"""ITCH recordings in every packing and framing, and damaged ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from itch_day import ItchDay, framed, message, mold_packet, pcap, reference_events

from data.errors import ConfigError, DataError
from data.importers import importer, itch
from data.importers.compressed import chunks
from data.importers.itch_files import day_in
from data.lobster import exchange_midnight_ns
from data.partition import require_path_part
from data.schema import RECV_NOT_RECORDED, EventKind

NAME = "01302019.NASDAQ_ITCH50"
MIDNIGHT_NS = exchange_midnight_ns(date(2019, 1, 30))
DAY = ItchDay(seed=1, symbols=4, messages=3_000)
RAW = framed(DAY.messages)
FIELDS = ["ts_ns", "order_id", "size_lots", "price_ticks", "seq", "kind", "side", "flags"]


def packed(tmp_path: Path, how: str, data: bytes = RAW) -> Path:
    path = tmp_path / f"{NAME}.{how}"
    if how == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("day.bin", data)
        return path
    pack = {"raw": bytes, "gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
    path.write_bytes(pack[how](data))
    return path


def packets(messages: list[bytes], *, seed: int = 1, first: int = 1) -> list[tuple[int, bytes]]:
    draw, at, found = random.Random(seed), 0, []
    while at < len(messages):
        count = draw.randint(1, 20)
        found.append((MIDNIGHT_NS + 4 * 3_600 * 10**9 + len(found) * 1_000,
                      mold_packet(b"000010059B", first + at, messages[at : at + count])))  # fmt: skip
        at += count
    return found


def events_in(path: Path, **options: object) -> np.ndarray:
    return np.concatenate(list(itch.open_source([path], symbol="T0001", **options).blocks(1_000)))  # type: ignore[arg-type]


def expected_rows() -> list[tuple[int, ...]]:
    found = reference_events(DAY.messages, midnight_ns=MIDNIGHT_NS, locate=2)
    return [(*row[:5], *row[6:]) for row in found]


def rows_of(events: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int(event[name]) for name in FIELDS) for event in events]


@pytest.mark.parametrize("how", ["raw", "gz", "xz", "bz2", "zip"])
def test_any_packing_holds_the_same_events(tmp_path: Path, how: str) -> None:
    events = events_in(packed(tmp_path, how))
    assert events["kind"][0] == EventKind.CLEAR
    assert events["ts_ns"][0] == events["ts_ns"][1]
    assert rows_of(events[1:]) == expected_rows()


def test_a_capture_holds_the_same_events_with_their_receipt(tmp_path: Path) -> None:
    path = tmp_path / "feed.pcap"
    path.write_bytes(pcap(packets(DAY.messages)))
    events = events_in(path)
    assert rows_of(events[1:]) == expected_rows()
    assert (events["recv_ns"] >= MIDNIGHT_NS).all()
    assert itch.verify([path]).matched == itch.verify([path]).total == 3_000


def test_a_packet_received_twice_counts_once(tmp_path: Path) -> None:
    path, sent = tmp_path / "feed.pcap", packets(DAY.messages)
    # Both feeds, one a little behind; and one packet that overlaps the next.
    both = [packet for pair in zip(sent, [sent[0], *sent], strict=False) for packet in pair]
    overlap = mold_packet(b"000010059B", 1, DAY.messages[:40])
    path.write_bytes(pcap([*both[:2], (sent[0][0], overlap), *both[2:]]))
    source = itch.open_source([path], symbol="T0001")
    assert rows_of(np.concatenate(list(source.blocks()))[1:]) == expected_rows()
    assert any("more than once" in note for note in source.notes)


def test_what_one_line_lost_the_other_brings(tmp_path: Path) -> None:
    path, sent = tmp_path / "feed.pcap", packets(DAY.messages)
    lines = [packet for at, packet in enumerate(sent) if at % 7 != 3], sent
    # The second line is some packets behind, and packets overtake each other.
    both = sorted([(ns, body) for ns, body in lines[0]] + [(ns + 4_500, body) for ns, body in lines[1]])
    both[20:24] = both[23], both[21], both[22], both[20]
    path.write_bytes(pcap(both))
    source = itch.open_source([path], symbol="T0001")
    assert rows_of(np.concatenate(list(source.blocks()))[1:]) == expected_rows()
    assert not any("gaps" in note for note in source.notes)
    assert itch.verify([path]).matched == 3_000


def test_a_missing_packet_is_counted_or_refused(tmp_path: Path) -> None:
    path, sent = tmp_path / "feed.pcap", packets(DAY.messages)
    path.write_bytes(pcap(sent[:50] + sent[53:]))
    check = itch.verify([path])
    assert check.matched < check.total == 3_000
    assert check.first_mismatch is not None
    assert any("1 gaps in the sequence" in note for note in check.notes)
    with pytest.raises(DataError, match=r"feed\.pcap:byte \d+: expected sequence number"):
        events_in(path, strict=True)


@pytest.mark.parametrize("lost", [0, 1])
def test_heartbeats_at_the_end_tell_a_wrong_number_and_what_is_missing(tmp_path: Path, lost: int) -> None:
    sent, path = packets(DAY.messages), tmp_path / "feed.pcap"
    end = len(DAY.messages) + 1
    last_ns = sent[-1][0]
    stray = (sent[-2][0] + 1, mold_packet(b"000010059B", end + 50, DAY.messages[:1]))
    # A heartbeat, and the mark that ends a session: both name the next number.
    beats = [(last_ns + 1, mold_packet(b"000010059B", end, []))]
    beats.append((last_ns + 2, mold_packet(b"000010059B", end, [], count=0xFFFF)))
    path.write_bytes(pcap([*sent[:-1], stray, *([] if lost else sent[-1:]), *beats]))
    source = itch.open_source([path], symbol="T0001")
    events = np.concatenate(list(source.blocks()))
    told = " ".join(source.notes)
    assert "1 packets numbered far ahead of the feed left out" in told
    if not lost:
        assert rows_of(events[1:]) == expected_rows()
        assert "gaps" not in told
        return
    missing = struct.unpack_from(">10sQH", sent[-1][1])[2]
    assert f"1 gaps in the sequence, {missing} messages lost" in told
    with pytest.raises(DataError, match=f"expected {missing} messages more, as heartbeats tell"):
        events_in(path, strict=True)


def test_microsecond_and_next_generation_captures_are_read(tmp_path: Path) -> None:
    sent, path = packets(DAY.messages), tmp_path / "feed.pcap"
    path.write_bytes(pcap(sent, nanoseconds=False))
    assert rows_of(events_in(path)[1:]) == expected_rows()

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        total = struct.pack("<I", 12 + len(body))
        return struct.pack("<I", kind) + total + body + total

    frames, at, classic = [], 24, pcap(sent)
    while at < len(classic):
        length = struct.unpack("<IIII", classic[at : at + 16])[2]
        frames.append(classic[at + 16 : at + 16 + length])
        at += 16 + length
    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack("<HHI", 1, 0, 65_535) + struct.pack("<HHB3x", 9, 1, 9) + bytes(4))
    for (recv_ns, _), frame in zip(sent, frames, strict=True):
        head = struct.pack("<IIIII", 0, recv_ns >> 32, recv_ns & 0xFFFFFFFF, len(frame), len(frame))
        out += block(6, head + frame)
    path.write_bytes(out)
    events = events_in(path)
    assert rows_of(events[1:]) == expected_rows()
    assert events["recv_ns"][1] in {recv_ns for recv_ns, _ in sent}


def test_the_end_of_session_mark_is_no_message(tmp_path: Path) -> None:
    assert rows_of(events_in(packed(tmp_path, "raw", RAW + b"\0\0"))[1:]) == expected_rows()


def test_verification_counts_every_broken_rule(tmp_path: Path) -> None:
    whole = itch.verify([packed(tmp_path, "gz")])
    assert (whole.matched, whole.total, whole.first_mismatch) == (3_000, 3_000, None)
    assert any("no book to compare with" in note for note in whole.notes)
    clock_ns = DAY.clock_ns
    unknown = message("D", 2, clock_ns, 1 << 40)
    check = itch.verify([packed(tmp_path, "raw", framed([*DAY.messages, unknown]))])
    assert (check.matched, check.total) == (3_000, 3_001)
    assert check.first_mismatch is not None
    assert "message 3000" in check.first_mismatch


def test_a_crossed_book_counts_only_while_its_stock_trades(tmp_path: Path) -> None:
    def add(number: int, side: bytes, price: int) -> bytes:
        return message("A", 1, 9, number, side, 100, b"AAPL    ", price)

    def state(letter: bytes) -> bytes:
        return message("H", 1, 9, b"AAPL    ", letter, b" ", b"    ")

    halted = [
        state(b"H"),
        add(1, b"B", 2_000_000),
        add(2, b"S", 1_990_000),
        message("D", 1, 9, 1),
        state(b"T"),
    ]
    assert itch.verify([packed(tmp_path, "raw", framed(halted))]).first_mismatch is None
    trading = [state(b"T"), *halted[1:4]]
    check = itch.verify([packed(tmp_path, "raw", framed(trading))])
    assert (check.matched, check.total) == (3, 4)
    assert "crossed" in (check.first_mismatch or "")


def test_symbols_are_named_or_asked_for(tmp_path: Path) -> None:
    path = packed(tmp_path, "raw")
    with pytest.raises(ConfigError, match=r"4 symbols, name one: T0000, T0001"):
        itch.open_source([path])
    with pytest.raises(DataError, match="expected messages of NONE"):
        list(itch.open_source([path], symbol="NONE").blocks())
    with pytest.raises(ConfigError, match="1 to 8 ASCII"):
        itch.open_source([path], symbol="TOOLONGNAME")
    only = framed(ItchDay(seed=2, symbols=1, messages=100).messages)
    assert itch.open_source([packed(tmp_path, "gz", only)]).symbol == "T0000"


def test_marks_of_warrants_and_units_become_letters_that_a_store_takes(tmp_path: Path) -> None:
    bodies = [message("S", 0, 1, b"O")]
    for locate, name in enumerate((b"ABC+", b"ABC=", b"ABC"), start=1):
        bodies.append(message("A", locate, 2, locate, b"B", 100, name.ljust(8), 10_000 * locate))
    path = tmp_path / "20190130.bin"
    path.write_bytes(framed(bodies))
    for locate, (symbol, name) in enumerate((("ABC+", "ABC_WS"), ("ABC=", "ABC_U"), ("ABC", "ABC")), start=1):
        source = itch.open_source([path], symbol=symbol)
        assert source.instrument.symbol == name
        assert np.concatenate(list(source.blocks()))["price_ticks"][-1] == 10_000 * locate
        require_path_part("instrument", name)


def test_days_follow_each_other_and_each_starts_clean(tmp_path: Path) -> None:
    paths = []
    for name in ("01302019.NASDAQ_ITCH50", "01312019.NASDAQ_ITCH50"):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(RAW)
    source = itch.open_source(paths, symbol="T0002")
    events = np.concatenate(list(source.blocks()))
    assert np.count_nonzero(events["kind"] == EventKind.CLEAR) == 2
    assert (np.diff(events["ts_ns"]) >= 0).all()
    assert len(source.data_hash) == 64
    with pytest.raises(DataError, match="in order of time"):
        list(itch.open_source(paths[::-1], symbol="T0002").blocks())


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("01302019.NASDAQ_ITCH50.gz", date(2019, 1, 30)),
        ("S013019-v50.txt.gz", date(2019, 1, 30)),
        ("20190130.BX_ITCH_50", date(2019, 1, 30)),
        ("ex20101224.TEST_ITCH_50", date(2010, 12, 24)),
        ("sse_l3_2023-02-07_am", date(2023, 2, 7)),
        ("20191330.bin", None),
        ("head1000.bin", None),
    ],
)
def test_the_day_is_in_the_name(name: str, day: date | None) -> None:
    assert day_in(name) == day


def test_a_name_without_a_day_is_told(tmp_path: Path) -> None:
    path = tmp_path / "head.bin"
    path.write_bytes(RAW)
    source = itch.open_source([path], symbol="T0001")
    assert next(source.blocks())["ts_ns"][0] < 2 * 86_400 * 10**9
    list(source.blocks())
    assert any("no day in the name" in note for note in source.notes)


def test_a_cut_file_is_refused_at_its_last_message(tmp_path: Path) -> None:
    path = packed(tmp_path, "raw", RAW[:-5])
    with pytest.raises(DataError, match="expected a whole message") as caught:
        events_in(path)
    assert caught.value.offset == len(RAW) - len(framed(DAY.messages[-1:]))
    with pytest.raises(DataError, match="at least one message"):
        itch.verify([packed(tmp_path, "raw", b"")])
    with pytest.raises(DataError, match="existing file"):
        itch.verify([tmp_path / "gone"])


@pytest.mark.parametrize("how", ["raw", "gz", "xz", "zip", "pcap"])
def test_flipped_and_cut_bytes_raise_only_data_errors(tmp_path: Path, how: str) -> None:
    draw = random.Random(how)
    messages = DAY.messages[:300]
    path = tmp_path / f"{NAME}.{how}"
    if how == "pcap":
        path.write_bytes(pcap(packets(messages)))
    else:
        path = packed(tmp_path, how, framed(messages))
    whole = path.read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: draw.choice((len(whole), draw.randrange(len(whole))))])
        for _ in range(draw.choice((1, 3, 30))):
            if damaged:
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            itch.verify([path])
        except DataError as error:
            refused += str(path) in str(error)
    assert refused > 50


def test_an_archive_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xz"
    packer = lzma.LZMACompressor(preset=0)
    path.write_bytes(b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush())
    with pytest.raises(DataError, match="times the packed bytes"):
        for _ in chunks(path):
            pass


def test_a_zip_of_several_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", RAW)
        archive.writestr("b", RAW)
    with pytest.raises(DataError, match="zip of one file, was 2"):
        itch.verify([path])


def test_formats_are_found_by_name() -> None:
    for name in ("itch", "sse", "lean"):
        found = importer(name)
        assert callable(found.open_source)
        assert callable(found.verify)


@pytest.mark.recording("raw_feed_captures")
def test_recorded_files_are_decoded_whole(market_data: Path) -> None:
    head = itch.verify([market_data / "nasdaq_itch50_real_head1000.bin.xz"])
    assert (head.matched, head.total) == (1_000, 1_000)
    simulated = itch.verify([market_data / "RITCH_simulated_ex20101224.TEST_ITCH_50.gz"])
    assert simulated.total == 12_012
    assert "A 4,997 D 1,745 E 198 F 3 H 3 P 5,000 R 3 S 6 U 12 X 45" in simulated.notes[0]
    counts = 0
    for path in sorted((market_data / "nasdaq_itch50_omi").glob("*.pcap")):
        counts += sum(int(count.replace(",", "")) for count in itch.verify([path]).notes[0].split()[2::2])
    assert counts == 49


@pytest.mark.recording("raw_feed_captures")
def test_recorded_packets_carry_their_receipt_and_their_gap(market_data: Path) -> None:
    path = market_data / "nasdaq_itch50_omi" / "Nasdaq_Multiple.Packets.pcap"
    check = itch.verify([path])
    assert any("1 gaps" in note for note in check.notes)
    events = np.concatenate(list(itch.open_source([path]).blocks()))
    delay_ns = events["recv_ns"] - events["ts_ns"]
    assert (events["recv_ns"] != RECV_NOT_RECORDED).all()
    assert (np.abs(delay_ns) < 10**9).all(), delay_ns

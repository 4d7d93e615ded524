"""``anytick data``: exit codes, last lines, and nothing half-written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from feed_files import depth, write_lines
from lobster_day import Day

from backtest.cli.main import build_parser
from backtest.cli.parser import SHARED_DEFAULTS, UsageError
from data.errors import AnytickError, ConfigError, DataError
from data.store import TickStore


def run(*words: object) -> int:
    args = build_parser().parse_args(["data", *map(str, words)], argparse.Namespace(**SHARED_DEFAULTS))
    code: int = args.run(args)
    return code


def test_import_verify_and_export_make_a_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = Day(seed=1, levels=2, rows=300).write_zip(tmp_path / "day.zip")
    store = tmp_path / "store"
    assert run("import", "lobster", archive, "--store", store, "--venue", "XNAS") == 0
    capsys.readouterr()
    assert run("import", "auto", archive, "--store", store, "--venue", "XNAS") == 0
    assert "imported before, nothing to do" in capsys.readouterr().out
    other = Day(seed=2, levels=2, rows=300).write_zip(tmp_path / "other.zip")
    with pytest.raises(ConfigError, match="--overwrite"):
        run("import", "auto", other, "--store", store, "--venue", "XNAS")
    capsys.readouterr()
    assert run("verify", "store", store) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1/1"
    for name in ("out.csv", "out.parquet"):
        assert run("export", store, tmp_path / name) == 0
        assert (tmp_path / name).stat().st_size > 0
        with pytest.raises(ConfigError, match="is there already"):
            run("export", store, tmp_path / name)
    capsys.readouterr()
    assert run("info", store, "--json") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts["format"], facts["instruments"], facts["venues"]) == ("store", ["TEST"], ["XNAS"])


def test_verify_ends_with_the_count_and_fails_on_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Day(seed=1, levels=2, rows=300).write_zip(tmp_path / "day.zip")
    assert run("verify", "lobster", archive) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "300/300"
    store = tmp_path / "store"
    run("import", "lobster", archive, "--store", store)
    (partition,) = store.glob("**/*.parquet")
    partition.write_bytes(partition.read_bytes()[:-1] + b"?")
    capsys.readouterr()
    assert run("verify", "store", store, "--json") == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["matched"], report["total"]) == (0, 1)
    assert str(partition) in report["problems"][0]


def test_generate_is_repeatable_and_info_describes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        words = ("--years", "0.02", "--rows-per-day", "500", "--seed", "9", "--json")
        assert run("generate", "--out", tmp_path / folder, *words) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["data_hash"] == second["data_hash"]
    files = [sorted((tmp_path / folder).iterdir()) for folder in ("a", "b")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert run("info", tmp_path / "a") == 0
    assert "generated SYNTH quotes" in capsys.readouterr().out


def test_bad_input_is_an_error_of_ours(tmp_path: Path) -> None:
    for words in (
        ("info", tmp_path / "gone"),
        ("verify", "lobster", tmp_path / "gone.zip"),
        ("verify", "store", tmp_path / "gone"),
        ("export", tmp_path / "gone", tmp_path / "x.csv"),
        ("generate", "--out", tmp_path / "g", "--years", "0"),
    ):
        with pytest.raises(AnytickError):
            run(*words)
    assert list(tmp_path.iterdir()) == []


def test_days_are_replaced_or_added_to_not_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not allowed with"):
        run("import", "lobster", tmp_path, "--store", tmp_path / "s", "--overwrite", "--append")


def test_a_table_that_auto_cannot_tell_names_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("when,left,right\n1,2,3\n")
    with pytest.raises(DataError, match="anytick data sniff"):
        run("import", "auto", tmp_path / "odd.csv", "--store", tmp_path / "s")


def test_json_lines_are_sniffed_and_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("msgspec")
    rows = [depth(at, at, [("10.01", str(at))], [("10.03", "1")], ms=at) for at in range(1, 9)]
    path = write_lines(tmp_path / "feed.jsonl", rows)
    assert run("sniff", path, "--out", tmp_path / "m.toml") == 0
    assert 'columns = { bids = "data.b", asks = "data.a" }' in capsys.readouterr().out
    words = (
        "import",
        "jsonl",
        path,
        "--mapping",
        tmp_path / "m.toml",
        "--store",
        tmp_path / "store",
        "--json",
    )
    assert run(*words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["events"] == 16


def test_a_finer_number_later_on_costs_another_attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grid is told by the head; what comes behind it on a finer one is neither rounded nor refused."""
    pytest.importorskip("msgspec")
    from data.importers import feed_source

    monkeypatch.setattr(feed_source, "HEAD_LINES_MAX", 3)
    rows = [depth(at, at, [("10.1", "2")], [("10.3", "1")], ms=at) for at in range(1, 4)]
    rows += [depth(4, 4, [("10.105", "2.25")], ms=4)]
    path = write_lines(tmp_path / "feed.jsonl", rows)
    assert run("import", "binance", path, "--store", tmp_path / "store") == 0
    streams = capsys.readouterr()
    assert streams.err.count("once more on a finer grid") == 2
    assert run("info", tmp_path / "store", "--json") == 0
    from data.store import TickStore

    instrument = TickStore(tmp_path / "store").instrument()
    assert (instrument.price_increment, instrument.lot_size) == (0.001, 0.01)
    capsys.readouterr()
    words = ("quality", "binance", path, "--lot-size", "0.001", "--price-increment", "0.0005")
    assert run(*words) == 0
    assert "once more" not in capsys.readouterr().err


def test_a_failed_import_leaves_no_new_store_behind(tmp_path: Path) -> None:
    pytest.importorskip("msgspec")
    rows = [depth(1, 1, [("10.1", "2")], ms=1), *["{ not json"] * 4]
    path = write_lines(tmp_path / "feed.jsonl", rows)
    with pytest.raises(AnytickError, match="row 1"):
        run("import", "binance", path, "--store", tmp_path / "store")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["feed.jsonl"]
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.txt").write_text("kept")
    with pytest.raises(AnytickError, match="row 1"):
        run("import", "binance", path, "--store", tmp_path / "store")
    assert (tmp_path / "store" / "mine.txt").exists()


def test_a_corrected_mapping_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    table, mapping, store = tmp_path / "t.csv", tmp_path / "m.toml", tmp_path / "store"
    table.write_text("timestamp,price,size,side\n1600000000123,10.25,1,b\n1600000000124,10.26,2,s\n")
    assert run("sniff", table, "--out", mapping) == 0
    assert run("import", "table", table, "--mapping", mapping, "--store", store) == 0
    assert run("import", "table", table, "--mapping", mapping, "--store", store) == 0
    mapping.write_text(mapping.read_text().replace('unit = "ms"', 'unit = "us"'))
    assert run("import", "table", table, "--mapping", mapping, "--store", store) == 0
    assert len(list(store.glob("**/*.parquet"))) == 2


def test_deleting_an_instrument_that_nobody_stored_is_an_error(tmp_path: Path) -> None:
    store = tmp_path / "store"
    run("import", "lobster", Day(seed=1, levels=2, rows=30).write_zip(tmp_path / "day.zip"), "--store", store)
    with pytest.raises(ConfigError, match="--instrument must be one of TEST, was TYPO"):
        run("delete", store, "--instrument", "TYPO")
    assert run("delete", store, "--instrument", "TEST") == 0


def test_damage_fails_a_verification_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("msgspec")
    path = write_lines(tmp_path / "feed.jsonl", [depth(1, 1, [("10.01", "1")], [("10.03", "1")], ms=1), "{"])
    assert run("verify", "binance", path) == 1
    *_, problem, last = capsys.readouterr().out.splitlines()
    assert f"{path}:row 1: expected a JSON message" in problem
    assert last == "0/1"


def test_a_number_finer_than_the_head_is_no_mismatch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("msgspec")
    rows = [depth(at, at, [("10.01", "1")], [("10.03", "1")], ms=at) for at in range(1, 10_050)]
    rows += [depth(10_050, 10_050, [("10.015", "1.25")], [], ms=10_050)]
    touch = '{"u":10050,"s":"BTCUSDT","b":"10.015","B":"1.25","a":"10.03","A":"1"}'
    path = write_lines(tmp_path / "feed.jsonl", [*rows, f"1700000010050000000 {touch}"])
    snapshot = '1700000000000000000 {"lastUpdateId":0,"bids":[],"asks":[],"symbol":"BTCUSDT"}'
    path.write_text(snapshot + "\n" + path.read_text())
    assert run("verify", "binance", path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1/1"


@pytest.mark.parametrize("first", ["SPOT", "PERP"])
def test_venues_of_other_ticks_are_read_on_one_grid(tmp_path: Path, first: str) -> None:
    """Each venue keeps its own ticks, whichever comes first; who reads them gets one grid for both."""
    coarse, fine = tmp_path / "BTC.csv", tmp_path / "BTC.fine.csv"
    coarse.write_text("ts_ns,price,size\n1000000000,60000.5,0.25\n2000000000,60001.0,1\n")
    fine.write_text("ts_ns,price,size\n1000000000,60000.51,0.00001\n2000000000,60000.75,2\n")
    store = tmp_path / "store"
    files = {"SPOT": fine, "PERP": coarse}
    for venue in (first, *(files.keys() - {first})):
        assert run("import", "trades", files[venue], "--store", store, "--venue", venue) == 0
    listings = TickStore(store).manifest().listings
    assert [listings["BTC", venue][0].price_increment for venue in files] == [0.01, 0.1]
    instrument = TickStore(store).instrument("BTC")
    assert (instrument.price_increment, instrument.lot_size) == (0.01, 1e-5)
    events = np.concatenate(list(TickStore(store).stream()))
    prices = events["price_ticks"] * instrument.price_increment
    assert sorted(prices.tolist()) == pytest.approx([60000.5, 60000.51, 60000.75, 60001.0])
    assert sorted((events["size_lots"] * instrument.lot_size).tolist()) == pytest.approx([1e-5, 0.25, 1, 2])
    finer = tmp_path / "BTC.csv"
    finer.write_text("ts_ns,price,size\n86400000000000,60000.123,1\n")
    with pytest.raises(ConfigError, match="import the finer recording first"):
        run("import", "trades", finer, "--store", store, "--venue", "PERP", "--append")


def test_an_import_of_nothing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("ts_ns,price,size\n1000000000,1.5,-1\n")
    assert run("import", "trades", path, "--store", tmp_path / "store") == 1
    assert "nothing was imported" in capsys.readouterr().err

"""``anytick run`` as a user meets it: answers for machines, refusals that name file, row and rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from small_runs import small_quotes

import data.synthetic
from backtest.cli.main import main
from data.synthetic import SyntheticQuotes

CONFIG = """
[walk_forward]
train_days = 7
test_days = 5
embargo_hours = 6
[parents]
per_day = 3
[routing]
policies = ["linucb", "sweep"]
[model]
sample_stride = 6
sample_horizon = 3
"""

Line = tuple[str, str, str]
Run = Callable[..., dict[str, Any]]


def csv_lines() -> list[Line]:
    """Three weeks of quotes as a user's own CSV would have them."""
    lines = []
    for block in small_quotes(rows_per_day=250).blocks():
        stamps = np.datetime_as_string(block.ts_ns.astype("datetime64[ns]"), unit="us")
        for stamp, bid, ask in zip(stamps, block.bid_ticks.tolist(), block.ask_ticks.tolist(), strict=True):
            lines.append((stamp, f"{bid / 1_000:.3f}", f"{ask / 1_000:.3f}"))
    return lines


LINES = csv_lines()


def write_csv(path: Path, lines: Sequence[Line]) -> Path:
    path.write_text("\n".join(["time,bid,ask", *(",".join(line) for line in lines)]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a configuration and quotes beside it."""
    monkeypatch.delenv("ANYTICK_MARKET_DATA", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (tmp_path / "run.toml").write_text(CONFIG, encoding="utf-8")
    write_csv(tmp_path / "ticks.csv", LINES)
    return tmp_path


@pytest.fixture
def answer(place: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run and return the JSON on the last line of standard output."""

    def call(*arguments: object, code: int = 0, config: Path | None = None) -> dict[str, Any]:
        options = ["--no-sensitivity", "--quiet", "--config", config or place / "run.toml"]
        capsys.readouterr()
        assert main(["run", *map(str, arguments), *map(str, options), "--json"]) == code, (
            capsys.readouterr().err
        )
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    return call


def written(place: Path) -> list[str]:
    """Every file in the working folder, and every unfinished folder, except the registry of trials."""
    found = [path for path in (place / "work").rglob("*") if path.is_file() or "partial" in path.name]
    names = (str(path.relative_to(place / "work")) for path in found)
    return sorted(name for name in names if "trials.sqlite" not in name)


def test_the_last_line_is_the_answer_for_machines(place: Path, answer: Run) -> None:
    found = answer("--market-data", place / "ticks.csv", "--out", "out")
    assert found["rows"] == len(LINES)
    assert found["events"] == len(LINES) * len(found["venues"]) * 2 == len(LINES) * 3 * 2
    assert len(found["journal_hash"]) == 64
    assert found["seconds"] > 0
    assert found["peak_memory_bytes"] > 1 << 20
    assert "simulation on a recorded mid price" in found["headline"]
    assert {row["policy"] for row in found["table"]} == {"linucb", "sweep"}
    for row in found["table"]:
        assert row["cost_bps_low"] <= row["cost_bps"] <= row["cost_bps_high"]
        assert len(row["journal_hash"]) == 64
    assert Path(found["report"]).is_file()
    assert {"out/report.html", "out/result.json", "out/journals/linucb.journal"} <= set(written(place))


def test_two_runs_print_the_same_and_keep_one_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for _ in range(2):
        arguments = ["--market-data", place / "ticks.csv", "--config", place / "run.toml", "--no-sensitivity"]
        assert main(["run", *map(str, arguments), "--quiet"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert f"events  {len(LINES) * 6:,} = {len(LINES):,} rows x 3 venues" in said[0]
    assert len(list((place / "work" / "var" / "runs").iterdir())) == 1


def test_no_journals_keeps_the_hash_and_leaves_the_files_out(place: Path, answer: Run) -> None:
    kept = answer("--market-data", place / "ticks.csv", "--out", "kept")
    bare = answer("--market-data", place / "ticks.csv", "--out", "bare", "--no-journals")
    assert bare["journal_hash"] == kept["journal_hash"]
    assert [name for name in written(place) if name.startswith("bare/")] == [
        "bare/report.html",
        "bare/result.json",
    ]


def test_part_of_the_years_is_less_of_the_history(place: Path, answer: Run) -> None:
    found = answer("--market-data", place / "ticks.csv", "--years", 0.03, "--out", "out")
    assert 0 < found["rows"] < len(LINES)


# Every way in which docs/DATA.md lets time stand, as columns of a CSV or a Parquet file.

NS = np.concatenate([block.ts_ns for block in small_quotes(rows_per_day=250).blocks()])
# The doubles of a Parquet file say microseconds; whole seconds repeat, and file order breaks the tie.
TIMES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "ts_ns": ("ts_ns", lambda ns: ns),
    "ts_us": ("ts_us", lambda ns: ns // 10**3),
    "ts_ms": ("ts_ms", lambda ns: ns // 10**6),
    "ts_s": ("ts_s", lambda ns: ns // 10**9),
    "ts_s fractions": ("ts_s", lambda ns: ns // 10**6 / 1e3),
    "ts_ms fractions": ("ts_ms", lambda ns: ns // 10**5 / 1e1),
    "size tells ns": ("ts", lambda ns: ns),
    "size tells us": ("timestamp", lambda ns: ns // 10**3),
    "size tells ms": ("time", lambda ns: ns // 10**6),
    "size tells s": ("datetime", lambda ns: ns // 10**9),
    "size tells s, fractions": ("date_time", lambda ns: ns // 10**6 / 1e3),
    "timestamps": ("Timestamp", lambda ns: ns.astype("datetime64[ns]")),
    "timestamps in ms": ("time", lambda ns: ns.astype("datetime64[ns]").astype("datetime64[ms]")),
}


def write_table(path: Path, name: str, times: Any) -> Path:
    """Write the quotes with their time as a column `name`."""
    bid, ask = (np.array([float(line[place]) for line in LINES]) for place in (1, 2))
    table = pa.table({name: times, "bid": bid, "ask": ask})
    (pa.csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("dialect", TIMES)
def test_every_way_to_write_time_runs(place: Path, answer: Run, dialect: str, suffix: str) -> None:
    name, convert = TIMES[dialect]
    path = write_table(place / f"dialect{suffix}", name, convert(NS))
    found = answer("--market-data", path, "--no-journals", "--out", "out")
    assert found["rows"] == len(LINES)


def test_the_same_instants_give_the_same_run_however_they_are_written(place: Path, answer: Run) -> None:
    ns = NS // 10**6 * 10**6
    written_as = {
        "ts_ns": ns,
        "ts_ms": ns // 10**6,
        "time": ns.astype("datetime64[ns]"),
        "ts_s": ns // 10**6 / 1e3,
    }
    hashes = set()
    for name, times in written_as.items():
        for suffix in (".csv", ".parquet"):
            path = write_table(place / f"same{suffix}", name, times)
            hashes.add(answer("--market-data", path, "--no-journals", "--out", "out")["journal_hash"])
    assert len(hashes) == 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["ts_ms", "time"])
def test_milliseconds_out_of_order_name_their_row(place: Path, answer: Run, name: str, suffix: str) -> None:
    times = NS // 10**6
    times[700] = times[699] - 1
    path = write_table(place / f"unordered{suffix}", name, times)
    error = answer("--market-data", path, "--out", "out", code=2)["error"]
    assert error["row"] == 700
    assert "time must not run backwards" in error["rule"]
    assert written(place) == []


# Where the ticks come from.


def test_the_environment_names_the_market_data(
    place: Path, answer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYTICK_MARKET_DATA", str(place / "ticks.csv"))
    assert answer("--out", "out")["rows"] == len(LINES)


def test_a_folder_beside_the_runs_is_found(place: Path, answer: Run) -> None:
    folder = place / "work" / "var" / "market-data"
    folder.mkdir(parents=True)
    write_csv(folder / "ticks.csv", LINES)
    assert answer("--out", "out")["rows"] == len(LINES)


def test_synthetic_wins_over_what_lies_around(
    place: Path, answer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYTICK_MARKET_DATA", str(place / "absent"))
    monkeypatch.setattr(data.synthetic, "SyntheticQuotes", partial(SyntheticQuotes, rows_per_day=250))
    found = answer("--synthetic", "--years", 0.06, "--out", "out")
    assert "synthetic market" in found["headline"]
    assert found["rows"] == SyntheticQuotes(seed=1, years=0.06, rows_per_day=250).rows()


# Bad input: exit code 2, one line, nothing half-written.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--market-data", "absent.parquet"], "absent.parquet"),
        (["--market-data", "."], "."),
        (["--years", "0"], "--years must be above 0"),
        (["--years", "-1"], "--years must be above 0"),
        (["--years", "nan"], "--years must be above 0"),
        (["--years", "5e9"], "--years must be above 0 and at most 100"),
        (["--years", "soon"], "--years"),
        (["--seed", "-1"], "--seed must be 0"),
        (["--seed", str(1 << 63)], "--seed must be 0"),
        (["--market-data", "a", "--synthetic"], "not allowed with"),
        (["--colour"], "--colour"),
    ],
)
def test_arguments_that_make_no_sense(place: Path, answer: Run, arguments: list[str], said: str) -> None:
    error = answer(*arguments, code=2)["error"]
    assert said in error["message"]
    assert written(place) == []


def test_an_environment_that_names_nothing_is_an_error(
    place: Path, answer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYTICK_MARKET_DATA", str(place / "absent"))
    assert "absent" in answer(code=2)["error"]["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[routing]\nalfa = 1", "unknown key 'alfa'"),
        ("[routing", "not a TOML file"),
        ("venue_ranges = 'absent.toml'", "absent.toml"),
        ("[sensitivity]\npolicies = ['luck']", "sensitivity"),
        ("[parents]\nduration_minutes = inf", "finite"),
        ("[routing]\npost_seconds = 1e300", "routing.post_seconds must be 0.001 to 86,400"),
        ("[parents]\nslices = 4294967296", "parents.slices must be 1 to 1,000"),
        (f"[model]\nsample_stride = {10**21}", "model.sample_stride must be 2 to 10,000,000"),
    ],
)
def test_a_configuration_is_refused_by_file_and_key(place: Path, answer: Run, text: str, said: str) -> None:
    path = place / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    error = answer("--market-data", place / "ticks.csv", code=2, config=path)["error"]
    assert said in error["message"]
    assert "wrong.toml" in error["message"] or "absent.toml" in error["message"]
    assert written(place) == []


def spoilt(row: int, line: Line) -> list[Line]:
    return [*LINES[:row], line, *LINES[row + 1 :]]


MIDDLE = len(LINES) // 2
TIME, BID, ASK = LINES[MIDDLE]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ((LINES[MIDDLE - 2][0], BID, ASK), "ascend|back|order|before"),
        ((TIME, "nan", ASK), "bid"),
        ((TIME, "", ASK), "bid"),
        ((TIME, BID, "inf"), "ask"),
        ((TIME, "-1.0", ASK), "bid"),
    ],
)
def test_a_spoilt_quote_is_refused_by_file_and_row(place: Path, answer: Run, line: Line, said: str) -> None:
    path = write_csv(place / "spoilt.csv", spoilt(MIDDLE, line))
    error = answer("--market-data", path, "--out", "out", code=2)["error"]
    assert "spoilt.csv" in error["message"]
    assert any(word in error["message"] for word in said.split("|")), error["message"]
    assert error["row"] == MIDDLE
    assert written(place) == []


@pytest.mark.parametrize("line", [("yesterday", BID, ASK), (TIME, "cheap", ASK), (TIME, BID)])
def test_words_where_numbers_belong_are_refused_by_file(place: Path, answer: Run, line: Line) -> None:
    path = write_csv(place / "spoilt.csv", spoilt(MIDDLE, line))
    assert "spoilt.csv" in answer("--market-data", path, "--out", "out", code=2)["error"]["message"]
    assert written(place) == []


def test_a_truncated_parquet_file_is_refused_by_name(place: Path, answer: Run) -> None:
    from data.quote_writer import write_quotes

    (path,) = write_quotes(small_quotes(), place / "store")
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in answer("--market-data", path, code=2)["error"]["message"]
    assert written(place) == []


def test_crossed_quotes_are_left_out_and_counted_or_refused_when_strict(place: Path, answer: Run) -> None:
    lines = list(LINES)
    for row in (100, 101, MIDDLE):
        time, bid, ask = lines[row]
        lines[row] = (time, ask, bid)
    path = write_csv(place / "crossed.csv", lines)
    found = answer("--market-data", path, "--out", "out")
    assert found["rows"] == len(LINES) - 3
    assert found["events"] == (len(LINES) - 3) * 6
    kept = json.loads((place / "work" / "out" / "result.json").read_text(encoding="utf-8"))["result"]
    assert "3 crossed quotes were left out" in kept["notes"]
    error = answer("--market-data", path, "--out", "strict", "--strict", code=2)["error"]
    assert (error["row"], error["type"]) == (100, "DataError")
    assert "crossed.csv" in error["path"]
    assert not [name for name in written(place) if "strict" in name]


def test_a_folder_of_somebody_else_s_is_not_replaced(place: Path, answer: Run) -> None:
    (place / "work" / "notes.txt").write_text("mine")
    for out in (".", place / "work", "notes.txt"):
        error = answer("--market-data", place / "ticks.csv", "--out", out, code=2)["error"]
        assert "no run's folder" in error["message"]
    assert written(place) == ["notes.txt"]


def test_a_history_too_short_to_walk_through_is_refused(place: Path, answer: Run) -> None:
    path = write_csv(place / "day.csv", LINES[:200])
    assert "days of history" in answer("--market-data", path, code=2)["error"]["message"]
    assert written(place) == []

"""The command line as a process sees it: exit codes, one line per error, JSON for machines."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_results import fake_backtest, fake_run

from backtest.cli import main as entry
from backtest.cli import stress
from backtest.places import find_market_data
from benchmarks.bench_events import random_quotes
from data.errors import CheckFailed, ConfigError, DataError
from engine.inference.pipeline import train_window
from ext.features import FEATURE_NAMES

CONSOLE = "import sys; from backtest.cli.main import console; sys.exit(console())"
ROOT = Path(entry.__file__).parents[2]
Raiser = Callable[[BaseException], None]


def last_json(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text.splitlines()[-1])
    return found


@pytest.fixture
def stress_raises(monkeypatch: pytest.MonkeyPatch) -> Raiser:
    """Replace one command by something that raises."""

    def set_error(error: BaseException) -> None:
        def run(args: argparse.Namespace) -> int:
            raise error

        monkeypatch.setattr(stress, "run", run)

    return set_error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CheckFailed("record 3 differs"), 1, "anytick: record 3 differs\n"),
        (ConfigError("size must be positive, was 0"), 2, "anytick: size must be positive, was 0\n"),
        (DataError("expected a bid", path="a.csv", row=7), 2, "anytick: a.csv:row 7: expected a bid\n"),
        (FileNotFoundError(2, "No such file", "b.csv"), 2, "anytick: b.csv: No such file\n"),
        (KeyboardInterrupt(), 130, "anytick: interrupted\n"),
    ],
)
def test_errors_become_one_line_and_a_code(
    error: BaseException, code: int, said: str, stress_raises: Raiser, capsys: pytest.CaptureFixture[str]
) -> None:
    stress_raises(error)
    assert entry.main(["stress"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", said)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def during(error: Exception, context: BaseException) -> Exception:
    error.__context__ = context
    return error


@pytest.mark.parametrize(
    "error",
    [
        caused(ImportError("initialization failed"), KeyboardInterrupt()),
        during(ImportError("initialization failed"), during(ImportError("inner"), KeyboardInterrupt())),
        caused(RuntimeError("Error calling __set_name__"), KeyboardInterrupt()),
        caused(ConfigError("needs torch"), during(ImportError("initialization failed"), KeyboardInterrupt())),
    ],
)
def test_what_an_interrupt_became_is_one(
    error: Exception, stress_raises: Raiser, capsys: pytest.CaptureFixture[str]
) -> None:
    stress_raises(error)
    assert entry.main(["stress"]) == 130
    assert capsys.readouterr() == ("", "anytick: interrupted\n")


@pytest.mark.parametrize("interrupted", [True, False])
def test_an_import_that_fails_after_an_interrupt_is_one_though_nothing_in_it_says_so(
    interrupted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        if interrupted:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        raise ImportError("Importing the C-extensions failed")

    monkeypatch.setattr(stress, "run", run)
    before = signal.getsignal(signal.SIGINT)
    assert entry.main(["stress"]) == (130 if interrupted else 70)
    assert signal.getsignal(signal.SIGINT) is before
    assert ("this is a bug" in capsys.readouterr().err) is not interrupted


def test_a_bug_met_while_an_interrupt_was_handled_is_still_a_bug(
    stress_raises: Raiser, capsys: pytest.CaptureFixture[str]
) -> None:
    stress_raises(during(ZeroDivisionError("division by zero"), KeyboardInterrupt()))
    assert entry.main(["stress"]) == 70
    assert "this is a bug" in capsys.readouterr().err


def test_our_own_bug_shows_its_traceback(stress_raises: Raiser, capsys: pytest.CaptureFixture[str]) -> None:
    stress_raises(ZeroDivisionError("division by zero"))
    assert entry.main(["stress", "--json"]) == 70
    out, err = capsys.readouterr()
    assert "Traceback" in err
    assert last_json(out)["error"]["type"] == "ZeroDivisionError"  # type: ignore[index]


def test_json_errors_name_file_row_and_rule(
    stress_raises: Raiser, capsys: pytest.CaptureFixture[str]
) -> None:
    stress_raises(DataError("expected a bid", path="a.csv", row=7))
    assert entry.main(["--json", "stress"]) == 2
    assert last_json(capsys.readouterr().out) == {
        "error": {
            "type": "DataError",
            "message": "a.csv:row 7: expected a bid",
            "exit_code": 2,
            "path": "a.csv",
            "row": 7,
            "rule": "expected a bid",
        }
    }


@pytest.mark.parametrize(
    "argv", [["nonsense"], ["replay"], ["doctor", "--nonsense"], ["bench", "--seed", "x"]]
)
def test_usage_errors_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("anytick: ")
    assert err.count("\n") == 1


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([]) == 2
    assert "doctor" in capsys.readouterr().err


def commands() -> list[str]:
    return [name for name in entry.COMMANDS if entry.find_spec(f"backtest.cli.{name}") is not None]


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_itself_and_knows_the_shared_options(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert entry.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--seed" in text
    assert "--json" in text
    assert max(map(len, text.partition("everywhere:")[0].splitlines())) < 80


@pytest.mark.parametrize("name", commands())
@pytest.mark.parametrize("seed", ["-3", str(1 << 63)])
def test_every_command_refuses_a_seed_that_does_not_fit(
    name: str, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs = {
        "data": ["info", "x"],
        "models": ["inspect", "x"],
        "journal": ["verify", "x"],
        "replay": ["x"],
        "walkforward": ["x"],
        "report": ["x"],
    }
    words = [name, *verbs.get(name, [])]
    for argv in (["--seed", seed, *words], [*words, "--seed", seed]):
        if name == "data" and argv[0] == "--seed":
            continue
        assert entry.main(argv) == 2
        assert capsys.readouterr().err == f"anytick: --seed must be 0 to 2**63 - 1, was {seed}\n"


@pytest.mark.parametrize(
    "argv",
    [
        *(
            ["backtest", f"{option}={value}"]
            for option in ("--taker-fee", "--maker-fee")
            for value in ("1e300", "-1e300", "nan", "inf", "x")
        ),
        ["backtest", "--size", "0"],
        ["backtest", "--size", "1" * 30],
        ["backtest", "--latency-us", "1" * 30],
        ["walkforward", "x", "--taker-fee-bps", "1e300"],
        ["walkforward", "x", "--maker-fee-bps", "nan"],
        ["walkforward", "x", "--train-days", "1" * 30],
        ["walkforward", "x", "--test-days", "0"],
        ["replay", "x", "--limit", "1" * 30],
        ["journal", "show", "x", "--limit", "-1"],
        ["models", "profile", "x", "--repetitions", "0"],
    ],
)
def test_numbers_have_bounds(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(argv) == 2
    err = capsys.readouterr().err
    option = next(word for word in argv if word.startswith("--")).partition("=")[0]
    assert err.startswith("anytick: ")
    assert f"argument {option}: must be a" in err


@pytest.mark.parametrize(
    "words",
    [("models", verb) for verb in ("inspect", "profile", "quantize", "build", "validate")]
    + [("journal", verb) for verb in ("verify", "diff", "show")],
)
def test_every_verb_says_what_it_does_and_shows_an_example(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    usage, _, rest = text.partition("\n\n")
    assert usage.startswith(f"usage: anytick {words[0]} {words[1]}")
    assert rest[0].isalpha()
    assert not rest.startswith(("positional", "options"))
    assert f"example:\n  anytick {words[0]} {words[1]}" in text
    assert text.count("--seed N") == 2


BROKEN = {
    "hook": ("class Mine(Strategy):\n    def on_touch(self, ctx):\n        1 / 0\n", 4, "ZeroDivisionError"),
    "syntax": ("class Mine(Strategy:\n", 2, "SyntaxError"),
    "import": ("import nothing_of_that_name\n", 2, "ModuleNotFoundError"),
    "constructor": ("class Mine(Strategy):\n    def __init__(self):\n        int('x')\n", 4, "ValueError"),
    "parameters": ("class Mine(Strategy):\n    def parameters(self):\n        int('x')\n", 4, "ValueError"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_error_of_a_users_strategy_is_told_with_their_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ticks.npy", random_quotes(1_000, venues=1, seed=4))
    body, line, kind = BROKEN[case]
    Path("mine.py").write_text(f"from engine import Strategy\n{body}")
    assert entry.main(["backtest", "ticks.npy", "--strategy", "mine.py:Mine", "--quiet", "--json"]) == 2
    out, err = capsys.readouterr()
    assert last_json(out)["error"]["type"] == "StrategyError"  # type: ignore[index]
    assert "bug in anytick" not in err
    assert kind in err.splitlines()[-1]
    assert f'mine.py", line {line}' in err
    assert "backtest/api.py" not in err


def test_backtests_of_the_same_ticks_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ticks.npy", random_quotes(1_000, venues=1, seed=4))
    tried = []
    for strategy in ("market_maker", "twap", "twap"):
        argv = ["backtest", "ticks.npy", "--strategy", strategy, "--trials", "tried", "--quiet", "--json"]
        assert entry.main(argv) == 0
        tried.append(last_json(capsys.readouterr().out)["trials"])
    assert tried == [1, 2, 2]


@pytest.mark.parametrize("command", ["backtest", "walkforward"])
def test_trials_that_cannot_be_counted_are_told_before_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    day_ns = 86_400_000_000_000
    ticks = random_quotes(4_000, venues=1, seed=4)
    ticks["ts_ns"] = ticks["ts_ns"][0] + np.arange(len(ticks)) * (4 * day_ns // len(ticks))
    np.save("ticks.npy", ticks)
    Path("tried").write_text("no trials")
    Path("mine.py").write_text(
        "from engine import Strategy\nclass Mine(Strategy):\n    def on_start(self, ctx):\n"
        "        raise ValueError('it ran')\n"
    )
    days = ["--train-days", "1", "--test-days", "1"] if command == "walkforward" else []
    argv = [command, "ticks.npy", *days, "--strategy", "mine.py:Mine", "--quiet", "--trials"]
    assert entry.main([*argv, "tried"]) == 2
    assert "tried: expected a readable trial registry" in capsys.readouterr().err
    assert entry.main([*argv, "new"]) == 2
    assert "it ran" in capsys.readouterr().err


def test_strategies_of_one_name_in_two_files_both_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ticks.npy", random_quotes(300, venues=1, seed=4))
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom engine import Strategy\n"
        "@dataclass\nclass Sizes:\n    lots: int = {lots}\n"
        "class Mine(Strategy):\n    def on_touch(self, ctx):\n"
        "        if not ctx.position_lots:\n            ctx.buy(Sizes().lots)\n"
    )
    argv = ["backtest", "ticks.npy", "--quiet", "--json", "--journal", "journals"]
    for lots, folder in enumerate("ab", 1):
        Path(folder).mkdir()
        Path(folder, "s.py").write_text(source.format(lots=lots))
        argv += ["--strategy", f"{folder}/s.py:Mine"]
    assert entry.main(argv) == 0
    results: Any = last_json(capsys.readouterr().out)["results"]
    assert [result["name"] for result in results] == ["a/s.py:Mine", "b/s.py:Mine"]
    assert results[0]["filled_lots"] < results[1]["filled_lots"]
    assert len(list(Path("journals").iterdir())) == 2


def test_a_model_gives_strategies_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ticks.npy", random_quotes(3_000, venues=1, seed=4))
    draw = np.random.default_rng(1)
    model = train_window(
        draw.normal(size=(600, len(FEATURE_NAMES))).astype(np.float32),
        draw.integers(-2, 3, 600).astype(float),
        seed=1, feature_names=FEATURE_NAMES, window_label="noise",
    ).fp32_model  # fmt: skip
    Path("mid.onnx").write_bytes(model)
    Path("mine.py").write_text(
        "from engine import Strategy\nclass Mine(Strategy):\n    def on_touch(self, ctx):\n"
        "        if ctx.signal and not ctx.position_lots:\n            ctx.buy(1)\n"
    )
    orders = []
    argv = ["backtest", "ticks.npy", "--strategy", "mine.py:Mine", "--quiet", "--json"]
    for options in ([], ["--model", "mid.onnx"]):
        assert entry.main(argv + options) == 0
        orders.append(last_json(capsys.readouterr().out)["results"][0]["orders"])  # type: ignore[index]
    assert orders[0] == 0
    assert orders[1] > 0
    assert entry.main(["backtest", "ticks.npy", "--model", "absent.onnx", "--quiet"]) == 2
    assert "absent.onnx: a model must be a readable file" in capsys.readouterr().err
    wide = str(ROOT / "engine/inference/shipped_ladder/mlp-tiny.fp32.onnx")
    assert entry.main(["backtest", "ticks.npy", "--model", wide, "--quiet"]) == 2
    assert "must read the 16 features of ext.features, was one that reads 40" in capsys.readouterr().err


def test_a_strategy_that_takes_arguments_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ticks.npy", random_quotes(1_000, venues=1, seed=4))
    Path("mine.py").write_text(
        "from engine import Strategy\nclass Mine(Strategy):\n    def __init__(self, size):\n        pass\n"
    )
    assert entry.main(["backtest", "ticks.npy", "--strategy", "mine.py:Mine", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert "anytick: mine.py:Mine cannot be made: TypeError: " in err
    assert "bug in anytick" not in err


def test_an_unknown_option_is_told_with_its_command_and_the_nearest_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert entry.main(["run", "--year", "1"]) == 2
    told = "anytick: run: unrecognized arguments: --year 1; did you mean --years? (anytick run --help)\n"
    assert capsys.readouterr().err == told
    assert entry.main(["data", "import", "auto", "a.csv", "--store", "s", "b.csv"]) == 2
    assert (
        "unrecognized arguments: b.csv; each SOURCE must stand beside the others" in capsys.readouterr().err
    )
    assert entry.main(["data", "info", "a", "b"]) == 2
    assert "data info: unrecognized arguments: b (anytick" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "--seed", "5", "stress"],
        ["stress", "--json", "--seed", "5"],
        ["--json", "stress", "--seed=5"],
    ],
)
def test_shared_options_may_stand_before_or_after_the_command(
    argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        return 0

    monkeypatch.setattr(stress, "run", run)
    assert entry.main(argv) == 0
    assert (seen[0].json, seen[0].seed) == (True, 5)


def test_shared_options_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(stress, "run", lambda args: seen.append(args) or 0)
    assert entry.main(["stress"]) == 0
    assert (seen[0].json, seen[0].seed) == (False, 1)


def process(*argv: str, folder: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, str(ROOT))))}
    return subprocess.run(
        [sys.executable, "-P", "-c", CONSOLE, *argv],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from backtest.cli.main import main; main(['--help']); "
        "print(*sorted({'numpy', 'pyarrow', 'polars', 'onnxruntime', 'rich', 'plotly'} & set(sys.modules)), "
        "file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ran.stderr.strip() == ""


@pytest.mark.parametrize("name", ["data", "engine", "ext", "benchmarks"])
def test_a_folder_that_shadows_a_package_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    ran = process("doctor", "--json", folder=tmp_path, path=str(tmp_path))
    assert ran.returncode == 2
    assert str(tmp_path / name) in ran.stderr
    assert str(ROOT / name) in ran.stderr
    assert last_json(ran.stdout)["error"]["type"] == "ShadowedPackage"  # type: ignore[index]


def test_a_plain_folder_of_the_same_name_does_not_shadow(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert process("--version", folder=tmp_path, path=str(tmp_path)).returncode == 0


@pytest.mark.parametrize("argv", [["--version"], ["data", "info", "absent.npy", "--json"]])
def test_a_reader_that_goes_away_ends_it_quietly(argv: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as sink:
        ran = subprocess.run(
            [sys.executable, "-c", CONSOLE, *argv],
            cwd=ROOT, stdout=sink, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == 141
    assert "Traceback" not in ran.stderr


def test_doctor_finds_this_installation_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYTICK_MARKET_DATA", raising=False)
    assert entry.main(["doctor", "--json"]) == 0
    found = last_json(capsys.readouterr().out)
    names = {finding["name"] for finding in found["findings"]}  # type: ignore[attr-defined]
    assert {"extensions", "packages", "clock", "int8", "cores", "market data", "results"} <= names


def test_doctor_fails_on_market_data_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYTICK_MARKET_DATA", str(tmp_path / "absent"))
    assert entry.main(["doctor"]) == 1
    assert "absent" in capsys.readouterr().out


def test_every_command_finds_the_same_market_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYTICK_MARKET_DATA", raising=False)
    assert find_market_data() is None
    (tmp_path / "var" / "market-data").mkdir(parents=True)
    assert find_market_data() == Path("var/market-data")
    (tmp_path / "ticks.csv").write_text("ts_ns,bid,ask\n1,10.1,10.2\n")
    monkeypatch.setenv("ANYTICK_MARKET_DATA", "ticks.csv")
    assert find_market_data() == Path("ticks.csv")
    # A single file is enough for a run, so it is no fault of the installation.
    entry.main(["doctor", "--json"])
    found = '{"name": "market data", "state": "ok", "detail": "ticks.csv"}'
    assert found in capsys.readouterr().out


def test_replay_counts_and_hashes_the_same_in_any_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = random_quotes(10_000, venues=3, seed=4)
    np.save(tmp_path / "ticks.npy", events)
    np.save(tmp_path / "first.npy", events[:6_000])
    answers = []
    for argv in (["ticks.npy", "--limit", "6000"], ["first.npy"], ["ticks.npy"]):
        assert entry.main(["replay", str(tmp_path / argv[0]), *argv[1:], "--json"]) == 0
        answers.append(last_json(capsys.readouterr().out))
    assert [answer["events"] for answer in answers] == [6_000, 6_000, 10_000]
    assert answers[0]["state_hash"] == answers[1]["state_hash"] != answers[2]["state_hash"]
    assert entry.main(["replay", str(tmp_path / "ticks.npy")]) == 0
    assert "10,000" in capsys.readouterr().out


def test_replay_refuses_a_foreign_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert entry.main(["replay", str(tmp_path / "notes.txt")]) == 2
    assert "notes.txt" in capsys.readouterr().err


@pytest.mark.parametrize("make", [fake_run, fake_backtest])
def test_report_is_written_again_from_its_result(
    make: Callable[[], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from backtest.report import write_json

    write_json(make(), tmp_path / "result.json")  # type: ignore[arg-type]
    assert entry.main(["report", str(tmp_path), "--json"]) == 0
    assert last_json(capsys.readouterr().out)["report"] == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!")


def test_report_without_a_result_says_what_it_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(["report", str(tmp_path)]) == 2
    assert "result.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

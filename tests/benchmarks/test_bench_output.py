"""What the command prints and writes: tables, the page of curves, the document that is kept."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from measured import document

from backtest.cli.main import main
from benchmarks import command
from benchmarks.command import as_text, merge, with_section, write_docs
from benchmarks.comparison import compare
from benchmarks.curves import render_curves
from benchmarks.plates import Curve, percentile_plate
from benchmarks.tables import COLUMNS, markdown, peer_rows, peers_markdown, table_rows
from data.errors import ConfigError, DataError


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line finds the suite of this checkout, whatever is installed."""
    monkeypatch.setattr("backtest.cli.bench._find_suite", lambda: command.run)


def stored(folder: Path, name: str, **options: float) -> str:
    path = folder / name
    path.write_text(as_text(document(**options)), encoding="utf-8")  # type: ignore[arg-type]
    return str(path)


def test_tables_and_document_agree() -> None:
    rows = table_rows(document())
    assert [row[:3] for row in rows] == [("journal", "<item>", "ns"), ("journal", "call", "ns")]
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert peer_rows(document())[0][4:] == ("a & b", "400", "3.98", "-", "5 missed")
    text = markdown(document())
    assert text == markdown(document())
    assert "gone did not run: nowhere not installed." in text
    assert "### The machine's limits" in text
    assert "other 1.0" in peers_markdown(document(peers=True))


def test_the_page_of_curves_is_whole_and_escapes_names() -> None:
    page = render_curves(document(), compare(document(), document(scale=1.2)))
    assert page == render_curves(document(), compare(document(), document(scale=1.2)))
    assert "&lt;item&gt;" in page
    assert "<item>" not in page
    for forbidden in ("<script", "http:", "https:", "url("):
        assert forbidden not in page
    assert ">slower<" in page
    drawings = page.count("<svg")
    assert drawings == page.count("</svg>") == 2


def test_a_curve_is_read_off_its_histogram() -> None:
    curve = Curve(name="c", colour="red", dash="", upper=[10, 20, 3_000], counts=[90, 9, 1])
    assert [curve.at(share) for share in (50, 90, 90.5, 99, 99.9)] == [10, 10, 20, 20, 3_000]
    drawn = ElementTree.fromstring(percentile_plate([curve], floors=[5.0], label="a < b"))
    words = [text.text for text in drawn.iter("text")]
    assert {"0 %", "90 %", "99 %", "floor 5 ns"} <= set(words)
    assert "99.9 %" not in words


def test_the_page_keeps_what_stands_around_the_measured_section() -> None:
    before = "before <!-- anytick bench suite: begin -->old<!-- anytick bench suite: end --> after"
    once = with_section(before, "suite", "new")
    assert once == "before <!-- anytick bench suite: begin -->\nnew\n<!-- anytick bench suite: end --> after"
    assert with_section(once, "suite", "new") == once
    with pytest.raises(DataError, match="marks"):
        with_section(before, "peers", "new")


def test_figures_of_another_machine_do_not_join() -> None:
    joined = merge(document(name="ring"), document())
    assert [scenario["name"] for scenario in joined["scenarios"]] == ["journal", "ring"]
    other = document(name="ring")
    other["machine"]["cpu"] = "other"
    with pytest.raises(ConfigError, match="this machine"):
        merge(other, document())


def test_the_page_is_written_from_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / command.PAGE
    page.write_text("<!-- anytick bench suite: begin --><!-- anytick bench suite: end -->", encoding="utf-8")
    write_docs(document())
    written = page.read_text(encoding="utf-8")
    kept = json.loads((tmp_path / command.STORED / "suite.json").read_text(encoding="utf-8"))
    assert markdown(kept) in written
    assert kept["scenarios"][0]["measures"][1]["histogram"] is None
    write_docs(document())
    assert page.read_text(encoding="utf-8") == written


@pytest.mark.usefixtures("bench")
def test_a_regression_fails_only_beyond_the_percentage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = stored(tmp_path, "old.json"), stored(tmp_path, "new.json", scale=1.2, seed=2)
    page = tmp_path / "curves.html"
    given = ["bench", "--input", new, "--compare", old]
    assert main([*given, "--html", str(page)]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert main([*given, "--fail-on", "5"]) == 1
    assert "times the earlier time" in capsys.readouterr().err
    assert main([*given, "--fail-on", "50"]) == 0
    assert main(["bench", "--input", new, "--fail-on", "5"]) == 2
    assert main(["bench", "ring", "--input", new]) == 2


@pytest.mark.usefixtures("bench")
def test_more_instructions_fail_whatever_the_clock_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for name, count in (("old", 100.0), ("new", 110.0)):
        made = document()
        made["scenarios"][0]["measures"][0] |= {"instructions": count, "instructions_spread": 0.0}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(as_text(made), encoding="utf-8")
    given = ["bench", "--input", str(paths[1]), "--compare", str(paths[0])]
    assert main([*given, "--fail-on", "5"]) == 1
    assert "1.100 times the instructions" in capsys.readouterr().err
    assert main([*given, "--fail-on", "20"]) == 0


@pytest.mark.usefixtures("bench")
def test_json_holds_the_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = stored(tmp_path, "old.json"), stored(tmp_path, "new.json")
    assert main(["bench", "--input", new, "--compare", old, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [change["verdict"] for change in answer["changes"]] == ["same", "same"]
    assert main(["bench", "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["scenarios"]) > 10


@pytest.mark.usefixtures("bench")
def test_docs_are_not_written_from_smoke_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "journal", "--smoke", "--write-docs"]) == 2
    assert "--write-docs" in capsys.readouterr().err


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("option", ["--output", "--html", "--compare", "--write-docs"])
def test_what_would_fail_in_the_end_is_refused_before_anything_is_measured(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_measure", lambda args: pytest.fail("was measured"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    stranger = document()
    stranger["machine"]["cpu"] = "another"
    stored_page = tmp_path / "docs" / "measured" / "suite.json"
    stored_page.parent.mkdir(parents=True)
    stored_page.write_text(as_text(stranger), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "STORED", stored_page.parent)
    values = {"--output": ["file/new.json"], "--html": ["docs"], "--compare": [str(stored_page)]}
    assert main(["bench", "journal", option, *values.get(option, [])]) == 2
    assert re.search("file that can be written|machine", capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "file"]


@pytest.mark.parametrize("name", ["suite", "peers"])
def test_the_page_in_the_repository_is_what_its_figures_say(name: str) -> None:
    root = Path(__file__).resolve().parents[2]
    if not (root / command.PAGE).is_file():
        pytest.skip("an installed wheel has no pages")
    kept = json.loads((root / command.STORED / f"{name}.json").read_text(encoding="utf-8"))
    section = peers_markdown(kept) if name == "peers" else markdown(kept)
    page = (root / command.PAGE).read_text(encoding="utf-8")
    assert page == with_section(page, name, section), "anytick bench --input docs/measured/... --write-docs"

"""What the pages say about files, names, layouts and settings is what stands in the code."""

from __future__ import annotations

import importlib
import re
import tomllib
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import unquote

import numpy as np
import pytest

from backtest.config import POLICIES, RunConfig, load_config
from backtest.market import SCENARIOS, draw_venues
from data import schema
from ext import layout_info

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in [*DOCS.rglob("*.md"), ROOT / "README.md"] if path.is_file())
PACKAGES = ("ext", "data", "engine", "backtest", "benchmarks")
FOLDERS = (*PACKAGES, "tests", "docs", "examples")

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
SOURCE = re.compile(r"[\w./-]+\.(?:py|pyx|pxd|pyi|h)")
BARE = re.compile(r"\w+\.(?:pyx|pxd|pyi|py|h)")
DOTTED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
TYPES = {
    int: "integer",
    float: "number",
    str: "text",
    (tuple, str): "list of text",
    (tuple, int): "list of integers",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def fences(path: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def anchor_of(heading: str) -> str:
    """The fragment that a heading gets where Markdown is rendered."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {anchor_of(heading) for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)}


def section(path: Path, heading: str) -> str:
    """The text under one second-level heading."""
    text = path.read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"{path.name} has no section {heading!r}"
    return rest.split("\n## ")[0]


def rows(text: str, *columns: str) -> list[dict[str, str]]:
    """The rows of the first table whose head has exactly these columns."""
    head = "| " + " | ".join(columns) + " |\n"
    assert head in text, f"no table with the columns {columns}"
    body = text.split(head, 1)[1].splitlines()[1:]
    found = []
    for line in body:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        assert len(cells) == len(columns), line
        found.append(dict(zip(columns, cells, strict=True)))
    return found


def bare(cell: str) -> str:
    return cell.strip("`")


# Links and names.


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, fragment = target.partition("#")
        file = (page.parent / unquote(place)).resolve() if place else page
        if not file.exists() or (fragment and file.suffix == ".md" and fragment not in anchors(file)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_exist(page: Path) -> None:
    known = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")} | {"setup.py"}
    missing = []
    for code in CODE.findall(prose(page)):
        # A whole path of the house; patterns and calls are none.
        if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*", code):
            if not (ROOT / code).exists():
                missing.append(code)
        elif re.fullmatch(BARE, code) and code not in known:
            missing.append(code)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_dotted_names_can_be_imported(page: Path) -> None:
    for code in CODE.findall(prose(page)):
        match = re.match(DOTTED, code)
        if match is None or match[0] != code.partition("(")[0] or "/" in code:
            continue
        value: Any = importlib.import_module(match[0].split(".")[0])
        for depth, part in enumerate(match[0].split(".")[1:], start=2):
            if isinstance(value, types.ModuleType) and not hasattr(value, part):
                importlib.import_module(".".join(match[0].split(".")[:depth]))
            value = getattr(value, part)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile(page: Path) -> None:
    for number, body in enumerate(fences(page, "python")):
        compile(body, f"{name_of(page)}, python block {number}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_nobodys_machine(page: Path) -> None:
    assert not re.findall(r"(?<![\w.])/(?:home|work|root|Users|tmp)/\S*", page.read_text(encoding="utf-8"))


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in [*PAGES, ROOT / "CHANGELOG.md"]
        if page.is_file()
        for target in LINK.findall(prose(page))
    }
    named = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    lost = [
        page.name for page in DOCS.rglob("*.md") if page not in linked and f"docs/{page.name}" not in named
    ]
    assert not lost


def test_decisions_are_numbered_without_gaps_and_say_what_they_cost() -> None:
    records = sorted((DOCS / "adr").glob("*.md"))
    assert [path.name[:5] for path in records] == [f"{number:04}-" for number in range(1, len(records) + 1)]
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Cost"], path.name


# The picture.


def test_the_picture_names_files_and_tells_what_it_shows() -> None:
    root = ElementTree.parse(DOCS / "img" / "tick-to-order.svg").getroot()
    svg = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{svg}title")
    assert root.findtext(f"{svg}desc")
    style = root.findtext(f"{svg}style") or ""
    assert "prefers-color-scheme: dark" in style
    named = [element.text or "" for element in root.iter(f"{svg}text") if element.get("class") == "file"]
    assert len(named) > 15
    assert not [name for name in named if not (re.fullmatch(SOURCE, name) and (ROOT / name).is_file())]


def test_every_step_of_the_path_stands_where_the_page_says() -> None:
    found = rows(section(DOCS / "ARCHITECTURE.md", "From a tick to an order"), "Step", "Function", "File")
    assert len(found) > 10
    for row in found:
        texts = [(ROOT / name).read_text(encoding="utf-8") for name in re.findall(r"`([^`]+)`", row["File"])]
        for function in re.findall(r"`([^`]+)`", row["Function"]):
            defined = re.compile(rf"^ *(?:cdef|static)\b[^=\n]*\b{function}\(", re.MULTILINE)
            assert any(map(defined.search, texts)), f"{function}: not in {row['File']}"


# Layouts.


def test_record_table_is_the_layout() -> None:
    text = section(DOCS / "ARCHITECTURE.md", "Data contracts")
    found = rows(text, "Struct", "Bytes", "numpy", "What it is")
    assert {bare(row["Struct"]): int(row["Bytes"]) for row in found} == layout_info.STRUCT_BYTES
    for row in found:
        assert getattr(schema, bare(row["numpy"])).itemsize == int(row["Bytes"])


@pytest.mark.parametrize(
    ("struct", "dtype"), [("MarketEvent", schema.EVENT_DTYPE), ("QuoteView", schema.QUOTE_DTYPE)]
)
def test_event_table_is_the_layout(struct: str, dtype: np.dtype[np.void]) -> None:
    text = section(DOCS / "ARCHITECTURE.md", "Data contracts")
    table = [
        (int(row["Offset"]), row["Type"], bare(row[f"`{struct}`"]))
        for row in rows(text, "Offset", "Type", "`MarketEvent`", "`QuoteView`")
        if row[f"`{struct}`"] != "–"
    ]
    assert dtype.fields is not None
    layout = [
        (offset, f"{kind.kind}{kind.itemsize * 8}", name) for name, (kind, offset, *_) in dtype.fields.items()
    ]
    assert table == sorted(layout)


def test_every_state_of_a_parent_is_in_the_table() -> None:
    text = section(DOCS / "ARCHITECTURE.md", "A parent order's states")
    table = rows(text, "From", "When", "To", "Version", "Journaled")
    states = {member.name for member in schema.ParentState}
    named = {word for row in table for word in (row["From"], row["To"].split()[0])} - {"–"}
    assert named == states
    assert {row["From"] for row in table} <= {"–", "WORKING"}, "DONE and CANCELLED are final"


def test_a_run_makes_only_the_transitions_of_the_table(tmp_path: Path) -> None:
    from backtest.simulation import Simulator
    from data.synthetic import SyntheticQuotes
    from engine.journal import JournalReader

    recording = SyntheticQuotes(seed=1, years=0.012)
    Simulator(
        recording,
        RunConfig(),
        seed=1,
        stop_ns=recording.last_ns + 1,
        scenario=SCENARIOS[0],
        policies=("linucb",),
        journal_folder=tmp_path,
    ).run(lambda done, label: None)
    last: dict[int, np.void] = {}
    seen = set()
    for record in JournalReader(tmp_path / "linucb.journal").parents():
        before = last.get(int(record["parent_id"]))
        start = "–" if before is None else schema.ParentState(before["state"]).name
        seen.add((start, schema.ParentState(record["state"]).name))
        assert record["version"] == 0 if before is None else record["version"] > before["version"]
        assert record["filled_lots"] + record["open_lots"] + record["cancelled_lots"] == record["size_lots"]
        last[int(record["parent_id"])] = record
    text = section(DOCS / "ARCHITECTURE.md", "A parent order's states")
    table = {
        (row["From"], row["To"].split()[0])
        for row in rows(text, "From", "When", "To", "Version", "Journaled")
        if "PARENT" in row["Journaled"]
    }
    assert ("–", "WORKING") in seen
    assert seen <= table


# Settings.


def settings(kind: Any) -> Iterator[tuple[str, str, Any]]:
    """Name, type in words and default of every plain field of a configuration class."""
    hints, defaults = get_type_hints(kind), kind()
    for entry in fields(kind):
        hint = hints[entry.name]
        if not is_dataclass(hint):
            key = (tuple, get_args(hint)[0]) if get_origin(hint) is tuple else hint
            yield entry.name, TYPES[key], getattr(defaults, entry.name)


def sections() -> list[tuple[str, Any, Any]]:
    """Heading in CONFIG.md, configuration class, and the values a run has by default."""
    run, hints = RunConfig(), get_type_hints(RunConfig)
    nested = [
        (f"`[{entry.name}]`", hints[entry.name], getattr(run, entry.name))
        for entry in fields(RunConfig)
        if is_dataclass(hints[entry.name])
    ]
    return [("Top level", RunConfig, run), *nested]


@pytest.mark.parametrize(("heading", "kind", "values"), sections(), ids=lambda value: str(value)[:24])
def test_config_table_is_the_configuration(heading: str, kind: Any, values: Any) -> None:
    table = rows(section(DOCS / "CONFIG.md", heading), "Key", "Type", "Default", "Meaning")
    documented = {}
    for row in table:
        text = bare(row["Default"])
        default = list(POLICIES) if text == "POLICIES" else tomllib.loads(f"value = {text}")["value"]
        documented[bare(row["Key"])] = (row["Type"], tuple(default) if isinstance(default, list) else default)
        assert row["Meaning"]
    assert documented == {name: (words, getattr(values, name)) for name, words, _ in settings(kind)}


def test_policy_and_scenario_tables_are_complete() -> None:
    config = section(DOCS / "CONFIG.md", "`[routing]`")
    policies = rows(config, "Policy", "Chooses", "Learns from rewards", "Sees the model")
    assert tuple(bare(row["Policy"]) for row in policies) == POLICIES
    scenarios = rows(section(DOCS / "GUIDE_RUN.md", "The scenarios"), "Scenario", "Moves")
    assert [row["Scenario"] for row in scenarios] == [scenario.name for scenario in SCENARIOS]


def test_config_example_loads(tmp_path: Path) -> None:
    example, ranges = fences(DOCS / "CONFIG.md", "toml")
    file, venues = tmp_path / "run.toml", tmp_path / "ranges.toml"
    file.write_text(example, encoding="utf-8")
    venues.write_text(ranges, encoding="utf-8")
    config = load_config(file)
    assert config != RunConfig()
    assert config.as_dict().keys() == tomllib.loads(example).keys(), "the example shows every table"
    assert [venue.name for venue in draw_venues(str(venues), seed=1)] == ["near", "far"]


def test_venue_range_table_is_the_committed_file() -> None:
    text = section(DOCS / "CONFIG.md", "Venue ranges")
    documented = [bare(row["Key"]) for row in rows(text, "Key", "Unit", "Meaning")]
    committed = tomllib.loads((ROOT / "backtest" / "venue_ranges.toml").read_text(encoding="utf-8"))
    for venue in committed["venue"]:
        assert set(documented) == venue.keys()
    assert len(documented) == len(set(documented))

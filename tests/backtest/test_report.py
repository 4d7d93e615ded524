from __future__ import annotations

import doctest
import json
import os
import stat
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from fake_results import fake_backtest, fake_performance, fake_run
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.report import files as report_files
from backtest.report import formats, markup, write_backtest_report, write_run_report
from backtest.report.backtest_report import render_backtest_report
from backtest.report.markup import element, escape
from backtest.report.plots import POINTS_MAX
from backtest.report.run_report import render_run_report
from backtest.result import Interval, LatencyHistogram, RunResult
from data.errors import ConfigError, DataError

PAGE_BYTES_MAX = 7_000_000
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x1b[31m%{x}<a href='http://e.x'>"
)
REFERRING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href", "ping"}


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.specs: dict[str, dict] = {}
        self.styles: list[str] = []
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = (tag, dict(attrs))
        self.tags.append(self._open)

    def handle_endtag(self, tag: str) -> None:
        self._open = ("", {})

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open
        if tag == "script":
            if attributes.get("type") == "application/json":
                self.specs[str(attributes["id"]).removesuffix("-data")] = json.loads(data)
        elif tag == "style":
            self.styles.append(data)
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def result() -> RunResult:
    return fake_run()


@pytest.fixture(scope="module")
def run_page(result: RunResult) -> str:
    return render_run_report(result)


@pytest.fixture(scope="module")
def backtest_page() -> str:
    return render_backtest_report([fake_backtest(), fake_backtest(seed=12, name="pessimistic")])


@pytest.fixture(params=["run_page", "backtest_page"])
def page(request: pytest.FixtureRequest) -> str:
    text: str = request.getfixturevalue(request.param)
    return text


def test_page_refers_to_nothing_outside_itself(page: str) -> None:
    parsed = Page(page)
    references = [
        value for _, attributes in parsed.tags for name, value in attributes.items() if name in REFERRING
    ]
    assert references
    assert all(value is not None and value.startswith("#") for value in references)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in parsed.tags}
    assert not any("url(" in style or "@import" in style for style in parsed.styles)


def test_page_forbids_the_browser_every_request(page: str) -> None:
    policies = [
        a["content"] for tag, a in Page(page).tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none';")
    assert "http" not in policies[0]


def test_page_holds_the_plot_library_once_and_stays_small(page: str) -> None:
    assert page.count("* plotly.js v") == 1
    assert len(page.encode()) < PAGE_BYTES_MAX


def test_page_element_ids_are_unique_and_every_figure_has_its_data(page: str) -> None:
    parsed = Page(page)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawn = {str(attributes["id"]) for _, attributes in parsed.tags if "data-plot" in attributes}
    assert drawn == set(parsed.specs)


def test_figures_are_valid_to_plotly(page: str) -> None:
    for key, spec in Page(page).specs.items():
        figure = go.Figure(data=spec["data"], layout=spec["layout"])
        assert len(figure.data) == len(spec["data"]), key
        assert all(len(mask) == len(spec["data"]) for mask in spec["views"]), key


def test_no_trace_is_longer_than_the_limit(page: str) -> None:
    lengths = [len(trace["x"]) for spec in Page(page).specs.values() for trace in spec["data"]]
    assert lengths
    assert max(lengths) <= POINTS_MAX


def test_figures_are_described_and_tables_have_scopes(page: str) -> None:
    parsed = Page(page)
    assert all(attributes["aria-label"] for _, attributes in parsed.tags if "data-plot" in attributes)
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("figure") == tags.count("figcaption")
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for tag, attributes in parsed.tags if tag == "th")


def test_run_page_has_every_part(result: RunResult, run_page: str) -> None:
    parsed = Page(run_page)
    sections = [attributes.get("id") for tag, attributes in parsed.tags if tag == "section"]
    assert sections == [
        "results", "learning", "venues", "model", "strategies",
        "sensitivity", "latency", "identity", "configuration", "limits",
    ]  # fmt: skip
    assert set(parsed.specs) == {
        "cost-forest", "difference-forest", "learning-curve", "regret", "venue-mix",
        "model-accuracy", "strategy-equity", "tick-to-order",
    }  # fmt: skip
    assert result.headline in parsed.words
    assert result.verdict in parsed.words
    assert "Simulation on a recorded mid price" in parsed.words
    for digest in (result.data_hash, result.config_hash, result.journal_hash):
        assert digest in parsed.words
    assert all(policy.journal_hash in parsed.words for policy in result.policies)
    assert all(note in parsed.words for note in result.notes)


def test_venue_mix_shows_the_learner_first_and_can_show_each_policy(run_page: str) -> None:
    spec = Page(run_page).specs["venue-mix"]
    assert [trace["visible"] for trace in spec["data"]] == spec["views"][0]
    assert spec["data"][0]["stackgroup"] == "linucb"
    assert np.sum(spec["views"], axis=0).tolist() == [1] * len(spec["data"])


def test_sensitivity_marks_a_changed_sign_in_words(run_page: str) -> None:
    words = Page(run_page).words
    assert words.count("⇄ flips") == 2
    assert "changes in 2 of 7 scenarios" in words


def test_backtest_page_compares_results_side_by_side(backtest_page: str) -> None:
    parsed = Page(backtest_page)
    assert set(parsed.specs) == {
        "equity", "position", "fills-0", "fills-1", "tick-to-order-0", "tick-to-order-1",
    }  # fmt: skip
    headings = [a for tag, a in parsed.tags if tag == "section"]
    assert [a["id"] for a in headings][:4] == ["results", "equity-section", "fills", "rejections"]
    assert "market maker (optimistic fills)" in parsed.words
    assert "WOULD_CROSS" in parsed.words


def test_same_result_gives_the_same_bytes(run_page: str, backtest_page: str) -> None:
    assert render_run_report(fake_run()) == run_page
    pair = [fake_backtest(), fake_backtest(seed=12, name="pessimistic")]
    assert render_backtest_report(pair) == backtest_page


def hostile_run() -> RunResult:
    run = fake_run(headline=HOSTILE)
    policies = tuple(replace(policy, label=HOSTILE, journal_hash=HOSTILE) for policy in run.policies)
    return replace(
        run,
        verdict=HOSTILE,
        instrument=HOSTILE,
        source=HOSTILE,
        venues=(HOSTILE,) * 3,
        config={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
        policies=policies,
        strategies=tuple(replace(strategy, name=HOSTILE) for strategy in run.strategies),
        sensitivity=tuple(replace(row, scenario=HOSTILE) for row in run.sensitivity),
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda: render_run_report(hostile_run()), id="run"),
        pytest.param(
            lambda: render_backtest_report(
                [
                    replace(
                        fake_backtest(name=HOSTILE),
                        headline=HOSTILE,
                        currency=HOSTILE,
                        rejections={HOSTILE: 1},
                    )
                ]
            ),
            id="backtest",
        ),
    ],
)
def test_hostile_names_stay_text(text) -> None:
    page = text()
    parsed = Page(page)
    assert "img" not in {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert len([tag for tag, a in parsed.tags if tag == "script" and "type" not in a]) == 2
    assert "\x1b" not in page
    drawn = json.dumps(parsed.specs)
    assert "<a " not in drawn
    assert "<img" not in drawn


@settings(deadline=None)
@given(text=st.text())
def test_escaped_text_reads_back_as_itself(text: str) -> None:
    parsed = Page(element("p", text, title=text))
    shown = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)
    assert "".join(parsed.text) == shown
    assert parsed.tags[0][1]["title"] == shown
    assert escape(escape(text)) == escape(text)


def test_pages_without_models_windows_or_costs_still_stand() -> None:
    run = fake_run()
    empty = np.empty(0)
    policies = tuple(
        replace(
            policy,
            daily_cost_bps=empty,
            cumulative_regret_bps=empty,
            venue_share=np.empty((0, 3)),
            cost_bps=Interval(mean=np.nan, low=np.nan, high=np.nan),
        )
        for policy in run.policies
    )
    nothing = LatencyHistogram(upper_ns=np.array([1], np.int64), counts=np.zeros(1, np.int64), max_ns=0)
    bare = replace(
        run,
        days=np.empty(0, "datetime64[D]"),
        windows=(),
        policies=policies,
        strategies=(),
        sensitivity=(),
        notes=(),
        recorded=False,
        performance=replace(
            fake_performance(np.random.default_rng(1)), tick_to_order=nothing, stage_seconds={}
        ),
    )
    words = Page(render_run_report(bare)).words
    assert "Simulation on a synthetic market" in words
    assert "This run used no model." in words
    assert "No tick-to-order latency was measured" in words
    assert Page(render_run_report(replace(bare, policies=()))).specs == {}


def test_backtest_page_without_fills_still_stands() -> None:
    quiet = fake_backtest()
    quiet = replace(
        quiet,
        fills=quiet.fills[:0],
        equity=quiet.equity[:0],
        equity_ts_ns=quiet.equity_ts_ns[:0],
        position_lots=quiet.position_lots[:0],
        rejections={},
    )
    assert "No order was refused." in Page(render_backtest_report([quiet])).words


def test_report_of_no_result_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one result"):
        render_backtest_report([])


def test_report_replaces_the_old_one_and_leaves_no_other_file(result: RunResult, tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    assert write_run_report(result, target) == target
    target.write_text("old")
    write_run_report(result, str(target))
    assert target.read_text(encoding="utf-8").endswith("</html>\n")
    assert os.listdir(target.parent) == ["report.html"]


def test_report_is_readable_by_whom_the_umask_allows(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    written = write_backtest_report([fake_backtest()], tmp_path / "report.html")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_on_the_way_leaves_the_old_report(
    step: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(report_files.os, step, fail)
    expected = DataError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_backtest_report([fake_backtest()], target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_kill_between_write_and_rename_leaves_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    rename = os.replace

    def look(source: Path, target: Path) -> None:
        # Whatever stands here is what a kill at this moment would leave behind.
        seen.append([name for name in os.listdir(tmp_path) if not name.startswith(".")])
        rename(source, target)

    monkeypatch.setattr(report_files.os, "replace", look)
    write_backtest_report([fake_backtest()], tmp_path / "report.html")
    assert seen == [[]]


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/report\.html: expected a file that can be written, was "):
        write_run_report(fake_run(), tmp_path / "file" / "report.html")


@pytest.mark.parametrize("module", [formats, markup], ids=lambda module: module.__name__)
def test_examples_in_docstrings_hold(module) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0

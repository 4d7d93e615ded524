"""What every test may rely on: the build in the header, seeds that replay, real recordings or a skip."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import hypothesis
import pytest

ABSENT = "recording absent: "

# A failing example must fail again tomorrow and elsewhere; slow machines are not wrong.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("quick", derandomize=True, deadline=None, max_examples=15)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def recordings_root() -> Path | None:
    """The folder of real recordings, None where there is none."""
    named = os.environ.get("ANYTICK_MARKET_DATA")
    return Path(named) if named and Path(named).is_dir() else None


@pytest.fixture
def market_data(request: pytest.FixtureRequest) -> Path:
    """The folder of real recordings, or the one that the mark ``recording(name)`` names; skips without."""
    root = recordings_root()
    mark = request.node.get_closest_marker("recording")
    if root is None:
        pytest.skip(ABSENT + (mark.args[0] if mark else "ANYTICK_MARKET_DATA"))
    return root / mark.args[0] if mark else root


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("recording"):
        root = recordings_root()
        if root is None or not (root / mark.args[0]).exists():
            pytest.skip(ABSENT + mark.args[0])


def pytest_report_header() -> list[str]:
    from ext.journal import VARIANT
    from ext.layout_info import DEBUG_BUILD

    root = recordings_root()
    return [
        f"extensions: DEBUG_BUILD={DEBUG_BUILD}, crc32c={VARIANT}",
        f"recordings: {root or 'none (ANYTICK_MARKET_DATA)'}",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the truths that nobody checked in this run, by the recording they need."""
    missing: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, found, name = reason.partition(ABSENT)
        if found:
            missing[name].append(report.nodeid)
    if missing:
        terminalreporter.section("truths not checked, their recordings are absent")
        for name in sorted(missing):
            terminalreporter.write_line(f"{name}:")
            for nodeid in sorted(missing[name]):
                terminalreporter.write_line(f"    {nodeid.partition('::')[2].replace('_', ' ')}  ({nodeid})")

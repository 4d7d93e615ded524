from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def recording_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the recording that the test's marker names; skips where it is absent."""
    marker = request.node.get_closest_marker("recording")
    assert marker is not None, "mark the test with recording(name)"
    root = os.environ.get("ANYTICK_MARKET_DATA")
    found = sorted(Path(root).glob(f"{marker.args[0]}*")) if root else []
    if not found:
        pytest.skip(f"recording absent: {marker.args[0]}")
    return found[0]

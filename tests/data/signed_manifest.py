"""A manifest that somebody changed who knows how its digest is made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def resign(path: Path, stored: dict[str, object]) -> None:
    """Write a changed manifest with a digest that fits it, as an attacker would."""
    del stored["sha256"]
    behind = '",' + json.dumps(stored)[1:]
    path.write_text('{"sha256": "' + hashlib.sha256(behind.encode()).hexdigest() + behind)

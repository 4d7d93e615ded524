"""The suite: every scenario, run by name, as one JSON document."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from data.errors import ConfigError

from .harness import SCENARIOS, VERSION, machine_facts, run_scenario

# Imported for the scenarios that they register: every module named bench_* of this folder.
MODULES: Final = tuple(
    import_module(f"{__package__}.{path.stem}") for path in sorted(Path(__file__).parent.glob("bench_*.py"))
)


def run_suite(
    names: Sequence[str] = (), *, smoke: bool = False, seed: int = 1, list_only: bool = False
) -> dict[str, Any]:
    """Run scenarios and return the document that ``anytick bench`` prints.

    Parameters
    ----------
    names : sequence of str
        Empty runs all.
    smoke : bool
        Tiny sizes: shows that the scenarios work, measures nothing.
    list_only : bool
        Only name the scenarios.

    Returns
    -------
    dict
        JSON types; times in ns per item (throughput) or per call (latency).

    Raises
    ------
    ConfigError
        An unknown name, or full sizes on a debug build.
    CheckFailed
        A scenario gave a wrong answer; nothing is reported.
    """
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise ConfigError(f"scenarios are {', '.join(SCENARIOS)}, was {', '.join(unknown)}")
    chosen = [entry for name, entry in SCENARIOS.items() if not names or name in names]
    if list_only:
        return {"scenarios": [{"name": entry.name, "title": entry.title} for entry in chosen]}
    return {
        "version": VERSION,
        "commit": _commit(),
        "seed": seed,
        "smoke": smoke,
        "machine": machine_facts(),
        "scenarios": [run_scenario(entry, seed=seed, smoke=smoke) for entry in chosen],
    }


def _commit() -> str:
    """Return the checkout's commit, marked when it has changes; ``unknown`` for an installed wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "unknown"
    try:
        found = subprocess.run(
            ("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"),
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()

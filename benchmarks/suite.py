"""The suite: every scenario, run by name, as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from data.errors import ConfigError

from .counters import open_counter
from .harness import (
    PEER_SCENARIOS,
    REPETITIONS,
    SCENARIOS,
    SMOKE_REPETITIONS,
    VERSION,
    Scenario,
    run_scenario,
)
from .limits import machine_limits
from .machine import commit, machine_facts

_HERE: Final = Path(__file__).parent
# Imported for the scenarios that they register: every module named bench_* of this folder.
MODULES: Final = tuple(
    import_module(f"{__package__}.{path.stem}") for path in sorted(_HERE.glob("bench_*.py"))
)


def run_suite(
    names: Sequence[str] = (),
    *,
    smoke: bool = False,
    seed: int = 1,
    list_only: bool = False,
    peers: bool = False,
    instructions: bool = False,
    repetitions: int = REPETITIONS,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run scenarios and return the document that ``anytick bench`` prints.

    Parameters
    ----------
    names : sequence of str
        Scenarios or groups: ``ring`` means ``ring`` and every ``ring-...``. Empty runs all.
    smoke : bool
        Tiny sizes: shows that the scenarios work, measures nothing.
    list_only : bool
        Only name the scenarios.
    peers : bool
        Other people's engines beside ours, instead of our own scenarios. Those that are not installed
        are named under ``missing``.
    instructions : bool
        Also count instructions per item.
    repetitions : int
        Timed passes of a throughput.
    progress : callable, optional
        Called with each scenario's name before it runs.

    Returns
    -------
    dict
        JSON types; times in ns per item (throughput) or per call (latency).

    Raises
    ------
    ConfigError
        An unknown name, full sizes on a debug build, or instructions where nothing counts them.
    CheckFailed
        A scenario gave a wrong answer; nothing is reported.
    """
    chosen = choose(names, peers=peers)
    if list_only:
        return {"scenarios": [{"name": entry.name, "title": entry.title} for entry in chosen]}
    machine, source = machine_facts(), commit()
    limits = machine_limits(smoke=smoke)
    run = {
        "commit": source,
        "build_hash": machine["build_hash"],
        "load_before": machine["load_before"],
        "date": datetime.now(UTC).date().isoformat(),
        "limits": limits,
    }
    found, missing = [], []
    with ExitStack() as stack:
        counter = stack.enter_context(open_counter()) if instructions else None
        for entry in chosen:
            versions = _versions(entry.needs)
            absent = [name for name, number in versions.items() if number is None]
            if absent:
                missing.append({"name": entry.name, "needs": absent})
                continue
            if progress:
                progress(entry.name)
            part = run_scenario(entry, seed=seed, smoke=smoke, repetitions=repetitions, counter=counter)
            found.append(part | {"run": run, "versions": versions})
    return {
        "version": VERSION,
        "commit": source,
        "seed": seed,
        "smoke": smoke,
        "peers": peers,
        "repetitions": SMOKE_REPETITIONS if smoke else repetitions,
        "machine": machine,
        "limits": limits,
        "missing": missing,
        "scenarios": found,
    }


def choose(names: Sequence[str], *, peers: bool) -> list[Scenario]:
    """Return the scenarios that the names or groups mean, in the suite's order.

    Raises
    ------
    ConfigError
        A name that means none.
    """
    if peers:
        for path in sorted((_HERE / "peers").glob("peer_*.py")):
            import_module(f"{__package__}.peers.{path.stem}")
    known = PEER_SCENARIOS if peers else SCENARIOS

    def means(name: str, entry: Scenario) -> bool:
        return entry.name == name or entry.name.startswith(f"{name}-")

    unknown = [name for name in names if not any(means(name, entry) for entry in known.values())]
    if unknown:
        groups = {name.split("-")[0] for name in known}
        near = get_close_matches(unknown[0], {*known, *groups}, n=3, cutoff=0.5)
        meant = f"; near it: {', '.join(near)}" if near else ""
        raise ConfigError(
            f"scenarios are those of anytick bench {'--peers ' if peers else ''}--list, "
            f"was {', '.join(unknown)}{meant}"
        )
    return [entry for entry in known.values() if not names or any(means(name, entry) for name in names)]


def _versions(distributions: Sequence[str]) -> dict[str, str | None]:
    """Return what is installed of them; None for what is not."""
    found: dict[str, str | None] = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found

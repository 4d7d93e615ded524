"""Ladders in the model registry: every rung is a named model, the live versions are the ladder that serves.

A version carries what its manifest said of it, so that the registry alone tells a router everything. Rungs
are promoted one by one or together; either is one switch, which `RegistrySource` brings to a running front.
"""

from __future__ import annotations

import logging
import threading
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from data.errors import AnytickError, DataError

from .ladder import MANIFEST_NAME, SHIPPED, Variant, format_ladder, ladder_of, load_ladder
from .registry import ModelRegistry, ModelState, ModelVersion

_LOG: Final = logging.getLogger("anytick.serving")
_VARIANT: Final = "variant"
_NO_SKILL: Final = "no_skill_score"
_CASCADE: Final = "cascade"
_BY_MARGIN: Final = "score_by_margin"


def stage_ladder(
    registry: ModelRegistry, folder: Path | None = None, *, note: str = ""
) -> tuple[ModelVersion, ...]:
    """Check a ladder and stage every rung of it under its name.

    Parameters
    ----------
    folder : Path, optional
        Holds `ladder.toml`; the ladder of the package when None.
    """
    variants = load_ladder(folder)
    manifest = (SHIPPED if folder is None else Path(folder)) / MANIFEST_NAME
    horizon = tomllib.loads(manifest.read_text(encoding="utf-8"))["horizon"]
    staged = []
    for variant in variants:
        kept = replace(variant, path=Path(f"{variant.sha256}.onnx"))
        rung = format_ladder((kept,), horizon=horizon)
        staged.append(registry.stage(variant.read(), name=variant.name, note=note, rung=rung))
    return tuple(staged)


def live_ladder(registry: ModelRegistry) -> tuple[Variant, ...]:
    """Return the live rungs as a ladder; their files are not read.

    Raises
    ------
    DataError
        No rung is live, or the live ones make no ladder.
    """
    live = [version for version in registry.versions() if version.state is ModelState.LIVE and version.rung]
    if not live:
        raise DataError("a registry must have a live rung to serve from, was none", path=registry.pointer)
    return _ladder(registry, live)


def versions_before(registry: ModelRegistry) -> dict[str, Variant]:
    """Return by name the rungs that a rollback would make live."""
    before = registry.versions_before()
    return {name: _ladder(registry, [version])[0] for name, version in before.items() if version.rung}


def _ladder(registry: ModelRegistry, versions: Sequence[ModelVersion]) -> tuple[Variant, ...]:
    try:
        return _ladder_of_rungs(registry, versions)
    # A rung is text to the registry, which takes any.
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"rungs must be lines of a ladder's manifest, was not: {error!r}", path=registry.pointer
        ) from error


def _ladder_of_rungs(registry: ModelRegistry, versions: Sequence[ModelVersion]) -> tuple[Variant, ...]:
    tables = [tomllib.loads(version.rung) for version in versions]
    horizons = sorted({table["horizon"] for table in tables})
    if len(horizons) > 1:
        raise DataError(f"live rungs must look equally far ahead, was {horizons}", path=registry.pointer)
    rungs: list[dict[str, Any]] = [table[_VARIANT][0] for table in tables]
    for version, rung in zip(versions, rungs, strict=True):
        if (rung["name"], rung["sha256"]) != (version.name, version.sha256):
            # Or another file than the live one would serve.
            told = f"{rung['name']} {rung['sha256']}"
            rule = f"a rung must be of its own version, {version.name} {version.sha256}, was of {told}"
            raise DataError(rule, path=registry.pointer)
    shared = {key: value for key, value in tables[0].items() if key not in (_VARIANT, _CASCADE)}
    cascade = tables[0].get(_CASCADE)
    # Scores by margin hold among rungs that were measured together, by the margins of one of them.
    together = cascade is not None and all(table.get(_CASCADE) == cascade for table in tables)
    if cascade is not None and together and cascade["first"] in [rung["name"] for rung in rungs]:
        shared[_CASCADE] = cascade
    else:
        rungs = [{key: value for key, value in rung.items() if key != _BY_MARGIN} for rung in rungs]
    variants = ladder_of(shared | {_VARIANT: rungs}, registry.path(versions[0]))
    # A new version may have been judged on other days, where no skill scored otherwise.
    no_skill = {table[_VARIANT][0]["name"]: float(table[_NO_SKILL]) for table in tables}
    return tuple(replace(variant, no_skill_score=no_skill[variant.name]) for variant in variants)


class RegistrySource:
    """Brings a registry's switches to a running front, and a front's rollbacks to the registry.

    Examples
    --------
    ::

        source = RegistrySource(ModelRegistry(folder))
        with Front(source.variants, previous=source.previous, source=source) as front:
            ...
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._seen = registry.stamp()
        self.variants = live_ladder(registry)
        self.previous = versions_before(registry)
        self._threads: list[threading.Thread] = []

    def poll(self) -> tuple[tuple[Variant, ...], dict[str, Variant]] | None:
        """Return the live ladder and the versions before where it changed since the last call."""
        stamp = self._registry.stamp()
        if stamp == self._seen:
            return None
        # Whatever is wrong with it now, it is looked at again when it changes.
        self._seen = stamp
        variants, previous = live_ladder(self._registry), versions_before(self._registry)
        if variants == self.variants:
            return None
        self.variants, self.previous = variants, previous
        return variants, previous

    def failed(self, variant: Variant) -> None:
        """Roll the registry back by one version of this name, if the one that failed is still live."""

        def roll_back() -> None:
            try:
                self._registry.rollback(variant.name, failed=variant.sha256)
            except (AnytickError, OSError) as error:
                _LOG.error("%s was not rolled back in the registry: %s", variant.name, error)

        # Its writing is synced to the disk, which may take longer than requests have.
        thread = threading.Thread(target=roll_back, daemon=True)
        thread.start()
        self._threads = [thread, *(other for other in self._threads if other.is_alive())]

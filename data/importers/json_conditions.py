"""Which messages a stream of a mapping takes: words that must stand at paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .json_mapping import ANYTHING, Conditions
from .json_shapes import at_path, text_of


def holds(message: Any, conditions: Conditions) -> bool:
    """Tell whether each path has one of its words."""
    return next(_others(message, conditions), None) is None


def only_other_word(message: Any, conditions: Conditions) -> str | None:
    """Return the word that alone keeps conditions from holding, None where there are several or none."""
    others = [*_others(message, conditions)]
    return others[0] if len(others) == 1 else None


def _others(message: Any, conditions: Conditions) -> Iterator[str]:
    for path, words in conditions.items():
        found = at_path(message, path)
        word = (text_of(found) or "").lower()
        if word not in words and (found is None or ANYTHING not in words):
            yield word

"""Reading a small TOML file that a user wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from .errors import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """Return a file's tables.

    Raises
    ------
    ConfigError
        The file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be read, was: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected TOML, was: {error}") from error

"""Files that a user names: that they are there, and small ones of TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from .errors import ConfigError, DataError


def require_file(path: Path) -> None:
    """Refuse what is no file.

    Raises
    ------
    DataError
        There is nothing, a folder, or what has no end: a pipe or a device.
    """
    if path.is_file():
        return
    is_there = path.exists()
    found = ", was a folder" if path.is_dir() else ", was a pipe or a device" if is_there else ""
    raise DataError(f"expected an existing file{found}", path=path)


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

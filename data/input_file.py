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
        There is nothing, or a folder.
    """
    if not path.is_file():
        raise DataError(f"expected an existing file{', was a folder' if path.is_dir() else ''}", path=path)


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

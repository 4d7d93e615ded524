"""A file appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from errno import EISDIR, ENOTDIR
from pathlib import Path

from data.errors import DataError


def write_text_atomically(path: Path, text: str) -> Path:
    """Write `text` as UTF-8 so that `path` never holds a part of it, not even after a kill.

    Parameters
    ----------
    path : Path
        Replaced when it exists; missing parent folders are made.
    text : str

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    DataError
        The place cannot be written.
    """
    # Same folder as the target, because a rename is only atomic within one file system.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its 0600 would outlive the rename and hide the report from colleagues.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with open(descriptor, "w", encoding="utf-8", newline="\n") as sink:
            sink.write(text)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise DataError(f"expected a file that can be written, was {error.strerror}", path=path) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return path


def require_writable(path: Path) -> None:
    """Raise now what `write_text_atomically` would raise after the work whose result it shall keep.

    Raises
    ------
    DataError
        The place cannot be written.
    """
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        if path.parent.is_file():
            raise NotADirectoryError(ENOTDIR, f"{os.strerror(ENOTDIR)}: {path.parent}")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        probe.unlink()
    except OSError as error:
        raise DataError(f"expected a file that can be written, was {error.strerror}", path=path) from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Reading a model's bytes from a file."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from .errors import ModelError
from .graph import GraphLimits


def read_model(path: Path, *, sha256: str | None = None, limits: GraphLimits | None = None) -> bytes:
    """Return the bytes of a file that is small enough to be a model.

    Parameters
    ----------
    path : Path
    sha256 : str, optional
        The digest, in hexadecimal, that the bytes must have.
    limits : GraphLimits, optional

    Raises
    ------
    ModelError
        The file cannot be read, is no regular one, is too large, or has another digest.
    """
    bytes_max = (limits or GraphLimits()).model_bytes_max
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            # A device has no end.
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ModelError("a model must be a regular file, was none", source=path)
            model = stream.read(bytes_max + 1)
    except OSError as error:
        raise ModelError(
            f"a model must be a readable file, was not: {error.strerror}", source=path
        ) from error
    if len(model) > bytes_max:
        raise ModelError(f"a model must hold at most {bytes_max} bytes, was more", source=path)
    if sha256 is not None and (found := hashlib.sha256(model).hexdigest()) != sha256:
        raise ModelError(f"SHA-256 must be {sha256}, was {found}", source=path)
    return model


def _open_at_once(path: str, flags: int) -> int:
    # A pipe would be waited for.
    return os.open(path, flags | os.O_NONBLOCK)

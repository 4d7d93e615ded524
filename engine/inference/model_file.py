"""Reading a model's bytes from a file."""

from __future__ import annotations

import hashlib
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
        The file cannot be read, is too large, or has another digest.
    """
    bytes_max = (limits or GraphLimits()).model_bytes_max
    try:
        size = path.stat().st_size
        if size > bytes_max:
            raise ModelError(f"a model must hold at most {bytes_max} bytes, was {size}", source=path)
        model = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"a model must be a readable file, was not: {error.strerror}", source=path
        ) from error
    if sha256 is not None and (found := hashlib.sha256(model).hexdigest()) != sha256:
        raise ModelError(f"SHA-256 must be {sha256}, was {found}", source=path)
    return model

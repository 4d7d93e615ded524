"""Which of the sessions runs a model: the fastest that can.

| Tier | Runs | Cost of a call beyond the arithmetic |
|---|---|---|
| `kernel` | small dense networks, `engine/inference/dense.py` | tens of ns |
| `python` | everything else, `engine/inference/session.py` | about 3 µs, and the interpreter |
"""

from __future__ import annotations

from os import PathLike

from .dense import DenseSession
from .errors import KernelUnsupported
from .graph import ALLOWED_OPERATORS, GraphLimits
from .session import InferenceSession, OrtSession


def open_session(
    model: bytes,
    *,
    source: str | PathLike[str] = "model",
    expected_sha256: str | None = None,
    limits: GraphLimits | None = None,
    allowed: frozenset[str] = ALLOWED_OPERATORS,
) -> InferenceSession:
    """Open a model on the first tier that covers it.

    Which one it became is told by the session's `runtime`. Our kernels give equal bits on every machine,
    ONNX Runtime's may differ between CPU families; a run says which ran.

    Parameters
    ----------
    source : path-like
        Named in errors.

    Raises
    ------
    ModelError
        The bytes are unreadable, refused (`ModelRefused`), or fail when run.

    """
    try:
        return DenseSession.from_bytes(
            model, source=source, expected_sha256=expected_sha256, limits=limits, allowed=allowed
        )
    except KernelUnsupported:
        pass
    return OrtSession.from_bytes(
        model, source=source, expected_sha256=expected_sha256, limits=limits, allowed=allowed
    )

"""Which of the sessions runs a model: the fastest that can, and a warning where one is missing.

| Tier | Runs | Cost of a call beyond the arithmetic |
|---|---|---|
| `kernel` | small dense networks, `engine/inference/dense.py` | tens of ns |
| `capi` | everything else, `engine/inference/capi.py` | about 2 µs |
| `python` | the same, without the runtime's library, `session.py` | about 3 µs, and the interpreter |
"""

from __future__ import annotations

import warnings
from os import PathLike
from typing import Final

from .capi import CapiSession
from .dense import DenseSession
from .dense_graph import WEIGHTS_MAX
from .errors import KernelUnsupported, RuntimeUnavailable
from .graph import ALLOWED_OPERATORS, GraphLimits
from .session import InferenceSession, OrtSession

BATCH_WEIGHTS_MAX: Final = 1 << 13
"""Our kernels answer a batch row by row; with more weights than these ONNX Runtime's blocked products win."""


def open_session(
    model: bytes,
    *,
    source: str | PathLike[str] = "model",
    expected_sha256: str | None = None,
    limits: GraphLimits | None = None,
    allowed: frozenset[str] = ALLOWED_OPERATORS,
    batch_max: int = 64,
) -> InferenceSession:
    """Open a model on the first tier that covers it.

    Which one it became is told by the session's `runtime`. Our kernels give equal bits on every machine,
    ONNX Runtime's may differ between CPU families; a run says which ran.

    Parameters
    ----------
    source : path-like
        Named in errors.
    batch_max : int
        Inputs to be answered at once, at most; 1 in the loop. It decides between the tiers, more are
        answered too.

    Raises
    ------
    ModelError
        The bytes are unreadable, refused (`ModelRefused`), or fail when run.

    Warns
    -----
    RuntimeWarning
        The graph needs ONNX Runtime and its C interface cannot be used here.

    """
    try:
        return DenseSession.from_bytes(
            model,
            source=source,
            expected_sha256=expected_sha256,
            limits=limits,
            allowed=allowed,
            weights_max=WEIGHTS_MAX if batch_max == 1 else BATCH_WEIGHTS_MAX,
        )
    except KernelUnsupported:
        pass
    try:
        return CapiSession.from_bytes(
            model,
            source=source,
            expected_sha256=expected_sha256,
            limits=limits,
            allowed=allowed,
            batch_max=batch_max,
        )
    except RuntimeUnavailable as missing:
        warnings.warn(f"models run through ONNX Runtime's Python binding: {missing}", RuntimeWarning, 2)
    return OrtSession.from_bytes(
        model, source=source, expected_sha256=expected_sha256, limits=limits, allowed=allowed
    )

"""The errors of this package, under the one root of `data.errors`.

ModelError              a model, its file or its training sample breaks a rule
├── ModelRefused        the bytes are an ONNX graph, but not one we run
├── KernelUnsupported   the graph is sound, but our own kernels do not cover it; ONNX Runtime may
├── RuntimeUnavailable  ONNX Runtime's C interface cannot be used here; its Python binding may
└── NotLearnable        the sample cannot teach a classifier anything; expected on thin windows
"""

from __future__ import annotations

from os import PathLike, fspath

from data.errors import AnytickError


class ModelError(AnytickError):
    """A model, its file or its training sample breaks a rule.

    Parameters
    ----------
    rule : str
        What was expected, ending in ``was {value}``.
    source : path-like
        The file, or a label such as ``"window 3"`` for what never was a file.
    row : int, optional
        Zero-based row of the sample, where one is to blame.
    """

    def __init__(self, rule: str, *, source: str | PathLike[str], row: int | None = None) -> None:
        place = fspath(source) if row is None else f"{fspath(source)}:row {row}"
        super().__init__(f"{place}: {rule}")
        self.rule, self.source, self.row = rule, fspath(source), row


class ModelRefused(ModelError):
    """The bytes are an ONNX graph, but not one we run."""


class KernelUnsupported(ModelError):
    """The graph is sound, but our own kernels do not cover it; ONNX Runtime may run it."""


class RuntimeUnavailable(ModelError):
    """ONNX Runtime's library is missing, of another version or lacks what we call."""


class NotLearnable(ModelError):
    """The sample is too small, or holds one class or no varying feature."""

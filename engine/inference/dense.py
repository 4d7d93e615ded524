"""A session on our own kernels: small networks, a few hundred ns a call, equal bits on every machine."""

from __future__ import annotations

from os import PathLike

import numpy as np

from ext.dense_kernel import DenseKernel
from ext.signal_source import SignalSource

from .arrays import Floats32
from .dense_graph import WEIGHTS_MAX, compile_graph
from .graph import ALLOWED_OPERATORS, GraphLimits, GraphSummary, check_graph, parse_model
from .session import GraphSession, check_digest, check_row, check_rows, rehearse


class DenseSession(GraphSession):
    """An `InferenceSession` on `ext.dense_kernel`.

    Rows of a batch are answered one after another, so an answer never depends on its neighbours, also
    where ONNX Runtime would quantize a batch by its common range.

    Examples
    --------
    >>> DenseSession.from_bytes(b"not a model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    engine.inference.errors.ModelError: model: a model must be readable as ONNX, was not: ...
    """

    def __init__(self, kernel: DenseKernel, summary: GraphSummary) -> None:
        self.summary = summary
        self.kernel = kernel

    @classmethod
    def from_bytes(
        cls,
        model: bytes,
        *,
        source: str | PathLike[str] = "model",
        expected_sha256: str | None = None,
        limits: GraphLimits | None = None,
        allowed: frozenset[str] = ALLOWED_OPERATORS,
        variant: str | None = None,
        weights_max: int = WEIGHTS_MAX,
    ) -> DenseSession:
        """Check a model against the allow-list, build its kernel and try it once.

        Parameters
        ----------
        source : path-like
            Named in errors.
        variant : str, optional
            One of `ext.dense_kernel.variants`; the fastest by default.
        weights_max : int
            A larger network is not covered.

        Raises
        ------
        KernelUnsupported
            The graph holds something the kernels do not cover.
        ModelError
            The bytes are unreadable, refused (`ModelRefused`), or fail when run.
        """
        summary = check_graph(model, source=source, limits=limits, allowed=allowed)
        check_digest(summary, expected_sha256, source=source)
        parsed = parse_model(model, source=source, limits=limits)
        compiled = compile_graph(parsed, source=source, variant=variant, weights_max=weights_max)
        session = cls(compiled.kernel, summary)
        rehearse(session, source=source)
        return session

    @property
    def abstentions(self) -> int:
        """How many forecasts had no finite answer."""
        return self.kernel.abstentions

    @property
    def runtime(self) -> str:
        """``"kernel"`` and the instruction set; every set gives the same bits."""
        return f"kernel {self.kernel.variant}"

    @property
    def source(self) -> SignalSource:
        """The compiled contract."""
        return self.kernel

    def probabilities(self, features: Floats32) -> Floats32:
        """Return P(down), P(flat), P(up) of every row, NaN where a feature is not finite."""
        check_rows(self, features)
        return self.kernel.run(features.reshape(len(features), self.kernel.feature_count))

    def signal(self, features: Floats32) -> float:
        """Return P(up) − P(down) in [−1, 1]; 0.0 and counted where that is not finite."""
        check_row(self, features)
        return self.kernel.forecast(np.ascontiguousarray(features, np.float32).reshape(-1))

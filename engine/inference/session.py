"""What a session is, and the one that runs everywhere: ONNX Runtime through its Python binding.

`tiers.open_session` prefers our own kernels (`dense`), then the runtime's C interface (`capi`); this
one remains for machines without the library, and for tools that need the runtime's Python objects.

Hot path: one row is copied into a buffer that the runtime was bound to once, run, and read back from
another bound buffer. Nothing is allocated by us beyond Python floats. Measured on the 16-32-16-3
network, p50 of a call: `run(None, {...})` 5.0 µs, bound buffers 3.3 µs (arena off, memory pattern on;
arena on is 0.05 µs slower, spinning, prepacking and denormals change nothing for one thread).

A session is used by one thread. Two threads on one session are slower than one (the runtime locks),
so every worker opens its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from math import isfinite
from os import PathLike
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort

from ext.signal_source import SessionSignal, SignalSource

from .arrays import Floats32
from .errors import ModelError
from .graph import ALLOWED_OPERATORS, CLASS_COUNT, GraphLimits, GraphSummary, check_graph

ABSTAIN = 0.0
"""The signal of a model that has no opinion."""


class InferenceSession(Protocol):
    """A loaded three-class classifier of the next price move: down, flat, up."""

    @property
    def feature_count(self) -> int:
        """Width of a feature row."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one input: (feature_count,) or (window, feature_count)."""

    @property
    def precision(self) -> str:
        """``"fp32"`` or ``"int8"``."""

    @property
    def sha256(self) -> str:
        """Digest of the model file, hexadecimal."""

    @property
    def abstentions(self) -> int:
        """How many calls of `signal` had no finite answer."""

    @property
    def runtime(self) -> str:
        """What computes the answers, for run facts; answers may differ in the last bits between two."""

    @property
    def source(self) -> SignalSource:
        """The compiled contract: what an event loop calls once per decision."""

    def probabilities(self, features: Floats32) -> Floats32:
        """Return P(down), P(flat), P(up) of every row.

        Parameters
        ----------
        features : array of float32, shape (n, feature_count) or (n, window, feature_count)

        Returns
        -------
        array of float32, shape (n, 3)
            NaN in the rows whose features are not all finite.
        """

    def signal(self, features: Floats32) -> float:
        """Return P(up) − P(down) in [−1, 1]; 0.0 and counted where that is not finite.

        Parameters
        ----------
        features : array of float32, shape (feature_count,) or (window, feature_count)
        """


class GraphSession:
    """What a session tells of the graph that it runs."""

    summary: GraphSummary

    @property
    def feature_count(self) -> int:
        """Width of a feature row."""
        return self.summary.feature_count

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one input: (feature_count,) or (window, feature_count)."""
        return self.summary.row_shape

    @property
    def precision(self) -> str:
        """``"fp32"`` or ``"int8"``."""
        return self.summary.precision

    @property
    def sha256(self) -> str:
        """Digest of the model file, hexadecimal."""
        return self.summary.sha256


class OrtSession(GraphSession):
    """An `InferenceSession` on ONNX Runtime, one thread, CPU.

    Examples
    --------
    >>> OrtSession.from_bytes(b"not a model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    engine.inference.errors.ModelError: model: a model must be readable as ONNX, was not: ...
    """

    def __init__(self, session: ort.InferenceSession, summary: GraphSummary) -> None:
        self.summary = summary
        self.abstentions = 0
        self._session = session
        # Bound by address: both arrays must live, unmoved, as long as the binding.
        self._inputs = np.zeros((1, *summary.row_shape), np.float32)
        self._outputs = np.zeros((1, CLASS_COUNT), np.float32)
        self._row = self._inputs[0]
        self._row_view = self._inputs.reshape(-1).data
        self._output_view = memoryview(self._outputs[0])
        self._binding = session.io_binding()
        self._binding.bind_input(
            summary.input_name, "cpu", 0, np.float32, self._inputs.shape, self._inputs.ctypes.data
        )
        self._binding.bind_output(
            summary.output_name, "cpu", 0, np.float32, self._outputs.shape, self._outputs.ctypes.data
        )
        self._run_bound = session.run_with_iobinding

    @classmethod
    def from_bytes(
        cls,
        model: bytes,
        *,
        source: str | PathLike[str] = "model",
        expected_sha256: str | None = None,
        limits: GraphLimits | None = None,
        allowed: frozenset[str] = ALLOWED_OPERATORS,
    ) -> OrtSession:
        """Check a model against the allow-list, load it and try it once.

        Parameters
        ----------
        source : path-like
            Named in errors.
        expected_sha256 : str, optional
            Refuse any other bytes. Without it, damage inside the weights cannot be told from weights.

        Raises
        ------
        ModelError
            The bytes are unreadable, refused (`ModelRefused`), or fail when run.
        """
        summary = check_graph(model, source=source, limits=limits, allowed=allowed)
        check_digest(summary, expected_sha256, source=source)
        session = cls(_open(model, _options(), source=source), summary)
        rehearse(session, source=source)
        return session

    @property
    def runtime(self) -> str:
        """``"onnxruntime"``, its version and the interface."""
        return f"onnxruntime {runtime_version()} python"

    @property
    def source(self) -> SignalSource:
        """The compiled contract; enters the interpreter for every forecast."""
        return SessionSignal(self)

    def probabilities(self, features: Floats32) -> Floats32:
        """Return P(down), P(flat), P(up) of every row, NaN where a feature is not finite."""
        check_rows(self, features)
        if not len(features):
            return np.empty((0, CLASS_COUNT), np.float32)
        rows = np.ascontiguousarray(features, np.float32)
        result: Floats32 = self._session.run([self.summary.output_name], {self.summary.input_name: rows})[0]
        # Clipping and quantizing turn NaN and infinity into ordinary numbers; a bad input must not
        # come out as an opinion.
        result[~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)] = np.nan
        return result

    def signal(self, features: Floats32) -> float:
        """Return P(up) − P(down) in [−1, 1]; 0.0 and counted where that is not finite."""
        check_row(self, features)
        self._row[:] = features
        # A Python sum over sixteen floats takes 0.2 µs, numpy's isfinite().all() 1.0 µs. Float32 values
        # cannot overflow a double, so the sum is finite exactly when every feature is.
        if isfinite(sum(self._row_view)):
            self._run_bound(self._binding)
            down, _, up = self._output_view
            signal: float = up - down
            if isfinite(signal):
                return signal
        self.abstentions += 1
        return ABSTAIN


def plain_session(
    model: bytes, *, source: str | PathLike[str] = "model"
) -> tuple[GraphSummary, Callable[[Floats32], Floats32]]:
    """Open a model as one writes it first: ONNX Runtime's default options, `run(None, …)`.

    The defaults give a session a thread per core. What serves uses `tiers.open_session`; this is what it is
    compared with.

    Returns
    -------
    summary : GraphSummary
    ask : callable
        From rows to probabilities; any thread may call it, whenever it likes.

    Raises
    ------
    ModelError
        As for `OrtSession.from_bytes`.
    """
    summary = check_graph(model, source=source)
    session, name = _open(model, ort.SessionOptions(), source=source), summary.input_name

    def ask(rows: Floats32) -> Floats32:
        answer: Floats32 = session.run(None, {name: rows})[0]
        return answer

    ask(np.zeros((1, *summary.row_shape), np.float32))
    return summary, ask


def source_of(session: InferenceSession) -> SignalSource:
    """Return a session's compiled contract; one that brings none is called with the GIL."""
    found = getattr(session, "source", None)
    return found if isinstance(found, SignalSource) else SessionSignal(session)


def check_rows(session: InferenceSession, features: Floats32) -> None:
    """Refuse a batch of another shape than (n, ...row_shape)."""
    if features.ndim < 2 or features.shape[1:] != session.row_shape:
        expected = f"(n, {', '.join(map(str, session.row_shape))})"
        raise ModelError(f"features must have shape {expected}, was {features.shape}", source=session.sha256)


def check_row(session: InferenceSession, features: Floats32) -> None:
    """Refuse an input of another shape than `row_shape`."""
    if features.shape != session.row_shape:
        rule = f"features must have shape {session.row_shape}, was {features.shape}"
        raise ModelError(rule, source=session.sha256)


def check_digest(summary: GraphSummary, expected_sha256: str | None, *, source: str | PathLike[str]) -> None:
    """Refuse bytes other than the expected ones."""
    if expected_sha256 is not None and summary.sha256 != expected_sha256:
        raise ModelError(f"SHA-256 must be {expected_sha256}, was {summary.sha256}", source=source)


def rehearse(session: InferenceSession, *, source: str | PathLike[str]) -> None:
    """Run one row of zeros: a graph that cannot run or gives no probabilities is refused at load."""
    try:
        answer = session.probabilities(np.zeros((1, *session.row_shape), np.float32))
    except Exception as error:
        raise ModelError(f"a model must run, was refused: {error}", source=source) from error
    is_distribution = bool((answer >= 0.0).all()) and abs(float(answer.sum()) - 1.0) < 1e-3
    if answer.shape != (1, CLASS_COUNT) or not is_distribution:
        raise ModelError(f"outputs must be probabilities, was {answer.tolist()}", source=source)


def runtime_version() -> str:
    """Return the version of ONNX Runtime."""
    return str(ort.__version__)


def fused_operators(model: bytes, *, source: str | PathLike[str] = "model") -> tuple[str, ...]:
    """Return the operators that really run, in order, after ONNX Runtime fused the graph.

    This tells whether a quantized layer became one integer kernel or remained a float layer between
    conversions.
    """
    check_graph(model, source=source)
    with tempfile.TemporaryDirectory(prefix="anytick-") as folder:
        path = os.path.join(folder, "fused.onnx")
        options = _options()
        options.optimized_model_filepath = path
        _open(model, options, source=source)
        return tuple(node.op_type for node in onnx.load_model(path).graph.node)


def _options() -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = True
    options.log_severity_level = 4
    return options


def _open(model: bytes, options: Any, *, source: str | PathLike[str]) -> Any:
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime raises one unrelated class per status code.
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime must accept the model, was refused: {error}", source=source
        ) from error

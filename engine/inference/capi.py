"""A session on ONNX Runtime's C interface: every model of the allow-list, no interpreter in a run.

The library is the one inside the installed ``onnxruntime`` wheel. It is opened beside the Python
binding, which carries a copy of its own, and its version must be the wheel's: two versions could
answer differently.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import numpy as np

from ext.ort_capi import OrtError, OrtKernel, OrtLibrary
from ext.signal_source import SignalSource

from .arrays import Floats32
from .errors import ModelError, RuntimeUnavailable
from .graph import ALLOWED_OPERATORS, CLASS_COUNT, GraphLimits, GraphSummary, check_graph
from .session import GraphSession, check_digest, check_row, check_rows, rehearse

_LIBRARY_PATTERNS = ("libonnxruntime.so.*", "libonnxruntime.*.dylib")


class CapiSession(GraphSession):
    """An `InferenceSession` on `ext.ort_capi`; one thread, CPU.

    Examples
    --------
    >>> CapiSession.from_bytes(b"not a model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    engine.inference.errors.ModelError: model: a model must be readable as ONNX, was not: ...
    """

    def __init__(self, kernel: OrtKernel, summary: GraphSummary) -> None:
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
        batch_max: int = 16,
    ) -> CapiSession:
        """Check a model against the allow-list, load it and try it once.

        Parameters
        ----------
        source : path-like
            Named in errors.
        batch_max : int
            Inputs that one run can answer; tensors for every number of them are made here, none later.

        Raises
        ------
        RuntimeUnavailable
            There is no ONNX Runtime library that can be used.
        ModelError
            The bytes are unreadable, refused (`ModelRefused`), or fail when run.
        """
        summary = check_graph(model, source=source, limits=limits, allowed=allowed)
        check_digest(summary, expected_sha256, source=source)
        library = runtime_library()
        try:
            kernel = OrtKernel(
                library,
                model,
                input_name=summary.input_name,
                output_name=summary.output_name,
                row_shape=summary.row_shape,
                output_width=CLASS_COUNT,
                batch_max=batch_max,
            )
        except OrtError as error:
            raise ModelError(
                f"ONNX Runtime must accept the model, was refused: {error}", source=source
            ) from error
        session = cls(kernel, summary)
        rehearse(session, source=source)
        return session

    @property
    def abstentions(self) -> int:
        """How many forecasts had no finite answer."""
        return self.kernel.abstentions

    @property
    def runtime(self) -> str:
        """``"onnxruntime"``, its version and the interface."""
        return f"onnxruntime {runtime_library().version} c"

    @property
    def source(self) -> SignalSource:
        """The compiled contract."""
        return self.kernel

    def probabilities(self, features: Floats32) -> Floats32:
        """Return P(down), P(flat), P(up) of every row, NaN where a feature is not finite."""
        answer = self.probabilities_until(features, deadline_ns=0)
        assert answer is not None, "a run without a deadline is never late"
        return answer

    def probabilities_until(self, features: Floats32, *, deadline_ns: int) -> Floats32 | None:
        """Return the probabilities, or None when they could not be had in time.

        Parameters
        ----------
        features : array of float32, shape (n, feature_count) or (n, window, feature_count)
            Runs of at most `batch_max` inputs, one after another.
        deadline_ns : int
            On the clock of `time.monotonic_ns`; the run under way then is stopped. 0 has none.

        Raises
        ------
        ModelError
            The run failed; the session stays usable.
        """
        check_rows(self, features)
        kernel, count = self.kernel, len(features)
        answer = np.empty((count, CLASS_COUNT), np.float32)
        for first in range(0, count, kernel.batch_max):
            part = features[first : first + kernel.batch_max]
            kernel.inputs[: len(part)] = part
            # Clipping and quantizing turn NaN and infinity into ordinary numbers; a bad input must not
            # come out as an opinion.
            fit = np.isfinite(kernel.inputs[: len(part)].reshape(len(part), -1)).all(axis=1)
            try:
                in_time = kernel.run(len(part), deadline_ns=deadline_ns)
            except OrtError as error:
                raise ModelError(f"a model must run, was refused: {error}", source=self.sha256) from error
            if not in_time:
                return None
            answer[first : first + len(part)] = kernel.outputs[: len(part)]
            answer[first : first + len(part)][~fit] = np.nan
        return answer

    def signal(self, features: Floats32) -> float:
        """Return P(up) − P(down) in [−1, 1]; 0.0 and counted where that is not finite."""
        check_row(self, features)
        return self.kernel.forecast(np.ascontiguousarray(features, np.float32).reshape(-1))


@cache
def runtime_library() -> OrtLibrary:
    """Open the installed ONNX Runtime's library, once per process.

    Raises
    ------
    RuntimeUnavailable
        It is not installed, ships no library, or its library is of another version or too old.
    """
    try:
        installed, found = version("onnxruntime"), find_spec("onnxruntime")
    except PackageNotFoundError:
        raise RuntimeUnavailable("onnxruntime must be installed, was not", source="onnxruntime") from None
    folders = [Path(place) / "capi" for place in (found.submodule_search_locations or ())] if found else []
    paths = sorted(path for folder in folders for name in _LIBRARY_PATTERNS for path in folder.glob(name))
    if not paths:
        rule = f"the wheel must hold {' or '.join(_LIBRARY_PATTERNS)}, was none in {list(map(str, folders))}"
        raise RuntimeUnavailable(rule, source="onnxruntime")
    try:
        return OrtLibrary(str(paths[0]), installed)
    except (OSError, OrtError) as error:
        rule = f"ONNX Runtime's library must be usable, was not: {error}"
        raise RuntimeUnavailable(rule, source=paths[0]) from error

"""From one training window to a model that may run: fit, export, quantize, compare, choose.

Time order of the rows, each gap `config.purge_rows` wide:

    | fit: sets the weights | gap | tail: chooses the epoch | gap | held back: FP32 against INT8 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats32, checked_features
from .classifier import TrainingConfig, fit_move_classifier, label_moves, move_threshold
from .errors import ModelError, NotLearnable
from .evaluate import Comparison, ModelGate, compare
from .export import to_onnx
from .profile import ModelProfile
from .quantize import quantize_static_int8
from .session import InferenceSession
from .tiers import open_session

HELD_BACK_SHARE: Final = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowModel:
    """The models of one training window, and the evidence for the one that runs.

    Parameters
    ----------
    threshold_ticks : float
        Moves up to this size were labelled flat.
    rows, rows_unlabelled, rows_fit, rows_tail, rows_held_back : int
        Given; without a future mid; and in each part.
    class_counts : tuple of int
        Down, flat, up in the fit.
    fp32_model, int8_model : bytes
        ONNX files.
    fp32, int8 : InferenceSession
        Of this process and thread; another worker opens its own from the bytes.
    gate_failures : tuple of str
        Why INT8 may not run; empty when it may.
    """

    window_label: str
    feature_names: tuple[str, ...]
    seed: int
    threshold_ticks: float
    rows: int
    rows_unlabelled: int
    rows_fit: int
    rows_tail: int
    rows_held_back: int
    class_counts: tuple[int, int, int]
    epochs: int
    comparison: Comparison
    gate_failures: tuple[str, ...]
    fp32_model: bytes = field(repr=False)
    int8_model: bytes = field(repr=False)
    fp32: InferenceSession = field(repr=False)
    int8: InferenceSession = field(repr=False)

    @property
    def session(self) -> InferenceSession:
        """INT8, or FP32 where INT8 failed the gate; `choice` also asks which is faster."""
        return self.fp32 if self.gate_failures else self.int8

    def choice(self, profile: ModelProfile) -> tuple[str, str]:
        """Return the precision to run, ``"fp32"`` or ``"int8"``, and the reason in words.

        Parameters
        ----------
        profile : ModelProfile
            Stored, so that the choice repeats on every machine.
        """
        if self.gate_failures:
            return "fp32", f"INT8 failed its gate: {', '.join(self.gate_failures)}"
        chosen = profile.faster_precision()
        other = "fp32" if chosen == "int8" else "int8"
        if other not in profile.latency:
            return chosen, f"the profile covers {chosen.upper()} alone"
        times = f"{profile.latency_ns(chosen):,} ns, {other.upper()} {profile.latency_ns(other):,} ns"
        return chosen, f"in the stored profile {chosen.upper()} takes {times}"


def train_window(
    features: NDArray[np.floating[Any]],
    mid_changes: NDArray[np.floating[Any]],
    *,
    seed: int,
    feature_names: Sequence[str],
    window_label: str,
    config: TrainingConfig | None = None,
    gate: ModelGate | None = None,
) -> WindowModel | None:
    """Fit, export, quantize and compare a classifier on the rows of one training window.

    Parameters
    ----------
    features : array of float32, shape (n, d)
        In time order, finite.
    mid_changes : array, shape (n,)
        Mid at the label horizon minus mid now, in ticks; NaN where the window ends before the horizon.
    window_label : str
        Written into the model and named in errors.

    Returns
    -------
    WindowModel or None
        None when the window cannot teach: too few rows, one class, or constant features. A window that
        teaches little still gives a model; its comparison says how little.
    """
    config, gate = config or TrainingConfig(), gate or ModelGate()
    rows, changes = _labelled(features, mid_changes, source=window_label)
    held_back = round(len(rows) * HELD_BACK_SHARE)
    learn = len(rows) - held_back - config.purge_rows
    if held_back < 1 or learn < config.rows_min:
        return None

    threshold = move_threshold(changes[:learn])
    labels = label_moves(changes, threshold=threshold)
    try:
        fitted = fit_move_classifier(
            rows[:learn], labels[:learn], seed=seed, config=config, source=window_label
        )
    except NotLearnable:
        return None
    fp32_model = to_onnx(
        fitted, feature_names=feature_names, training_window=window_label, threshold_ticks=threshold
    )
    int8_model = quantize_static_int8(fp32_model, rows[: fitted.rows_fit], source=window_label)
    fp32 = open_session(fp32_model, source=f"{window_label} fp32", batch_max=1)
    int8 = open_session(int8_model, source=f"{window_label} int8", batch_max=1)
    comparison = compare(fp32, int8, rows[-held_back:], labels[-held_back:])
    return WindowModel(
        window_label=window_label,
        feature_names=tuple(feature_names),
        seed=seed,
        threshold_ticks=threshold,
        rows=len(features),
        rows_unlabelled=len(features) - len(rows),
        rows_fit=fitted.rows_fit,
        rows_tail=fitted.rows_tail,
        rows_held_back=held_back,
        class_counts=fitted.class_counts,
        epochs=fitted.epochs,
        comparison=comparison,
        gate_failures=gate.failures(comparison),
        fp32_model=fp32_model,
        int8_model=int8_model,
        fp32=fp32,
        int8=int8,
    )


def _labelled(
    features: NDArray[np.floating[Any]], mid_changes: NDArray[np.floating[Any]], *, source: str
) -> tuple[Floats32, NDArray[np.float64]]:
    """Check both arrays and return the rows that have a future, still in time order."""
    rows = checked_features(features, source=source)
    changes = np.asarray(mid_changes, np.float64)
    if changes.shape != (len(rows),):
        raise ModelError(f"there must be {len(rows)} mid changes, was {changes.shape}", source=source)
    if np.isinf(changes).any():
        row = int(np.argmax(np.isinf(changes)))
        rule = f"a mid change must not be infinite, was {changes[row]}"
        raise ModelError(rule, source=source, row=row)
    labelled = ~np.isnan(changes)
    return rows[labelled], changes[labelled]

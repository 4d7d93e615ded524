"""Whether the quantized model may stand in for the float one, judged on rows neither has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError

from .arrays import Floats32, Labels
from .classifier import DOWN, UP, log_loss
from .errors import ModelError
from .graph import CLASS_COUNT
from .session import InferenceSession


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """FP32 and INT8 on the same held-back rows.

    Parameters
    ----------
    accuracy_majority : float
        Of always naming the class most frequent in these very rows, the best constant answer there is.
    log_loss_majority : float
        Of always answering these rows' own class frequencies; nats, as the other log-losses.
    agreement : float
        Share of rows where both name the same class.
    mean_abs_difference, max_abs_difference : float
        Of the signals P(up) − P(down).
    mean_abs_signal : float
        Of FP32; what the differences are to be read against.
    abstentions_fp32, abstentions_int8 : int
        Rows without finite probabilities; they count as wrong and as disagreeing.
    """

    samples: int
    accuracy_fp32: float
    accuracy_int8: float
    accuracy_majority: float
    agreement: float
    mean_abs_difference: float
    max_abs_difference: float
    mean_abs_signal: float
    log_loss_fp32: float
    log_loss_int8: float
    log_loss_majority: float
    abstentions_fp32: int
    abstentions_int8: int

    @property
    def skill(self) -> float:
        """Share of the log-loss of class frequencies that FP32 removes; at or below 0 it knows nothing."""
        if self.log_loss_majority == 0.0:
            return 0.0
        return 1.0 - self.log_loss_fp32 / self.log_loss_majority


def compare(fp32: InferenceSession, int8: InferenceSession, features: Floats32, labels: Labels) -> Comparison:
    """Run both models over held-back rows.

    Parameters
    ----------
    features : array of float32, shape (n, d)
    labels : array of int, shape (n,)
        0 down, 1 flat, 2 up.
    """
    if not len(labels) or labels.shape != (len(features),):
        raise ModelError(
            f"there must be one label a row and at least one row, was {labels.shape} for {features.shape}",
            source="comparison",
        )
    exact, rounded = fp32.probabilities(features), int8.probabilities(features)
    exact_class, rounded_class = _classes(exact), _classes(rounded)
    exact_signal, rounded_signal = exact[:, UP] - exact[:, DOWN], rounded[:, UP] - rounded[:, DOWN]
    difference = np.abs(exact_signal - rounded_signal).astype(np.float64)
    frequency = np.bincount(labels, minlength=CLASS_COUNT) / len(labels)
    present = frequency[frequency > 0.0]
    return Comparison(
        samples=len(labels),
        accuracy_fp32=float((exact_class == labels).mean()),
        accuracy_int8=float((rounded_class == labels).mean()),
        accuracy_majority=float(frequency.max()),
        agreement=float(((exact_class == rounded_class) & (exact_class >= 0)).mean()),
        mean_abs_difference=float(difference.mean()),
        max_abs_difference=float(difference.max()),
        mean_abs_signal=float(np.abs(exact_signal).mean(dtype=np.float64)),
        log_loss_fp32=log_loss(exact, labels),
        log_loss_int8=log_loss(rounded, labels),
        log_loss_majority=float(-(present * np.log(present)).sum()),
        abstentions_fp32=int((exact_class < 0).sum()),
        abstentions_int8=int((rounded_class < 0).sum()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelGate:
    """What INT8 must hold against FP32 to run in its place.

    Parameters
    ----------
    agreement_min : float
        Share of rows.
    accuracy_loss_max : float
        Accuracy of FP32 minus accuracy of INT8.
    mean_abs_difference_max : float
        Of the signals, whose range is [−1, 1].
    """

    agreement_min: float = 0.95
    accuracy_loss_max: float = 0.01
    mean_abs_difference_max: float = 0.02

    def __post_init__(self) -> None:
        for name in ("agreement_min", "accuracy_loss_max", "mean_abs_difference_max"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must lie between 0 and 1, was {getattr(self, name)}")

    def failures(self, comparison: Comparison) -> tuple[str, ...]:
        """Return one sentence per broken limit; empty means INT8 passes. NaN never passes."""
        found = []
        if not comparison.agreement >= self.agreement_min:
            found.append(f"agreement must be at least {self.agreement_min}, was {comparison.agreement:.4f}")
        loss = comparison.accuracy_fp32 - comparison.accuracy_int8
        if not loss <= self.accuracy_loss_max:
            found.append(f"accuracy loss must be at most {self.accuracy_loss_max}, was {loss:.4f}")
        difference = comparison.mean_abs_difference
        if not difference <= self.mean_abs_difference_max:
            limit = self.mean_abs_difference_max
            found.append(f"mean signal difference must be at most {limit}, was {difference:.4f}")
        if comparison.abstentions_int8:
            found.append(f"every answer must be finite, was {comparison.abstentions_int8} that were not")
        return tuple(found)


def _classes(probabilities: Floats32) -> NDArray[np.intp]:
    """Return the most probable class of every row, −1 where a probability is not finite."""
    finite = np.isfinite(probabilities).all(axis=1)
    return np.where(finite, probabilities.argmax(axis=1), -1)

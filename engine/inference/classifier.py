"""A small classifier of the next mid-price move, fitted on one training window.

Features are standardised by median and interquartile range (order-book features have heavy tails),
clipped, and read by a multilayer perceptron. The sample is a time series, so the rows that stop the
training early are its last ones, never a random draw: a random draw would put neighbours of every
held-back row, which share most of its future, into the fit.

Same sample and seed, same weights, on one machine: BLAS runs on one thread, since the order of its
sums changes with the thread count. Its kernels still differ between CPU families, so weights may
differ in the last bits elsewhere; a run records the SHA-256 of every model it used.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from data.errors import ConfigError

from .arrays import Floats32, Labels, checked_features
from .errors import ModelError, NotLearnable

DOWN, FLAT, UP = 0, 1, 2
CLASSES: Final = (DOWN, FLAT, UP)
CLASS_NAMES: Final = ("down", "flat", "up")

# The interquartile range of a normal distribution, in standard deviations.
_NORMAL_IQR: Final = 1.349


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How the classifier is fitted.

    Parameters
    ----------
    hidden : tuple of int
        Width of each hidden layer.
    clip : float
        Standardised features are limited to ± this many (robust) standard deviations.
    patience : int
        Epochs without a better log-loss on the tail before training stops.
    l2 : float
        Penalty on squared weights.
    tail_share : float
        Share of the rows, the last ones, that decides when to stop.
    purge_rows : int
        Rows dropped before any held-back part, at least the horizon of the labels in rows, so that no
        training label looks into it.
    rows_min : int
        Fewer rows teach nothing.
    """

    hidden: tuple[int, ...] = (32, 16)
    clip: float = 6.0
    epochs_max: int = 30
    patience: int = 4
    batch_rows_max: int = 512
    learning_rate: float = 2e-3
    l2: float = 1e-3
    tail_share: float = 0.15
    purge_rows: int = 0
    rows_min: int = 400

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"hidden must name at least one positive width, was {self.hidden}")
        for name in ("clip", "epochs_max", "patience", "batch_rows_max", "learning_rate", "rows_min"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, was {getattr(self, name)}")
        if not 0.0 < self.tail_share < 0.5:
            raise ConfigError(f"tail_share must lie between 0 and 0.5, was {self.tail_share}")
        for name in ("purge_rows", "l2"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, was {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedClassifier:
    """A fitted classifier; `export.to_onnx` turns it into a graph.

    Parameters
    ----------
    center, inverse_scale : array of float32, shape (d,)
        A standardised feature is ``clip((x − center) · inverse_scale)``; columns that were constant in
        training have inverse scale 0, since weights that never saw them move are noise.
    network : MLPClassifier
        The fitted network over standardised features; the oracle of the exported graph.
    class_counts : tuple of int
        Rows per class (down, flat, up) in the fit.
    rows_fit, rows_tail : int
        Rows that set the weights, and rows that chose the epoch.
    log_loss_tail : float
        Of the chosen epoch.
    """

    center: Floats32
    inverse_scale: Floats32
    clip: float
    network: Any
    seed: int
    epochs: int
    class_counts: tuple[int, int, int]
    rows_fit: int
    rows_tail: int
    log_loss_tail: float

    @property
    def feature_count(self) -> int:
        """Width of a feature row."""
        return len(self.center)

    def standardise(self, features: Floats32) -> Floats32:
        """Return the network's input, in the arithmetic and order of the exported graph."""
        with np.errstate(over="ignore"):
            scaled = (features - self.center) * self.inverse_scale
        clipped: Floats32 = np.clip(scaled, np.float32(-self.clip), np.float32(self.clip))
        return clipped

    def probabilities(self, features: Floats32) -> Floats32:
        """Return P(down), P(flat), P(up) of every row, computed by scikit-learn, shape (n, 3)."""
        with threadpool_limits(limits=1):
            return np.asarray(self.network.predict_proba(self.standardise(features)), np.float32)


def move_threshold(changes: NDArray[np.floating[Any]]) -> float:
    """Return the size of move that splits training changes into about equal thirds.

    A move counts as flat up to and including the threshold. Changes come on a grid, where no cut gives
    exact thirds; the observed magnitude whose flat share lies nearest to a third is returned.

    Parameters
    ----------
    changes : array, shape (n,)
        Future changes of the mid, in ticks, from the training rows only.
    """
    magnitudes = np.abs(np.asarray(changes, np.float64))
    if not magnitudes.size or not np.isfinite(magnitudes).all():
        raise ModelError(
            f"mid changes must be finite and not empty, was {changes.shape}", source="training sample"
        )
    values, counts = np.unique(magnitudes, return_counts=True)
    flat_share = np.cumsum(counts) / magnitudes.size
    return float(values[np.argmin(np.abs(flat_share - 1.0 / 3.0))])


def label_moves(mid_change_ticks: NDArray[np.floating[Any]], *, threshold: float) -> NDArray[np.int64]:
    """Label future changes of the mid: 0 down, 1 flat, 2 up.

    Parameters
    ----------
    mid_change_ticks : array, shape (n,)
        Mid at the horizon minus mid now, in ticks.
    threshold : float
        Ticks; a change of at most this size is flat.

    Examples
    --------
    >>> label_moves(np.array([-2.0, -0.5, 0.0, 0.5, 1.0]), threshold=0.5).tolist()
    [0, 1, 1, 1, 2]
    """
    unfit = np.flatnonzero(~np.isfinite(mid_change_ticks))
    if unfit.size:
        row = int(unfit[0])
        raise ModelError(
            f"a mid change must be finite, was {mid_change_ticks[row]}", source="labels", row=row
        )
    labels = np.full(len(mid_change_ticks), FLAT, np.int64)
    labels[mid_change_ticks > threshold] = UP
    labels[mid_change_ticks < -threshold] = DOWN
    return labels


def fit_move_classifier(
    features: Floats32,
    labels: Labels,
    *,
    seed: int,
    config: TrainingConfig | None = None,
    source: str = "training sample",
) -> FittedClassifier:
    """Fit a classifier on rows in time order.

    A class that never occurs is allowed: its probability is learnt to be small.

    Parameters
    ----------
    features : array of float32, shape (n, d)
    labels : array of int, shape (n,)
        0 down, 1 flat, 2 up.
    source : str
        Named in errors.

    Raises
    ------
    NotLearnable
        Fewer than `config.rows_min` rows, a single class, or no feature that varies.
    ModelError
        A feature is not finite, a label unknown, or shapes disagree; names the row.
    """
    config = config or TrainingConfig()
    features = checked_features(features, source=source)
    _check_labels(labels, rows=len(features), source=source)
    tail_rows = max(1, round(len(features) * config.tail_share))
    fit_rows = len(features) - tail_rows - config.purge_rows
    if len(features) < config.rows_min or fit_rows < tail_rows:
        rule = f"a window must hold at least {config.rows_min} rows beside the purge, was {len(features)}"
        raise NotLearnable(rule, source=source)
    fit_labels, tail_labels = labels[:fit_rows], labels[-tail_rows:]
    class_counts = np.bincount(fit_labels, minlength=len(CLASSES))
    if np.count_nonzero(class_counts) < 2:
        raise NotLearnable(f"at least two classes must occur, was {class_counts.tolist()}", source=source)
    center, inverse_scale = robust_scale(features[:fit_rows])
    if not inverse_scale.any():
        raise NotLearnable("at least one feature must vary, was none", source=source)

    network = MLPClassifier(
        config.hidden,
        # An epoch over a thin window should still take about fifty steps.
        batch_size=min(config.batch_rows_max, max(32, fit_rows // 50), fit_rows),
        learning_rate_init=config.learning_rate,
        alpha=config.l2,
        random_state=seed,
    )
    fitted = FittedClassifier(
        center=center,
        inverse_scale=inverse_scale,
        clip=config.clip,
        network=network,
        seed=seed,
        epochs=0,
        class_counts=(int(class_counts[DOWN]), int(class_counts[FLAT]), int(class_counts[UP])),
        rows_fit=fit_rows,
        rows_tail=tail_rows,
        log_loss_tail=float("nan"),
    )
    standardised = fitted.standardise(features)
    with threadpool_limits(limits=1):
        epochs, loss = _train(
            network, standardised[:fit_rows], fit_labels, standardised[-tail_rows:], tail_labels, config
        )
    return replace(fitted, epochs=epochs, log_loss_tail=loss)


def log_loss(probabilities: Floats32, labels: Labels) -> float:
    """Return the mean negative log-likelihood, in nats, of labels under probabilities, shape (n, 3)."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def _check_labels(labels: Labels, *, rows: int, source: str) -> None:
    if labels.shape != (rows,) or labels.dtype.kind not in "iu":
        raise ModelError(f"labels must be {rows} integers, was {labels.dtype}{labels.shape}", source=source)
    unknown = np.flatnonzero((labels < DOWN) | (labels > UP))
    if unknown.size:
        row = int(unknown[0])
        raise ModelError(f"a label must be 0, 1 or 2, was {labels[row]}", source=source, row=row)


def robust_scale(features: Floats32) -> tuple[Floats32, Floats32]:
    """Return (center, inverse scale) of every column, inverse scale 0 where a column never varies.

    The standard deviation serves where half of a column is one value.
    """
    low, center, high = np.percentile(features, (25.0, 50.0, 75.0), axis=0)
    scale = (high - low) / _NORMAL_IQR
    deviation = features.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 0.0, scale, deviation)
    # A spread below float32's resolution of the value itself is rounding, not movement.
    varies = scale > np.maximum(1e-6 * np.abs(center), 1e-30)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=varies)
    return center.astype(np.float32), inverse.astype(np.float32)


def _train(
    network: Any,
    fit: Floats32,
    fit_labels: Labels,
    tail: Floats32,
    tail_labels: Labels,
    config: TrainingConfig,
) -> tuple[int, float]:
    """Run epochs until the tail stops improving; leave the best epoch's weights in the network."""
    best_loss, best_epoch = np.inf, 0
    best: tuple[list[Floats32], list[Floats32]] = ([], [])
    for epoch in range(1, config.epochs_max + 1):
        _run_epoch(network, fit, fit_labels)
        loss = log_loss(network.predict_proba(tail), tail_labels)
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best = (
                [weight.copy() for weight in network.coefs_],
                [bias.copy() for bias in network.intercepts_],
            )
        elif epoch - best_epoch >= config.patience:
            break
    if best_epoch == 0:
        raise ModelError(f"training must reach a finite loss, was {loss}", source="training sample")
    network.coefs_, network.intercepts_ = best
    return best_epoch, float(best_loss)


def _run_epoch(network: Any, fit: Floats32, labels: Labels) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Training interrupted")
        try:
            network.partial_fit(fit, labels, classes=list(CLASSES))
        except UserWarning as warning:
            # The library catches the interrupt, warns, and would leave half an epoch for a model.
            raise KeyboardInterrupt from warning

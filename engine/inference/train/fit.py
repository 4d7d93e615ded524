"""Fitting a network of the ladder on whole stretches of trading.

Deterministic given the seed on one machine: one thread, torch's deterministic kernels, and every draw
from one generator. The validation days choose the epoch and one temperature per horizon (Guo et al. 2017,
"On calibration of modern neural networks"), which is folded into the head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from data.errors import ConfigError

from ..arrays import Floats32
from ..errors import ModelError
from ..forecast_export import ForecastShape
from ..graph import CLASS_COUNT
from ..labels import UNKNOWN
from .networks import Network, make_network

# Rows of a pass that answers for all of them.
_ANSWER_ROWS: Final = 1_024
_TEMPERATURES: Final = np.geomspace(0.5, 4.0, 61)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive rows of one day.

    Parameters
    ----------
    features : array of float32, shape (n, d)
    labels : array of int64, shape (n, horizons)
        0 down, 1 flat, 2 up, −1 unknown.
    """

    features: Floats32
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """How long and how fast to learn.

    Parameters
    ----------
    epochs : int
        Passes over the training rows; the best by validation loss is kept.
    batch_answers : int
        Rows answered per step, about.
    stretch_rows : int
        Answers of one stretch, which all share the rows that give context.
    """

    epochs: int = 3
    batch_answers: int = 1_024
    stretch_rows: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_answers", "stretch_rows", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, was {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class FittedNetwork:
    """A fitted network, the best epoch's weights in it."""

    network: Network
    epoch: int
    log_loss_validation: float
    temperatures: tuple[float, ...]


def fit_network(
    shape: ForecastShape,
    training: Sequence[Stretch],
    validation: Sequence[Stretch],
    *,
    center: Floats32,
    inverse_scale: Floats32,
    seed: int,
    config: FitConfig,
    progress: Callable[[float, str], None] = lambda done, text: None,
) -> FittedNetwork:
    """Fit a network; the same input gives the same weights on one machine.

    Parameters
    ----------
    center, inverse_scale : array of float32, shape (d,)
        From the training rows.
    progress : callable
        Told the share done and the state in words.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    network = make_network(shape, seed=seed)
    module = network.module
    module.standardise.center.copy_(torch.from_numpy(center))
    module.standardise.inverse_scale.copy_(torch.from_numpy(inverse_scale))
    draw = np.random.default_rng(seed)
    batches = _Batches(shape, training, config)
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * batches.count
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    best_loss, best_epoch, best = math.inf, 0, network.weights()
    step = 0
    for epoch in range(1, config.epochs + 1):
        module.train()
        for rows, labels in batches.shuffled(draw):
            loss = _loss(module(rows)[:, -labels.shape[1] :], labels)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            if step % 20 == 0:
                progress(step / steps, f"epoch {epoch}, loss {loss.item():.4f}")
        validation_loss = _validation_loss(network, validation, config)
        if validation_loss < best_loss:
            best_loss, best_epoch, best = validation_loss, epoch, network.weights()
        progress(step / steps, f"epoch {epoch}, validation {validation_loss:.4f}")
    if not math.isfinite(best_loss):
        raise ModelError("training must reach a finite loss, was none", source=shape.kind)
    network.load(best)
    temperatures = _calibrate(network, validation, config)
    return FittedNetwork(
        network=network, epoch=best_epoch, log_loss_validation=best_loss, temperatures=temperatures
    )


def answer_windows(network: Network, features: Floats32, ends: NDArray[np.int64]) -> Floats32:
    """Return the probabilities of every horizon for windows ending at the given rows.

    A network sees no further back than its window, so one pass over a stretch answers as its windows would.

    Returns
    -------
    array of float32, shape (m, horizons, 3)
    """
    shape, found = network.shape, []
    context, order = shape.reach - 1, np.argsort(ends, kind="stable")
    network.module.eval()
    with torch.inference_mode():
        for start in range(0, len(features), _ANSWER_ROWS):
            first, stop = max(start - context, 0), start + _ANSWER_ROWS
            low, high = np.searchsorted(ends[order], (start, stop))
            if low == high:
                continue
            answer = network.module(torch.from_numpy(features[None, first:stop]))[0]
            answer = answer[torch.from_numpy(ends[order[low:high]] - first)]
            found.append(answer.reshape(-1, shape.heads_out, CLASS_COUNT).softmax(-1).numpy())
    answers = np.empty((len(ends), shape.heads_out, CLASS_COUNT), np.float32)
    if found:
        answers[order] = np.concatenate(found)
    return answers


def _rate(step: int, steps: int) -> float:
    """Linear warm-up over 5 % of the steps, then half a cosine down to nothing."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _loss(answers: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(
        answers.reshape(-1, CLASS_COUNT), labels.reshape(-1), ignore_index=UNKNOWN
    )


class _Batches:
    """Pieces of stretches: rows that give context, and the answers that count."""

    def __init__(self, shape: ForecastShape, stretches: Sequence[Stretch], config: FitConfig) -> None:
        self._stretches = stretches
        if shape.kind == "mlp":
            self._context, self._answers, self._step = 0, 1, 1
        else:
            self._context, self._answers = shape.reach - 1, config.stretch_rows
            self._step = config.stretch_rows
        length = self._context + self._answers
        self._length = length
        self._pieces = [
            (index, start)
            for index, stretch in enumerate(stretches)
            for start in range(0, len(stretch.features) - length + 1, self._step)
        ]
        self._per_batch = max(1, config.batch_answers // self._answers)
        if not self._pieces:
            raise ModelError(f"a stretch must hold at least {length} rows, was shorter", source=shape.kind)

    @property
    def count(self) -> int:
        return -(-len(self._pieces) // self._per_batch)

    def shuffled(self, draw: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        return self._in_order(draw.permutation(len(self._pieces)))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._in_order(np.arange(len(self._pieces)))

    def _in_order(self, order: NDArray[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(order), self._per_batch):
            pieces = [self._pieces[place] for place in order[first : first + self._per_batch]]
            rows = np.stack([self._stretches[i].features[s : s + self._length] for i, s in pieces])
            labels = np.stack(
                [self._stretches[i].labels[s + self._context : s + self._length] for i, s in pieces]
            )
            yield torch.from_numpy(rows), torch.from_numpy(labels)


def _collect(network: Network, stretches: Sequence[Stretch], config: FitConfig) -> tuple[Tensor, Tensor]:
    """Return logits (n, horizons, 3) and labels (n, horizons) of every answer."""
    network.module.eval()
    answers, truths = [], []
    with torch.inference_mode():
        for rows, labels in _Batches(network.shape, stretches, config):
            logits = network.module(rows)[:, -labels.shape[1] :]
            answers.append(logits.reshape(-1, network.shape.heads_out, CLASS_COUNT))
            truths.append(labels.reshape(-1, network.shape.heads_out))
    return torch.cat(answers), torch.cat(truths)


def _validation_loss(network: Network, stretches: Sequence[Stretch], config: FitConfig) -> float:
    answers, labels = _collect(network, stretches, config)
    return float(_loss(answers, labels))


def _calibrate(network: Network, stretches: Sequence[Stretch], config: FitConfig) -> tuple[float, ...]:
    """Divide each horizon's head by the temperature that the validation days like best."""
    answers, labels = _collect(network, stretches, config)
    head, found = network.module.head, []
    with torch.no_grad():
        for place in range(network.shape.heads_out):
            losses = [float(_loss(answers[:, place] / t, labels[:, place])) for t in _TEMPERATURES]
            temperature = float(_TEMPERATURES[int(np.argmin(losses))])
            rows = slice(place * CLASS_COUNT, (place + 1) * CLASS_COUNT)
            head.weight[rows] /= temperature
            head.bias[rows] /= temperature
            found.append(temperature)
    return tuple(found)

"""One call of the model: a row of features in, a signal out, in FP32 and INT8.

Floor: the network's three matrix products on one row, by numpy, without activations or conversions.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.inference.classifier import TrainingConfig
from engine.inference.pipeline import WindowModel, train_window
from ext.features import FEATURE_NAMES

from .harness import Bench, scenario

HIDDEN = (32, 16)
CLASSES = 3


@scenario(
    "model",
    "ONNX model: one signal, FP32 and INT8",
    conditions=f"a {len(FEATURE_NAMES)}-{'-'.join(map(str, HIDDEN))}-{CLASSES} network, calls back to back "
    "on one thread (service time, not response under load); floor: its matrix products in numpy.",
)
def model(bench: Bench) -> None:
    rows = bench.parameter("rows", smoke=800, full=6_000)
    calls = bench.parameter("calls", smoke=100, full=50_000)
    features, trained = trained_model(rows, seed=bench.seed)
    row = np.ascontiguousarray(features[-1])
    activations = [np.zeros((1, width), np.float32) for width in (len(row), *HIDDEN)]
    widths = (len(row), *HIDDEN, CLASSES)
    weights = [np.ones(shape, np.float32) for shape in pairwise(widths)]

    def multiply() -> None:
        for activation, weight in zip(activations, weights, strict=True):
            np.dot(activation, weight)

    for session in (trained.fp32, trained.int8):
        bench.latency(session.precision, partial(session.signal, row), count=calls, floor=multiply)
        down, _, up = session.probabilities(row[None])[0].tolist()
        bench.verify(abs(session.signal(row) - (up - down)) < 1e-5, "a signal is P(up) - P(down)")
        bench.verify(session.abstentions == 0, "no call abstained")
    bench.verify(trained.comparison.agreement > 0.8, "INT8 agrees with FP32 on held-back rows")


def trained_model(rows: int, *, seed: int) -> tuple[NDArray[np.float32], WindowModel]:
    """Return random features with a model that learnt the move they drive."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((rows, len(FEATURE_NAMES))).astype(np.float32)
    moves = np.round(2.0 * features[:, 0] - features[:, 1] + random.standard_normal(rows))
    trained = train_window(
        features,
        moves,
        seed=seed,
        feature_names=FEATURE_NAMES,
        window_label="benchmark",
        config=TrainingConfig(hidden=HIDDEN),
    )
    assert trained is not None, "the sample is learnable"
    return features, trained

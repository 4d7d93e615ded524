"""Random weights for every shape of the ladder, and the same networks in plain NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.inference.forecast_export import ForecastShape

Floats = NDArray[np.float32]

SHAPES = {
    "mlp": ForecastShape(kind="mlp", window=1, features=6, width=8, depth=2),
    "tcn": ForecastShape(kind="tcn", window=12, features=6, width=5, dilations=(1, 2, 2)),
    "encoder": ForecastShape(
        kind="encoder",
        window=25,
        features=6,
        width=8,
        dilations=(1, 2),
        stride=4,
        spans=(3, 1),
        attention_heads=2,
    ),
}


def random_weights(shape: ForecastShape, *, seed: int = 1) -> dict[str, Floats]:
    draw, width = np.random.default_rng(seed), shape.width
    found: dict[str, NDArray[np.float64]] = {
        "standardise.center": draw.standard_normal(shape.features),
        "standardise.inverse_scale": draw.uniform(0.5, 2.0, shape.features),
    }

    def dense(name: str, out: int, *ins: int) -> None:
        found[f"{name}.weight"] = draw.standard_normal((out, *ins)) / np.sqrt(np.prod(ins))
        found[f"{name}.bias"] = 0.1 * draw.standard_normal(out)

    if shape.kind == "mlp":
        for layer in range(shape.depth):
            dense(f"dense.{layer}", width, width if layer else shape.features)
    else:
        dense("lift", width, shape.features, 1)
        for layer in range(len(shape.dilations)):
            dense(f"conv.{layer}", width, width, shape.kernel)
    if shape.kind == "encoder":
        norms = ["norm"]
        for layer, span in enumerate(shape.spans):
            for name in ("query", "key", "value", "mix"):
                dense(f"block.{layer}.{name}", width, width)
            dense(f"block.{layer}.rise", 4 * width, width)
            dense(f"block.{layer}.fall", width, 4 * width)
            found[f"block.{layer}.distance"] = draw.standard_normal((shape.attention_heads, span + 1))
            norms += [f"block.{layer}.norm_attention", f"block.{layer}.norm_dense"]
        for name in norms:
            found[f"{name}.weight"] = draw.uniform(0.5, 1.5, width)
            found[f"{name}.bias"] = 0.1 * draw.standard_normal(width)
    dense("head", 3 * shape.heads_out, width)
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def reference(shape: ForecastShape, weights: dict[str, Floats], rows: Floats, head: int) -> Floats:
    """Probabilities of one input, (features,) or (window, features), row by row and loop by loop."""
    scaled = (rows - weights["standardise.center"]) * weights["standardise.inverse_scale"]
    current = np.clip(scaled, -shape.clip, shape.clip).astype(np.float64)

    def dense(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return (
            values @ weights[f"{name}.weight"].reshape(len(weights[f"{name}.weight"]), -1).T
            + (weights[f"{name}.bias"])
        )

    if shape.kind == "mlp":
        for layer in range(shape.depth):
            current = np.maximum(dense(current, f"dense.{layer}"), 0.0)
        last = current
    else:
        current = np.maximum(dense(current, "lift"), 0.0)
        for layer, dilation in enumerate(shape.dilations):
            kernel, bias = weights[f"conv.{layer}.weight"], weights[f"conv.{layer}.bias"]
            grown = np.tile(bias.astype(np.float64), (shape.window, 1))
            for row in range(shape.window):
                for tap in range(shape.kernel):
                    source = row - dilation * (shape.kernel - 1 - tap)
                    if source >= 0:
                        grown[row] += kernel[:, :, tap] @ current[source]
            current = current + np.maximum(grown, 0.0)
        last = current[-1] if shape.kind == "tcn" else _encoder(shape, weights, current, dense)
    logits = dense(last, "head")[3 * head : 3 * head + 3]
    exact = np.exp(logits - logits.max())
    return np.asarray(exact / exact.sum(), np.float32)


def _encoder(shape, weights, current, dense):  # type: ignore[no-untyped-def]
    def norm(values, name):  # type: ignore[no-untyped-def]
        centred = values - values.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    heads = shape.attention_heads
    size = shape.width // heads
    # The tokens that the last row looks back on, itself the last.
    current = current[-1 - shape.stride * sum(shape.spans) :: shape.stride]
    for layer, span in enumerate(shape.spans):
        prefix = f"block.{layer}"
        normed = norm(current, f"{prefix}.norm_attention")
        query, key, value = (dense(normed, f"{prefix}.{name}") for name in ("query", "key", "value"))
        seen = np.zeros_like(current)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            for row in range(len(current)):
                near = range(max(row - span, 0), row + 1)
                scores = key[near, own] @ query[row, own] / np.sqrt(size)
                scores += weights[f"{prefix}.distance"][head, [row - other for other in near]]
                share = np.exp(scores - scores.max())
                seen[row, own] = (share / share.sum()) @ value[near, own]
        current = current + dense(seen, f"{prefix}.mix")
        risen = np.maximum(dense(norm(current, f"{prefix}.norm_dense"), f"{prefix}.rise"), 0.0)
        current = current + dense(risen, f"{prefix}.fall")
    return norm(current[-1], "norm")

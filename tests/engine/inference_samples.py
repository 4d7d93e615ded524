"""Synthetic feature rows and hand-made graphs for the inference tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

NAMES = tuple(f"feature_{column}" for column in range(8))


def window(
    rows: int = 6_000, *, seed: int = 3, strength: float = 1.5
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Heavy-tailed features of unlike scales, and mid changes on a half-tick grid that they drive."""
    random = np.random.default_rng(seed)
    features = random.standard_t(4, (rows, len(NAMES)))
    drift = strength * (np.tanh(features[:, 0]) - np.tanh(features[:, 1] * features[:, 2]))
    changes = np.round(2.0 * (drift + random.standard_normal(rows))) / 2.0
    scales = 10.0 ** np.linspace(-3, 4, len(NAMES))
    return (features * scales + 5.0 * scales).astype(np.float32), changes


def graph_bytes(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]] | None = None,
    *,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    domains: tuple[str, ...] = ("",),
) -> bytes:
    return graph_model(nodes, constants, inputs=inputs, outputs=outputs, domains=domains).SerializeToString()


def graph_model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]] | None = None,
    *,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    domains: tuple[str, ...] = ("",),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "sample",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    imports = [helper.make_opsetid(domain, 21 if domain == "" else 1) for domain in domains]
    return helper.make_model(graph, ir_version=10, opset_imports=imports)


def linear_model(weight: NDArray[np.float32] | None = None) -> onnx.ModelProto:
    """x · weight through a softmax, 4 features."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="dense"),
        helper.make_node("Softmax", ["z"], ["y"], axis=-1),
    ]
    default = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
    return graph_model(nodes, {"w": default if weight is None else weight})

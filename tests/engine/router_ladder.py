"""A small ladder of random weights in the shapes of the real one: times without skill."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.inference.ladder import Variant, format_ladder

FEATURES, WINDOW = 40, 100


def dense(widths: tuple[int, ...], *, seed: int = 1, scale: float = 0.2) -> bytes:
    random = np.random.default_rng(seed)
    nodes, constants, name = [], [], "x"
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = (scale * random.standard_normal((inputs, outputs))).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"z{layer}"]))
        name = f"z{layer}"
        if layer + 2 < len(widths):
            nodes.append(helper.make_node("Relu", [name], [f"a{layer}"]))
            name = f"a{layer}"
    nodes.append(helper.make_node("Softmax", [name], ["y"], axis=-1))
    return _model(nodes, constants, ["batch", widths[0]])


def convolutional(width: int, layers: int, *, seed: int = 1) -> bytes:
    random = np.random.default_rng(seed)
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1])]
    constants, name, inputs = [], "t", FEATURES
    for layer in range(layers):
        weight = (0.1 * random.standard_normal((width, inputs, 3))).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(
            helper.make_node("Conv", [name, f"w{layer}"], [f"c{layer}"], kernel_shape=[3], pads=[2, 0])
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"a{layer}"]))
        name, inputs = f"a{layer}", width
    constants.append(numpy_helper.from_array(np.array(WINDOW - 1, np.int64), "last"))
    constants.append(
        numpy_helper.from_array((0.1 * random.standard_normal((width, 3))).astype(np.float32), "head")
    )
    nodes.append(helper.make_node("Gather", [name, "last"], ["g"], axis=2))
    nodes.append(helper.make_node("MatMul", ["g", "head"], ["z"]))
    nodes.append(helper.make_node("Softmax", ["z"], ["y"], axis=-1))
    return _model(nodes, constants, ["batch", WINDOW, FEATURES])


def _model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], shape: list[str | int]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        constants,
    )
    return bytes(
        helper.make_model(
            graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]
        ).SerializeToString()
    )


def write_variant(
    folder: Path, name: str, model: bytes, *, score: float, window: int, parameters: int
) -> Variant:
    path = folder / f"{name}.onnx"
    path.write_bytes(model)
    return Variant(
        name=name,
        family=name,
        precision="fp32",
        path=path,
        sha256=hashlib.sha256(model).hexdigest(),
        score=score,
        no_skill_score=0.4,
        input_shape=(window, FEATURES),
        parameters=parameters,
    )


def write_ladder(folder: Path) -> tuple[Variant, ...]:
    """Write three rungs and their manifest."""
    made = (
        write_variant(folder, "tiny", dense((40, 64, 64, 3)), score=0.5, window=1, parameters=7_000),
        write_variant(folder, "small", convolutional(8, 2), score=0.55, window=WINDOW, parameters=9_000),
        write_variant(folder, "large", convolutional(24, 3), score=0.6, window=WINDOW, parameters=30_000),
    )
    (folder / "ladder.toml").write_text(format_ladder(made, horizon=10))
    return made

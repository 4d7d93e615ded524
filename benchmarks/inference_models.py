"""The networks whose speed `bench_inference` takes: random weights, since time does not depend on them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]


def perceptron(widths: tuple[int, ...], *, seed: int) -> bytes:
    """Return Gemm and Relu layers of these widths with a softmax."""
    random = np.random.default_rng(seed)
    nodes, constants, current = [], {}, "x"
    for layer, (inner, width) in enumerate(pairwise(widths)):
        constants[f"w{layer}"] = random.standard_normal((inner, width)) / np.sqrt(inner)
        constants[f"b{layer}"] = 0.1 * random.standard_normal(width)
        name = f"dense{layer}"
        nodes.append(helper.make_node("Gemm", [current, f"w{layer}", f"b{layer}"], [name], name=name))
        current = name
        if layer < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [name], [f"active{layer}"], name=f"active{layer}"))
            current = f"active{layer}"
    nodes.append(helper.make_node("Softmax", [current], ["y"], axis=-1))
    return _encoded(nodes, constants, shape=(widths[0],))


def temporal_convolution(*, seed: int, window: int = 100, features: int = 40, channels: int = 32) -> bytes:
    """Return causal dilated convolutions of about 26,000 weights, input (batch, window, features)."""
    random = np.random.default_rng(seed)
    constants: dict[str, NDArray[Any]] = {"last": np.array([window - 1], np.int64), "flat": np.array([0, -1])}
    nodes = [helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1], name="turn")]
    current, depth = "turned", features
    for layer, dilation in enumerate((1, 1, 2, 4, 8, 16, 16, 16)):
        weight = random.standard_normal((channels, depth, 3)) / np.sqrt(3 * depth)
        constants[f"w{layer}"], constants[f"b{layer}"] = weight, 0.1 * random.standard_normal(channels)
        nodes.append(
            helper.make_node(
                "Conv",
                [current, f"w{layer}", f"b{layer}"],
                [f"conv{layer}"],
                name=f"conv{layer}",
                dilations=[dilation],
                pads=[2 * dilation, 0],
            )
        )
        nodes.append(helper.make_node("Relu", [f"conv{layer}"], [f"active{layer}"], name=f"active{layer}"))
        # Every second layer adds what came two layers before.
        if layer >= 2 and layer % 2 == 0:
            older = f"sum{layer - 2}" if layer > 2 else "active0"
            both = [f"active{layer}", older]
            nodes.append(helper.make_node("Add", both, [f"sum{layer}"], name=f"sum{layer}"))
        current = f"sum{layer}" if layer >= 2 and layer % 2 == 0 else f"active{layer}"
        depth = channels
    constants["head"] = random.standard_normal((channels, 3)) / np.sqrt(channels)
    nodes += [
        helper.make_node("Gather", [current, "last"], ["now"], axis=2, name="now"),
        helper.make_node("Reshape", ["now", "flat"], ["row"], name="row"),
        helper.make_node("MatMul", ["row", "head"], ["z"], name="head"),
        helper.make_node("Softmax", ["z"], ["y"], axis=-1),
    ]
    return _encoded(nodes, constants, shape=(window, features))


def bilinear_attention(
    *, seed: int, features: int = 40, steps: int = 10, hidden: tuple[int, int] = (60, 10)
) -> bytes:
    """Return BiN-C(TABL): bilinear normalization, a bilinear layer, one with temporal attention, a softmax.

    Input (batch, features, steps). Layers as in Tran et al. 2019, normalization as in Tran et al. 2021.
    """
    random = np.random.default_rng(seed)
    rows, columns = hidden

    def draw(*shape: int) -> Floats:
        drawn: Floats = (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        return drawn

    constants: dict[str, NDArray[Any]] = {
        "t": np.array([2], np.int64),
        "f": np.array([1], np.int64),
        "tiny": np.array(1e-4, np.float32),
        "gain_t": 1.0 + draw(features, 1),
        "shift_t": draw(features, 1),
        "gain_f": 1.0 + draw(1, steps),
        "shift_f": draw(1, steps),
        "half": np.full((1, 1), 0.5, np.float32),
        "left1": draw(rows, features),
        "right1": draw(steps, columns),
        "bias1": draw(rows, columns),
        "left2": draw(3, rows),
        "attend": draw(columns, columns),
        "right2": draw(columns, 1),
        "bias2": draw(3, 1),
    }
    nodes = []

    def node(kind: str, output: str, *inputs: str, **options: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **options))

    for along in ("t", "f"):
        node("ReduceMean", f"mean_{along}", "x", along, keepdims=1)
        node("Sub", f"centred_{along}", "x", f"mean_{along}")
        node("Mul", f"square_{along}", f"centred_{along}", f"centred_{along}")
        node("ReduceMean", f"variance_{along}", f"square_{along}", along, keepdims=1)
        node("Add", f"safe_{along}", f"variance_{along}", "tiny")
        node("Sqrt", f"deviation_{along}", f"safe_{along}")
        node("Div", f"scaled_{along}", f"centred_{along}", f"deviation_{along}")
        node("Mul", f"gained_{along}", f"scaled_{along}", f"gain_{along}")
        node("Add", f"normal_{along}", f"gained_{along}", f"shift_{along}")
    node("Mul", "half_t", "normal_t", "half")
    node("Mul", "half_f", "half", "normal_f")
    node("Add", "normal", "half_t", "half_f")
    node("MatMul", "rows1", "left1", "normal")
    node("MatMul", "both1", "rows1", "right1")
    node("Add", "linear1", "both1", "bias1")
    node("Relu", "hidden1", "linear1")
    node("MatMul", "rows2", "left2", "hidden1")
    node("MatMul", "energy", "rows2", "attend")
    node("Softmax", "attention", "energy", axis=-1)
    node("Mul", "attended", "rows2", "attention")
    node("Mul", "half_attended", "attended", "half")
    node("Mul", "half_rows", "rows2", "half")
    node("Add", "mixed", "half_attended", "half_rows")
    node("MatMul", "both2", "mixed", "right2")
    node("Add", "linear2", "both2", "bias2")
    node("Squeeze", "logits", "linear2", "t")
    node("Softmax", "y", "logits", axis=-1)
    return _encoded(nodes, constants, shape=(features, steps))


def quantized(model: bytes, rows: Floats) -> bytes:
    """Return the static QDQ form, u8 activations and s8 weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Rows(CalibrationDataReader):  # type: ignore[misc]  # its base class is untyped
        def __init__(self) -> None:
            self._batches: Iterator[dict[str, Floats]] = iter([{"x": rows}])

        def get_next(self) -> dict[str, Floats] | None:
            return next(self._batches, None)

    parsed = onnx.load_model_from_string(model)
    # ONNX Runtime warns about every model without this note.
    helper.set_model_props(parsed, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with TemporaryDirectory(prefix="anytick-") as folder:
        origin, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        origin.write_bytes(parsed.SerializeToString())
        quantize_static(
            origin,
            target,
            Rows(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # so that the oracle cannot saturate on machines without VNNI
            nodes_to_exclude=[node.name for node in parsed.graph.node if node.op_type == "Softmax"],
        )
        found = onnx.load_model_from_string(target.read_bytes())
    used = {node.domain for node in found.graph.node}
    kept = [entry for entry in found.opset_import if entry.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    encoded: bytes = found.SerializeToString()
    return encoded


def _encoded(
    nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], *, shape: tuple[int, ...]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(values if values.dtype == np.int64 else values.astype(np.float32), name)
            for name, values in constants.items()
        ],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    encoded: bytes = model.SerializeToString()
    return encoded

"""Random small networks as ONNX graphs, and their quantized forms."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]


def model_of(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    *,
    shape: tuple[int, ...],
    classes: int = 3,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def perceptron(
    widths: tuple[int, ...], *, seed: int = 1, form: str = "gemm", scale: float = 1.0
) -> onnx.ModelProto:
    """A perceptron whose layers are Gemm, Gemm with turned weights, or MatMul and Add."""
    random = np.random.default_rng(seed)
    nodes, constants, current = [], {}, "x"
    for layer, (inner, width) in enumerate(pairwise(widths)):
        weight = (scale * random.standard_normal((inner, width)) / np.sqrt(inner)).astype(np.float32)
        bias = (0.2 * random.standard_normal(width)).astype(np.float32)
        w, b, out = f"w{layer}", f"b{layer}", f"dense{layer}"
        constants |= {w: np.ascontiguousarray(weight.T) if form == "turned" else weight, b: bias}
        if form == "matmul":
            nodes.append(helper.make_node("MatMul", [current, w], [f"product{layer}"], name=out))
            nodes.append(helper.make_node("Add", [f"product{layer}", b], [out]))
        else:
            turned = {"transB": 1} if form == "turned" else {}
            nodes.append(helper.make_node("Gemm", [current, w, b], [out], name=out, **turned))
        current = out
        if layer < len(widths) - 2:
            current = f"active{layer}"
            nodes.append(helper.make_node("Relu", [out], [current], name=current))
    nodes.append(helper.make_node("Softmax", [current], ["y"], axis=-1))
    return model_of(nodes, constants, shape=(widths[0],), classes=widths[-1])


def quantized(model: onnx.ModelProto, rows: Floats, *, form: str, **options: Any) -> onnx.ModelProto:
    """Quantize with ONNX Runtime's tools: ``u8s8``, ``s8s8`` (static QDQ) or ``dynamic``."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    class Rows(CalibrationDataReader):  # type: ignore[misc]  # its base class is untyped
        def __init__(self) -> None:
            self._batches = iter([{"x": rows}])

        def get_next(self) -> dict[str, Floats] | None:
            return next(self._batches, None)

    notes = {"onnx.quant.pre_process": "onnxruntime.quant"}
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    helper.set_model_props(prepared, notes)
    with TemporaryDirectory() as folder:
        origin, target = Path(folder, "a.onnx"), Path(folder, "b.onnx")
        origin.write_bytes(prepared.SerializeToString())
        if form == "dynamic":
            quantize_dynamic(origin, target, weight_type=QuantType.QInt8, **options)
        else:
            kind = QuantType.QUInt8 if form == "u8s8" else QuantType.QInt8
            quantize_static(
                origin,
                target,
                Rows(),
                quant_format=QuantFormat.QDQ,
                activation_type=kind,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["Gemm", "MatMul", "Relu"],
                **options,
            )
        return onnx.load_model_from_string(target.read_bytes())


def exposed(model: onnx.ModelProto, names: list[str], kind: int) -> onnx.ModelProto:
    """The same graph with inner values as outputs."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    for name in names:
        opened.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return opened


def answers(model: onnx.ModelProto, rows: Floats) -> list[NDArray[Any]]:
    """ONNX Runtime's answers, one row at a time: a batch would share its dynamic ranges."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    single = [session.run(None, {"x": row[None]}) for row in rows]
    return [np.concatenate(column) for column in zip(*single, strict=True)]

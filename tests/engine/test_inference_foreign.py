"""Graphs as other people's tools write them: constants in operators, states shaped like the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from inference_samples import graph_bytes
from onnx import TensorProto, helper, numpy_helper

from engine.inference.dense import DenseSession
from engine.inference.errors import KernelUnsupported, ModelRefused
from engine.inference.graph import check_graph
from engine.inference.session import OrtSession
from engine.inference.tiers import open_session

STEPS, FEATURES, HIDDEN = 5, 4, 6
SOFTMAX = helper.make_node("Softmax", ["z"], ["y"], axis=-1)


def scaled(**value: Any) -> list[onnx.NodeProto]:
    """x w · c through a softmax, where an operator holds c."""
    return [
        helper.make_node("Constant", [], ["c"], **value),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Mul", ["h", "c"], ["z"]),
        SOFTMAX,
    ]


def recurrent(kind: str) -> list[onnx.NodeProto]:
    """The last hidden state through a softmax; the first state is zeros of a shape read from the input."""
    states = ["state", "state"] if kind == "LSTM" else ["state"]
    return [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], axis=0),
        helper.make_node("Unsqueeze", ["rows", "first"], ["batch"]),
        helper.make_node("Concat", ["one", "batch", "hidden"], ["sizes"], axis=0),
        helper.make_node("ConstantOfShape", ["sizes"], ["state"], value=tensor(np.zeros(1, np.float32))),
        helper.make_node("Transpose", ["x"], ["by_step"], perm=[1, 0, 2]),
        helper.make_node(kind, ["by_step", "w", "r", "b", "", *states], ["", "last"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["last", "first"], ["h"]),
        helper.make_node("MatMul", ["h", "head"], ["z"]),
        SOFTMAX,
    ]


def tensor(values: np.ndarray[Any, Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(values)


def recurrent_bytes(kind: str) -> bytes:
    gates, random = {"LSTM": 4, "GRU": 3}[kind] * HIDDEN, np.random.default_rng(1)
    constants = {
        "zero": np.int64(0),
        "first": np.array([0]),
        "one": np.array([1]),
        "hidden": np.array([HIDDEN]),
        "w": random.standard_normal((1, gates, FEATURES)).astype(np.float32),
        "r": random.standard_normal((1, gates, HIDDEN)).astype(np.float32),
        "b": random.standard_normal((1, 2 * gates)).astype(np.float32),
        "head": random.standard_normal((HIDDEN, 3)).astype(np.float32),
    }
    shape = ["batch", STEPS, FEATURES]
    window = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    return graph_bytes(recurrent(kind), {name: np.asarray(v) for name, v in constants.items()}, inputs=window)


def refused(model: bytes, match: str) -> None:
    with pytest.raises(ModelRefused, match=match):
        check_graph(model)
    with pytest.raises(ModelRefused, match=match):
        open_session(model)


@pytest.mark.parametrize("value", [{"value": tensor(np.float32(2.0))}, {"value_float": 2.0}])
def test_a_constant_in_an_operator_is_one_outside(value: dict[str, Any]) -> None:
    weight = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    model = graph_bytes(scaled(**value), {"w": weight})
    outside = graph_bytes(scaled(value_float=0.0)[1:], {"w": weight, "c": np.float32(2.0)})
    rows = np.random.default_rng(2).standard_normal((7, 4)).astype(np.float32)
    for session in (OrtSession, DenseSession):
        found, expected = session.from_bytes(model), session.from_bytes(outside)
        assert np.array_equal(found.probabilities(rows), expected.probabilities(rows))


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"value": tensor(np.float32(np.nan))}, "must be finite, was 'c'"),
        ({"value_floats": [np.inf]}, "must be finite, was 'c'"),
        ({"value": tensor(np.float16(1.0))}, "was 'c' of float16"),
        ({"value_string": "x"}, "a Constant must hold one of value, .* was .*value_string"),
        ({"value_float": 1.0, "value_int": 1}, "a Constant must hold one of"),
        ({}, "a Constant must hold one of"),
    ],
)
def test_constants_in_operators_keep_the_rules_of_others(value: dict[str, Any], match: str) -> None:
    refused(graph_bytes(scaled(**value), {"w": np.ones((4, 3), np.float32)}), match)


@pytest.mark.parametrize("operator", ["Constant", "ConstantOfShape"])
def test_operators_hold_no_data_outside_the_file(operator: str) -> None:
    held = tensor(np.ones(1, np.float32))
    onnx.external_data_helper.set_external_data(held, location="weights.bin")
    held.ClearField("raw_data")
    nodes = [helper.make_node(operator, ["n"] if operator != "Constant" else [], ["c"], value=held)]
    constants = {"w": np.ones((4, 3), np.float32), "n": np.array([1])}
    refused(graph_bytes(nodes + scaled()[1:], constants), "must lie inside the file")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_recurrent_network_answers_for_any_batch(kind: str) -> None:
    session = open_session(recurrent_bytes(kind))
    rows = np.random.default_rng(3).standard_normal((9, STEPS, FEATURES)).astype(np.float32)
    together = session.probabilities(rows)
    alone = np.concatenate([session.probabilities(row[None]) for row in rows])
    assert together == pytest.approx(alone, abs=1e-6)
    assert np.ptp(together, axis=0).min() > 0.0


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        (["batch", "batch"], "'state' of 1, 4096 for 64"),
        (["huge", "batch"], "'state' of 1099511627776"),
        (["read"], "'state' of unknown"),
    ],
)
def test_what_grows_faster_than_the_batch_is_refused(sizes: list[str], match: str) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], axis=0),
        helper.make_node("Unsqueeze", ["rows", "first"], ["batch"]),
        helper.make_node("Constant", [], ["huge"], value_ints=[1 << 40]),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "first"], ["read"]),
        helper.make_node("Concat", sizes, ["sizes"], axis=0),
        helper.make_node("ConstantOfShape", ["sizes"], ["state"]),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        SOFTMAX,
    ]
    constants = {"w": np.ones((4, 3), np.float32), "zero": np.array(0), "first": np.array([0])}
    refused(graph_bytes(nodes, constants), match)


def test_a_zero_point_is_no_matrix() -> None:
    """The kernels leave a product to the runtime that takes a quantized tensor for its zero point."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "p"]),
        helper.make_node("MatMulInteger", ["q", "w", "q"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "s"], ["z"]),
        SOFTMAX,
    ]
    model = graph_bytes(nodes, {"w": np.ones((4, 3), np.int8)})
    with pytest.raises(KernelUnsupported, match="its quantizer's zero point"):
        DenseSession.from_bytes(model)


def sliced(
    kernel_shape: int, *claims: onnx.ValueInfoProto, before: list[onnx.NodeProto] | None = None
) -> bytes:
    """A convolution over a window, the last step of it, a softmax."""
    nodes = [
        *(before or []),
        helper.make_node("Conv", ["x", "kernel"], ["wide"], kernel_shape=[kernel_shape]),
        helper.make_node("Slice", ["wide", "starts", "ends", "axes"], ["last"]),
        helper.make_node("Squeeze", ["last", "axes"], ["z"]),
        SOFTMAX,
    ]
    constants = {
        "kernel": np.ones((3, FEATURES, 2), np.float32),
        "starts": np.array([0]),
        "ends": np.array([1]),
        "axes": np.array([2]),
    }
    window = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES, STEPS])]
    model = onnx.load_model_from_string(graph_bytes(nodes, constants, inputs=window))
    model.graph.value_info.extend(claims)
    return model.SerializeToString()


@pytest.mark.parametrize("kernel_shape", [STEPS + 2, 1 << 31, -(1 << 31)])
def test_impossible_sizes_are_refused_and_end_no_process(kernel_shape: int) -> None:
    assert open_session(sliced(2)).row_shape == (FEATURES, STEPS)
    refused(sliced(kernel_shape), "every size must be at least 1|must pass the ONNX checker")


def test_claims_of_sizes_in_between_are_not_believed() -> None:
    claim = helper.make_tensor_value_info("wide", TensorProto.FLOAT, ["batch", 3, -9])
    assert check_graph(sliced(2, claim)).window == FEATURES


def test_a_graph_that_reads_shapes_does_not_slice() -> None:
    refused(sliced(2, before=[helper.make_node("Shape", ["x"], ["shape"])]), "must not slice where it reads")

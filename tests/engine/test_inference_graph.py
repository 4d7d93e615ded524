"""Hostile model files: each is refused by a typed error that names what is wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_samples import graph_bytes, graph_model, linear_model
from onnx import TensorProto, helper

from engine.inference.errors import ModelError, ModelRefused
from engine.inference.graph import GraphLimits, check_graph
from engine.inference.session import OrtSession
from engine.inference.tiers import open_session

GOOD = linear_model().SerializeToString(deterministic=True)
SOFTMAX = helper.make_node("Softmax", ["z"], ["y"], axis=-1)
WEIGHT = np.ones((4, 3), np.float32)


def refused(model: bytes, match: str, **options) -> None:
    with pytest.raises(ModelRefused, match=match):
        check_graph(model, **options)
    with pytest.raises(ModelRefused, match=match):
        OrtSession.from_bytes(model, **options)


def test_a_plain_classifier_is_summarised():
    summary = check_graph(GOOD)
    assert (summary.feature_count, summary.precision, summary.opset) == (4, "fp32", 21)
    assert summary.operators == {"MatMul": 1, "Softmax": 1}
    assert summary.model_bytes == len(GOOD)


def test_a_custom_domain_is_refused():
    node = helper.make_node("Launch", ["x"], ["y"], domain="evil.corp")
    refused(graph_bytes([node], domains=("", "evil.corp")), "standard operators only")
    refused(graph_bytes([node]), "standard domain, was evil.corp::Launch")


def test_classical_learning_operators_are_refused():
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml")
    refused(graph_bytes([node], domains=("", "ai.onnx.ml")), "ai.onnx.ml")


@pytest.mark.parametrize("operator", ["Loop", "If", "Scan"])
def test_subgraphs_are_refused(operator):
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "body", [], [])
    names = ("then_branch", "else_branch") if operator == "If" else ("body",)
    node = helper.make_node(operator, ["x"], ["y"], **dict.fromkeys(names, body))
    refused(graph_bytes([node]), f"must be one of .* was {operator}")
    refused(graph_bytes([node]), "must be a number or a string, was GRAPH", allowed=frozenset({operator}))


def test_functions_are_refused():
    model = linear_model()
    model.functions.append(
        helper.make_function("", "Softmax", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [])
    )
    refused(model.SerializeToString(), "must not define functions")


def test_external_data_is_refused_and_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    model = linear_model()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="weights.bin")
    model.graph.initializer[0].ClearField("raw_data")
    refused(model.SerializeToString(), "inside the file")
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    refused(model.SerializeToString(), "inside the file")


def test_thin_constants_whose_product_would_fill_memory_are_refused():
    tall, flat = np.ones((60_000, 1), np.float32), np.ones((1, 60_000), np.float32)
    nodes = [
        helper.make_node("MatMul", ["tall", "flat"], ["huge"]),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        SOFTMAX,
    ]
    refused(graph_bytes(nodes, {"tall": tall, "flat": flat, "w": WEIGHT}), "elements a row")


@pytest.mark.parametrize("rows", [(1 << 18) + 1, 1 << 40])
def test_an_input_that_no_memory_holds_is_refused(rows):
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["row"], axis=1),
        helper.make_node("MatMul", ["row", "w"], ["z"]),
        SOFTMAX,
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows, 4])
    model = graph_bytes(nodes, {"first": np.array(0), "w": WEIGHT}, inputs=[x])
    refused(model, "the input must have at most 1048576 elements a row")


def test_a_batch_that_multiplies_itself_is_refused():
    nodes = [
        helper.make_node("Add", ["x", "column"], ["wide"]),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        SOFTMAX,
    ]
    refused(graph_bytes(nodes, {"column": np.ones((1, 9, 1, 1), np.float32), "w": WEIGHT}), "elements a row")


def test_limits_on_bytes_and_operators():
    with pytest.raises(ModelError, match="a model must hold 1 to 10 bytes, was"):
        check_graph(GOOD, limits=GraphLimits(model_bytes_max=10))
    refused(GOOD, "at most 1 operators, was 2", limits=GraphLimits(node_count_max=1))
    with pytest.raises(ModelError, match="was 0"):
        check_graph(b"")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_must_be_finite(value):
    weight = WEIGHT.copy()
    weight[1, 2] = value
    refused(linear_model(weight).SerializeToString(), "constants must be finite, was 'w'")


def test_constants_must_match_their_shape_and_kind():
    model = linear_model()
    model.graph.initializer[0].dims[0] = 1 << 40
    refused(model.SerializeToString(), "constants must match their shape")
    model = graph_model([SOFTMAX], {"text": np.array(["a"], object)})
    refused(model.SerializeToString(), "float32, int8, uint8, int32 or int64")
    model = linear_model()
    model.graph.sparse_initializer.add()
    refused(model.SerializeToString(), "dense")


@pytest.mark.parametrize("version", [-1, 11, onnx.defs.onnx_opset_version() + 1, 99])
def test_opsets_of_another_meaning_are_refused(version):
    model = linear_model()
    model.opset_import[0].version = version
    refused(model.SerializeToString(), f"opset 13 to .*, was {version}")


@pytest.mark.parametrize(
    ("opset", "operator"),
    [(13, "Tanh"), (13, "Sigmoid"), (14, "LeakyRelu"), (17, "Erf"), (20, "Gelu"), (21, "Identity")],
)
def test_what_other_peoples_tools_export_runs(opset, operator):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node(operator, ["h"], ["z"]),
        SOFTMAX,
    ]
    model = graph_model(nodes, {"w": WEIGHT})
    model.opset_import[0].version = opset
    session = open_session(model.SerializeToString())
    rows = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    assert session.probabilities(rows).sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_half_precision_is_refused_by_its_name():
    refused(graph_model([SOFTMAX], {"w": WEIGHT.astype(np.float16)}).SerializeToString(), "'w' of float16")


def test_inputs_and_outputs_have_one_fixed_form():
    def value(name, kind=TensorProto.FLOAT, shape=("batch", 4)):
        return helper.make_tensor_value_info(name, kind, list(shape))

    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), SOFTMAX]
    constants = {"w": WEIGHT}
    refused(graph_bytes(nodes, constants, inputs=[value("x"), value("other")]), "one input and one output")
    refused(graph_bytes(nodes, constants, inputs=[value("x", TensorProto.DOUBLE)]), "input must be float32")
    refused(
        graph_bytes(nodes, constants, inputs=[value("x", shape=(1, 4))]), "input must be float32 of shape"
    )
    refused(
        graph_bytes(nodes, constants, outputs=[value("y")]), r"output must be float32 of shape \(batch, 3\)"
    )
    refused(graph_bytes(nodes, {"w": np.ones((5, 3), np.float32)}), "ONNX checker")


def test_outputs_that_are_no_probabilities_are_refused_at_load():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    with pytest.raises(ModelError, match="outputs must be probabilities"):
        OrtSession.from_bytes(graph_bytes(nodes, {"w": WEIGHT}))


@pytest.mark.parametrize("text", [b"\x80\x04not a model", b"PK\x03\x04", b"{}", b"\x00" * 64])
def test_foreign_files_are_refused(text):
    with pytest.raises(ModelError):
        check_graph(text)


def loads_or_refuses(model: bytes) -> None:
    """Damage is refused with our error, or left a model that still answers with our types."""
    try:
        session = OrtSession.from_bytes(model)
    except ModelError:
        return
    assert -1.0 <= session.signal(np.zeros(session.feature_count, np.float32)) <= 1.0


def test_every_truncation_is_refused_or_harmless():
    for length in range(len(GOOD)):
        loads_or_refuses(GOOD[:length])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 8 * len(GOOD) - 1))
def test_every_flipped_bit_is_refused_or_harmless(bit):
    damaged = bytearray(GOOD)
    damaged[bit // 8] ^= 1 << bit % 8
    loads_or_refuses(bytes(damaged))
    with pytest.raises(ModelError):
        OrtSession.from_bytes(bytes(damaged), expected_sha256=check_graph(GOOD).sha256)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(noise):
    with pytest.raises(ModelError):
        check_graph(noise)

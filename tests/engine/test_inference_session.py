"""The exported graph against the fitted network, the quantized one against both, and the hot path."""

from __future__ import annotations

import logging
import tempfile

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_samples import NAMES, graph_bytes, linear_model, window
from onnx import helper

from engine.inference.capi import CapiSession
from engine.inference.classifier import TrainingConfig, fit_move_classifier, label_moves, move_threshold
from engine.inference.dense import DenseSession
from engine.inference.errors import ModelError
from engine.inference.export import to_onnx
from engine.inference.graph import check_graph
from engine.inference.quantize import quantize_static_int8
from engine.inference.session import ABSTAIN, InferenceSession, OrtSession, fused_operators, source_of

FEATURES, CHANGES = window(4_000)
LABELS = label_moves(CHANGES, threshold=move_threshold(CHANGES))


def fit(hidden=(32, 16)):
    return fit_move_classifier(FEATURES, LABELS, seed=5, config=TrainingConfig(hidden=hidden, epochs_max=8))


@pytest.fixture(scope="module")
def fitted():
    return fit()


@pytest.fixture(scope="module")
def fp32_model(fitted):
    return to_onnx(fitted, feature_names=NAMES, training_window="2012", threshold_ticks=0.5)


@pytest.fixture(scope="module")
def int8_model(fp32_model):
    return quantize_static_int8(fp32_model, FEATURES)


# Every implementation of the contract; what holds of one must hold of all.
KINDS = (OrtSession, CapiSession, DenseSession)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture(params=["fp32", "int8"])
def session(request, kind, fp32_model, int8_model) -> InferenceSession:
    return kind.from_bytes({"fp32": fp32_model, "int8": int8_model}[request.param])


@pytest.mark.parametrize("hidden", [(32, 16), (8,), (16, 16, 16)])
def test_fp32_graph_equals_the_fitted_network(hidden):
    fitted = fit(hidden)
    extreme = np.concatenate(
        [FEATURES, 1e6 * FEATURES[:50], -1e6 * FEATURES[:50], np.zeros_like(FEATURES[:1])]
    )
    answer = OrtSession.from_bytes(to_onnx(fitted)).probabilities(extreme)
    np.testing.assert_allclose(answer, fitted.probabilities(extreme), atol=1e-5)


def test_exported_graph_holds_only_the_operators_we_wrote(fp32_model):
    summary = check_graph(fp32_model)
    assert summary.operators == {"Clip": 1, "Gemm": 3, "Mul": 1, "Relu": 2, "Softmax": 1, "Sub": 1}
    assert summary.metadata == {
        "classes": '["down", "flat", "up"]',
        "feature_names": str(list(NAMES)).replace("'", '"'),
        "flat_threshold_ticks": "0.5",
        "schema_version": "1",
        "seed": "5",
        "training_window": "2012",
    }


def test_equal_input_gives_equal_bytes(fp32_model, int8_model):
    again = to_onnx(fit(), feature_names=NAMES, training_window="2012", threshold_ticks=0.5)
    assert again == fp32_model
    assert quantize_static_int8(again, FEATURES) == int8_model


def test_feature_names_must_match(fitted):
    with pytest.raises(ModelError, match="8 feature names, was 2"):
        to_onnx(fitted, feature_names=("a", "b"))


def test_quantized_layers_run_as_integer_kernels(int8_model):
    assert check_graph(int8_model).operators == {
        "Clip": 1,
        "DequantizeLinear": 7,
        "Gemm": 3,
        "Mul": 1,
        "QuantizeLinear": 3,
        "Softmax": 1,
        "Sub": 1,
    }
    fused = fused_operators(int8_model)
    assert fused.count("QGemm") == 2
    # Standardising and the layer whose differences are the signal stay in float.
    assert fused[:2] == ("Sub", "Mul")
    assert fused[-3:] == ("DequantizeLinear", "Gemm", "Softmax")


def test_quantized_weights_cannot_saturate_without_vnni(int8_model):
    """|w| ≤ 64 keeps a pair of u8 × s8 products inside 16 bits."""
    graph = onnx.load_model_from_string(int8_model).graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    matrices = [weight for weight in weights if weight.dtype == np.int8 and weight.ndim == 2]
    assert len(matrices) == 2
    assert all(np.abs(weight.astype(int)).max() <= 64 for weight in matrices)


def test_quantized_hidden_layer_equals_integer_arithmetic(int8_model):
    """The first layer, redone by hand: exact 32-bit sums of u8 × s8, one rounding to the output scale."""
    graph = onnx.load_model_from_string(int8_model).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    gemm = next(node for node in graph.node if node.name == "dense_0")
    arrive, weight, bias = (producers[name] for name in gemm.input)
    output = next(node for node in graph.node if gemm.output[0] in node.input)
    exposed = onnx.ModelProto()
    exposed.ParseFromString(int8_model)
    del exposed.graph.output[:]
    for name in (arrive.input[0], output.output[0]):
        exposed.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None))
    import onnxruntime

    runtime = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    quantized_input, quantized_output = runtime.run(None, {"features": FEATURES})
    input_scale, input_zero, weight_scale = (
        values[name] for name in (arrive.input[1], arrive.input[2], weight.input[1])
    )
    output_scale, output_zero = values[output.input[1]], values[output.input[2]]
    sums = (quantized_input.astype(np.int64) - int(input_zero)) @ values[weight.input[0]].astype(np.int64)
    sums += values[bias.input[0]]
    expected = np.rint(sums * (float(input_scale) * weight_scale.astype(np.float64) / float(output_scale)))
    expected = np.clip(expected + int(output_zero), 0, 255)
    off = np.abs(expected - quantized_output)
    # Only sums that land on a rounding tie may differ, by one: the kernel scales in float32.
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


def test_quantizing_leaves_nothing_behind(fp32_model, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handlers = list(logging.getLogger().handlers)
    quantize_static_int8(fp32_model, FEATURES[:200])
    fused_operators(fp32_model)
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger().handlers == handlers
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_quantized_is_refused(fp32_model, int8_model):
    with pytest.raises(ModelError, match="must be fp32, was int8"):
        quantize_static_int8(int8_model, FEATURES)
    with pytest.raises(ModelError, match=r"shape \(n, 8\), was \(4000, 3\)"):
        quantize_static_int8(fp32_model, FEATURES[:, :3])
    with pytest.raises(ModelError, match=r"shape \(n, 8\), was \(0, 8\)"):
        quantize_static_int8(fp32_model, FEATURES[:0])
    with pytest.raises(ModelError, match="two or more dense layers"):
        quantize_static_int8(linear_model().SerializeToString(), FEATURES[:, :4])
    holed = FEATURES.copy()
    holed[3, 1] = np.nan
    with pytest.raises(ModelError, match="row 3: features must be finite"):
        quantize_static_int8(fp32_model, holed)


def test_signal_is_up_minus_down_of_the_same_row(session):
    answers = session.probabilities(FEATURES[:300])
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-5)
    signals = [session.signal(row) for row in FEATURES[:300]]
    np.testing.assert_allclose(signals, answers[:, 2] - answers[:, 0], atol=1e-5)
    assert session.abstentions == 0


def test_a_compiled_forecast_is_the_signal(session):
    rows = np.ascontiguousarray(FEATURES[:50])
    source = source_of(session)
    assert source.feature_count == 8
    assert [source.forecast(row) for row in rows] == [np.float32(session.signal(row)) for row in rows]
    assert source.measure(rows, 20).shape == (2, 20)
    assert session.abstentions == 0
    assert session.runtime.split()[0] in ("kernel", "onnxruntime")


def test_signal_holds_no_state_between_calls(session):
    first = [session.signal(row) for row in FEATURES[:50]]
    assert [session.signal(row) for row in FEATURES[49::-1]] == first[::-1]


def test_a_strided_or_wider_row_means_the_same(session):
    wide = np.repeat(FEATURES[:20], 2, axis=1).astype(np.float64)
    for row, strided in zip(FEATURES, wide[:, ::2], strict=False):
        assert session.signal(strided) == session.signal(row)


@settings(max_examples=60, deadline=None)
@given(row=st.integers(0, 99), column=st.integers(0, 7), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_feature_that_is_not_finite_abstains_and_is_counted(fp32_model, int8_model, row, column, value):
    for model in (fp32_model, int8_model):
        session = KINDS[row % 3].from_bytes(model)
        rows = FEATURES[:100].copy()
        rows[row, column] = value
        assert session.signal(rows[row]) == ABSTAIN
        assert session.abstentions == 1
        unfit = np.isnan(session.probabilities(rows)).all(axis=1)
        assert np.flatnonzero(unfit).tolist() == [row]


def test_a_model_that_answers_nan_abstains(kind):
    """Finite weights whose product overflows: softmax of infinity minus infinity."""
    nodes = [
        helper.make_node("Mul", ["x", "big"], ["wide"]),
        helper.make_node("MatMul", ["wide", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=-1),
    ]
    constants = {"big": np.full(4, 3e38, np.float32), "w": np.full((4, 3), 3.0, np.float32)}
    session = kind.from_bytes(graph_bytes(nodes, constants))
    assert session.signal(np.full(4, 2.0, np.float32)) == ABSTAIN
    assert session.abstentions == 1


@pytest.mark.parametrize("shape", [(), (1,), (7,), (9,), (1, 8)])
def test_a_row_of_another_shape_is_refused_not_broadcast(session, shape):
    with pytest.raises(ModelError, match="features must have shape"):
        session.signal(np.zeros(shape, np.float32))


def test_a_batch_of_another_width_is_refused_and_an_empty_one_is_empty(session):
    with pytest.raises(ModelError, match=r"shape \(n, 8\)"):
        session.probabilities(np.zeros((3, 7), np.float32))
    assert session.probabilities(np.zeros((0, 8), np.float32)).shape == (0, 3)


def test_a_session_knows_its_file(kind, fp32_model, int8_model):
    fp32 = kind.from_bytes(fp32_model, expected_sha256=check_graph(fp32_model).sha256)
    assert (fp32.feature_count, fp32.precision) == (8, "fp32")
    assert kind.from_bytes(int8_model).precision == "int8"
    with pytest.raises(ModelError, match=r"fresh\.onnx: SHA-256 must be"):
        kind.from_bytes(int8_model, expected_sha256=fp32.sha256, source="fresh.onnx")

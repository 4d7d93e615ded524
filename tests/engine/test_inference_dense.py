"""Our kernels against ONNX Runtime, every form against every other, and what they refuse."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from dense_samples import answers, exposed, model_of, perceptron, quantized
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from benchmarks.inference_models import bilinear_attention
from engine.inference.dense_graph import CompiledGraph, compile_graph
from engine.inference.errors import KernelUnsupported
from ext.dense_kernel import VARIANT_NAMES, DenseKernel, variants

BILINEAR = onnx.load_model_from_string(bilinear_attention(seed=1))
FORMS = ("u8s8", "s8s8", "dynamic")


@pytest.fixture(params=VARIANT_NAMES)
def variant(request) -> str:
    if request.param not in variants():
        pytest.skip(f"this machine has no {request.param}")
    return request.param


def rows_for(width: int, count: int = 50, *, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


# Float.


@pytest.mark.parametrize("form", ["gemm", "turned", "matmul"])
@pytest.mark.parametrize("widths", [(40, 64, 64, 3), (1, 1, 3), (5, 17, 130, 2), (16, 32, 16, 3)])
def test_a_perceptron_agrees_with_the_oracle(variant, form, widths):
    model, rows = perceptron(widths, form=form), rows_for(widths[0])
    answer = compile_graph(model, variant=variant).kernel.run(rows)
    np.testing.assert_allclose(answer, answers(model, rows)[0], atol=1e-5, rtol=0.0)


def test_bilinear_attention_agrees_with_the_oracle(variant):
    model = BILINEAR
    rows = rows_for(400).reshape(-1, 40, 10)
    kernel = compile_graph(model, variant=variant).kernel
    answer = kernel.run(rows.reshape(len(rows), -1))
    np.testing.assert_allclose(answer, answers(model, rows)[0], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    "model",
    [perceptron((40, 64, 64, 3)), perceptron((7, 33, 3), form="matmul", scale=30.0), BILINEAR],
)
def test_every_variant_gives_the_same_bits(model):
    forms = [compile_graph(model, variant=name).kernel for name in variants()]
    rows = 5.0 * rows_for(forms[0].feature_count, 200)
    first = forms[0].run(rows)
    for kernel in forms[1:]:
        np.testing.assert_array_equal(kernel.run(rows).view(np.uint32), first.view(np.uint32))


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=150, deadline=None)
@given(x=st.lists(FLOATS, min_size=9, max_size=9), w=st.lists(FLOATS, min_size=27, max_size=27))
def test_every_variant_multiplies_and_adds_with_the_same_rounding(x, w):
    """Any finite floats: subnormal results, overflow, sums that cancel."""
    answer = []
    for name in variants():
        kernel = DenseKernel(1, 9, variant=name)
        kernel.finish(kernel.matmul(0, kernel.constant(np.array(w, np.float32).reshape(9, 3)), bias=w[:3]))
        found = kernel.run(np.array([x], np.float32))
        answer.append(np.where(np.isnan(found), np.float32(np.nan), found).tobytes())
    assert len(set(answer)) == 1


def test_the_sum_of_a_product_has_the_documented_order(variant):
    """Four chains of fused multiply-adds, the first from the bias; a float64 product is exact."""
    random = np.random.default_rng(3)
    x, w = (random.standard_normal(shape).astype(np.float32) for shape in ((1, 23), (23, 5)))
    bias = random.standard_normal(5).astype(np.float32)
    chains = [bias.copy(), *(np.zeros(5, np.float32) for _ in range(3))]
    for i in range(23):
        wide = x[0, i].astype(np.longdouble) * w[i].astype(np.longdouble) + chains[i % 4]
        chains[i % 4] = wide.astype(np.float32)
    expected = (chains[0] + chains[1]) + (chains[2] + chains[3])
    kernel = DenseKernel(1, 23, variant=variant)
    kernel.finish(kernel.matmul(0, kernel.constant(w), bias=bias))
    np.testing.assert_array_equal(kernel.run(x)[0], expected)


# Quantized.


def integers_of(compiled: CompiledGraph, rows: np.ndarray, name: str) -> np.ndarray:
    """What one inner value held after each row."""
    found = []
    for row in rows:
        compiled.kernel.run(row[None])
        found.append(compiled.kernel.trace(compiled.tensors[name])[0])
    return np.array(found)


def hidden_quantized(model: onnx.ModelProto) -> list[str]:
    made = {output for node in model.graph.node if node.op_type == "QuantizeLinear" for output in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    return sorted(made - constants)


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"reduce_range": True}])
@pytest.mark.parametrize("form", ["u8s8", "s8s8"])
def test_static_int8_is_exact_in_its_integers(variant, form, options):
    """Eight-bit weights at full range saturate VPMADDUBSW; neither the runtime here nor a kernel may."""
    plain = perceptron((24, 48, 33, 3), scale=2.0)
    rows = rows_for(24, 120)
    model = quantized(plain, rows, form=form, **options)
    compiled = compile_graph(model, variant=variant)
    np.testing.assert_allclose(compiled.kernel.run(rows), answers(model, rows)[0], atol=1e-5, rtol=0.0)
    names = hidden_quantized(model)
    assert len(names) >= 3
    kind = TensorProto.UINT8 if form == "u8s8" else TensorProto.INT8
    shift = 0 if form == "u8s8" else 128
    for name, oracle in zip(names, answers(exposed(model, names, kind), rows), strict=True):
        found = integers_of(compiled, rows, name)
        np.testing.assert_array_equal(found.astype(int) - shift, oracle, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"reduce_range": True}])
def test_dynamic_int8_is_exact_in_its_integers(variant, options):
    plain = perceptron((24, 48, 33, 3), form="matmul", scale=2.0)
    rows = rows_for(24, 120)
    model = quantized(plain, rows, form="dynamic", **options)
    compiled = compile_graph(model, variant=variant)
    np.testing.assert_allclose(compiled.kernel.run(rows), answers(model, rows)[0], atol=1e-5, rtol=0.0)
    quantizers = [node for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"]
    products = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    assert len(quantizers) == len(products) == 3
    # The first layer's input is the same float row in both; later ones agree to 1e-5 before they are cut.
    for node, kind in ((quantizers[0], TensorProto.UINT8), (products[0], TensorProto.INT32)):
        oracle = answers(exposed(model, [node.output[0]], kind), rows)[0]
        np.testing.assert_array_equal(integers_of(compiled, rows, node.output[0]), oracle)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 255), st.integers(0, 2**32 - 1), st.booleans())
def test_integer_sums_are_exact_where_bytes_are_extreme(inner, cols, zero_point, seed, extreme):
    random = np.random.default_rng(seed)
    q = random.choice([0, 255], inner) if extreme else random.integers(0, 256, inner)
    w = random.choice([-128, 127], (inner, cols)) if extreme else random.integers(-128, 128, (inner, cols))
    offset = random.integers(-(10**6), 10**6, cols)
    expected = (q - zero_point) @ w + offset
    for name in variants():
        kernel = DenseKernel(1, inner, variant=name)
        quantized = kernel.quantize(0, scale=1.0, zero_point=zero_point)
        sums = kernel.integer_matmul(quantized, w.astype(np.int8), offset=offset)
        kernel.finish(kernel.rescale(sums, 1.0))
        kernel.run((q - zero_point).astype(np.float32)[None])
        np.testing.assert_array_equal(kernel.trace(quantized)[0], q)
        np.testing.assert_array_equal(kernel.trace(sums)[0], expected)


@pytest.mark.parametrize("form", FORMS)
def test_every_quantized_variant_gives_the_same_bits(form):
    plain = perceptron((24, 48, 33, 3), form="matmul" if form == "dynamic" else "gemm", scale=2.0)
    rows = rows_for(24, 300)
    model = quantized(plain, rows, form=form)
    forms = [compile_graph(model, variant=name).kernel.run(rows) for name in variants()]
    for found in forms[1:]:
        np.testing.assert_array_equal(found.view(np.uint32), forms[0].view(np.uint32))


def test_halves_round_to_even_and_ends_clamp(variant):
    values = np.array([[-300, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 1e30, -1e30, 1e-30]], np.float32)
    kernel = DenseKernel(1, values.size, variant=variant)
    q = kernel.quantize(0, scale=1.0, zero_point=0)
    kernel.finish(kernel.dequantize(q))
    kernel.run(values)
    assert kernel.trace(q)[0].tolist() == [0, 0, 0, 2, 2, 254, 255, 255, 0, 0]


def test_a_row_of_a_batch_does_not_depend_on_its_neighbours():
    rows = rows_for(24, 30)
    model = quantized(perceptron((24, 48, 3), form="matmul"), rows, form="dynamic")
    kernel = compile_graph(model).kernel
    single = np.concatenate([kernel.run(row[None]) for row in rows])
    np.testing.assert_array_equal(kernel.run(rows), single)


# What is not a number, and what is refused.


def test_an_unfit_row_is_answered_with_nan_and_the_others_stay(variant):
    kernel = compile_graph(perceptron((40, 64, 3)), variant=variant).kernel
    rows = rows_for(40, 6)
    good = kernel.run(rows)
    rows[1, 39], rows[3, 0], rows[4, 20] = np.nan, np.inf, -np.inf
    found = kernel.run(rows)
    assert np.isnan(found[[1, 3, 4]]).all()
    np.testing.assert_array_equal(found[[0, 2, 5]], good[[0, 2, 5]])


def test_softmax_of_overflow_is_no_opinion(variant):
    model = perceptron((4, 3), scale=3e38)
    kernel = compile_graph(model, variant=variant).kernel
    row = np.full(4, 1e3, np.float32)
    assert kernel.forecast(row) == 0.0
    assert kernel.abstentions == 1


def node(kind: str, inputs: list[str], outputs: list[str], **options) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, **options)


SOFTMAX = node("Softmax", ["z"], ["y"], axis=-1)
REFUSED = [
    ([node("Sigmoid", ["x"], ["z"]), SOFTMAX], {}, (3,), "one the kernels know, was Sigmoid"),
    ([node("Softmax", ["x"], ["y"], axis=0)], {}, (3,), "along the last axis, was 0"),
    (
        [node("Gemm", ["x", "w"], ["z"], alpha=0.5), SOFTMAX],
        {"w": np.ones((3, 3), np.float32)},
        (3,),
        "x W . b",
    ),
    ([node("Transpose", ["x"], ["z"], perm=[1, 0]), SOFTMAX], {}, (3,), "swap rows and columns"),
    ([node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((4, 3), np.float32)}, (3,), "join equal lengths"),
    ([node("Softmax", ["x"], ["y"], axis=-1)], {}, (2, 3), r"\(batch, cols\), was of rank 3"),
    ([node("Softmax", ["x"], ["y"], axis=-1)], {}, (2, 3, 4), r"an input must be \(batch"),
    (
        [node("MatMul", ["x", "w"], ["y"])],
        {"w": np.ones((1 << 9, (1 << 9) + 1), np.float32)},
        (1 << 9,),
        "at most 262144 weights",
    ),
]


@pytest.mark.parametrize(("nodes", "constants", "shape", "rule"), REFUSED)
def test_what_is_not_covered_is_refused_with_its_reason(nodes, constants, shape, rule):
    with pytest.raises(KernelUnsupported, match=rule) as caught:
        compile_graph(model_of(nodes, constants, shape=shape), source="some.onnx")
    assert "some.onnx" in str(caught.value)


def reshaped(shape: list[int], rows: int = 5, cols: int = 4) -> onnx.ModelProto:
    nodes = [
        node("Reshape", ["x", "shape"], ["r"]),
        node("ReduceMean", ["r", "axis"], ["m"], keepdims=1),
        node("Squeeze", ["m", "axis"], ["q"]),
        node("MatMul", ["q", "w"], ["z"]),
        SOFTMAX,
    ]
    weights = np.random.default_rng(3).standard_normal((cols, 3)).astype(np.float32)
    constants = {"shape": np.array(shape), "axis": np.array([1]), "w": weights}
    return model_of(nodes, constants, shape=(rows, cols))


@pytest.mark.parametrize("shape", [[0, -1, 0], [0, 0, -1], [0, 0, 0], [0, 5, -1], [-1, 5, 4]])
def test_a_zero_in_a_reshape_keeps_the_size(shape):
    model, rows = reshaped(shape), rows_for(20).reshape(-1, 5, 4)
    answer = compile_graph(model).kernel.run(rows.reshape(len(rows), -1))
    np.testing.assert_allclose(answer, answers(model, rows)[0], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("shape", [[0, -1, 0, 0, 0], [0, -2, -1], [0, 0], [], [0, -1, -1]])
def test_a_foreign_reshape_falls_to_the_next_tier(shape):
    with pytest.raises(KernelUnsupported):
        compile_graph(reshaped(shape))


def test_what_a_foreign_file_makes_of_an_attribute_falls_to_the_next_tier():
    for nodes in (
        [node("Softmax", ["x"], ["y"], axis="last")],
        [node("Clip", ["x", "w"], ["z"]), SOFTMAX],
        [node("Sub", ["x"], ["z"]), SOFTMAX],
        [node("Softmax", [], ["y"])],
    ):
        with pytest.raises(KernelUnsupported):
            compile_graph(model_of(nodes, {"w": np.ones(3, np.float32)}, shape=(3,)))


def test_all_tensors_together_are_bounded_with_their_padding():
    with pytest.raises(ValueError, match="together must hold at most 16777216"):
        DenseKernel((1 << 20) + 1, 1)
    kernel = DenseKernel(1, 1 << 22)
    for _ in range(3):
        kernel.clip(0)
    with pytest.raises(ValueError, match="was 20971520"):
        kernel.clip(0)
    with pytest.raises(ValueError, match="a tensor must hold 1 to"):
        DenseKernel(1, (1 << 31) - 1)


def test_sums_that_could_leave_32_bits_are_refused():
    kernel = DenseKernel(1, 40_000)
    q = kernel.quantize(0, scale=1.0, zero_point=0)
    with pytest.raises(ValueError, match="fit 32 bits"):
        kernel.integer_matmul(q, np.full((40_000, 1), 127, np.int8))


def test_a_kernel_checks_what_it_is_given():
    with pytest.raises(ValueError, match="variant must be one of"):
        DenseKernel(1, 4, variant="mmx")
    kernel = DenseKernel(1, 4)
    with pytest.raises(ValueError, match="must be finished"):
        kernel.run(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="must be one of 1, was 7"):
        kernel.softmax(7)
    with pytest.raises(ValueError, match="repeat to one shape"):
        kernel.binary("add", 0, kernel.constant(np.zeros((1, 3), np.float32)))
    kernel.finish(kernel.softmax(0))
    with pytest.raises(ValueError, match="takes no more steps"):
        kernel.sqrt(0)
    with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
        kernel.run(np.zeros((1, 5), np.float32))
    with pytest.raises(ValueError, match="contiguous float32"):
        kernel.forecast(np.zeros(4))
    assert kernel.run(np.zeros((0, 4), np.float32)).shape == (0, 4)

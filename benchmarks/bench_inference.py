"""One answer of a small model, through every way there is: from Python, from C, by our own kernels.

Each way answers the same rows and is verified against ``run(None, ...)``, the oracle. Floor: the same
loop around nothing; for numpy, its matrix products alone.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, pairwise

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from engine.inference.capi import CapiSession
from engine.inference.dense_graph import compile_graph
from engine.inference.errors import KernelUnsupported
from engine.inference.graph import parse_model
from ext.dense_kernel import variants

from .harness import Bench, scenario
from .inference_models import bilinear_attention, perceptron, quantized, temporal_convolution

Floats = NDArray[np.float32]
WIDTHS = (40, 64, 64, 3)
TOLERANCE = 1e-5


@scenario(
    "inference",
    "one answer of a small model, by every way in",
    conditions="batch 1, one thread, calls back to back on rows in turn (service time, not response under "
    "load), random weights; mlp is 40-64-64-3, bilinear is BiN-C(TABL) over 40 x 10, tcn-small has 26 k "
    "weights over 100 x 40; INT8 is static QDQ, u8 activations, s8 weights.",
)
def inference(bench: Bench) -> None:
    count = bench.parameter("calls", smoke=20, full=20_000)
    seed = bench.seed
    random = np.random.default_rng(seed)
    rows = random.standard_normal((64, WIDTHS[0])).astype(np.float32)
    windows = random.standard_normal((64, 100, 40)).astype(np.float32)
    mlp = perceptron(WIDTHS, seed=seed)
    _numpy(bench, mlp, rows, count)
    for name, model, inputs in (
        ("mlp fp32", mlp, rows),
        ("mlp int8", quantized(mlp, rows), rows),
        ("bilinear fp32", bilinear_attention(seed=seed), windows[:, :40, :10].copy()),
        ("tcn-small fp32", temporal_convolution(seed=seed), windows),
        ("tcn-small int8", quantized(temporal_convolution(seed=seed), windows), windows),
    ):
        _all_ways(bench, name, model, inputs, count if name.startswith(("mlp", "bilinear")) else count // 10)


def _all_ways(bench: Bench, name: str, model: bytes, inputs: Floats, count: int) -> None:
    single = [row[None] for row in inputs]
    session = _python_session(model)
    turns = cycle(single)
    oracle = np.concatenate([session.run(None, {"x": row})[0] for row in single])

    def nothing() -> None:
        next(turns)

    def plain() -> None:
        session.run(None, {"x": next(turns)})

    bench.latency(f"{name}, run(None)", plain, count=count, floor=nothing)

    inside, outside = np.zeros_like(single[0]), np.zeros((1, 3), np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, inside.shape, inside.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, outside.shape, outside.ctypes.data)

    def bound() -> None:
        inside[:] = next(turns)
        session.run_with_iobinding(binding)

    def bound_answer(row: Floats) -> Floats:
        inside[:] = row
        session.run_with_iobinding(binding)
        return outside.copy()

    bench.latency(f"{name}, io_binding", bound, count=count, floor=nothing)
    _verify(bench, f"{name}, io_binding", bound_answer, single, oracle)

    flat = np.ascontiguousarray(inputs.reshape(len(inputs), -1))
    through_c = CapiSession.from_bytes(model)
    taken, clock = through_c.kernel.measure(flat, count)
    bench.samples(f"{name}, C interface", taken.astype(np.float64), floor=clock)
    _verify(bench, f"{name}, C interface", through_c.probabilities, single, oracle)

    parsed = parse_model(model)
    for variant in variants():
        try:
            kernel = compile_graph(parsed, variant=variant).kernel
        except KernelUnsupported:
            break
        taken, clock = kernel.measure(flat, count)
        bench.samples(f"{name}, own kernel {variant}", taken.astype(np.float64), floor=clock)
        found = kernel.run(flat)
        bench.verify(
            bool(np.abs(found - oracle).max() <= TOLERANCE), f"{name} in {variant} agrees with ONNX Runtime"
        )


def _numpy(bench: Bench, model: bytes, rows: Floats, count: int) -> None:
    """Time the perceptron in numpy with preallocated results, its matrix products alone as the floor."""
    graph = onnx.load_model_from_string(model).graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [(held[f"w{layer}"], held[f"b{layer}"]) for layer in range(len(WIDTHS) - 1)]
    states = [np.zeros((1, width), np.float32) for width in WIDTHS]
    turns = cycle([row[None] for row in rows])

    def multiply() -> None:
        for (inner, outer), (weight, _) in zip(pairwise(states), layers, strict=True):
            np.dot(inner, weight, out=outer)

    def answer(row: Floats) -> Floats:
        states[0][:] = row
        for layer, (weight, bias) in enumerate(layers):
            out = states[layer + 1]
            np.dot(states[layer], weight, out=out)
            np.add(out, bias, out=out)
            if layer < len(layers) - 1:
                np.maximum(out, 0.0, out=out)
        np.subtract(out, out.max(), out=out)
        np.exp(out, out=out)
        np.divide(out, out.sum(), out=out)
        return out

    single = [row[None] for row in rows]
    session = _python_session(model)
    oracle = np.concatenate([session.run(None, {"x": row})[0] for row in single])
    bench.latency("mlp fp32, numpy out=", lambda: answer(next(turns)), count=count, floor=multiply)
    _verify(bench, "mlp fp32, numpy out=", lambda row: answer(row).copy(), single, oracle)


def _verify(
    bench: Bench, name: str, answer: Callable[[Floats], Floats], single: list[Floats], oracle: Floats
) -> None:
    found = np.concatenate([answer(row) for row in single])
    bench.verify(bool(np.abs(found - oracle).max() <= TOLERANCE), f"{name} agrees with ONNX Runtime")


def _python_session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

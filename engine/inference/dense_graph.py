"""From an ONNX graph to the steps of a `DenseKernel`, or the reason why not.

Covered: matrices of one or more rows per sample, so perceptrons and bilinear networks with temporal
attention (Tran et al. 2019) and bilinear normalization (Tran et al. 2021); in float, and quantized in
the forms ONNX Runtime's tools write: static QDQ with u8 or s8 activations, dynamic with MatMulInteger.

Where ONNX Runtime fuses a quantized layer (QGemm, MatMulIntegerToFloat) the same arithmetic is built
here, in its order, so that quantized values and integer sums are equal, not close. One thing differs
on purpose: a batch is answered row by row, so dynamic ranges are those of each row, and an answer does
not depend on its neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Final

import numpy as np
import onnx

from ext.dense_kernel import DenseKernel

from .dense_values import (
    Array,
    CompiledGraph,
    Dequantized,
    Factor,
    Floats,
    Quantized,
    Refusal,
    Sums,
    Value,
    Weights,
    ZeroPoint,
    arrays_of,
    as_matrix,
    as_repeated,
    as_row,
    centred_weights,
    options_of,
    require,
    reshape_sizes,
    restored,
    second_input,
    third_input,
)
from .errors import KernelUnsupported

WEIGHTS_MAX: Final = 1 << 18
"""In float they fill a second-level cache of 1 MiB; beyond it ONNX Runtime is as fast."""


def compile_graph(
    parsed: onnx.ModelProto,
    *,
    source: str | PathLike[str] = "model",
    variant: str | None = None,
    weights_max: int = WEIGHTS_MAX,
) -> CompiledGraph:
    """Return a kernel that computes the graph.

    Parameters
    ----------
    parsed : ModelProto
        One input of shape (batch, cols) or (batch, rows, cols), one output.
    variant : str, optional
        One of `ext.dense_kernel.variants`.
    weights_max : int
        Numbers that the graph's constants may hold.

    Raises
    ------
    KernelUnsupported
        The message says which operator or shape is not covered.
    """
    try:
        return _Compiler(parsed, variant=variant, weights_max=weights_max).compile()
    except Refusal as refusal:
        raise KernelUnsupported(str(refusal), source=source) from None
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        # The kernel's own checks, and odd attributes of a foreign file, which must fall to the next tier.
        rule = f"a graph must fit the kernels, was refused: {error}"
        raise KernelUnsupported(rule, source=source) from error


class _Compiler:
    def __init__(self, parsed: onnx.ModelProto, *, variant: str | None, weights_max: int) -> None:
        graph = parsed.graph
        self.values: dict[str, Value] = dict(arrays_of(parsed))
        weights = sum(int(np.size(value)) for value in self.values.values() if isinstance(value, np.ndarray))
        require(weights <= weights_max, f"a graph must hold at most {weights_max} weights", weights)
        inputs = [value for value in graph.input if value.name not in self.values]
        require(len(inputs) == 1 and len(graph.output) == 1, "one input and one output", len(inputs))
        dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
        require(len(dims) in (2, 3) and all(dims[1:]), "an input must be (batch, [rows,] cols)", dims)
        self.kernel = DenseKernel(1 if len(dims) == 2 else dims[1], dims[-1], variant=variant)
        self.values[inputs[0].name] = Floats(0, len(dims))
        self.nodes: Sequence[onnx.NodeProto] = graph.node
        self.output = graph.output[0].name
        self.uses = Counter(name for node in self.nodes for name in node.input) + Counter([self.output])
        self.users = {name: node for node in self.nodes for name in node.input}

    def compile(self) -> CompiledGraph:
        for node in self.nodes:
            # A node that the one before it took along is done.
            if node.output[0] in self.values:
                continue
            handler = _HANDLERS.get(node.op_type)
            require(handler is not None, "an operator must be one the kernels know", node.op_type)
            assert handler is not None
            handler(self, node)
        answer = self.floats(self.output)
        require(answer.rank == 2, "an answer must be (batch, cols)", f"of rank {answer.rank}")
        self.kernel.finish(answer.tensor)
        tensors = {
            name: value.tensor
            for name, value in self.values.items()
            if isinstance(value, (Floats, Quantized, Sums))
        }
        return CompiledGraph(self.kernel, tensors)

    # Looking things up.

    def value(self, name: str) -> Value:
        require(name in self.values, "every argument must be computed before", repr(name))
        return self.values[name]

    def constant(self, name: str) -> Array:
        value = self.value(name)
        if isinstance(value, Weights):
            return restored(value)
        require(isinstance(value, np.ndarray), f"{name!r} must be constant", type(value).__name__)
        assert isinstance(value, np.ndarray)
        return value

    def floats(self, name: str) -> Floats:
        value = self.value(name)
        if isinstance(value, Dequantized):
            require(value.of.scale is not None, "a row's own scale must meet an integer product", name)
            return Floats(self.kernel.dequantize(value.of.tensor), value.of.rank)
        require(isinstance(value, Floats), f"{name!r} must be a float matrix", type(value).__name__)
        assert isinstance(value, Floats)
        return value

    def is_constant(self, name: str) -> bool:
        return isinstance(self.values.get(name), (np.ndarray, Weights))

    def only_user(self, name: str, operator: str) -> onnx.NodeProto | None:
        """Return the node that alone uses a value, if it is of that kind."""
        user = self.users.get(name)
        return user if self.uses[name] == 1 and user is not None and user.op_type == operator else None

    def relu_of(self, node: onnx.NodeProto) -> tuple[bool, str]:
        """Return whether a Relu alone follows, and the name of the result then."""
        relu = self.only_user(node.output[0], "Relu")
        return (False, node.output[0]) if relu is None else (True, relu.output[0])

    # Products.

    def gemm(self, node: onnx.NodeProto) -> None:
        options = options_of(node)
        plain = options.get("alpha", 1.0) == 1.0 and options.get("beta", 1.0) == 1.0
        require(plain and not options.get("transA", 0), "Gemm must be x W + b", dict(options))
        self.product(node, transposed=bool(options.get("transB", 0)), bias=third_input(node))

    def matmul(self, node: onnx.NodeProto) -> None:
        self.product(node, transposed=False, bias=None)

    def product(self, node: onnx.NodeProto, *, transposed: bool, bias: str | None) -> None:
        left, right = self.value(node.input[0]), self.value(node.input[1])
        if isinstance(left, Dequantized) and isinstance(right, Weights):
            self.integer_product(node, left.of, right, transposed=transposed, bias=bias)
            return
        added: Array = np.zeros(1, np.float32) if bias is None else as_row(self.constant(bias))
        relu, name = self.relu_of(node)
        if self.is_constant(node.input[0]):
            require(not transposed and bias is None, "Gemm must have its weights second", node.name)
            second = self.floats(node.input[1])
            require(second.rank == 3, "weights on the left must meet a matrix", node.name)
            first = self.kernel.constant(as_matrix(self.constant(node.input[0])))
            self.values[name] = Floats(self.kernel.matmul(first, second.tensor, relu=relu), 3)
            return
        operand = self.floats(node.input[0])
        if self.is_constant(node.input[1]):
            weights = as_matrix(self.constant(node.input[1]))
            other = self.kernel.constant(weights.T if transposed else weights)
        else:
            matrix = self.floats(node.input[1])
            require(operand.rank == matrix.rank == 3, "two computed factors must be matrices", node.name)
            other = matrix.tensor
        result = self.kernel.matmul(operand.tensor, other, bias=added, relu=relu)
        self.values[name] = Floats(result, operand.rank)

    def integer_product(
        self, node: onnx.NodeProto, q: Quantized, weights: Weights, *, transposed: bool, bias: str | None
    ) -> None:
        """Build what ONNX Runtime fuses into QGemm or MatMulIntegerToFloat."""
        values = weights.values.T if transposed else weights.values
        require(values.ndim == 2, "integer weights must be a matrix", weights.values.shape)
        by_column = weights.axis % 2 == (0 if transposed else 1)
        require(weights.scale.size == 1 or by_column, "scales must belong to columns", weights.axis)
        assert q.scale is not None
        scale = q.scale * weights.scale
        offset: Array = np.zeros(1, np.int64)
        if bias is not None:
            held = self.value(bias)
            require(isinstance(held, Weights) and held.values.dtype == np.int32, "a bias must be int32", bias)
            assert isinstance(held, Weights)
            require(np.allclose(held.scale, scale, rtol=1e-5, atol=0.0), "a bias must share the scale", bias)
            offset = held.values.reshape(-1)
        sums = self.kernel.integer_matmul(q.tensor, values, offset=offset)
        quantizer = self.only_user(node.output[0], "QuantizeLinear")
        if quantizer is not None:
            out_scale, zero_point = self.quantization(quantizer)
            tensor = self.kernel.requantize(
                sums, scale / out_scale, out_scale=float(out_scale), zero_point=zero_point
            )
            self.values[quantizer.output[0]] = Quantized(tensor, q.rank, out_scale, zero_point)
            return
        relu, name = self.relu_of(node)
        self.values[name] = Floats(self.kernel.rescale(sums, scale, relu=relu), q.rank)

    # Quantizing.

    def quantization(self, node: onnx.NodeProto) -> tuple[np.float32, int]:
        """Return the scale and the zero point, as of u8."""
        scale = self.constant(node.input[1])
        require(third_input(node), "a quantizer must name its zero point", node.name)
        zero = self.constant(node.input[2])
        require(scale.size == zero.size == 1, "activations must have one scale", scale.shape)
        require(zero.dtype in (np.uint8, np.int8), "activations must be u8 or s8", zero.dtype)
        # The kernels hold s8 values 128 higher, as u8: every difference from the zero point is the same.
        return np.float32(scale.item()), int(zero.item()) + (128 if zero.dtype == np.int8 else 0)

    def quantize(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        scale, zero_point = self.quantization(node)
        tensor = self.kernel.quantize(x.tensor, scale=float(scale), zero_point=zero_point)
        self.values[node.output[0]] = Quantized(tensor, x.rank, scale, zero_point)

    def dequantize(self, node: onnx.NodeProto) -> None:
        value = self.value(node.input[0])
        if isinstance(value, Quantized):
            kept = (value.scale, value.zero_point) == self.quantization(node)
            require(kept, "a tensor must keep its scale and zero point", node.name)
            self.values[node.output[0]] = Dequantized(value)
            return
        values, scales = self.constant(node.input[0]), self.constant(node.input[1])
        zero = self.constant(node.input[2]) if third_input(node) else np.zeros((), values.dtype)
        options = options_of(node)
        require(not options.get("block_size", 0), "scales must be per tensor or column", dict(options))
        axis = int(options.get("axis", 1))
        self.values[node.output[0]] = centred_weights(values, scales, zero, axis=axis)

    def quantize_dynamic(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        require(x.rank == 2, "dynamic quantization must be of vectors", node.name)
        q = Quantized(self.kernel.quantize_dynamic(x.tensor), x.rank, None)
        result, scale, zero_point = node.output
        self.values[result], self.values[zero_point] = q, ZeroPoint(q)
        self.values[scale] = Factor(q, np.ones((), np.float32))

    def matmul_integer(self, node: onnx.NodeProto) -> None:
        q = self.value(node.input[0])
        require(isinstance(q, Quantized), "MatMulInteger must follow a quantizer", node.name)
        assert isinstance(q, Quantized)
        zero = self.value(node.input[2]) if len(node.input) > 2 else None
        own = isinstance(zero, ZeroPoint) and zero.of is q
        require(own, "MatMulInteger must take its quantizer's zero point", node.name)
        values = self.constant(node.input[1])
        shift = self.constant(node.input[3]) if len(node.input) > 3 else np.zeros((), values.dtype)
        centred = centred_weights(values, np.ones((), np.float32), shift, axis=1)
        self.values[node.output[0]] = Sums(self.kernel.integer_matmul(q.tensor, centred.values), q)

    def cast(self, node: onnx.NodeProto) -> None:
        value = self.value(node.input[0])
        to_float = options_of(node).get("to") == onnx.TensorProto.FLOAT
        require(to_float and isinstance(value, Sums), "Cast must turn integer sums into floats", node.name)
        self.values[node.output[0]] = value

    # One number at a time.

    def binary(self, node: onnx.NodeProto) -> None:
        left, right = (self.value(name) for name in node.input)
        if node.op_type == "Mul" and (isinstance(left, (Sums, Factor)) or isinstance(right, (Sums, Factor))):
            self.scale(node, left, right)
            return
        operands = [None if self.is_constant(name) else self.floats(name) for name in node.input]
        rank = max((operand.rank for operand in operands if operand), default=0)
        require(rank > 0, f"{node.op_type} must have an argument that is computed", node.name)
        tensors = [
            operand.tensor if operand else self.kernel.constant(as_repeated(self.constant(name), rank))
            for operand, name in zip(operands, node.input, strict=True)
        ]
        result = self.kernel.binary(node.op_type.lower(), *tensors)
        self.values[node.output[0]] = Floats(result, rank)

    def scale(self, node: onnx.NodeProto, left: Value, right: Value) -> None:
        """Follow ``(sums as float) * (the row's scale * constants)``."""
        if isinstance(right, Sums):
            left, right = right, left
        if isinstance(left, Sums) and isinstance(right, Factor) and left.of is right.of:
            relu, name = self.relu_of(node)
            tensor = self.kernel.rescale(
                left.tensor, as_row(right.constant), rows_of=left.of.tensor, relu=relu
            )
            self.values[name] = Floats(tensor, left.of.rank)
            return
        factor, other = (left, node.input[1]) if isinstance(left, Factor) else (right, node.input[0])
        require(isinstance(factor, Factor), "integer sums must be scaled by their own scale", node.name)
        assert isinstance(factor, Factor)
        self.values[node.output[0]] = Factor(factor.of, factor.constant * self.constant(other))

    def power(self, node: onnx.NodeProto) -> None:
        x, exponent = self.floats(node.input[0]), self.constant(node.input[1])
        require(exponent.size == 1 and exponent.item() == 2.0, "Pow must be a square", exponent)
        self.values[node.output[0]] = Floats(self.kernel.binary("mul", x.tensor, x.tensor), x.rank)

    def clip(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        limits = {"low": 0.0} if node.op_type == "Relu" else {}
        for name, given in zip(("low", "high"), node.input[1:], strict=False):
            if given:
                limits[name] = float(self.constant(given).item())
        self.values[node.output[0]] = Floats(self.kernel.clip(x.tensor, **limits), x.rank)

    def sqrt(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        self.values[node.output[0]] = Floats(self.kernel.sqrt(x.tensor), x.rank)

    # Along rows and columns.

    def softmax(self, node: onnx.NodeProto) -> None:
        x, axis = self.floats(node.input[0]), int(options_of(node).get("axis", -1))
        require(axis in (-1, x.rank - 1), "Softmax must run along the last axis", axis)
        self.values[node.output[0]] = Floats(self.kernel.softmax(x.tensor), x.rank)

    def mean(self, node: onnx.NodeProto) -> None:
        x, options = self.floats(node.input[0]), options_of(node)
        given = self.constant(node.input[1]).tolist() if len(node.input) > 1 else options.get("axes", [])
        axes = [axis % x.rank for axis in given]
        require(len(axes) == 1 and axes[0] > 0, "ReduceMean must be over one axis, not the batch", given)
        require(bool(options.get("keepdims", 1)), "ReduceMean must keep the axis", "keepdims 0")
        axis = 1 if axes[0] == x.rank - 1 else 0
        self.values[node.output[0]] = Floats(self.kernel.mean(x.tensor, axis), x.rank)

    def transpose(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        order = list(options_of(node).get("perm", ()))
        require(x.rank == 3 and order == [0, 2, 1], "Transpose must swap rows and columns", order)
        self.values[node.output[0]] = Floats(self.kernel.transpose(x.tensor), 3)

    def reshape(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        rows, cols = self.kernel.shape(x.tensor)
        if node.op_type == "Flatten":
            require(options_of(node).get("axis", 1) == 1, "Flatten must keep the batch axis", node.name)
            shape = [0, rows * cols]
        elif node.op_type == "Squeeze":
            axes = [int(axis) % x.rank for axis in self.constant(node.input[1])] if second_input(node) else []
            require(x.rank == 3 and axes in ([1], [2]), "Squeeze must drop rows or columns", axes)
            require((rows, cols)[axes[0] - 1] == 1, "a dropped axis must be 1 long", (rows, cols))
            shape = [0, rows * cols]
        else:
            require(not options_of(node).get("allowzero", 0), "a 0 must keep the argument's size", node.name)
            shape = self.constant(node.input[1]).tolist()
            if len(shape) > 1 and shape[0] == 0 and shape[1:].count(-1) <= 1:
                shape = reshape_sizes(shape, (rows, cols)[-(x.rank - 1) :])
        kept = len(shape) in (2, 3) and shape[0] in (0, -1) and int(np.prod(shape[1:])) == rows * cols
        require(kept, "a reshape must keep the batch axis", shape)
        new_rows = 1 if len(shape) == 2 else shape[1]
        tensor = x.tensor if new_rows == rows else self.kernel.reshape(x.tensor, new_rows, shape[-1])
        self.values[node.output[0]] = Floats(tensor, len(shape))


_HANDLERS: Final[dict[str, Callable[[_Compiler, onnx.NodeProto], None]]] = {
    "Add": _Compiler.binary,
    "Cast": _Compiler.cast,
    "Clip": _Compiler.clip,
    "DequantizeLinear": _Compiler.dequantize,
    "Div": _Compiler.binary,
    "DynamicQuantizeLinear": _Compiler.quantize_dynamic,
    "Flatten": _Compiler.reshape,
    "Gemm": _Compiler.gemm,
    "MatMul": _Compiler.matmul,
    "MatMulInteger": _Compiler.matmul_integer,
    "Mul": _Compiler.binary,
    "Pow": _Compiler.power,
    "QuantizeLinear": _Compiler.quantize,
    "ReduceMean": _Compiler.mean,
    "Relu": _Compiler.clip,
    "Reshape": _Compiler.reshape,
    "Softmax": _Compiler.softmax,
    "Sqrt": _Compiler.sqrt,
    "Squeeze": _Compiler.reshape,
    "Sub": _Compiler.binary,
    "Transpose": _Compiler.transpose,
}

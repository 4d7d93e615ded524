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
from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ext.dense_kernel import DenseKernel

from .errors import KernelUnsupported

WEIGHTS_MAX: Final = 1 << 21
"""Larger networks leave the second-level cache, where ONNX Runtime's blocked products are faster."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Floats:
    """A float matrix per sample; `rank` counts the batch axis, so a row of rank 2 is a vector."""

    tensor: int
    rank: int


@dataclass(frozen=True, slots=True)
class _Quantized:
    """A quantized matrix per sample. `scale` is None where each row has its own."""

    tensor: int
    rank: int
    scale: np.float32 | None


@dataclass(frozen=True, slots=True)
class _Dequantized:
    """What DequantizeLinear made of it; built only when somebody needs floats."""

    of: _Quantized


@dataclass(frozen=True, slots=True)
class _Weights:
    """Quantized constants: ``(values - zero_point) * scale``."""

    values: Array
    scale: Array
    axis: int


@dataclass(frozen=True, slots=True)
class _Sums:
    """Integer sums of a dynamically quantized matrix."""

    tensor: int
    of: _Quantized


@dataclass(frozen=True, slots=True)
class _Factor:
    """The row's own scale times constants."""

    of: _Quantized
    constant: Array


_Value = _Floats | _Quantized | _Dequantized | _Weights | _Sums | _Factor | Array


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A kernel, and which of its tensors holds which value of the graph, for whoever wants to look."""

    kernel: DenseKernel
    tensors: dict[str, int]


def compile_graph(
    parsed: onnx.ModelProto, *, source: str | PathLike[str] = "model", variant: str | None = None
) -> CompiledGraph:
    """Return a kernel that computes the graph.

    Parameters
    ----------
    parsed : ModelProto
        One input of shape (batch, cols) or (batch, rows, cols), one output.
    variant : str, optional
        One of `ext.dense_kernel.variants`.

    Raises
    ------
    KernelUnsupported
        The message says which operator or shape is not covered.
    """
    try:
        return _Compiler(parsed, variant=variant).compile()
    except _Refusal as refusal:
        raise KernelUnsupported(str(refusal), source=source) from None
    except ValueError as error:
        # The kernel's own checks: shapes that do not join, sums that may overflow.
        raise KernelUnsupported(f"a graph must fit the kernels, was refused: {error}", source=source) from error


class _Refusal(Exception):  # noqa: N818  # not an error of its own: compile_graph turns it into one
    pass


class _Compiler:
    def __init__(self, parsed: onnx.ModelProto, *, variant: str | None) -> None:
        graph = parsed.graph
        self.values: dict[str, _Value] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        weights = sum(int(np.size(value)) for value in self.values.values() if isinstance(value, np.ndarray))
        _require(weights <= WEIGHTS_MAX, f"a graph must hold at most {WEIGHTS_MAX} weights", weights)
        inputs = [value for value in graph.input if value.name not in self.values]
        _require(len(inputs) == 1 and len(graph.output) == 1, "one input and one output", len(inputs))
        dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
        _require(len(dims) in (2, 3) and all(dims[1:]), "an input must be (batch, [rows,] cols)", dims)
        self.kernel = DenseKernel(1 if len(dims) == 2 else dims[1], dims[-1], variant=variant)
        self.values[inputs[0].name] = _Floats(0, len(dims))
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
            _require(handler is not None, "an operator must be one the kernels know", node.op_type)
            assert handler is not None
            handler(self, node)
        answer = self.floats(self.output)
        _require(answer.rank == 2, "an answer must be (batch, cols)", f"of rank {answer.rank}")
        self.kernel.finish(answer.tensor)
        tensors = {
            name: value.tensor
            for name, value in self.values.items()
            if isinstance(value, (_Floats, _Quantized, _Sums))
        }
        return CompiledGraph(self.kernel, tensors)

    # Looking things up.

    def value(self, name: str) -> _Value:
        _require(name in self.values, "every argument must be computed before", repr(name))
        return self.values[name]

    def constant(self, name: str) -> Array:
        value = self.value(name)
        if isinstance(value, _Weights):
            return _restored(value)
        _require(isinstance(value, np.ndarray), f"{name!r} must be constant", type(value).__name__)
        assert isinstance(value, np.ndarray)
        return value

    def floats(self, name: str) -> _Floats:
        value = self.value(name)
        if isinstance(value, _Dequantized):
            _require(value.of.scale is not None, "a row's own scale must meet an integer product", name)
            return _Floats(self.kernel.dequantize(value.of.tensor), value.of.rank)
        _require(isinstance(value, _Floats), f"{name!r} must be a float matrix", type(value).__name__)
        assert isinstance(value, _Floats)
        return value

    def is_constant(self, name: str) -> bool:
        return isinstance(self.values.get(name), (np.ndarray, _Weights))

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
        options = _options(node)
        plain = options.get("alpha", 1.0) == 1.0 and options.get("beta", 1.0) == 1.0
        _require(plain and not options.get("transA", 0), "Gemm must be x W + b", dict(options))
        self.product(node, transposed=bool(options.get("transB", 0)), bias=_third(node))

    def matmul(self, node: onnx.NodeProto) -> None:
        self.product(node, transposed=False, bias=None)

    def product(self, node: onnx.NodeProto, *, transposed: bool, bias: str | None) -> None:
        left, right = self.value(node.input[0]), self.value(node.input[1])
        if isinstance(left, _Dequantized) and isinstance(right, _Weights):
            self.integer_product(node, left.of, right, transposed=transposed, bias=bias)
            return
        added: Array = np.zeros(1, np.float32) if bias is None else _row(self.constant(bias))
        relu, name = self.relu_of(node)
        if self.is_constant(node.input[0]):
            _require(not transposed and bias is None, "Gemm must have its weights second", node.name)
            second = self.floats(node.input[1])
            _require(second.rank == 3, "weights on the left must meet a matrix", node.name)
            first = self.kernel.constant(_matrix(self.constant(node.input[0])))
            self.values[name] = _Floats(self.kernel.matmul(first, second.tensor, relu=relu), 3)
            return
        operand = self.floats(node.input[0])
        if self.is_constant(node.input[1]):
            weights = _matrix(self.constant(node.input[1]))
            other = self.kernel.constant(weights.T if transposed else weights)
        else:
            matrix = self.floats(node.input[1])
            _require(operand.rank == matrix.rank == 3, "a product of two matrices must be of matrices", node.name)
            other = matrix.tensor
        result = self.kernel.matmul(operand.tensor, other, bias=added, relu=relu)
        self.values[name] = _Floats(result, operand.rank)

    def integer_product(
        self, node: onnx.NodeProto, q: _Quantized, weights: _Weights, *, transposed: bool, bias: str | None
    ) -> None:
        """Build what ONNX Runtime fuses into QGemm or MatMulIntegerToFloat."""
        values = weights.values.T if transposed else weights.values
        _require(values.ndim == 2, "integer weights must be a matrix", weights.values.shape)
        _require(weights.scale.size == 1 or weights.axis % 2 == (0 if transposed else 1), "one scale a column", "")
        assert q.scale is not None
        scale = q.scale * weights.scale
        offset: Array = np.zeros(1, np.int64)
        if bias is not None:
            held = self.value(bias)
            _require(isinstance(held, _Weights) and held.values.dtype == np.int32, "a bias must be int32", bias)
            assert isinstance(held, _Weights)
            _require(np.allclose(held.scale, scale, rtol=1e-5, atol=0.0), "a bias must share the scale", bias)
            offset = held.values.reshape(-1)
        sums = self.kernel.integer_matmul(q.tensor, values, offset=offset)
        quantizer = self.only_user(node.output[0], "QuantizeLinear")
        if quantizer is not None:
            out_scale, zero_point = self.quantization(quantizer)
            tensor = self.kernel.requantize(
                sums, scale / out_scale, out_scale=float(out_scale), zero_point=zero_point
            )
            self.values[quantizer.output[0]] = _Quantized(tensor, q.rank, out_scale)
            self.values[node.output[0]] = _Quantized(tensor, q.rank, out_scale)
            return
        relu, name = self.relu_of(node)
        self.values[name] = _Floats(self.kernel.rescale(sums, scale, relu=relu), q.rank)

    # Quantizing.

    def quantization(self, node: onnx.NodeProto) -> tuple[np.float32, int]:
        """Return the scale and the zero point, as of u8."""
        scale = self.constant(node.input[1])
        zero = self.constant(node.input[2]) if _third(node) else np.zeros((), np.uint8)
        _require(scale.size == zero.size == 1, "activations must have one scale", scale.shape)
        _require(zero.dtype in (np.uint8, np.int8), "activations must be u8 or s8", zero.dtype)
        # The kernels hold s8 values 128 higher, as u8: every difference from the zero point is the same.
        return np.float32(scale.item()), int(zero.item()) + (128 if zero.dtype == np.int8 else 0)

    def quantize(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        scale, zero_point = self.quantization(node)
        tensor = self.kernel.quantize(x.tensor, scale=float(scale), zero_point=zero_point)
        self.values[node.output[0]] = _Quantized(tensor, x.rank, scale)

    def dequantize(self, node: onnx.NodeProto) -> None:
        value = self.value(node.input[0])
        if isinstance(value, _Quantized):
            scale, _ = self.quantization(node)
            _require(value.scale == scale, "a tensor must keep its scale", node.name)
            self.values[node.output[0]] = _Dequantized(value)
            return
        values, scales = self.constant(node.input[0]), self.constant(node.input[1])
        zero = self.constant(node.input[2]) if _third(node) else np.zeros((), values.dtype)
        axis = int(_options(node).get("axis", 1))
        self.values[node.output[0]] = _centred(values, scales, zero, axis=axis)

    def quantize_dynamic(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        _require(x.rank == 2, "dynamic quantization must be of vectors", node.name)
        q = _Quantized(self.kernel.quantize_dynamic(x.tensor), x.rank, None)
        for name, value in zip(node.output, (q, _Factor(q, np.ones((), np.float32)), q), strict=True):
            self.values[name] = value

    def matmul_integer(self, node: onnx.NodeProto) -> None:
        q = self.value(node.input[0])
        _require(isinstance(q, _Quantized), "MatMulInteger must follow a quantizer", node.name)
        assert isinstance(q, _Quantized)
        _require(len(node.input) > 2 and self.value(node.input[2]) is q, "zero points must be the quantizer's", "")
        values = self.constant(node.input[1])
        zero = self.constant(node.input[3]) if len(node.input) > 3 else np.zeros((), values.dtype)
        centred = _centred(values, np.ones((), np.float32), zero, axis=1)
        self.values[node.output[0]] = _Sums(self.kernel.integer_matmul(q.tensor, centred.values), q)

    def cast(self, node: onnx.NodeProto) -> None:
        value = self.value(node.input[0])
        to_float = _options(node).get("to") == onnx.TensorProto.FLOAT
        _require(to_float and isinstance(value, _Sums), "Cast must turn integer sums into floats", node.name)
        self.values[node.output[0]] = value

    # One number at a time.

    def binary(self, node: onnx.NodeProto) -> None:
        left, right = (self.value(name) for name in node.input)
        if node.op_type == "Mul" and (isinstance(left, (_Sums, _Factor)) or isinstance(right, (_Sums, _Factor))):
            self.scale(node, left, right)
            return
        operands = [None if self.is_constant(name) else self.floats(name) for name in node.input]
        rank = max((operand.rank for operand in operands if operand), default=0)
        _require(rank > 0, f"{node.op_type} must have an argument that is computed", node.name)
        tensors = [
            operand.tensor if operand else self.kernel.constant(_broadcast(self.constant(name), rank))
            for operand, name in zip(operands, node.input, strict=True)
        ]
        result = self.kernel.binary(node.op_type.lower(), *tensors)
        self.values[node.output[0]] = _Floats(result, rank)

    def scale(self, node: onnx.NodeProto, left: _Value, right: _Value) -> None:
        """Follow ``(sums as float) * (the row's scale * constants)``."""
        if isinstance(right, _Sums):
            left, right = right, left
        if isinstance(left, _Sums) and isinstance(right, _Factor) and left.of is right.of:
            relu, name = self.relu_of(node)
            tensor = self.kernel.rescale(
                left.tensor, _row(right.constant), rows_of=left.of.tensor, relu=relu
            )
            self.values[name] = _Floats(tensor, left.of.rank)
            return
        factor, other = (left, node.input[1]) if isinstance(left, _Factor) else (right, node.input[0])
        _require(isinstance(factor, _Factor), "integer sums must be scaled by their own scale", node.name)
        assert isinstance(factor, _Factor)
        self.values[node.output[0]] = _Factor(factor.of, factor.constant * self.constant(other))

    def power(self, node: onnx.NodeProto) -> None:
        x, exponent = self.floats(node.input[0]), self.constant(node.input[1])
        _require(exponent.size == 1 and exponent.item() == 2.0, "Pow must be a square", exponent)
        self.values[node.output[0]] = _Floats(self.kernel.binary("mul", x.tensor, x.tensor), x.rank)

    def clip(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        names = ("low", "high")
        limits = {
            name: float(self.constant(given).item())
            for name, given in zip(names, node.input[1:], strict=False)
            if given
        }
        self.values[node.output[0]] = _Floats(self.kernel.clip(x.tensor, **limits), x.rank)

    def relu(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        self.values[node.output[0]] = _Floats(self.kernel.clip(x.tensor, low=0.0), x.rank)

    def sqrt(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        self.values[node.output[0]] = _Floats(self.kernel.sqrt(x.tensor), x.rank)

    # Along rows and columns.

    def softmax(self, node: onnx.NodeProto) -> None:
        x, axis = self.floats(node.input[0]), int(_options(node).get("axis", -1))
        _require(axis in (-1, x.rank - 1), "Softmax must run along the last axis", axis)
        self.values[node.output[0]] = _Floats(self.kernel.softmax(x.tensor), x.rank)

    def mean(self, node: onnx.NodeProto) -> None:
        x, options = self.floats(node.input[0]), _options(node)
        given = self.constant(node.input[1]).tolist() if len(node.input) > 1 else options.get("axes", [])
        axes = [axis % x.rank for axis in given]
        _require(len(axes) == 1 and axes[0] > 0, "ReduceMean must be over one axis, not the batch", given)
        _require(bool(options.get("keepdims", 1)), "ReduceMean must keep the axis", "keepdims 0")
        axis = 1 if axes[0] == x.rank - 1 else 0
        self.values[node.output[0]] = _Floats(self.kernel.mean(x.tensor, axis), x.rank)

    def transpose(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        order = list(_options(node).get("perm", ()))
        _require(x.rank == 3 and order == [0, 2, 1], "Transpose must swap rows and columns", order)
        self.values[node.output[0]] = _Floats(self.kernel.transpose(x.tensor), 3)

    def reshape(self, node: onnx.NodeProto) -> None:
        x = self.floats(node.input[0])
        rows, cols = self.kernel.shape(x.tensor)
        if node.op_type == "Flatten":
            _require(_options(node).get("axis", 1) == 1, "Flatten must keep the batch axis", node.name)
            shape = [0, rows * cols]
        elif node.op_type == "Squeeze":
            axes = [int(axis) % x.rank for axis in self.constant(node.input[1])] if _second(node) else []
            _require(x.rank == 3 and axes in ([1], [2]), "Squeeze must drop rows or columns", axes)
            _require((rows, cols)[axes[0] - 1] == 1, "a dropped axis must be 1 long", (rows, cols))
            shape = [0, rows * cols]
        else:
            shape = self.constant(node.input[1]).tolist()
            if len(shape) > 1 and shape[0] == 0 and shape[1:].count(-1) == 1:
                known = int(np.prod([size for size in shape[1:] if size != -1]))
                shape = [rows * cols // known if size == -1 else size for size in shape]
        kept = len(shape) in (2, 3) and shape[0] in (0, -1) and int(np.prod(shape[1:])) == rows * cols
        _require(kept, "a reshape must keep the batch axis", shape)
        new_rows = 1 if len(shape) == 2 else shape[1]
        tensor = x.tensor if new_rows == rows else self.kernel.reshape(x.tensor, new_rows, shape[-1])
        self.values[node.output[0]] = _Floats(tensor, len(shape))


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
    "Relu": _Compiler.relu,
    "Reshape": _Compiler.reshape,
    "Softmax": _Compiler.softmax,
    "Sqrt": _Compiler.sqrt,
    "Squeeze": _Compiler.reshape,
    "Sub": _Compiler.binary,
    "Transpose": _Compiler.transpose,
}
KERNEL_OPERATORS: Final = frozenset(_HANDLERS)
"""Operators that can be covered; shapes and neighbours decide whether one is."""


def _require(holds: bool, rule: str, found: object) -> None:
    if not holds:
        raise _Refusal(f"{rule}, was {found}")


def _options(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _second(node: onnx.NodeProto) -> str | None:
    return node.input[1] if len(node.input) > 1 and node.input[1] else None


def _third(node: onnx.NodeProto) -> str | None:
    return node.input[2] if len(node.input) > 2 and node.input[2] else None


def _matrix(values: Array) -> Array:
    _require(values.ndim == 2 and values.dtype == np.float32, "weights must be a float matrix", values.shape)
    return values


def _row(values: Array) -> Array:
    _require(values.size == max(values.shape, default=1), "a constant must be one row", values.shape)
    return values.reshape(-1).astype(np.float32)


def _broadcast(values: Array, rank: int) -> Array:
    """Return a constant as a matrix that repeats against a sample of that rank as ONNX repeats it."""
    _require(values.dtype == np.float32, "constants must be float32", values.dtype)
    _require(values.ndim < rank or (values.ndim == rank and values.shape[0] == 1), "one batch", values.shape)
    shape = (1,) * (3 - values.ndim) + values.shape
    _require(rank == 3 or shape[1] == 1, "a constant must fit a vector", values.shape)
    return values.reshape(shape[1:])


def _centred(values: Array, scales: Array, zero: Array, *, axis: int) -> _Weights:
    """Return quantized constants with their zero points taken out."""
    if values.dtype == np.int32:
        _require(not np.any(zero), "int32 constants must have zero point 0", zero)
        return _Weights(values, scales.reshape(-1), axis)
    _require(values.dtype in (np.int8, np.uint8), "quantized constants must be 8 or 32 bits", values.dtype)
    _require(zero.size == 1 or values.ndim == 2, "zero points must belong to a matrix", zero.shape)
    along = (-1, 1) if zero.size > 1 and axis % 2 == 0 else (1, -1)
    centred = values.astype(np.int16) - zero.astype(np.int16).reshape(along if values.ndim == 2 else ())
    fits = centred.size == 0 or (centred.min() >= -128 and centred.max() <= 127)
    _require(fits, "weights less their zero point must fit 8 bits", (centred.min(), centred.max()))
    return _Weights(centred.astype(np.int8), scales.reshape(-1).astype(np.float32), axis)


def _restored(weights: _Weights) -> Array:
    scale = weights.scale
    if scale.size > 1:
        scale = scale.reshape((-1, 1) if weights.values.ndim == 2 and weights.axis % 2 == 0 else (-1,))
    restored: Array = (weights.values.astype(np.float32) * scale).astype(np.float32)
    return restored if weights.values.ndim else restored.reshape(())

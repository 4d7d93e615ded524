"""What the values of an ONNX graph become while `dense_graph` compiles it, and how constants are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ext.dense_kernel import DenseKernel

from .graph import constants_of

Array = NDArray[Any]


class Refusal(Exception):
    """Why not; `compile_graph` adds the file."""


@dataclass(frozen=True, slots=True)
class Floats:
    """A float matrix per sample; `rank` counts the batch axis, so a row of rank 2 is a vector."""

    tensor: int
    rank: int


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized matrix per sample, zero point as of u8. `scale` is None where each row has its own."""

    tensor: int
    rank: int
    scale: np.float32 | None
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class ZeroPoint:
    """The row's own zero point of a dynamically quantized matrix."""

    of: Quantized


@dataclass(frozen=True, slots=True)
class Dequantized:
    """What DequantizeLinear made of it; built only when somebody needs floats."""

    of: Quantized


@dataclass(frozen=True, slots=True)
class Weights:
    """Quantized constants: ``(values - zero_point) * scale``."""

    values: Array
    scale: Array
    axis: int


@dataclass(frozen=True, slots=True)
class Sums:
    """Integer sums of a dynamically quantized matrix."""

    tensor: int
    of: Quantized


@dataclass(frozen=True, slots=True)
class Factor:
    """The row's own scale times constants."""

    of: Quantized
    constant: Array


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A kernel, and which of its tensors holds which value of the graph, for whoever wants to look."""

    kernel: DenseKernel
    tensors: dict[str, int]


Value = Floats | Quantized | ZeroPoint | Dequantized | Weights | Sums | Factor | Array


def require(holds: object, rule: str, found: object) -> None:
    if not holds:
        raise Refusal(f"{rule}, was {found}")


def options_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def second_input(node: onnx.NodeProto) -> str | None:
    return node.input[1] if len(node.input) > 1 and node.input[1] else None


def third_input(node: onnx.NodeProto) -> str | None:
    return node.input[2] if len(node.input) > 2 and node.input[2] else None


def arrays_of(parsed: onnx.ModelProto) -> dict[str, Array]:
    return {name: numpy_helper.to_array(tensor) for name, tensor in constants_of(parsed).items()}


def as_matrix(values: Array) -> Array:
    require(values.ndim == 2 and values.dtype == np.float32, "weights must be a float matrix", values.shape)
    return values


def as_row(values: Array) -> Array:
    require(values.size == max(values.shape, default=1), "a constant must be one row", values.shape)
    return values.reshape(-1).astype(np.float32)


def as_repeated(values: Array, rank: int) -> Array:
    """Return a constant as a matrix that repeats against a sample of that rank as ONNX repeats it."""
    require(values.dtype == np.float32, "constants must be float32", values.dtype)
    require(values.ndim < rank or (values.ndim == rank and values.shape[0] == 1), "one batch", values.shape)
    shape = (1,) * (3 - values.ndim) + values.shape
    require(rank == 3 or shape[1] == 1, "a constant must fit a vector", values.shape)
    return values.reshape(shape[1:])


def centred_weights(values: Array, scales: Array, zero: Array, *, axis: int) -> Weights:
    """Return quantized constants with their zero points taken out."""
    if values.dtype == np.int32:
        require(not np.any(zero), "int32 constants must have zero point 0", zero)
        return Weights(values, scales.reshape(-1), axis)
    require(values.dtype in (np.int8, np.uint8), "quantized constants must be 8 or 32 bits", values.dtype)
    require(zero.size == 1 or values.ndim == 2, "zero points must belong to a matrix", zero.shape)
    along = (-1, 1) if zero.size > 1 and axis % 2 == 0 else (1, -1)
    centred = values.astype(np.int16) - zero.astype(np.int16).reshape(along if values.ndim == 2 else ())
    fits = centred.size == 0 or (centred.min() >= -128 and centred.max() <= 127)
    require(fits, "weights less their zero point must fit 8 bits", (centred.min(), centred.max()))
    return Weights(centred.astype(np.int8), scales.reshape(-1).astype(np.float32), axis)


def restored(weights: Weights) -> Array:
    scale = weights.scale
    if scale.size > 1:
        scale = scale.reshape((-1, 1) if weights.values.ndim == 2 and weights.axis % 2 == 0 else (-1,))
    restored: Array = (weights.values.astype(np.float32) * scale).astype(np.float32)
    return restored if weights.values.ndim else restored.reshape(())


def reshape_sizes(shape: Sequence[int], own: Sequence[int]) -> list[int]:
    """Return a reshape's target with its -1 worked out and its zeros, which keep an argument's size."""
    kept = [0] + [own[axis] if size == 0 and axis < len(own) else size for axis, size in enumerate(shape[1:])]
    given = [size for size in kept[1:] if size != -1]
    require(min(given, default=1) > 0, "a reshape must be to sizes above 0", list(shape))
    known = prod(given)
    return [prod(own) // known if size == -1 else size for size in kept]

"""What an ONNX file may contain before ONNX Runtime ever sees it.

A model file is foreign input: it can name code (custom domains, functions), files (external data),
loops without end (subgraphs) or tensors larger than memory (two thin constants multiplied at load
time). So the graph is parsed first and must consist of known operators between one input, feature rows
or windows of them, and one probability matrix, every tensor in between of a known, bounded width.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from os import PathLike
from typing import Final

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from .errors import ModelError, ModelRefused
from .graph_shapes import RECURRENT_OPERATORS, broken_shape, true_inputs, type_name

CLASS_COUNT: Final = 3
# From here on the operators below mean what they mean today; LayerNormalization asks for 17 by itself.
OPSET_MIN: Final = 13
DOMAINS: Final = frozenset({"", "ai.onnx"})

DENSE_OPERATORS: Final = frozenset({"Sub", "Mul", "Clip", "Gemm", "MatMul", "Add", "Relu", "Softmax"})
WINDOW_OPERATORS: Final = frozenset({"Conv", "Transpose", "Reshape", "Gather", "Slice", "LayerNormalization"})
# What other people's exports hold: the C interface runs them, our own kernels leave them to it.
COMMON_OPERATORS: Final = frozenset(
    {
        *("Tanh", "Sigmoid", "LeakyRelu", "Elu", "Gelu", "Erf", "Softplus", "Identity", "BatchNormalization"),
        *("Flatten", "Unsqueeze", "Concat", "Pad", "AveragePool", "MaxPool", "GlobalAveragePool"),
        *("Constant", "Pow", "HardSigmoid", "HardSwish", "Split"),
    }
)
BILINEAR_OPERATORS: Final = frozenset({"ReduceMean", "Sqrt", "Div", "Squeeze"})
DYNAMIC_OPERATORS: Final = frozenset({"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "Cast"})
QUANTIZING_OPERATORS: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
ALLOWED_OPERATORS: Final = (
    DENSE_OPERATORS
    | WINDOW_OPERATORS
    | COMMON_OPERATORS
    | RECURRENT_OPERATORS
    | BILINEAR_OPERATORS
    | DYNAMIC_OPERATORS
    | QUANTIZING_OPERATORS
)

_CONSTANT_TYPES: Final = frozenset(
    {TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64}
)
_PLAIN_ATTRIBUTES: Final = frozenset(
    {
        AttributeProto.FLOAT,
        AttributeProto.FLOATS,
        AttributeProto.INT,
        AttributeProto.INTS,
        AttributeProto.STRING,
    }
)
_FILL: Final = ("ConstantOfShape", "value", AttributeProto.TENSOR)
# How a Constant may hold its value, and as what.
_CONSTANT_VALUES: Final = {
    "value": (AttributeProto.TENSOR, None),
    "value_float": (AttributeProto.FLOAT, np.float32),
    "value_floats": (AttributeProto.FLOATS, np.float32),
    "value_int": (AttributeProto.INT, np.int64),
    "value_ints": (AttributeProto.INTS, np.int64),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphLimits:
    """How large a model may be.

    Parameters
    ----------
    model_bytes_max : int
        Size of the file.
    node_count_max : int
        Operators in the graph.
    row_elements_max : int
        Elements that any tensor may hold for one row of input.
    """

    model_bytes_max: int = 64 << 20
    node_count_max: int = 2_000
    row_elements_max: int = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSummary:
    """What a checked graph is.

    Parameters
    ----------
    feature_count : int
        Width of a feature row.
    window : int or None
        Rows per input, None where the input is one row and has no window axis.
    precision : str
        ``"int8"`` where the graph quantizes, otherwise ``"fp32"``.
    operators : dict
        Operator name to count, sorted by name.
    metadata : dict
        The file's own key-value notes; claims of its author, not checked.
    """

    input_name: str
    output_name: str
    feature_count: int
    window: int | None
    precision: str
    operators: dict[str, int]
    opset: int
    model_bytes: int
    sha256: str
    metadata: dict[str, str]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch axis: (features,) or (window, features)."""
        return (self.feature_count,) if self.window is None else (self.window, self.feature_count)


def parse_model(
    model: bytes, *, source: str | PathLike[str] = "model", limits: GraphLimits | None = None
) -> onnx.ModelProto:
    """Parse bytes into a graph without following any reference out of them.

    Raises
    ------
    ModelError
        The bytes are too many, or no ONNX graph.
    """
    bytes_max = (limits or GraphLimits()).model_bytes_max
    if not 0 < len(model) <= bytes_max:
        raise ModelError(f"a model must hold 1 to {bytes_max} bytes, was {len(model)}", source=source)
    try:
        parsed = onnx.load_model_from_string(model)
    # protobuf's error types differ between its C and Python parsers.
    except Exception as error:
        raise ModelError(f"a model must be readable as ONNX, was not: {error}", source=source) from error
    if not parsed.graph.node:
        raise ModelError("a model must hold operators, was an empty graph", source=source)
    return parsed


def constants_of(parsed: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the constants of a graph by name: initializers, and what Constant operators hold."""
    found = {tensor.name: tensor for tensor in parsed.graph.initializer}
    for node in parsed.graph.node:
        if node.op_type == "Constant" and node.domain in DOMAINS:
            held = node.attribute[0]
            value, kind = onnx.helper.get_attribute_value(held), _CONSTANT_VALUES[held.name][1]
            tensor = value if kind is None else numpy_helper.from_array(np.asarray(value, kind))
            found[node.output[0]] = tensor
    return found


def operator_counts(parsed: onnx.ModelProto) -> dict[str, int]:
    """Count the operators of a graph, foreign domains written as ``domain::name``."""
    names = (
        node.op_type if node.domain in DOMAINS else f"{node.domain}::{node.op_type}"
        for node in parsed.graph.node
    )
    return dict(sorted(Counter(names).items()))


def precision_of(operators: dict[str, int]) -> str:
    """Return ``"int8"`` for a graph that quantizes, otherwise ``"fp32"``."""
    return "int8" if QUANTIZING_OPERATORS & operators.keys() else "fp32"


def check_graph(
    model: bytes,
    *,
    source: str | PathLike[str] = "model",
    limits: GraphLimits | None = None,
    allowed: frozenset[str] = ALLOWED_OPERATORS,
) -> GraphSummary:
    """Parse a model and refuse everything that is not plainly a bounded feed-forward classifier.

    Parameters
    ----------
    allowed : frozenset of str
        Operators of the standard domain that may occur.

    Raises
    ------
    ModelError
        The bytes are too many, or no ONNX graph.
    ModelRefused
        The graph holds something we do not run; the message names it.
    """
    limits = limits or GraphLimits()
    parsed = parse_model(model, source=source, limits=limits)
    rule = (
        _broken_domain(parsed)
        or _broken_node(parsed, limits=limits, allowed=allowed)
        or _broken_constant(parsed)
        or broken_shape(parsed, constants_of(parsed), limits.row_elements_max, classes=CLASS_COUNT)
    )
    if rule is not None:
        raise ModelRefused(rule, source=source)
    operators = operator_counts(parsed)
    features = true_inputs(parsed)[0]
    row_shape = [int(dim.dim_value) for dim in features.type.tensor_type.shape.dim[1:]]
    return GraphSummary(
        input_name=features.name,
        output_name=parsed.graph.output[0].name,
        feature_count=row_shape[-1],
        window=row_shape[0] if len(row_shape) == 2 else None,
        precision=precision_of(operators),
        operators=operators,
        opset=int(parsed.opset_import[0].version),
        model_bytes=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
        metadata={note.key: note.value for note in parsed.metadata_props},
    )


def _broken_domain(parsed: onnx.ModelProto) -> str | None:
    if parsed.functions:
        return f"a model must not define functions, was {parsed.functions[0].name!r}"
    if parsed.training_info:
        return f"a model must not carry training graphs, was {len(parsed.training_info)}"
    domains = [entry.domain for entry in parsed.opset_import]
    if len(domains) != 1 or domains[0] not in DOMAINS:
        return f"a model must import the standard operators only, was {domains}"
    version, newest = parsed.opset_import[0].version, onnx.defs.onnx_opset_version()
    if not OPSET_MIN <= version <= newest:
        # What an operator of a later one means is not known here.
        return f"a model must use opset {OPSET_MIN} to {newest}, was {version}"
    return None


def _broken_node(parsed: onnx.ModelProto, *, limits: GraphLimits, allowed: frozenset[str]) -> str | None:
    nodes = parsed.graph.node
    if len(nodes) > limits.node_count_max:
        return f"a model must hold at most {limits.node_count_max} operators, was {len(nodes)}"
    for node in nodes:
        if node.domain not in DOMAINS:
            return f"an operator must be of the standard domain, was {node.domain}::{node.op_type}"
        if node.op_type not in allowed:
            return f"an operator must be one of {', '.join(sorted(allowed))}, was {node.op_type}"
        if node.op_type == "Constant":
            held = [(attribute.name, attribute.type) for attribute in node.attribute]
            forms = [(name, kind) for name, (kind, _) in _CONSTANT_VALUES.items()]
            if len(held) != 1 or held[0] not in forms or len(node.output) != 1:
                return f"a Constant must hold one of {', '.join(_CONSTANT_VALUES)}, was {held}"
            continue
        for attribute in node.attribute:
            if (node.op_type, attribute.name, attribute.type) == _FILL:
                continue
            # Graphs and tensors inside attributes are where subgraphs and hidden data live.
            if attribute.type not in _PLAIN_ATTRIBUTES or attribute.ref_attr_name:
                kind = AttributeProto.AttributeType.Name(attribute.type)
                return f"{node.op_type}.{attribute.name} must be a number or a string, was {kind}"
    return None


def _broken_constant(parsed: onnx.ModelProto) -> str | None:
    if parsed.graph.sparse_initializer:
        return f"constants must be dense, was {len(parsed.graph.sparse_initializer)} sparse"
    fills = [
        (node.name, held.t)
        for node in parsed.graph.node
        if node.op_type == _FILL[0]
        for held in node.attribute
    ]
    for name, tensor in [*constants_of(parsed).items(), *fills]:
        if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
            return f"constants must lie inside the file, was {name!r} outside"
        if tensor.data_type not in _CONSTANT_TYPES:
            kind = type_name(tensor.data_type)
            return f"constants must be float32, int8, uint8, int32 or int64, was {name!r} of {kind}"
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            return f"constants must match their shape, was {name!r}: {error}"
        if not np.isfinite(values).all():
            return f"constants must be finite, was {name!r}"
    return None

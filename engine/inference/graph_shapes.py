"""Whether every tensor of a foreign graph has a known, bounded size, found without running it."""

from __future__ import annotations

from math import prod
from typing import Final

import onnx
from onnx import TensorProto

# As torch exports LSTM and GRU: their first state has the shape of the batch. What reads shapes is held to
# its size at two batches, since its batch axis may be any.
RECURRENT_OPERATORS: Final = frozenset({"LSTM", "GRU", "Shape", "ConstantOfShape"})
_SHAPE_READERS: Final = frozenset({"Shape", "ConstantOfShape"})
_SIZES_MAX: Final = 256
_LARGE_BATCH: Final = 64


def true_inputs(parsed: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that no initializer gives a value."""
    constants = {tensor.name for tensor in parsed.graph.initializer}
    return [value for value in parsed.graph.input if value.name not in constants]


def broken_shape(
    parsed: onnx.ModelProto, constants: dict[str, onnx.TensorProto], row_elements_max: int, *, classes: int
) -> str | None:
    """Return the rule that a shape of a graph breaks, None where all hold; `parsed` loses its own claims."""
    inputs, outputs = true_inputs(parsed), parsed.graph.output
    if len(inputs) != 1 or len(outputs) != 1:
        return f"a model must have one input and one output, was {len(inputs)} and {len(outputs)}"
    for value, role, form in (
        (inputs[0], "input", "(batch, features) or (batch, window, features)"),
        (outputs[0], "output", f"(batch, {classes})"),
    ):
        tensor = value.type.tensor_type
        first, *rest = tensor.shape.dim or [None]
        fits = len(rest) in (1, 2) if role == "input" else [d.dim_value for d in rest] == [classes]
        free = first is not None and not first.HasField("dim_value")
        if tensor.elem_type != TensorProto.FLOAT or not (fits and free):
            return f"the {role} must be float32 of shape {form}, was {_shape_text(value)}"
        if min(dim.dim_value for dim in rest) < 1:
            return f"the {role} must be at least 1 wide, was {_shape_text(value)}"
        if prod(dim.dim_value for dim in rest) > row_elements_max:
            # Nobody's memory holds a row of 2**40 numbers, and a few hundred bytes can ask for one.
            return f"the {role} must have at most {row_elements_max} elements a row, was {_shape_text(value)}"
    try:
        onnx.checker.check_model(parsed)
        # What the file says of sizes in between is no proof.
        del parsed.graph.value_info[:]
        broken = _broken_step(parsed, constants)
        if broken is not None:
            return broken
        inferred = onnx.shape_inference.infer_shapes(parsed, check_type=True, strict_mode=True)
        if any(node.op_type in RECURRENT_OPERATORS for node in parsed.graph.node):
            return _broken_growth(parsed, row_elements_max)
    # Both raise several unrelated types from C++.
    except Exception as error:
        return f"a model must pass the ONNX checker, was refused: {error}"
    known = {value.name: value for value in (*inferred.graph.value_info, *outputs)}
    for node in parsed.graph.node:
        for name in node.output:
            value = known.get(name)
            if value is None or not _is_bounded(value, row_elements_max):
                text = "unknown" if value is None else _shape_text(value)
                return f"every tensor must have at most {row_elements_max} elements a row, was {text}"
    return None


def _broken_step(parsed: onnx.ModelProto, constants: dict[str, onnx.TensorProto]) -> str | None:
    """Infer every result alone, and stop at one of an impossible size.

    Inferring a whole graph ends the process where a Slice meets a negative size (onnx 1.23).
    """
    operators = {node.op_type for node in parsed.graph.node}
    if "Slice" in operators and operators & _SHAPE_READERS:
        # Sizes that are computed are known to the inference of the whole graph alone.
        return f"a graph must not slice where it reads shapes, was {sorted(operators & _SHAPE_READERS)}"
    known = {
        name: onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        for name, tensor in constants.items()
    }
    known |= {value.name: value.type for value in true_inputs(parsed)}
    # Sizes, axes and the like; weights say nothing of shapes.
    small = {name for name, tensor in constants.items() if prod(tensor.dims) <= _SIZES_MAX}
    version = parsed.opset_import[0].version
    imports = [onnx.helper.make_opsetid("", version)]
    for node in parsed.graph.node:
        if node.op_type == "Constant":
            continue
        named = [name for name in node.input if name]
        if not known.keys() >= {*named}:
            return f"every tensor must be known before it is used, was {sorted({*named} - known.keys())}"
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, version, ""),
            node,
            {name: known[name] for name in named},
            {name: constants[name] for name in named if name in small},
            opset_imports=imports,
            ir_version=parsed.ir_version,
        )
        for name, kind in found.items():
            sizes = [dim.dim_value for dim in kind.tensor_type.shape.dim if dim.HasField("dim_value")]
            if min(sizes, default=1) < 1:
                return f"every size must be at least 1, was {sizes} of {name!r}"
        known |= found
    return None


def _broken_growth(parsed: onnx.ModelProto, row_elements_max: int) -> str | None:
    """Hold every tensor to its size at a batch of one, and to no more than its multiple at a larger one."""
    one, many = _sizes_at(parsed, 1), _sizes_at(parsed, _LARGE_BATCH)
    for node in parsed.graph.node:
        for name in filter(None, node.output):
            size = one.get(name, 0)
            if not 0 < size <= row_elements_max or not 0 < many.get(name, 0) <= _LARGE_BATCH * size:
                return (
                    f"every tensor must have at most {row_elements_max} elements a row, "
                    f"was {name!r} of {size or 'unknown'}, {many.get(name) or 'unknown'} for {_LARGE_BATCH}"
                )
    return None


def _sizes_at(parsed: onnx.ModelProto, batch: int) -> dict[str, int]:
    """Return the elements of every tensor whose shape is known at a batch."""
    pinned = onnx.ModelProto()
    pinned.CopyFrom(parsed)
    for value in (*true_inputs(pinned), *pinned.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    inferred = onnx.shape_inference.infer_shapes(pinned, check_type=True, strict_mode=True, data_prop=True)
    values = (*inferred.graph.value_info, *inferred.graph.output)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values if _has_shape(value)}
    return {
        name: prod(dim.dim_value for dim in shape)
        for name, shape in shapes.items()
        if all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in shape)
    }


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def _is_bounded(value: onnx.ValueInfoProto, row_elements_max: int) -> bool:
    tensor = value.type.tensor_type
    if not _has_shape(value):
        return False
    free = [axis for axis, dim in enumerate(tensor.shape.dim) if not dim.HasField("dim_value")]
    elements = 1
    for dim in tensor.shape.dim:
        elements *= dim.dim_value if dim.HasField("dim_value") else 1
    return free in ([], [0]) and 0 < elements <= row_elements_max


def _shape_text(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = ", ".join(
        str(dim.dim_value) if dim.HasField("dim_value") else (dim.dim_param or "?")
        for dim in tensor.shape.dim
    )
    return f"{value.name!r} {type_name(tensor.elem_type)}[{dims}]"


def type_name(kind: int) -> str:
    known = kind in TensorProto.DataType.values()
    return TensorProto.DataType.Name(kind).lower() if known else f"unknown type {kind}"

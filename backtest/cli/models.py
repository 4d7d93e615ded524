"""`anytick models`: build, look into, quantize, measure, judge and register ONNX models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from . import models_build, models_measure, models_quantize, models_registry, models_validate
from .models_files import MODEL_HELP, digest_of, print_found
from .parser import CommandParser, explain, with_shared


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `models` and its actions."""
    parser = commands.add_parser(
        "models",
        help="build, inspect, quantize, measure, validate and register ONNX models",
        description="Build, inspect, quantize, measure, validate and register ONNX models. A model is "
        "only ever "
        "read as bytes: no pickle, no external data, an allow-list of operators.",
    )
    actions = parser.add_subparsers(
        dest="models_action", required=True, metavar="ACTION", parser_class=CommandParser
    )
    models_build.add_action(actions)
    inspect = actions.add_parser(
        "inspect",
        help="show operators, precision, digest and whether the engine would run the file",
        description="Show a model's operators, precision and digest, and whether the engine would run it. "
        "Exit code 1 when it would not.",
    )
    inspect.add_argument("model", type=Path, help=MODEL_HELP)
    inspect.set_defaults(action=_inspect)
    explain(inspect, "anytick models inspect model.onnx")
    for module in (models_quantize, models_measure, models_validate, models_registry):
        module.add_action(actions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action and return the exit code."""
    code: int = args.action(with_shared(args))
    return code


def _inspect(args: argparse.Namespace) -> int:
    from engine.inference.errors import ModelError
    from engine.inference.graph import check_graph, operator_counts, parse_model, precision_of
    from engine.inference.model_file import read_model
    from engine.inference.session import OrtSession, fused_operators

    model = read_model(args.model)
    operators = operator_counts(parse_model(model, source=args.model))
    found: dict[str, Any] = {
        "path": str(args.model),
        "sha256": digest_of(model),
        "bytes": len(model),
        "precision": precision_of(operators),
        "operators": operators,
        "verdict": "accepted",
    }
    try:
        summary = check_graph(model, source=args.model)
        OrtSession.from_bytes(model, source=args.model)
    except ModelError as refusal:
        found |= {"verdict": "refused", "reason": refusal.rule}
    else:
        found |= {
            "features": summary.feature_count,
            "window": summary.window or 1,
            "opset": summary.opset,
            "runs_as": list(fused_operators(model, source=args.model)),
            "metadata": summary.metadata,
        }
    print_found(found, as_json=args.json)
    return 0 if found["verdict"] == "accepted" else 1

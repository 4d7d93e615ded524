"""`anytick models list|stage|promote|rollback|retire`: which model serves."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..places import MODEL_REGISTRY
from .models_files import print_table, read_model
from .parser import CommandParser, explain, whole

if TYPE_CHECKING:
    from engine.inference.registry import ModelRegistry, ModelVersion


def add_action(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add the registry's five verbs."""
    verbs = (
        ("list", "show every version and its state", "anytick models list", _list),
        (
            "stage",
            "check a model and give it a version",
            "anytick models stage model.onnx --name mid",
            _stage,
        ),
        (
            "promote",
            "write down which version is live; who serves must ask the registry",
            "anytick models promote mid 3",
            _promote,
        ),
        ("rollback", "return to the version that was live before", "anytick models rollback mid", _rollback),
        ("retire", "take a version that is not live out of use", "anytick models retire mid 2", _retire),
    )
    for verb, about, example, action in verbs:
        parser = actions.add_parser(verb, help=about, description=f"Registry: {about}.")
        if verb == "stage":
            parser.add_argument("model", type=Path, help="an ONNX file")
            parser.add_argument("--name", required=True, help="what the model is for, such as mid")
            parser.add_argument("--note", default="", help="your own words")
        elif verb == "list":
            parser.add_argument("name", nargs="?", help="only this model's versions")
        else:
            parser.add_argument("name")
            if verb != "rollback":
                parser.add_argument("number", type=whole(1, 1_000_000))
        parser.add_argument("--registry", type=Path, default=MODEL_REGISTRY, help="default: %(default)s")
        parser.set_defaults(action=action)
        explain(parser, example)


def _open(args: argparse.Namespace) -> ModelRegistry:
    from engine.inference.registry import ModelRegistry

    return ModelRegistry(args.registry)


def _list(args: argparse.Namespace) -> int:
    return _show(_open(args).versions(args.name), as_json=args.json)


def _stage(args: argparse.Namespace) -> int:
    version = _open(args).stage(read_model(args.model), name=args.name, note=args.note)
    return _show((version,), as_json=args.json)


def _promote(args: argparse.Namespace) -> int:
    return _show((_open(args).promote(args.name, args.number),), as_json=args.json)


def _rollback(args: argparse.Namespace) -> int:
    return _show((_open(args).rollback(args.name),), as_json=args.json)


def _retire(args: argparse.Namespace) -> int:
    return _show((_open(args).retire(args.name, args.number),), as_json=args.json)


def _show(versions: tuple[ModelVersion, ...], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"versions": [asdict(version) for version in versions]}, sort_keys=True))
        return 0
    if not versions:
        print("no versions")
        return 0
    rows = []
    for version in versions:
        since = datetime.fromtimestamp(version.changed_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        rows.append(
            [
                version.name,
                str(version.state),
                version.sha256[:16],
                f"{since} UTC",
                str(version.number),
                version.note,
            ]
        )
    print_table(["model", "state", "sha256", "since", "version", "note"], rows, words=4)
    return 0

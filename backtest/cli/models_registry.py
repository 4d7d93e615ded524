"""`anytick models list|stage|promote|rollback|retire`: which model serves."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from data.errors import ConfigError

from ..places import MODEL_REGISTRY
from .models_files import print_table
from .parser import CommandParser, explain, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.inference.registry import ModelRegistry, ModelVersion


def add_action(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add the registry's five verbs."""
    verbs = (
        ("list", "show every version and its state", "anytick models list", _list),
        (
            "stage",
            "check a model and give it a version",
            "anytick models stage model.onnx --name mid; anytick models stage ladder/",
            _stage,
        ),
        (
            "promote",
            "make a version live; who serves from the registry goes over to it",
            "anytick models promote mid 3; anytick models promote --staged",
            _promote,
        ),
        ("rollback", "return to the version that was live before", "anytick models rollback mid", _rollback),
        ("retire", "take a version that is not live out of use", "anytick models retire mid 2", _retire),
    )
    for verb, about, example, action in verbs:
        parser = actions.add_parser(verb, help=about, description=f"Registry: {about}.")
        _ARGUMENTS[verb](parser)
        parser.add_argument(
            "--registry", metavar="DIR", type=Path, default=MODEL_REGISTRY, help="default: %(default)s"
        )
        parser.set_defaults(action=action)
        explain(parser, example)


def _stage_arguments(parser: CommandParser) -> None:
    parser.add_argument("model", type=Path, help="an ONNX file, or a ladder's folder")
    parser.add_argument("--name", help="what the model is for, such as mid; rungs have names")
    parser.add_argument("--note", default="", help="your own words")


def _promote_arguments(parser: CommandParser) -> None:
    parser.add_argument("name", nargs="?")
    parser.add_argument("number", nargs="?", type=whole(1, 1_000_000))
    parser.add_argument(
        "--staged", action="store_true", help="the newest staged version of every name, in one switch"
    )


def _retire_arguments(parser: CommandParser) -> None:
    parser.add_argument("name")
    parser.add_argument("number", type=whole(1, 1_000_000))


_ARGUMENTS: Final[dict[str, Callable[[CommandParser], object]]] = {
    "list": lambda parser: parser.add_argument("name", nargs="?", help="only this model's versions"),
    "stage": _stage_arguments,
    "promote": _promote_arguments,
    "rollback": lambda parser: parser.add_argument("name"),
    "retire": _retire_arguments,
}


def _open(args: argparse.Namespace) -> ModelRegistry:
    from engine.inference.registry import ModelRegistry

    return ModelRegistry(args.registry)


def _list(args: argparse.Namespace) -> int:
    return _show(_open(args).versions(args.name), as_json=args.json)


def _stage(args: argparse.Namespace) -> int:
    from engine.inference.model_file import read_model

    if args.model.is_dir():
        from engine.inference.rungs import stage_ladder

        if args.name is not None:
            raise ConfigError(f"a ladder's rungs have names, was --name {args.name}")
        return _show(stage_ladder(_open(args), args.model, note=args.note), as_json=args.json)
    model = read_model(args.model)
    if args.name is None:
        raise ConfigError("a model must have a --name, was none")
    version = _open(args).stage(model, name=args.name, note=args.note)
    return _show((version,), as_json=args.json)


def _promote(args: argparse.Namespace) -> int:
    registry = _open(args)
    if args.staged == (args.number is not None):
        raise ConfigError("promote must be given a name and a number, or --staged")
    if not args.staged:
        return _show((registry.promote(args.name, args.number),), as_json=args.json)
    from engine.inference.registry import ModelState

    staged = [version for version in registry.versions(args.name) if version.state is ModelState.STAGED]
    numbers = {version.name: version.number for version in staged}
    return _show(registry.promote_together(numbers), as_json=args.json)


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

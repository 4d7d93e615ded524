"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

LAYERS = ("ext", "data", "engine", "backtest", "benchmarks")
LINES_MAX = 400
FUNCTION_LINES_MAX = 70
REASON = "Over 400 lines"
TESTS = Path(__file__).resolve().parent

IMPORT = re.compile(r"^[ \t]*(?:from|import|cimport)[ \t]+(\.*)([\w.]*)", re.MULTILINE)
FORBIDDEN = {
    "pickle": re.compile(
        r"^\s*(?:import|from)\s+(?:pickle|cPickle|dill|joblib|shelve|marshal)\b", re.MULTILINE
    ),
    "bare except": re.compile(r"^\s*except\s*:", re.MULTILINE),
    "unfinished work": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    "blanket exemption": re.compile(r"#\s*type:\s*ignore(?!\[)|#\s*noqa(?!:)"),
    "vague class name": re.compile(
        r"^\s*(?:cdef )?class \w*(?:Utils?|Manager|Helper|Base[A-Z]\w*)\b", re.MULTILINE
    ),
    "private path": re.compile(r"(?<![\w.])/(?:home|work|root|Users)/"),
    "neighbouring folder": re.compile(r"\.\./\w"),
    "wall-clock seed": re.compile(
        r"\bdefault_rng\(\)|\brandom\.seed\(\)|np\.random\.(?:rand|randn|seed|normal)\("
    ),
}
PACKAGES_ROOT = Path(str(find_spec("ext").origin)).resolve().parents[1]  # type: ignore[union-attr]


def sources(*suffixes: str) -> list[Path]:
    """Files of the five packages, relative to their common root; only the built wheel lacks .pyx."""
    return sorted(
        path.relative_to(PACKAGES_ROOT)
        for layer in LAYERS
        for suffix in suffixes
        for path in (PACKAGES_ROOT / layer).rglob(f"*{suffix}")
    )


def read(path: Path) -> str:
    return (PACKAGES_ROOT / path).read_text(encoding="utf-8")


def imported_layers(path: Path, text: str) -> Iterator[str]:
    """Top-level packages that a file imports; a relative import is resolved first."""
    for dots, name in IMPORT.findall(text):
        # One dot is the file's own package; each further one its parent.
        base = path.parent.parts[: len(path.parent.parts) - len(dots) + 1] if dots else ()
        full = [*base, *name.split(".")]
        if dots and len(dots) > len(path.parent.parts):
            full = name.split(".")
        yield full[0]


@pytest.mark.parametrize("path", sources(".py", ".pyx", ".pxd", ".pyi"), ids=str)
def test_imports_point_down(path: Path) -> None:
    above = LAYERS[LAYERS.index(path.parts[0]) + 1 :]
    reached = sorted({layer for layer in imported_layers(path, read(path)) if layer in above})
    assert not reached, f"{path} reaches up to {', '.join(reached)}"


@pytest.mark.parametrize("path", [path for path in sources(".py") if path.parts[0] != "ext"], ids=str)
def test_python_imports_within_a_package_are_relative(path: Path) -> None:
    own = [
        name for dots, name in IMPORT.findall(read(path)) if not dots and name.split(".")[0] == path.parts[0]
    ]
    assert not own, f"{path} imports {', '.join(own)} by its absolute name"


def test_engine_does_not_use_storage() -> None:
    storage = re.compile(r"^\s*from\s+data\.(?!schema|instrument|errors)(\w+)", re.MULTILINE)
    users = {str(path): storage.findall(read(path)) for path in sources(".py") if path.parts[0] == "engine"}
    assert not {path: found for path, found in users.items() if found}


@pytest.mark.parametrize("path", sources(".py", ".pyx", ".pxd", ".h"), ids=str)
def test_long_files_give_a_reason(path: Path) -> None:
    text = read(path)
    lines = text.count("\n")
    excused = lines <= LINES_MAX or REASON in "\n".join(text.splitlines()[:40])
    assert excused, f"{path} has {lines} lines; split it, or say at its top: {REASON} because ..."


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement to the last; a long docstring is no fault."""
    documented = ast.get_docstring(function, clean=False) is not None
    first = function.body[1 if documented and len(function.body) > 1 else 0]
    return int(function.body[-1].end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize("path", sources(".py"), ids=str)
def test_functions_fit_a_screen(path: Path) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(read(path))) if isinstance(node, kinds)]
    long = {node.name: code_lines(node) for node in functions if code_lines(node) > FUNCTION_LINES_MAX}
    assert not long


@pytest.mark.parametrize("path", sources(".py", ".pyx", ".pxd", ".pyi", ".h"), ids=str)
def test_nothing_forbidden(path: Path) -> None:
    text = read(path)
    found = [
        f"{rule}: {match.group().strip()}"
        for rule, form in FORBIDDEN.items()
        for match in form.finditer(text)
    ]
    assert not found, f"{path}: {found}"


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS))
)
def test_tests_do_not_sleep(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) or getattr(node.func, "id", None)) == "sleep"
    ]
    assert not calls, f"{path.name} sleeps in lines {calls}"


def test_every_extension_has_a_stub() -> None:
    modules = {path.stem for path in sources(".pyx")} or {path.name.split(".")[0] for path in sources(".so")}
    assert modules == {path.stem for path in sources(".pyi")}


def test_every_command_can_be_added() -> None:
    from importlib import import_module

    from backtest.cli.main import COMMANDS

    for name in COMMANDS:
        if find_spec(f"backtest.cli.{name}") is not None:
            assert callable(import_module(f"backtest.cli.{name}").add_parser)

"""What goes into a wheel and a source archive, told from the files; .ci/run builds and installs both."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ext", "data", "engine", "backtest", "benchmarks")

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").is_file(), reason="needs a source checkout, not an installed wheel"
)


@pytest.fixture(scope="module")
def project() -> dict[str, dict[str, object]]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        found: dict[str, dict[str, object]] = tomllib.load(file)
    return found


def data_patterns(project: dict[str, dict[str, object]], package: str) -> list[str]:
    patterns: dict[str, list[str]] = project["tool"]["setuptools"]["package-data"]  # type: ignore[index]
    return patterns["*"] + patterns.get(package, [])


@pytest.mark.parametrize("package", PACKAGES)
def test_every_data_file_is_in_the_wheel(package: str, project: dict[str, dict[str, object]]) -> None:
    missing = []
    for path in (ROOT / package).rglob("*"):
        if not path.is_file() or path.suffix in (".py", ".pyc", ".so", ".pyx", ".c", ".html"):
            continue
        owner = ".".join(path.parent.relative_to(ROOT).parts)
        if not any(fnmatch(path.name, pattern) for pattern in data_patterns(project, owner)):
            missing.append(str(path.relative_to(ROOT)))
    assert not missing


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_code_is_a_package_with_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_direct_imports_are_declared(project: dict[str, dict[str, object]]) -> None:
    """A library that we import must be ours to ask for, not another library's."""
    import sys

    declared = {
        re.split(r"[><=\[ ]", requirement)[0].lower().replace("-", "_")
        for requirement in _requirements(project)
    }
    declared |= {"sklearn"} if "scikit_learn" in declared else set()
    form = re.compile(r"^\s*(?:from|import)\s+(\w+)", re.MULTILINE)
    imported = {
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in form.findall(_code(path.read_text(encoding="utf-8")))
    }
    assert imported - declared - set(PACKAGES) - sys.stdlib_module_names == set()


def _requirements(project: dict[str, dict[str, object]]) -> list[str]:
    required: list[str] = list(project["project"]["dependencies"])  # type: ignore[call-overload]
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]  # type: ignore[assignment]
    return required + [requirement for names in extras.values() for requirement in names]


def _code(text: str) -> str:
    """Return a module without its docstrings, whose prose may begin a line with "from"."""
    return re.sub(r'"""[\s\S]*?"""', "", text)


def test_source_archive_takes_what_building_and_testing_need() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    for folder in (*PACKAGES, "tests", "docs"):
        assert f"graft {folder}\n" in manifest
    for name in re.search(r"^include (.*)$", manifest, re.MULTILINE).group(1).split():  # type: ignore[union-attr]
        assert (ROOT / name).is_file(), name


def test_the_command_and_the_suite_have_entry_points(project: dict[str, dict[str, object]]) -> None:
    from importlib import import_module

    scripts: dict[str, str] = project["project"]["scripts"]  # type: ignore[assignment]
    points: dict[str, dict[str, str]] = project["project"]["entry-points"]  # type: ignore[assignment]
    for target in (*scripts.values(), *points["anytick.bench"].values()):
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name))


def test_installed_version_is_the_declared_one(project: dict[str, dict[str, object]]) -> None:
    try:
        installed = metadata("anytick")["Version"]
    except PackageNotFoundError:
        pytest.skip("anytick is not installed here")
    assert installed == project["project"]["version"]

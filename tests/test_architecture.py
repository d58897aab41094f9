"""The import rules and the shape of the tree, so that they are more than a wish."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpu_kmeans

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "gpu_kmeans").rglob("*.py"))
APP = sorted((ROOT / "app").rglob("*.py"))
ONLY_IN = {
    "triton": "gpu_kmeans/backends/cuda",
    "PIL": ("app/codecs", "app/encoders", "app/shrink_webp"),
    "ray": "app/ray_",
    "oxipng": "app/shrink_png",
}
BOUNDARIES = {
    "app",
    "PIL",
    "click",
    "fastapi",
    "matplotlib",
    "pydantic",
    "ray",
    "starlette",
    "uvicorn",
}
BARRED = {
    "batcher": {"torch", "fastapi", "starlette"},
    "codecs": {"torch", "fastapi", "starlette"},
    "engine": {"fastapi", "starlette"},
    "routes": {"torch"},
}
NAMELESS = {"base", "common", "helpers", "manager", "misc", "utils"}


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in the file, by its full name."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*above, *filter(None, [node.module])])


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", LIBRARY, ids=short)
def test_the_library_never_imports_a_boundary(path):
    assert not roots(path) & BOUNDARIES


@pytest.mark.parametrize("path", [*LIBRARY, *APP], ids=short)
def test_a_package_with_one_home_is_imported_only_there(path):
    at_home = {name for name, home in ONLY_IN.items() if short(path).startswith(home)}

    assert not roots(path) & (ONLY_IN.keys() - at_home)


@pytest.mark.parametrize("path", LIBRARY, ids=short)
def test_only_the_estimator_imports_scikit_learn(path):
    assert "sklearn" not in roots(path) or short(path) == "gpu_kmeans/estimator.py"


@pytest.mark.parametrize("path", APP, ids=short)
def test_a_part_of_the_app_imports_nothing_it_must_not_know(path):
    assert not roots(path) & BARRED.get(path.stem, set())


@pytest.mark.parametrize("name", ["settings", "schemas", "errors"])
def test_the_leaves_of_the_app_import_nothing_of_the_app(name):
    path = ROOT / "app" / f"{name}.py"

    assert not {module for module in imports(path) if module.split(".")[0] == "app"}


@pytest.mark.parametrize("path", LIBRARY, ids=short)
def test_the_library_reads_no_environment_prints_nothing_and_configures_no_logging(path):
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert "print" not in names
    assert not attributes & {"environ", "getenv", "basicConfig", "manual_seed"}


@pytest.mark.parametrize("path", [*LIBRARY, *APP], ids=short)
def test_a_module_is_named_by_a_noun(path):
    assert path.stem not in NAMELESS


def test_the_public_names_are_sorted_and_all_there():
    names = gpu_kmeans.__all__

    assert names == sorted(names)
    assert all(hasattr(gpu_kmeans, name) for name in names)


def test_the_public_names_are_those_of_the_design():
    assert {
        "DeviceError",
        "ElbowCurve",
        "GpuKMeansError",
        "InputError",
        "KMeans",
        "KMeansResult",
        "OptionError",
        "QuantizedImage",
        "ShapeError",
        "elbow",
        "kmeans",
        "quantize",
        "quantize_batch",
    } <= set(gpu_kmeans.__all__)

"""The package in layers: who may import whom, and what a plain import leaves alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nascore

PACKAGE = Path(nascore.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
BOTTOM = ("errors", "folders", "plugins", "version")
FOLDERS = ("fast", "engine", "theory", "frameworks", "runs", "sweeps", "evidence", "book")
HEIGHT = dict.fromkeys(BOTTOM, 0) | {name: n for n, name in enumerate(FOLDERS, start=1)}
HEIGHT |= {"": len(FOLDERS) + 1, "__main__": len(FOLDERS) + 2}
"""A module imports from its own height or from below; "" is the page of public names."""
HEAVY = {"torch", "xarray", "pandas", "matplotlib"}


def module_name(path: Path) -> str:
    """Such as ``nascore.engine.cost``; a folder's ``__init__`` has the folder's name."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in FILES}


def layer(module: str) -> str:
    """The part of a module's name that has a height."""
    return ([*module.split("."), ""])[1]


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when the module is imported."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        todo += [] if lazy else node.orelse if typing else ast.iter_child_nodes(node)


def imports(path: Path, at_import: bool = False) -> set[str]:
    """The modules of the package that a file names in an import, at its top or anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in statements(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the module's whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return {name for name in found if name.partition(".")[0] == "nascore"}


def test_a_module_imports_only_from_below():
    """In TYPE_CHECKING blocks and in functions, too."""
    for path in FILES:
        here = HEIGHT[layer(module_name(path))]
        for name in imports(path):
            assert name in MODULES
            assert HEIGHT[layer(name)] <= here, f"{module_name(path)} imports {name}"


def test_no_circle_of_imports():
    """At module level; TopologicalSorter names a circle that it finds."""
    graph = {module_name(path): imports(path, at_import=True) for path in FILES}
    assert graph["nascore.runs.config"]  # there is something to go round in
    TopologicalSorter(graph).prepare()


HELP = """
import runpy, sys
sys.argv = ["nascore", "--help"]
try:
    runpy.run_module("nascore", run_name="__main__")
except SystemExit as stop:
    assert not stop.code
"""


@pytest.mark.parametrize("code", ["import nascore; dir(nascore)", HELP], ids=["import", "help"])
def test_names_and_help_come_without_the_heavy_libraries(code):
    code += "\nimport sys; print('also:', *sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    _, _, modules = result.stderr.partition("also: ")
    assert "nascore" in modules.split()
    assert not HEAVY & set(modules.split())

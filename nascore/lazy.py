"""Public names that are imported when they are first used, so that ``import nascore`` is quick."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def public_names(package: str, file: str) -> tuple[Callable, Callable, list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from one list of its public names.

    The list is what the package's ``__init__`` imports under ``if TYPE_CHECKING:``, where editors
    and type checkers read it too.

    Arguments:
        package: its ``__name__``.
        file: its ``__file__``.
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    blocks = [part for part in tree.body if isinstance(part, ast.If)]
    imports = [line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)]
    home = {name.name: line.module for line in imports for name in line.names}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{home[name]}.{name}" if home[name] == package else home[name])
        return module if home[name] == package else getattr(module, name)

    return find, lambda: sorted(home), sorted(home)

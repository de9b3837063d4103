"""Public names that are imported when they are first used, so that ``import nascore`` is quick."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def public_names(package: str, file: str) -> tuple[Callable, Callable, list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from its ``__name__`` and ``__file__``.

    The names are those that its ``__init__`` imports under ``if TYPE_CHECKING:``, where editors and
    type checkers read them too.
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    (block,) = (part for part in tree.body if isinstance(part, ast.If))
    home = {name.name: line.module for line in block.body for name in line.names}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    return find, lambda: sorted(home), sorted(home)

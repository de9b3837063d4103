"""Differentiable architecture search, seen through its local cost."""

from importlib import import_module

# No module bears the name of a public function: `nascore.search` is the function, always.
_HOME = {
    "SearchConfig": "runs.config",
    "SearchSpace": "engine.space",
    "Supernet": "engine.supernet",
    "Wiring": "engine.space",
    "Run": "runs.records",
    "RunStore": "runs.records",
    "search": "runs.loop",
    "sweep": "runs.parallel",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    """Imports a public name when it is first used, so that ``import nascore`` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'nascore' has no attribute {name!r}")
    return getattr(import_module(f"nascore.{_HOME[name]}"), name)

"""Plug-ins: what a setting names, such as a framework, an operation, a normalisation or a dataset.

A worker process imports a plug-in by its name, and the address of a run holds a digest of its
source.
"""

import ast
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from nascore.errors import ConfigError, checked, unknown


class Registry(Mapping[str, Any]):
    """Plug-ins of one kind: those of the package by a plain name, others as ``"module:name"``.

    Such a module can be imported from the working folder; the name is an attribute of it, or what
    it registered.

    Arguments:
        kind: what they are, for messages: such as "framework".
        check: returns what is wrong with a plug-in, or None.
        home: a module that registers more of the package's own, imported when a name is looked up.
    """

    def __init__(
        self,
        kind: str,
        check: Callable[[Any], str | None] = lambda plugin: None,
        home: str | None = None,
    ):
        self.kind, self.check, self.home = kind, check, home
        self._known: dict[str, Any] = {}

    @checked
    def register(self, name: str, *, replace: bool = False) -> Callable[[Any], Any]:
        """Decorates a plug-in, so that it is found by this name.

        Raises ConfigError if another one has it, unless that is to be replaced. The same definition
        may come again, as when a cell of a notebook is run again.
        """
        if ":" in name:
            raise ConfigError(f"{self.kind} {name!r}: a name has no colon. Leave the module out.")

        def add(plugin: Any) -> Any:
            there = self._known.get(name)
            if there is not None and not replace and _place(there) != _place(plugin):
                twice = f"{self.kind} {name!r} is registered twice: it is {_place(there)} already."
                advice = f"Choose another name for {_place(plugin)}, or replace=True."
                raise ConfigError(f"{twice} {advice}")
            self._known[name] = self._accept(name, plugin)
            return plugin

        return add

    def __getitem__(self, name: str) -> Any:
        """The plug-in of a name. Raises ConfigError: unknown, not importable, not of the kind."""
        if name in self:
            return self._known[name]
        module, colon, attribute = str(name).partition(":")
        if not (colon and isinstance(name, str)):
            own = [known for known, plugin in self._known.items() if is_built_in(plugin)]
            message = unknown(self.kind, name, own)
            raise ConfigError(f"{message} Or give one of your own as 'module:name'.")
        imported = self._imported(module, name)
        plugin = self._known.get(attribute)
        if plugin is None or _module(plugin) != module:
            plugin = getattr(imported, attribute, None)
        if plugin is None:
            raise ConfigError(self._not_in(imported, name, attribute))
        return self._accept(name, plugin)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._known or name in self._all())

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Any]:
        if self.home is not None:
            import_module(self.home)
        return self._known

    def name_of(self, plugin: Any) -> str:
        """The name that finds a plug-in, here and in another process, from a name or the plug-in.

        Raises ConfigError if it is unknown or not of the kind.
        """
        if isinstance(plugin, str):
            short, plugin = plugin.rpartition(":")[2], self[plugin]
        else:
            names = [name for name, known in self._known.items() if known is plugin]
            short = names[0] if names else _qualified(plugin)
            self._accept(short, plugin)
        return short if is_built_in(plugin) else f"{_module(plugin)}:{short}"

    def digest(self, name: str) -> str | None:
        """Twelve hexadecimal digits of a plug-in's source; None for what comes with the package."""
        plugin = self[name]
        return None if is_built_in(plugin) else source_digest(plugin)

    def _accept(self, name: str, plugin: Any) -> Any:
        wrong = self.check(plugin)
        if wrong:
            raise ConfigError(f"{self.kind} {name!r}: {wrong}")
        return plugin

    def _imported(self, module: str, name: str):
        if module == "__main__":  # defined in a notebook or a script
            return sys.modules[module]
        if "" not in sys.path:
            sys.path.append("")  # the working folder, last
        try:
            return import_module(module)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:  # an import runs any code
            if not module or module.endswith(".py"):
                why = "write it as 'module:name', without .py."
            elif isinstance(error, ModuleNotFoundError) and error.name == module:
                lies = "It must lie in the working folder or be installed, also where workers run."
                why = f"there is no module {module!r}. {lies}"
            else:
                why = f"cannot import {module!r}, {failure(module, error)}"
            raise ConfigError(f"{self.kind} {name!r}: {why}") from error

    def _not_in(self, module: Any, name: str, attribute: str) -> str:
        """The message for a name that a module does not have."""
        if module.__name__ == "__main__":
            what = f"{self.kind} {name!r} is of a notebook or a script."
            return f"{what} Define {attribute} here first, at the top level."
        there = [
            key
            for key, value in vars(module).items()
            if key[0] != "_" and _module(value) == module.__name__ and self.check(value) is None
        ]
        why = f"{module.__name__} has no {attribute!r}."
        return f"{self.kind} {name!r}: {unknown('name', attribute, there) if there else why}"


def needs_to_be_callable(plugin: Any) -> str | None:
    """The check of a kind whose plug-ins are classes or functions."""
    return None if callable(plugin) else "it is neither a class nor a function."


def is_built_in(plugin: Any) -> bool:
    """Whether a plug-in comes with the package."""
    return _module(plugin).partition(".")[0] == "nascore"


def failure(plugin: Any, error: BaseException) -> str:
    """An error of a plug-in (or module, by name), with the last line of its own that led there."""
    module = plugin if isinstance(plugin, str) else _module(plugin)
    said = f"{type(error).__name__}: {error}"
    lines = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == module
    ]
    return f"line {lines[-1]} of {module}: {said}" if lines else said


def twelve_digits(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text, the same on every machine."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def source_digest(plugin: Any) -> str:
    """Twelve hexadecimal digits of the source of a class and what it inherits, or of a function.

    What comes with the package is left out, as are Python and torch. Edited source is another run.
    """
    plugin = inspect.unwrap(plugin)
    parts = [plugin]
    if inspect.isclass(plugin):
        parts = [part for part in plugin.__mro__ if part.__module__.split(".")[0] not in _OUTSIDE]
    return twelve_digits("\n".join(map(_source, parts)))


_OUTSIDE = {"nascore", "torch", "pydantic", "typing", "builtins", "abc", "collections"}


def _source(part: Any) -> str:
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):  # a class of a notebook has no file, but its methods have a cell
        return _source_in_cell(part) or _values(part)


def _source_in_cell(part: type) -> str | None:
    """The source of a class from the cell that its methods stand in; None if it has none."""
    for value in vars(part).values():
        function = inspect.unwrap(getattr(value, "__func__", value))
        if getattr(function, "__qualname__", "").startswith(f"{part.__qualname__}."):
            text = "".join(inspect.findsource(function)[0])
            classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
            return ast.get_source_segment(text, [c for c in classes if c.name == part.__name__][-1])
    return None


def _values(part: type) -> str:
    """What a class without methods says: its options, with types and defaults, and its values."""
    fields = vars(part).get("__pydantic_fields__", {})
    said = {
        name: (field.annotation, field.metadata, field.get_default(call_default_factory=True))
        for name, field in fields.items()
    }
    plain = bool | int | float | str | tuple
    said |= {name: value for name, value in vars(part).items() if isinstance(value, plain)}
    return f"{part.__qualname__} {sorted((n, repr(v)) for n, v in said.items() if n[0] != '_')}"


def _module(plugin: Any) -> str:
    return getattr(inspect.unwrap(plugin), "__module__", None) or ""


def _qualified(plugin: Any) -> str:
    return getattr(inspect.unwrap(plugin), "__qualname__", repr(plugin))


def _place(plugin: Any) -> str:
    return f"{_module(plugin)}.{_qualified(plugin)}"

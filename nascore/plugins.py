"""Plug-ins: what a setting names, such as a framework, an operation, a normalisation or a dataset.

A worker process imports a plug-in by its name, and the address of a run holds a digest of its
source.
"""

import hashlib
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from nascore.errors import ConfigError, checked, unknown


class Registry(Mapping[str, Any]):
    """Plug-ins of one kind: the package's by a plain name, any other one as ``"module:name"``.

    Its module can be imported from the working folder; the name is that which it was registered
    under, or an attribute of the module. The short name finds it too, while no other module
    registers the same.

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

        Raises ConfigError if the package, or another plug-in of the same module, has the name. The
        same definition may come again, as when a cell of a notebook is run again.
        """
        if ":" in name:
            raise ConfigError(f"{self.kind} {name!r}: a name has no colon. Leave the module out.")

        def add(plugin: Any) -> Any:
            self._accept(name, plugin)
            full = name if is_built_in(plugin) else f"{_module(plugin)}:{name}"
            for known in filter(self._known.__contains__, (name, full)):
                if not replace and (place := _place(self._known[known])) != _place(plugin):
                    twice = f"{self.kind} {name!r} is registered twice: it is {place} already."
                    advice = f"Choose another name for {_place(plugin)}, or replace=True."
                    raise ConfigError(f"{twice} {advice}")
            self._known[full] = plugin
            return plugin

        return add

    def __getitem__(self, name: str) -> Any:
        """The plug-in of a name. Raises ConfigError: unknown, not importable, not of the kind."""
        name = self._full(name)
        module, colon, attribute = str(name).partition(":")
        if not (colon and isinstance(name, str)):
            if name in self:
                return self._known[name]
            message = unknown(self.kind, name, self._known)
            raise ConfigError(f"{message} Or give one of your own as 'module:name'.")
        imported = self._imported(module, name)
        plugin = self._known.get(name, getattr(imported, attribute, None))
        if plugin is None:
            names = [
                key
                for key, value in vars(imported).items()
                if key[0] != "_" and _module(value) == module and self.check(value) is None
            ]
            raise ConfigError(f"{self.kind} {name!r}: {unknown('name', attribute, names)}")
        return self._accept(name, plugin)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._full(name) in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Any]:
        if self.home is not None:
            import_module(self.home)
        return self._known

    def _full(self, name: Any) -> Any:
        """A short name with its module; any other name as it is."""
        if not isinstance(name, str) or ":" in name or name in self._all():
            return name
        full = [known for known in self._known if known.rpartition(":")[2] == name]
        if len(full) > 1:
            raise ConfigError(f"{self.kind} {name!r}: say which one, {' or '.join(full)}.")
        return full[0] if full else name

    def name_of(self, plugin: Any) -> str:
        """The name that finds a plug-in, here and in another process, from a name or the plug-in.

        Raises ConfigError if it is unknown or not of the kind.
        """
        if isinstance(plugin, str):
            name, plugin = self._full(plugin), self[plugin]
        else:
            name = f"{_module(plugin)}:{_qualified(plugin)}"
            self._accept(_qualified(plugin), plugin)
        registered = (known for known, value in self._known.items() if value is plugin)
        return name if name in self._known else next(registered, name)

    def digest(self, name: str) -> str | None:
        """Twelve hexadecimal digits of a plug-in's source; None for what comes with the package."""
        plugin = self[name]
        return None if is_built_in(plugin) else source_digest(plugin)

    def _accept(self, name: str, plugin: Any) -> Any:
        wrong = self.check(plugin)
        if wrong:
            raise ConfigError(f"{self.kind} {name!r}: {wrong}")
        return plugin

    def _imported(self, module: str, name: str) -> Any:
        if module == "__main__":  # defined in a notebook or a script
            return sys.modules[module]
        if "" not in sys.path:
            sys.path.append("")  # the working folder, last
        try:
            return import_module(module)
        except (Exception, SystemExit) as error:  # an import runs any code
            if not module or module.endswith(".py"):
                why = "write it as 'module:name', without .py."
            elif isinstance(error, ModuleNotFoundError) and error.name == module:
                lies = "It must lie in the working folder or be installed, also where workers run."
                why = f"there is no module {module!r}. {lies}"
            else:
                why = f"cannot import {module!r}, {failure(module, error)}"
            raise ConfigError(f"{self.kind} {name!r}: {why}") from error


def needs_to_be_callable(plugin: Any) -> str | None:
    """The check of a kind whose plug-ins are classes or functions."""
    return None if callable(plugin) else "it is neither a class nor a function."


def is_built_in(plugin: Any) -> bool:
    """Whether a plug-in comes with the package."""
    return _module(plugin).partition(".")[0] == "nascore"


def failure(plugin: Any, error: BaseException) -> str:
    """An error of a plug-in (or module, by name), with the last line of its file that led to it."""
    module = plugin if isinstance(plugin, str) else _module(plugin)
    text = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    lines = [
        f"line {line} of {Path(frame.f_globals.get('__file__') or module).name}: {text}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == module
    ]
    return lines[-1] if lines else text


def twelve_digits(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text, the same on every machine."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def source_digest(plugin: Any) -> str:
    """Twelve hexadecimal digits of the source of a plug-in: edited source is another run.

    The source is the file, or the cell of a notebook, of a function, or of a class and of each
    class that it inherits from. Other files that these import are left out, as is what comes with
    the package, Python or torch. Asked again for the same plug-in, it is what was loaded first.

    Raises ConfigError if there is none, as of a class without methods in a notebook.
    """
    plugin = inspect.unwrap(plugin)
    parts = [plugin]
    if inspect.isclass(plugin):
        parts = [part for part in plugin.__mro__ if part.__module__.split(".")[0] not in _OUTSIDE]
    return twelve_digits("\n".join(dict.fromkeys(map(_source, parts))))


_OUTSIDE = {"nascore", "torch", "pydantic", *sys.stdlib_module_names}


def _source(part: Any) -> str:
    """The text of the file or cell that defines a class or function."""
    try:
        return inspect.getsource(sys.modules[part.__module__])
    except (OSError, TypeError, KeyError):  # a notebook is no file, but its functions have a cell
        values = [getattr(value, "__func__", value) for value in (part, *vars(part).values())]
        functions = [value for value in values if _module(value) == part.__module__]
        code = [getattr(inspect.unwrap(function), "__code__", None) for function in functions]
        files = sorted({one.co_filename for one in code if one})
        text = "".join(line for file in files for line in linecache.getlines(file))
    if not text:
        missing = f"the source of {_place(part)} cannot be found, and a run's address needs it"
        raise ConfigError(f"{missing}. Give it a method, or move it to a file.")
    return text


def _module(plugin: Any) -> str:
    return getattr(inspect.unwrap(plugin), "__module__", None) or ""


def _qualified(plugin: Any) -> str:
    return getattr(inspect.unwrap(plugin), "__qualname__", repr(plugin))


def _place(plugin: Any) -> str:
    return f"{_module(plugin)}.{_qualified(plugin)}"

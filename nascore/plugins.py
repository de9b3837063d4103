"""Plug-ins: what a setting names, such as a framework, an operation, a normalisation or a dataset.

A worker process imports a plug-in by its name, and the address of a run holds a digest of its
source.
"""

import hashlib
import inspect
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from nascore.errors import ConfigError, checked, in_one_line, unknown


def _needs_to_be_callable(plugin: Any) -> str | None:
    return None if callable(plugin) else "it is neither a class nor a function."


class Registry(Mapping[str, Any]):
    """Plug-ins of one kind: the package's by a plain name, any other one as ``"module:name"``.

    Its module can be imported from the working folder; the name is that which it was registered
    under, or an attribute of the module. The short name finds it too, while no other module
    registers the same. ``check`` returns what is wrong with a plug-in, or None.
    """

    def __init__(self, kind: str, check: Callable[[Any], str | None] = _needs_to_be_callable):
        self.kind, self.check = kind, check
        self._known: dict[str, Any] = {}

    @checked
    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorates a plug-in, so that it is found by this name.

        Raises ConfigError if the package, or another plug-in of the same module, has the name. The
        same definition may come again, as when a cell of a notebook is run again.
        """
        if ":" in name:
            raise ConfigError(f"{self.kind} {name!r}: a name has no colon. Leave the module out.")

        def add(plugin: Any) -> Any:
            self._accept(name, plugin)
            full = name if is_built_in(plugin) else f"{_module(plugin)}:{name}"
            for first in (self._known[key] for key in (name, full) if key in self._known):
                if _place(first) != _place(plugin):
                    raise ConfigError(
                        f"{self.kind} {name!r} is registered twice: it is {_place(first)} already. "
                        f"Choose another name for {_place(plugin)}."
                    )
            self._known[full] = plugin
            return plugin

        return add

    def __getitem__(self, name: str) -> Any:
        """The plug-in of a name. Raises ConfigError: unknown, not importable, not of the kind."""
        name = self._full(str(name))
        module, colon, attribute = name.partition(":")
        imported = self._imported(module, name) if colon else None
        if name in self._known:
            return self._known[name]
        if not colon:
            message = unknown(self.kind, name, self._known)
            raise ConfigError(f"{message} Or give one of your own as 'module:name'.")
        if hasattr(imported, attribute):
            return self._accept(name, getattr(imported, attribute))
        defined = {key: value for key, value in vars(imported).items() if _module(value) == module}
        names = [key for key in defined if key[0] != "_" and self.check(defined[key]) is None]
        raise ConfigError(f"{self.kind} {name!r}: {unknown('name', attribute, names)}")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._full(name) in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def name_of(self, plugin: Any) -> str:
        """The name that finds a plug-in, here and in another process, from a name or the plug-in.

        Raises ConfigError if it is unknown or not of the kind.
        """
        if isinstance(plugin, str):
            name, plugin = self._full(plugin), self[plugin]
        else:
            name = _place(plugin)
            self._accept(getattr(plugin, "__name__", repr(plugin)), plugin)
        registered = (known for known, value in self._known.items() if value is plugin)
        return name if name in self._known else next(registered, name)

    def _full(self, name: str) -> str:
        """A short name with its module; any other name as it is."""
        if ":" in name or name in self._known:
            return name
        full = [known for known in self._known if known.endswith(f":{name}")]
        if len(full) > 1:
            raise ConfigError(f"{self.kind} {name!r}: say which one, {' or '.join(full)}.")
        return full[0] if full else name

    def _accept(self, name: str, plugin: Any) -> Any:
        if wrong := self.check(plugin):
            raise ConfigError(f"{self.kind} {name!r}: {wrong}")
        return plugin

    def _imported(self, module: str, name: str) -> Any:
        if "" not in sys.path:
            sys.path.append("")  # the working folder, last
        try:
            return import_module(module)
        except (Exception, SystemExit) as error:  # an import runs any code
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                lies = "It must lie in the working folder or be installed, also where workers run."
                why = f"there is no module {module!r}. {lies}"
            else:
                why = f"cannot import {module!r}, {in_one_line(error, module)}"
            raise ConfigError(f"{self.kind} {name!r}: {why}") from error


def is_built_in(plugin: Any) -> bool:
    """Whether a plug-in comes with the package."""
    return _module(plugin).partition(".")[0] == "nascore"


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
    parts = plugin.__mro__ if inspect.isclass(plugin) else [plugin]
    outside = {"nascore", "torch", "pydantic", *sys.stdlib_module_names}
    inside = [part for part in parts if part.__module__.split(".")[0] not in outside]
    return twelve_digits("\n".join(dict.fromkeys(map(_source, inside))))


def _source(part: Any) -> str:
    """The text of the file or cell that defines a class or function."""
    try:
        return inspect.getsource(sys.modules[part.__module__])
    except (OSError, TypeError, KeyError):  # a notebook is no file, but its functions have a cell
        members = map(inspect.unwrap, [part, *vars(part).values()])
        functions = filter(inspect.isfunction, members)
        cells = {f.__code__.co_filename for f in functions if f.__module__ == part.__module__}
        text = "".join(line for cell in sorted(cells) for line in linecache.getlines(cell))
    if not text:
        raise ConfigError(
            f"the source of {_place(part)} cannot be found, and a run's address needs it. "
            "Give it a method, or move it to a file."
        )
    return text


def _module(plugin: Any) -> str:
    return getattr(inspect.unwrap(plugin), "__module__", None) or ""


def _place(plugin: Any) -> str:
    """The module and the name that it was defined with."""
    return f"{_module(plugin)}:{getattr(inspect.unwrap(plugin), '__qualname__', repr(plugin))}"

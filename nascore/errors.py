"""What went wrong, in one line that helps: the value, what is allowed, what to do."""

import re
import signal
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from beartype import BeartypeConf, BeartypeViolationVerbosity, FrozenDict, beartype
from pydantic import BaseModel, ValidationError

T = TypeVar("T", bound=Callable)
LONGEST = 200  # characters of a value in a message


class OneLine:
    """An error that says all in its message: a notebook shows that, without a traceback."""

    def _render_traceback_(self) -> list[str]:  # asked for by IPython
        return [f"{type(self).__name__}: {self}"]


class ConfigError(OneLine, ValueError):
    """A setting is unknown or impossible. Raised before any work starts."""


class DataError(OneLine, RuntimeError):
    """A dataset is missing, damaged, or its folder cannot be used."""


class RecordError(OneLine, RuntimeError):
    """A record or a checkpoint cannot be used."""


class DamagedRecord(RecordError):
    """A file that is not what was written: nothing in it can be trusted."""


class SweepError(OneLine, RuntimeError):
    """Some searches of a sweep have failed. The others are done, and kept in a store."""


class Interrupted(OneLine, KeyboardInterrupt):
    """A signal (signum) stopped the work in good order. The message says how to go on."""

    def __init__(self, message: str, signum: int = signal.SIGINT):
        super().__init__(message)
        self.signum = signum


def printable(text: str) -> str:
    """A text for a terminal: what moves the cursor or turns the line round is escaped."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def one_line(text: object) -> str:
    """A text without line breaks, for a terminal."""
    return printable(" ".join(str(text).split()))


def in_one_line(error: BaseException, module: str | None = None) -> str:
    """An error of this module as it is; any other with its kind and the line that raised it.

    With the name of a module: either one, with the last line of that module which led to it.
    """
    text = one_line(error)
    if not isinstance(error, OneLine):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    elif module is None:
        return text
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = frame.f_globals.get("__name__", "?")
        if module in (None, name):
            return f"line {line} of {Path(frame.f_globals.get('__file__', name)).name}: {text}"
    return text


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones, with the nearest valid name."""
    known = sorted(known)
    near = get_close_matches(str(name)[:LONGEST], known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {shown(name)}.{hint} Allowed: {', '.join(known) or 'none'}."


def shown(value: object) -> str:
    """A value for a message, without its middle if it is long."""
    text, half = repr(value), LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}...{text[-half:]}"


def explain(error: ValidationError, kind: str, known: Iterable[str]) -> str:
    """A line for each mistake that pydantic found in a model, whose fields are the known ones."""
    lines = []
    for wrong in error.errors():
        place = map(str, wrong["loc"])  # with the types of a union, as constrained-int
        name, message = ".".join(p for p in place if "constrained-" not in p), wrong["msg"]
        if wrong["type"] == "value_error":  # raised by a validator of this package
            lines.append(str(wrong["ctx"]["error"]))
        elif wrong["type"] == "extra_forbidden":
            lines.append(unknown(kind, name, known))
        elif wrong["type"] == "literal_error" and isinstance(wrong["input"], str):
            lines.append(unknown(name, wrong["input"], re.findall("'(.*?)'", message)))
        else:
            lines.append(f"{name}={shown(wrong['input'])}: {message[0].lower()}{message[1:]}.")
    return "\n".join(lines)


class Checked(BaseModel):
    """A model of pydantic that raises ConfigError, with a line for each mistake."""

    _kind: ClassVar[str]  # what a message calls a field

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            known = type(self).model_fields
            raise ConfigError(explain(error, self._kind, known)) from None


TYPES = BeartypeConf(
    hint_overrides=FrozenDict({int: Integral, float: Real}),  # those of NumPy, too
    violation_param_type=ConfigError,
    violation_verbosity=BeartypeViolationVerbosity.MINIMAL,
    is_color=False,
)


def checked(target: T) -> T:
    """Validates the arguments of a function, or of a class's `__init__`, against annotations.

    >>> @checked
    ... def grow(edges: int, by: float = 1.0): ...
    >>> grow("all")
    Traceback (most recent call last):
    nascore.errors.ConfigError: Function nascore.errors.grow() parameter edges='all' violates ...
    """
    if not isinstance(target, type):
        return beartype(target, conf=TYPES)
    target.__init__ = beartype(target.__init__, conf=TYPES)
    return target

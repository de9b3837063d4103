"""What went wrong, said so that the reader can mend it: what was given, what is allowed."""

import inspect
import re
import signal
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T", bound=Callable)
LONGEST = 200  # characters of a value in a message


class ConfigError(ValueError):
    """A setting is unknown or impossible. Raised before any work starts."""


class DataError(RuntimeError):
    """A dataset is missing, damaged, or its folder cannot be used."""


class RecordError(RuntimeError):
    """A record or a checkpoint cannot be used."""


class DamagedRecord(RecordError):
    """A file that is not what was written: nothing in it can be trusted."""


class Interrupted(KeyboardInterrupt):
    """Work was told to stop, and has stopped in good order. Says how to go on.

    Arguments:
        message: what was kept, and how to go on.
        signum: the signal that asked.
    """

    def __init__(self, message: str, signum: int = signal.SIGINT):
        super().__init__(message)
        self.signum = signum


class SweepError(RuntimeError):
    """Some searches of a sweep have failed. The others are done, and their records kept."""


def one_line(text: object) -> str:
    """What an error or a text says, without line breaks."""
    return " ".join(str(text).split())


def in_one_line(error: BaseException) -> str:
    """An error as one line: one of ours as it is, another with its kind and where it was raised.

    >>> in_one_line(ConfigError("lr=-1: give a positive number."))
    'lr=-1: give a positive number.'
    >>> in_one_line(MemoryError())
    'MemoryError'
    """
    text = one_line(error)
    if isinstance(error, ConfigError | DataError | RecordError):
        return text
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    return (
        f"{said} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else said
    )


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones, with the nearest valid name."""
    known = sorted(known)
    near = get_close_matches(str(name)[:LONGEST], known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {shown(name)}.{hint} Allowed: {', '.join(known) or 'none'}."


def shown(value: object) -> str:
    """A value for a message, without its middle if it is long."""
    try:
        text = repr(value)
    except Exception as error:  # such as a whole number of more digits than Python writes
        return f"a value of type {type(value).__name__} ({error})"
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}...{text[-half:]}"


def explain(error: Mapping[str, Any], kind: str, known: Iterable[str]) -> str:
    """One line for one of ``ValidationError.errors()``: the field, its value, what is allowed.

    Arguments:
        kind: what the fields are, such as "config field".
        known: their names.
    """
    if error["type"] == "value_error":  # raised by a check of ours
        return str(error["ctx"]["error"])
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return unknown(kind, name, known)
    return f"{name}={shown(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}."


def checked(target: T) -> T:
    """Has the calls of a function, or of a class, check their arguments by the annotations.

    An argument that is missing, unknown or of another type raises ConfigError. That takes some
    microseconds a call: it is for what people call, not for inner loops.

    >>> @checked
    ... def grow(edges: int, by: float = 1.0): ...
    >>> grow("all")
    Traceback (most recent call last):
    nascore.errors.ConfigError: grow: edges='all' is not of type int.
    """
    if inspect.isclass(target):
        target.__init__ = checked(target.__init__)
        return target
    signature, types = inspect.signature(target), cache(get_type_hints)
    name = target.__qualname__.removesuffix(".__init__")

    @wraps(target)
    def call(*args: Any, **named: Any) -> Any:
        try:
            given = signature.bind(*args, **named).arguments
        except TypeError as error:
            known = ", ".join(signature.parameters)
            raise ConfigError(f"{name}: {error}. Its arguments: {known}.") from None
        for argument, kind in types(target, include_extras=True).items():
            if argument in given and not fits(given[argument], kind):
                wanted = re.sub(r"\b(\w+\.)+", "", inspect.formatannotation(kind))
                what = f"{argument}={shown(given[argument])}"
                raise ConfigError(f"{name}: {what} is not of type {wanted}.")
        return target(*args, **named)

    return call


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of a type, in the form of an annotation.

    True and False are no numbers; those of numpy are.
    """
    form, parts = get_origin(kind) or kind, get_args(kind)
    if form in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if form is Annotated:
        return fits(value, parts[0])
    if form is Literal:
        return value in parts
    if form is Any or isinstance(form, TypeVar):
        return True
    if form in (int, float):
        return isinstance(value, Integral if form is int else Real) and not isinstance(value, bool)
    if form is Callable or not isinstance(form, type):
        return callable(value)
    if not isinstance(value, form):
        return False
    if issubclass(form, Mapping) and parts:
        return all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if issubclass(form, Sequence) and parts:
        return all(fits(item, parts[0]) for item in value)
    return True

"""What went wrong, said so that the reader can mend it: what was given, what is allowed."""

import signal
import traceback
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """A setting is unknown or impossible. Raised before any work starts."""


class DataError(RuntimeError):
    """A dataset is missing, damaged, or its folder cannot be used."""


class RecordError(RuntimeError):
    """A file is not a whole, valid record of a run."""


class SweepError(RuntimeError):
    """Some searches of a sweep have failed. The others are done, and their records kept."""


class Interrupted(KeyboardInterrupt):
    """Work was told to stop, and has stopped in good order. Says how to go on.

    Arguments:
        message: what was kept, and how to go on.
        signum: the signal that asked.
    """

    def __init__(self, message: str, signum: int = signal.SIGINT):
        super().__init__(message)
        self.signum = signum


def in_one_line(error: BaseException) -> str:
    """An error as one line: one of ours as it is, another with its kind and where it was raised.

    >>> in_one_line(ConfigError("lr=-1: give a positive number."))
    'lr=-1: give a positive number.'
    >>> in_one_line(MemoryError())
    'MemoryError'
    """
    text = " ".join(str(error).split())
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
    near = get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Allowed: {', '.join(known) or 'none'}."


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
    return f"{name}={error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}."

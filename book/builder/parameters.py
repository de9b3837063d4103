"""The parameters of a notebook: what may be given for them, checked before a kernel starts."""

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Annotated, Any, Literal

import nbformat
import papermill
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from nascore.errors import ConfigError, one_line, shown, unknown
from nascore.evidence.profiles import PROFILES

TYPES = {
    **{"int": int, "float": float, "str": str, "bool": bool, "Literal": Literal},
    **{"PositiveInt": PositiveInt, "NonNegativeInt": NonNegativeInt},
    "PositiveFloat": PositiveFloat,
    "Int": lambda low, high: Annotated[int, Field(ge=low, le=high)],
    "Float": lambda low, high: Annotated[float, Field(ge=low, le=high)],
    "Seed": Annotated[int, Field(ge=0, lt=2**63)],
    "Profile": Literal[PROFILES],
    "Folder": Annotated[str, Field(min_length=1)],
}
"""The words of a parameter's type comment, such as ``seeds = None  # type: Int(1,20)|None``."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # True is no number, "3" is none either


def parameter_types(notebook: Path) -> dict[str, str]:
    """The type comment of each parameter. Raises ConfigError if the notebook is damaged."""
    try:
        known = papermill.inspect_notebook(str(notebook))
    except Exception as error:  # a damaged file is damaged in many ways
        raise ConfigError(f"{notebook} is no whole notebook: {one_line(error)}") from None
    return {name: parameter["inferred_type_name"] for name, parameter in known.items()}


def check_parameters(
    notebook: Path, given: Mapping[str, Any], profile: str | None = None
) -> dict[str, Any]:
    """Checks a notebook's parameters, its own and those given, and builds its configs from them.

    Runs the cell tagged "configs", which does nothing else, here: it is the notebook's own check.
    Returns those given, and the profile, if the notebook has one.

    Raises ConfigError, in one line: notebook, parameter, value, what is allowed.
    """
    types = parameter_types(notebook)
    if profile is not None and "profile" in types:
        given = {"profile": profile, **given}
    for name in given:
        if name not in types:
            raise ConfigError(f"{notebook.name}: {unknown('parameter', name, types)}")
    with chdir(notebook.parent):
        values: dict[str, Any] = {}
        _run_cell(notebook, "parameters", values, given)
        values |= given
        for name, kind in types.items():
            if wrong := _misfit(values[name], kind):
                value = f"{name}={shown(values[name])}"
                raise ConfigError(f"{notebook.name}: {value} is no {kind}: {wrong}.")
        _run_cell(notebook, "configs", values, given)
    return dict(given)


def _misfit(value: Any, kind: str) -> str | None:
    """Why a value is not of a type; None if it is."""
    try:
        TypeAdapter(eval(kind, {}, TYPES), config=_STRICT).validate_python(value)
    except ValidationError as error:
        texts = dict.fromkeys(wrong["msg"] for wrong in error.errors())
        return " or ".join(text[0].lower() + text[1:] for text in texts)
    except (NameError, SyntaxError, TypeError):
        return f"this type is not made of the words {', '.join(TYPES)}"
    return None


def _run_cell(notebook: Path, tag: str, values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Runs the cell with this tag, if there is one, in a namespace of these values."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if tag in cell.metadata.get("tags", []):
            try:
                exec(compile(cell.source, f"{notebook.name}, {tag}", "exec"), values)
            except ConfigError as error:
                raise ConfigError(f"{notebook.name}: {one_line(error)}") from None
            except Exception as error:  # the cell may have been changed
                why = f"{type(error).__name__}: {one_line(error)}."
                why += "".join(f" With {name}={shown(given[name])}." for name in given)
                raise ConfigError(f"{notebook.name}, cell {tag!r}: {why}") from None

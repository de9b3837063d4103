"""The parameters of a notebook, checked before a kernel starts."""

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import nbformat
import papermill

from nascore.errors import ConfigError, one_line, shown, unknown


def parameter_names(notebook: Path) -> list[str]:
    """The names of its parameters. Raises ConfigError if the notebook is damaged."""
    try:
        return list(papermill.inspect_notebook(str(notebook)))
    except Exception as error:  # a damaged file is damaged in many ways
        raise ConfigError(f"{notebook} is no whole notebook: {one_line(error)}") from None


def check_parameters(
    notebook: Path, given: Mapping[str, Any], profile: str | None = None
) -> dict[str, Any]:
    """Checks a notebook's parameters, its own and those given, and builds its configs from them.

    Runs the cell tagged "configs", which does nothing else, here: it is the notebook's own check.
    Returns those given, and the profile, if the notebook has one.

    Raises ConfigError, in one line: notebook, parameter, value, what is allowed.
    """
    names = parameter_names(notebook)
    if profile is not None and "profile" in names:
        given = {"profile": profile, **given}
    for name in given:
        if name not in names:
            raise ConfigError(f"{notebook.name}: {unknown('parameter', name, names)}")
    with chdir(notebook.parent):
        values: dict[str, Any] = {}
        _run_cell(notebook, "parameters", values, given)
        _run_cell(notebook, "configs", values | given, given)
    return dict(given)


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

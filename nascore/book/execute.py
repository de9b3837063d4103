"""Executes a notebook with other parameters: checked first, moved into place on success."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from pydantic import TypeAdapter, ValidationError

from nascore.errors import ConfigError, unknown


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Checks names and types against the notebook's parameters cell.

    A parameter's type is in its type comment, such as ``epochs = None  # type: int|None``.
    Raises ConfigError.
    """
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    for name, value in parameters.items():
        if name not in known:
            raise ConfigError(f"{notebook.name}: {unknown('parameter', name, known)}")
        kind = known[name]["inferred_type_name"]
        allowed = [_TYPES[part.strip()] for part in kind.split("|")]
        if not any(_fits(value, option) for option in allowed):
            raise ConfigError(
                f"{notebook.name}: parameter {name}={value!r} is of type "
                f"{type(value).__name__}; allowed: {kind}."
            )


_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "None": type(None)}


def _fits(value: Any, kind: type) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Executes a notebook with papermill, in its own folder.

    Writes the executed copy only if every cell succeeded. Raises ConfigError for a wrong parameter
    before anything runs, and papermill's error, with the cell and its traceback, for a failure.
    """
    import papermill

    check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_suffix(".part.ipynb")
    papermill.execute_notebook(
        str(notebook),
        str(part),
        dict(parameters),
        cwd=str(notebook.parent),
        progress_bar=False,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    executed = nbformat.read(part, as_version=4)
    for cell in executed.cells:
        if "outputs" in cell:
            cell.outputs = _merged_streams(cell.outputs)
    executed.metadata.papermill.update(input_path=notebook.name, output_path=output.name)
    nbformat.write(executed, part)
    os.replace(part, output)


def _merged_streams(outputs: list) -> list:
    """Outputs with each stream in one piece, as a terminal would show it in the end.

    A progress bar rewrites its line over and over; only its last state stays.
    """
    merged = []
    for output in outputs:
        follows = merged and merged[-1].output_type == output.output_type == "stream"
        if follows and merged[-1].name == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            lines = output.text.split("\n")
            output.text = "\n".join(re.split(r"\r+", line.rstrip("\r"))[-1] for line in lines)
    return merged

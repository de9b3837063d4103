"""Executes a notebook with other parameters; the copy is moved into place on success."""

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import nbformat
import papermill
import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from nascore import errors
from nascore.errors import one_line

PART = ".part.ipynb"
"""How a copy's name ends while its notebook is executed, and for good if a cell fails."""


PROJECT = str(Path(__file__).parents[2])


class ThisPython(AsyncKernelManager):
    """Starts this interpreter with this project's nascore, whatever kernel is called python3."""

    kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        env={"PYTHONPATH": os.pathsep.join([PROJECT, *sys.path])},
    )


def kill_kernels() -> None:
    """Kills every process that this one has started: the notebooks of its kernels fail at once."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            process.kill()


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Executes a notebook with papermill, in its own folder, with parameters that were checked.

    The executed copy takes its place only if every cell succeeded. Raises RuntimeError, in one
    line that names the cell and the copy as far as it was executed.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it reports, it raises as well
    output.parent.mkdir(parents=True, exist_ok=True)
    part, where = output.with_suffix(PART), notebook.name
    try:
        papermill.execute_notebook(
            str(notebook),
            str(part),
            dict(parameters),
            cwd=str(notebook.parent),
            progress_bar=False,
            kernel_manager_class=ThisPython,
            kernel_name="python3",
            coalesce_streams=True,  # a progress bar as a terminal shows it in the end
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except PapermillExecutionError as error:
        first = shorten(error.source.partition("\n")[0], 60)
        where += f", cell [{error.exec_count}] ({first})"
        kind = "" if hasattr(errors, error.ename) else f"{error.ename}: "
        why = kind + one_line(error.evalue)
    except DeadKernelError:
        why = "its kernel died, as when memory runs out"
    else:
        executed = nbformat.read(part, as_version=4)
        executed.metadata.pop("widgets", None)  # a page would load scripts from elsewhere for them
        executed.metadata.papermill.update(input_path=notebook.name, output_path=output.name)
        nbformat.write(executed, part)
        os.replace(part, output)
        return
    raise RuntimeError(f"{where}: {shorten(why, 300).rstrip('.')}. Its output is in {part}")

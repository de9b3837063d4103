"""Executes a notebook with other parameters; the copy is moved into place on success."""

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import nbformat
import psutil
from nbclient.exceptions import DeadKernelError

from nascore import errors
from nascore.errors import one_line

PART = ".part.ipynb"
"""How a copy's name ends while its notebook is executed."""


def kill_kernels() -> None:
    """Kills every process that this one has started: the notebooks of its kernels fail at once."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            process.kill()


class CellError(RuntimeError):
    """A cell failed: in which notebook, which cell, why, in one line that names the report.

    Arguments:
        report: the file for the text; whoever shows the line writes it.
        text: the line and the traceback.
    """

    def __init__(self, line: str, report: Path, traceback: str):
        super().__init__(f"{line.rstrip('.')}. The traceback is in {report}")
        self.report, self.text = report, f"{line}\n\n{traceback}\n"


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Executes a notebook with papermill, in its own folder, with parameters that were checked.

    Writes the executed copy only if every cell succeeded. Raises CellError.
    """
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it reports, it raises as well
    output.parent.mkdir(parents=True, exist_ok=True)
    part, report = output.with_suffix(PART), output.with_suffix(".error.txt")
    report.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(part),
            dict(parameters),
            cwd=str(notebook.parent),
            progress_bar=False,
            kernel_name="python3",
            coalesce_streams=True,  # a progress bar as a terminal shows it in the end
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
        executed = nbformat.read(part, as_version=4)
        executed.metadata.papermill.update(input_path=notebook.name, output_path=output.name)
        nbformat.write(executed, part)
        os.replace(part, output)
    except OSError:
        raise
    except Exception as error:  # of papermill or of the kernel
        raise CellError(*_what_failed(part, error, notebook.name, report)) from None
    finally:
        part.unlink(missing_ok=True)


def _what_failed(part: Path, error: Exception, where: str, report: Path) -> tuple[str, Path, str]:
    """The arguments of CellError, from the notebook as far as it was executed."""
    why, traceback = f"{type(error).__name__}: {one_line(error)}", str(error)
    cells = nbformat.read(part, as_version=4).cells if part.exists() else []
    begun = [
        cell
        for cell in cells
        if cell.cell_type == "code"
        and cell.metadata.get("papermill", {}).get("start_time")
        and "injected-parameters" not in cell.metadata.get("tags", [])
    ]  # papermill begins none after the one that fails
    if begun:
        first = begun[-1].source.partition("\n")[0]
        where += f", cell {len(begun)}" + (f" ({first})" if 0 < len(first) <= 40 else "")
        if isinstance(error, DeadKernelError):
            why = "its kernel died, as when memory runs out"
        for output in begun[-1].outputs:
            if output.output_type == "error":
                kind = "" if hasattr(errors, output.ename) else f"{output.ename}: "
                why = kind + one_line(output.evalue)
                traceback = re.sub("\x1b\\[[0-9;]*m", "", "\n".join(output.traceback))
    return f"{where}: {shorten(why, 300)}", report, traceback

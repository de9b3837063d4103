"""Executes the notebooks and builds the book.

All searches of a profile run first, side by side; the notebooks then read their records. papermill
writes executed copies to book/_executed; a small Sphinx extension of the book shows them in the
place of the clean templates.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import chdir
from pathlib import Path
from typing import Any

import yaml

from book.builder.execute import PART, execute, kill_kernels
from book.builder.execution_record import write_execution_record
from book.builder.parameters import check_parameters
from nascore.errors import ConfigError, unknown
from nascore.evidence.experiments import searches
from nascore.folders import ensure_writable
from nascore.sweeps.parallel import sweep
from nascore.sweeps.store import RunStore


def book_notebooks(root: Path) -> list[Path]:
    """The notebooks of the book, in the order of its table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_bytes())
    files = [entry["file"] for part in toc.get("parts", [toc]) for entry in part["chapters"]]
    return [root / f"{name}.ipynb" for name in files if name.startswith("notebooks/")]


def build_book(
    root: Path, profile: str, only: Sequence[str], parameters: Mapping[str, Any]
) -> Path:
    """Runs the searches, executes the notebooks and builds the book, warnings as errors.

    Executes the notebooks that are named in ``only``, or all; the others keep their last copy.
    Each takes all of the parameters. Returns the path of the first page. Raises ConfigError before
    any work, and RuntimeError if a cell fails or the pages do not build.
    """
    notebooks = {notebook.stem: notebook for notebook in book_notebooks(root)}
    executed = root / "book" / "_executed"
    for name in only:
        if name not in notebooks:
            raise ConfigError(unknown("notebook", name, notebooks))
    chosen = {
        notebooks[name]: check_parameters(notebooks[name], parameters, profile)
        for name in dict.fromkeys(only or notebooks)
    }
    copies = [executed / notebook.name for notebook in notebooks.values()]
    for notebook, copy in zip(notebooks.values(), copies, strict=True):
        if notebook not in chosen and not copy.exists():
            raise ConfigError(f"{copy.stem} has not been executed yet: run `make book` first.")
    for folder in (executed, root / "_build"):
        ensure_writable(folder, ConfigError, "The book is built there.")
    for left in executed.glob(f"*{PART}"):  # by a build that failed
        left.unlink()

    if only or parameters:
        _execute_all(chosen, executed, together=1)
    else:  # all searches first: no core waits at a notebook's last one
        store = RunStore(root / "notebooks" / "runs", root / "book" / "records")
        sweep(searches(profile), store=store)
        # Threads of two would wait for each other. The scorecard, near the end, reads most.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        _execute_all(dict(reversed(chosen.items())), executed, together=2)
    write_execution_record(copies, executed)
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", str(root), "--all", "-W", "-n", "--keep-going"]
    if subprocess.run(command, cwd=root, start_new_session=True).returncode:
        raise RuntimeError("the book did not build: see the warnings above.")
    return root / "_build" / "html" / "index.html"


def _execute_all(parameters: Mapping[Path, Mapping[str, Any]], folder: Path, together: int) -> None:
    """Executes notebooks, each with its parameters; after the first failure, none goes on."""

    def run(notebook: Path) -> None:
        start = time.perf_counter()
        execute(notebook, folder / notebook.name, parameters[notebook])
        print(f"{notebook.stem} executed in {time.perf_counter() - start:.0f} s", flush=True)

    # papermill changes to the notebook's folder and back: threads must begin in it.
    home = next(iter(parameters)).parent
    with chdir(home), ThreadPoolExecutor(together) as executor:
        jobs = [executor.submit(run, notebook) for notebook in parameters]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in jobs):
                kill_kernels()
                time.sleep(0.1)
            raise

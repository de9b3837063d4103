"""Executes the notebooks and builds the book.

All searches of a profile run first, side by side; the notebooks then read their records. papermill
writes executed copies to book/_executed; a small Sphinx extension of the book shows them in the
place of the clean templates.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import yaml

from nascore.book.execute import PART, CellError, execute, kill_kernels, read_executed
from nascore.book.parameters import check_parameters, parameter_types
from nascore.book.tables import write_execution_record
from nascore.errors import ConfigError, unknown
from nascore.evidence.experiments import searches
from nascore.folders import ensure_writable, shipped_records
from nascore.sweeps.parallel import sweep
from nascore.sweeps.store import RunStore


def book_notebooks(root: Path) -> list[Path]:
    """The notebooks of the book, in the order of its table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    files = [entry["file"] for part in toc.get("parts", [toc]) for entry in part["chapters"]]
    return [root / f"{name}.ipynb" for name in files if name.startswith("notebooks/")]


_USER = r"[A-Za-z0-9](-?[A-Za-z0-9])*(_[A-Za-z0-9]+)?"  # of a company: name_company
_ADDRESS = re.compile(rf"https://github\.com/(?=.{{1,39}}/){_USER}/(?!\.\.?$)[\w.-]{{1,100}}", re.A)


def set_repository(root: Path, url: str) -> list[Path]:
    """Writes another address of the repository to _config.yml and wherever it is derived.

    Returns the files that changed. Raises ConfigError if no repository on GitHub can have it.
    """
    if not _ADDRESS.fullmatch(url) or url.lower().endswith((".git", ".wiki")):
        raise ConfigError(f"{url!r}: give an address such as https://github.com/you/fork.")
    before = yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"]
    files = ["_config.yml", "README.md", "pyproject.toml", *root.glob("notebooks/*.ipynb")]
    changed = []
    for path in (root / file for file in files):
        text = path.read_text()
        if before in text:
            path.write_text(text.replace(before, url))
            changed.append(path)
    return changed


def build_book(
    root: Path,
    profile: str,
    only: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Runs the searches, executes the notebooks and builds the book, warnings as errors.

    Arguments:
        root: the project's folder.
        profile: the profile of every notebook.
        only: stems of the notebooks to execute; the others keep their last executed copy.
        parameters: other parameters of those notebooks; each of them must have all of these.

    Returns the path of the first page. Raises ConfigError before any work, RuntimeError if a cell
    fails or the pages do not build, and SystemExit with the shell's code when it is interrupted.
    """
    notebooks = book_notebooks(root)
    executed = root / "book" / "_executed"
    chosen = _chosen(notebooks, only)
    given = {}
    for notebook in chosen:
        own = {"profile": profile} if "profile" in parameter_types(notebook) else {}
        given[notebook] = {**own, **(parameters or {})}
        check_parameters(notebook, given[notebook])
    for copy in (executed / other.name for other in notebooks if other not in chosen):
        if not copy.exists():
            why = "has not been executed yet: run `make book` once before --only."
            raise ConfigError(f"{copy.stem} {why}")
        read_executed(copy, profile)
    for folder in (executed, root / "_build"):
        ensure_writable(folder, ConfigError, "The book is built there.")
    for left in executed.glob(f"*{PART}"):  # by a build that was killed
        left.unlink()

    with _interruptible():
        if only or parameters:
            _execute_all(chosen, executed, given, together=1)
        else:  # all searches first: no core waits at a notebook's last one
            store = RunStore(root / "notebooks" / "runs", shipped_records(root))
            missing = [config for config in searches(profile) if store.find(config) is None]
            if missing:
                sweep(missing, store=store, workers=2)
            # Threads of two would wait for each other. The scorecard, near the end, reads most.
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            _execute_all(chosen[::-1], executed, given, together=2)
        write_execution_record([executed / notebook.name for notebook in notebooks], executed)
        jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
        options = ["build", str(root), "--all", "-W", "-n", "--keep-going"]
        result = subprocess.run([*jupyter_book, *options], cwd=root, start_new_session=True)
    if result.returncode:
        raise RuntimeError("the book did not build: see the warnings above.")
    return root / "_build" / "html" / "index.html"


def _chosen(notebooks: Sequence[Path], only: Sequence[str]) -> list[Path]:
    """The notebooks with these stems, each once; all if there are none."""
    stems = {notebook.stem: notebook for notebook in notebooks}
    for name in only:
        if name not in stems:
            raise ConfigError(unknown("notebook", name, stems))
    return [stems[name] for name in dict.fromkeys(only)] or list(notebooks)


def _execute_all(
    notebooks: Sequence[Path], folder: Path, given: Mapping[Path, Mapping[str, Any]], together: int
) -> None:
    """Executes notebooks of one folder; after the first failure, none goes on."""

    def run(notebook: Path) -> None:
        start = time.perf_counter()
        execute(notebook, folder / notebook.name, given[notebook])
        print(f"{notebook.stem} executed in {time.perf_counter() - start:.0f} s", flush=True)

    # papermill changes to the notebook's folder and back: threads must begin in it.
    with chdir(notebooks[0].parent), ThreadPoolExecutor(together) as executor:
        jobs = [executor.submit(run, notebook) for notebook in notebooks]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException as error:
            executor.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in jobs):
                kill_kernels()
                time.sleep(0.1)
            if isinstance(error, CellError):
                error.keep()
            raise


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM leave the block as SystemExit, with a line that says how to go on."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:
        print(
            "Interrupted. Searches that have ended are kept: the same command goes on from there.",
            file=sys.stderr,
        )
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

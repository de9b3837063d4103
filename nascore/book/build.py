"""Executes the notebooks and builds the book.

All searches of a profile run first, side by side; the notebooks then read their records. papermill
writes executed copies to book/_executed; a small Sphinx extension of the book shows them in the
place of the clean templates.
"""

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import yaml

from nascore.book.execute import check_parameters, execute
from nascore.book.tables import write_execution_record
from nascore.errors import ConfigError, unknown
from nascore.evidence.experiments import searches
from nascore.folders import shipped_records
from nascore.runs.parallel import sweep
from nascore.runs.store import RunStore


def book_notebooks(root: Path) -> list[Path]:
    """The notebooks of the book, in the order of its table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    files = [entry["file"] for part in toc.get("parts", [toc]) for entry in part["chapters"]]
    return [root / f"{name}.ipynb" for name in files if name.startswith("notebooks/")]


def set_repository(root: Path, url: str) -> list[Path]:
    """Writes another address of the repository to _config.yml and wherever it is derived.

    Returns the files that changed. Raises ConfigError if it is not an address on GitHub.
    """
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url):
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

    Returns the path of the first page. Raises ConfigError before any work, RuntimeError if the
    build fails.
    """
    import papermill

    notebooks = book_notebooks(root)
    stems = {notebook.stem: notebook for notebook in notebooks}
    for name in only:
        if name not in stems:
            raise ConfigError(unknown("notebook", name, stems))
    chosen = [stems[name] for name in only] if only else notebooks
    given = {}
    for notebook in chosen:
        has_profile = "profile" in papermill.inspect_notebook(str(notebook))
        given[notebook] = {**({"profile": profile} if has_profile else {}), **(parameters or {})}
        check_parameters(notebook, given[notebook])
    executed = root / "book" / "_executed"
    for notebook in notebooks:
        if notebook not in chosen and not (executed / notebook.name).exists():
            raise ConfigError(
                f"{notebook.stem} has not been executed yet: run `make book` once before --only."
            )

    def run(notebook: Path) -> None:
        start = time.perf_counter()
        execute(notebook, executed / notebook.name, given[notebook])
        print(f"{notebook.stem} executed in {time.perf_counter() - start:.0f} s", flush=True)

    together = 1
    if not only and not parameters:  # all searches first: no core waits at a notebook's last one
        store = RunStore(root / "notebooks" / "runs", shipped_records(root))
        missing = [config for config in searches(profile) if store.find(config) is None]
        if missing:
            sweep(missing, store=store, workers=2)
        together = 2
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of two would wait for each other
        chosen = chosen[::-1]  # the scorecard, near the end, reads most: it had better start early
    with ThreadPoolExecutor(together) as executor:
        jobs = [executor.submit(run, notebook) for notebook in chosen]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
    copies = [executed / notebook.name for notebook in notebooks]
    write_execution_record(copies, executed)
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    strict = ["--all", "-W", "-n", "--keep-going"]
    result = subprocess.run([*jupyter_book, "build", str(root), *strict], cwd=root)
    if result.returncode:
        raise RuntimeError("the book did not build: see the warnings above.")
    return root / "_build" / "html" / "index.html"


def save_figure(executed: Path, number: int, path: Path, profile: str) -> None:
    """Writes a figure of an executed notebook, counted from 0, to a PNG file.

    Raises ConfigError if the notebook has no such figure, or was not executed with this profile.
    """
    if not executed.exists():
        raise ConfigError(f"{executed} does not exist: run `make book PROFILE={profile}` first.")
    notebook = nbformat.read(executed, as_version=4)
    found = notebook.metadata.get("papermill", {}).get("parameters", {}).get("profile")
    if found != profile:
        raise ConfigError(
            f"{executed.name} was executed with profile {found!r}: run `make book "
            f"PROFILE={profile}` first."
        )
    cells = notebook.cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    figures = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    if number >= len(figures):
        raise ConfigError(f"{executed.name} has {len(figures)} figures: there is no {number}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(figures[number]))

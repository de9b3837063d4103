"""Executes the notebooks and builds the book.

All searches of a profile run first, side by side; the notebooks then read their records. papermill
writes executed copies to book/_executed; a small Sphinx extension of the book shows them in the
place of the clean templates.
"""

import base64
import html
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
import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from nascore.errors import ConfigError, unknown
from nascore.evidence.experiments import searches
from nascore.evidence.verdicts import CLAIMS, Verdict, in_order
from nascore.folders import shipped_records
from nascore.runs.parallel import sweep
from nascore.runs.run import Run
from nascore.runs.store import RunStore

RUNS = "nascore_runs"
"""Metadata of the notebook output that lists a notebook's runs for the execution record."""


class RunTable:
    """The runs behind a page: a row for each arm, and all for the page "Execution record"."""

    def __init__(self, arms: Mapping[str, Sequence[Run]]):
        self.rows = [
            {
                "arm": arm,
                "seed": run.config.seed,
                "hash": run.config.hash,
                "config": run.config.changes,
                **run.provenance,
            }
            for arm, runs in arms.items()
            for run in runs
        ]

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        arms = {}
        for row in self.rows:
            arms.setdefault(row["arm"], []).append(row)
        table = [
            {
                "arm": arm,
                "seeds": ", ".join(str(row["seed"]) for row in rows),
                "config hashes": ", ".join(row["hash"] for row in rows),
                "seconds": round(sum(row["wall_seconds"] for row in rows)),
                "nascore": ", ".join(sorted({f"{r['nascore']} ({r['commit']})" for r in rows})),
                "torch": ", ".join(sorted({row["torch"] for row in rows})),
                "device": ", ".join(sorted({row["device"] for row in rows})),
            }
            for arm, rows in arms.items()
        ]
        shown = {
            "text/plain": f"{len(self.rows)} runs",
            "text/html": _html_table(list(table[0]) if table else ["arm"], table),
        }
        return shown, {RUNS: self.rows}


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


def write_execution_record(copies: Sequence[Path], folder: Path) -> Path:
    """Writes the tables of the page "Execution record" from executed notebooks."""
    notebooks, versions, runs = [], {}, {}
    for path in copies:
        executed = nbformat.read(path, as_version=4)
        papermill = executed.metadata.papermill
        used = [
            row
            for cell in executed.cells
            for result in cell.get("outputs", [])
            for row in result.get("metadata", {}).get(RUNS, [])
        ]
        notebooks.append(
            {
                "notebook": path.stem.replace("_", " "),
                "profile": papermill.parameters.get("profile", ""),
                "seconds": round(papermill.duration),
                "executed": papermill.start_time[:16].replace("T", " "),
                "runs": len(used),
            }
        )
        for row in used:
            entry = runs.setdefault(row["hash"], {**row, "used": []})
            entry["used"].append(f"{path.stem.replace('_', ' ')}: {row['arm']}")
            for name in ("nascore", "commit", "torch", "python", "system", "device"):
                versions.setdefault(name, set()).add(str(row[name]))
    table = [
        {
            "hash": row["hash"],
            "used in": "; ".join(row["used"]),
            "seconds": round(row["wall_seconds"], 1),
            "MiB": row["peak_memory_mib"],
            "commit": row["commit"],
            "config": ", ".join(f"{name}={value!r}" for name, value in row["config"].items()),
        }
        for row in runs.values()
    ]
    made = [{"what": name, "value": ", ".join(sorted(values))} for name, values in versions.items()]
    page = [
        "## Notebooks",
        _html_table(["notebook", "profile", "seconds", "executed", "runs"], notebooks),
        "## Versions and device",
        _html_table(["what", "value"], made),
        "## Runs",
        _html_table(list(table[0]) if table else ["hash"], table),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "execution_record.md"
    path.write_text("\n\n".join(page) + "\n")
    return path


def scorecard(cards: Mapping[str, Mapping[str, Verdict]]) -> str:
    """The verdicts by profile and claim as an HTML table, with a link to each claim's chapter."""

    def cell(verdict: Verdict | None) -> str:
        if verdict is None:
            return "<td>no runs</td>"
        said, claim = verdict.verdict, CLAIMS[verdict.claim]
        if claim.tested:
            low, high = verdict.interval
            numbers = f"{verdict.effect:+.2g} [{low:+.2g}, {high:+.2g}] {claim.unit}"
            numbers += f", p = {verdict.p:.2g}"
        else:
            numbers = f"at most {verdict.effect:.1g} {claim.unit}"
        if not np.isnan(verdict.control):
            numbers += f", control {verdict.control:+.2g}"
        return (
            f'<td><strong class="{said.replace(" ", "-")}">{said}</strong><br>'
            f"n = {verdict.n}, {html.escape(numbers)}<br>{html.escape(verdict.why)}</td>"
        )

    head = "".join(f"<th>{name}</th>" for name in ("", "what the paper says", *cards))
    body = "".join(
        f'<tr><td><a href="{claim.chapter}.html">{claim.id}</a></td>'
        f"<td>{html.escape(claim.says)}</td>"
        + "".join(cell(card.get(claim.id)) for card in cards.values())
        + "</tr>"
        for claim in in_order()
    )
    return f'<table class="record scorecard"><tr>{head}</tr>{body}</table>'


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


def _html_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    head = line((column.replace("_", " ") for column in columns), "th")
    body = "".join(line((row[column] for column in columns), "td") for row in rows)
    return f'<table class="dataframe record"><thead>{head}</thead><tbody>{body}</tbody></table>'

"""The tables of the page "Execution record", from the executed notebooks."""

from collections.abc import Sequence
from pathlib import Path

import nbformat
import pandas

from nascore.book.tables import RUNS, distinct, to_html

VERSIONS = ["nascore", "commit", "torch", "python", "system", "device"]
RUN = ["hash", "used in", "wall_seconds", "peak_memory_mib", "config", *VERSIONS]


def write_execution_record(copies: Sequence[Path], folder: Path) -> Path:
    """Writes execution_record.md, which the page includes, into a folder."""
    notebooks, rows = [], []
    for path in copies:
        executed, name = nbformat.read(path, as_version=4), path.stem.replace("_", " ")
        outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
        used = [row for o in outputs for row in o.get("metadata", {}).get(RUNS, [])]
        rows += [{**row, "used in": f"{name}: {row['arm']}"} for row in used]
        papermill = executed.metadata.papermill
        notebooks.append(
            {
                "notebook": name,
                "profile": papermill.parameters.get("profile", ""),
                "seconds": round(papermill.duration),
                "executed": papermill.start_time[:16].replace("T", " "),
                "runs": len(used),
            }
        )
    runs = pandas.DataFrame(rows, columns=RUN)
    versions = {"what": VERSIONS, "value": [distinct(runs[name]) for name in VERSIONS]}
    runs["config"] = [", ".join(f"{n}={v!r}" for n, v in some.items()) for some in runs.config]
    columns = {"used in": ("used in", "; ".join), "seconds": ("wall_seconds", "first")}
    columns |= {"MiB": ("peak_memory_mib", "first"), "commit": ("commit", "first")}
    columns |= {"config": ("config", "first")}
    runs = runs.groupby("hash", sort=False).agg(**columns).round({"seconds": 1}).reset_index()
    tables = {
        "Notebooks": pandas.DataFrame(notebooks),
        "Versions and device": pandas.DataFrame(versions),
        "Runs": runs,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "execution_record.md"
    text = "".join(_section(title, table) for title, table in tables.items())
    path.write_text(text, encoding="utf-8")
    return path


def _section(title: str, table: pandas.DataFrame) -> str:
    """A heading and a table in a box that scrolls; a long one can be sorted and filtered."""
    classes = "record sorts" if title == "Runs" else "record"
    box = f'<div class="table-scrolls" tabindex="0" role="region" aria-label="{title}">'
    return f"## {title}\n\n{box}\n{to_html(table, classes)}\n</div>\n\n"

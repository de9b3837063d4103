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
    used_in = runs.groupby("hash", sort=False)["used in"].agg("; ".join)
    runs = runs.drop_duplicates("hash").set_index("hash").assign(**{"used in": used_in})
    config = [", ".join(f"{n}={v!r}" for n, v in changes.items()) for changes in runs.config]
    names = {"wall_seconds": "seconds", "peak_memory_mib": "MiB"}
    runs = runs.assign(config=config).round({"wall_seconds": 1}).rename(columns=names)
    shown = ["hash", "used in", "seconds", "MiB", "commit", "config"]
    tables = {
        "Notebooks": pandas.DataFrame(notebooks),
        "Versions and device": pandas.DataFrame(versions),
        "Runs": runs.reset_index()[shown],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "execution_record.md"
    path.write_text("".join(f"## {title}\n\n{to_html(t)}\n\n" for title, t in tables.items()))
    return path

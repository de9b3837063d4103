"""Tables as HTML: the runs behind a page, the execution record, the scorecard."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from nascore.evidence.claims import Claim
from nascore.evidence.verdicts import CLAIMS, Verdict, in_order
from nascore.runs.run import Run

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


def scorecard_table(cards: Mapping[str, Mapping[str, Verdict]]) -> str:
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

    def name(claim: Claim) -> str:
        return f'<a href="{claim.chapter}.html">{claim.id}</a>' if claim.chapter else claim.id

    head = "".join(f"<th>{column}</th>" for column in ("", "what the paper says", *cards))
    body = "".join(
        f"<tr><td>{name(claim)}</td><td>{html.escape(claim.says)}</td>"
        + "".join(cell(card.get(claim.id)) for card in cards.values())
        + "</tr>"
        for claim in in_order()
    )
    return f'<table class="record scorecard"><tr>{head}</tr>{body}</table>'


def _html_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    head = line((column.replace("_", " ") for column in columns), "th")
    body = "".join(line((row[column] for column in columns), "td") for row in rows)
    return f'<table class="dataframe record"><thead>{head}</thead><tbody>{body}</tbody></table>'

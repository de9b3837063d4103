"""Tables as HTML: verdicts, the runs behind a page, the execution record, the scorecard."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from IPython.display import HTML

from nascore.evidence.claims import Arms, Claim
from nascore.evidence.verdicts import CLAIMS, Verdict, in_order, judge
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


def verdict_box(claim: str, arms: Arms, profile: str, arm: str | None = None) -> HTML:
    """What came of a claim, and of what: to stand first on a page, as the output of a cell.

    Arguments:
        claim: its id.
        arms: the runs of its experiment.
        profile: of the page; `smoke` decides nothing.
        arm: whose config is told, by default the first one's.
    """
    said, evidence = CLAIMS[claim], CLAIMS[claim].measure(arms)
    verdict = judge(claim, evidence)
    config = (arms[arm] if arm else next(iter(arms.values())))[0].config
    steps = config.epochs * (config.sizes["train"] // config.batch_size)
    data = config.dataset + (
        f" at {config.image_size}x{config.image_size}" if config.image_size else ""
    )
    cells = f"{config.cells} cell" + ("s" if config.cells > 1 else "")
    facts = [config.framework, data, cells, f"{steps:,} steps", f"{verdict.n} seeds"]
    word, numbers, seen = verdict.verdict, _numbers(verdict), verdict.why
    if profile == "smoke":
        word, numbers = "no verdict", "profile smoke only shows that everything runs"
    who = "The paper says" if said.family == "book" and said.id[0] in "PA" else "We say"
    lines = {who: said.says, "We see": seen, "Why": said.because}
    body = "".join(f"<p><b>{k}.</b> {html.escape(v)}</p>" for k, v in lines.items() if v)
    told = "<br>".join(html.escape(line) for line in (" · ".join(facts), numbers))
    word = f'<strong class="{_css(word)}">{claim}: {word}</strong>'
    return HTML(f'<div class="verdict-box"><p>{word}</p><p>{told}</p>{body}</div>')


def _css(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _numbers(verdict: Verdict) -> str:
    """Effect, interval, bar, p and control of a verdict, in a line."""
    claim = verdict.claim
    if claim.tested:
        low, high = verdict.interval
        told = f"effect {verdict.effect:+.2g} {claim.unit} [{low:+.2g}, {high:+.2g}], "
        told += f"bar {claim.bar:g}, corrected p = {verdict.p:.2g}"
    else:
        told = f"at most {verdict.effect:.1g} {claim.unit}, bar {claim.bar:g}"
    return told + ("" if np.isnan(verdict.control) else f", control {verdict.control:+.2g}")


def scorecard_table(cards: Mapping[str, Mapping[str, Verdict]]) -> str:
    """The verdicts as an HTML table: a line for each claim, and in it a dot for each profile.

    A dot is the effect in units of the claim's bar, with its interval; the details unfold.
    """

    def cell(verdict: Verdict | None) -> str:
        if verdict is None:
            return "<td>no runs</td>"
        word = verdict.verdict
        return (
            f'<td><strong class="{_css(word)}">{word}</strong>{_dot(verdict)}<details><summary>'
            f"n = {verdict.n}</summary>{html.escape(_numbers(verdict))}<br>"
            f"{html.escape(verdict.why)}</details></td>"
        )

    def name(claim: Claim) -> str:
        text = f"{claim.id} {html.escape(claim.short)}".replace("`", "")
        return f'<a href="{claim.chapter}.html">{text}</a>' if claim.chapter else text

    def rows(tested: bool) -> str:
        return "".join(
            f"<tr><td>{name(claim)}</td>"
            + "".join(cell(card.get(claim.id)) for card in cards.values())
            + "</tr>"
            for claim in in_order()
            if claim.tested == tested
        )

    def count(card: Mapping[str, Verdict], tested: bool) -> str:
        words = [v.verdict for v in card.values() if v.claim.tested == tested]
        good = "supported" if tested else "holds"
        return f"{words.count(good)} of {len(words)} {'supported' if tested else 'hold'}"

    parts = ""
    for tested, title in ((True, "tested claims"), (False, "checked identities")):
        head = "".join(f"<th>{p}: {count(card, tested)}</th>" for p, card in cards.items())
        parts += f"<tr><th>{title}</th>{head}</tr>{rows(tested)}"
    return f'<table class="record scorecard">{parts}</table>'


def _dot(verdict: Verdict) -> str:
    """The effect as a dot with its interval as a line, and the bar as a tick, drawn as SVG."""
    bar, width, most = verdict.claim.bar or abs(verdict.effect) or 1.0, 150, 3.0

    def x(value: float) -> float:
        return 8 + (width - 16) * (min(max(value / bar, -0.5), most) + 0.5) / (most + 0.5)

    low, high = (x(value) for value in verdict.interval)
    return (
        f'<svg class="dot" width="{width}" height="18" role="img" aria-label="{_numbers(verdict)}">'
        f'<line class="axis" x1="{x(0)}" x2="{x(0)}" y1="2" y2="16"/>'
        f'<line class="bar" x1="{x(bar)}" x2="{x(bar)}" y1="2" y2="16"/>'
        f'<line class="range" x1="{low}" x2="{high}" y1="9" y2="9"/>'
        f'<circle cx="{x(verdict.effect)}" cy="9" r="4"/></svg>'
    )


def _html_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    head = line((column.replace("_", " ") for column in columns), "th")
    body = "".join(line((row[column] for column in columns), "td") for row in rows)
    return f'<table class="dataframe record"><thead>{head}</thead><tbody>{body}</tbody></table>'

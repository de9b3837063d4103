"""Tables as HTML: verdicts, the runs behind a page, the scorecard."""

from collections.abc import Mapping, Sequence

import jinja2
import numpy as np
import pandas

from nascore.evidence.claims import Arms
from nascore.evidence.verdicts import CLAIMS, Verdict, in_order, judge
from nascore.runs.run import Run

RUNS = "nascore_runs"
"""Metadata of the notebook output that lists a notebook's runs for the execution record."""

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("nascore.book"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


class RunTable:
    """The runs behind a page: a row for each arm, and all for the page "Execution record"."""

    def __init__(self, arms: Mapping[str, Sequence[Run]]):
        self.rows = [
            dict(arm=arm, seed=run.config.seed, hash=run.config.hash, config=run.config.changes)
            | run.provenance
            for arm, runs in arms.items()
            for run in runs
        ]

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        runs = pandas.DataFrame(self.rows)
        versions = zip(runs.nascore, runs.commit, strict=True)
        runs["nascore"] = [f"{v} ({commit})" if commit else v for v, commit in versions]
        columns = {"seeds": ("seed", _span)}
        columns["seconds"] = ("wall_seconds", lambda seconds: round(seconds.sum()))
        columns |= {name: (name, distinct) for name in ("nascore", "torch", "device")}
        columns["config hashes"] = ("hash", distinct)
        table = runs.groupby("arm", sort=False).agg(**columns).reset_index()
        shown = {"text/plain": f"{len(runs)} runs", "text/html": to_html(table, "record runs")}
        return shown, {RUNS: self.rows}


def _span(seeds: pandas.Series) -> str:
    """Seeds as "24 to 39" if none is left out between them."""
    low, high = seeds.min(), seeds.max()
    return f"{low} to {high}" if high - low == seeds.nunique() - 1 > 0 else distinct(seeds)


def distinct(values: pandas.Series) -> str:
    """The values of a column, each once."""
    return ", ".join(map(str, values.unique()))


def to_html(table: pandas.DataFrame, classes: str = "record") -> str:
    """A table of the book, whatever the width of its cells."""
    with pandas.option_context("display.max_colwidth", None):
        return table.to_html(classes=classes, index=False, border=0)


class VerdictBox:
    """Claims, judged by runs; shown, it is the box of a page: each claim's verdict and its grounds.

    Arguments:
        claims: the runs of each claim's experiment, by the claim's name; empty if it needs none.
        profile: of the page; `smoke` decides nothing.
        arm: whose config is shown; None is the first one, with the cells of all.
    """

    def __init__(self, claims: Mapping[str, Arms], profile: str, arm: str | None = None):
        self.evidence = {name: CLAIMS[name].measure(arms) for name, arms in claims.items()}
        self.verdicts = [judge(name, evidence) for name, evidence in self.evidence.items()]
        self.settings = [_setting(arms, arm) for arms in claims.values()]
        self.profile = profile

    @property
    def text(self) -> str:
        """What is claimed and what decides it, as Markdown."""
        return "\n\n".join(verdict.claim.text for verdict in self.verdicts)

    def _repr_html_(self) -> str:
        return TEMPLATES.get_template("verdict.html").render(
            judged=zip(self.verdicts, self.evidence.values(), self.settings, strict=True),
            decides=self.profile != "smoke",
            places=_places,
        )


def _setting(arms: Arms, arm: str | None) -> list[str]:
    if not arms:
        return []
    shown = [arms[arm]] if arm else list(arms.values())
    config = shown[0][0].config
    size = config.image_size
    size = f" at {'x'.join(map(str, np.broadcast_to(size, 2)))}" if size else ""
    numbers = sorted({runs[0].config.cells for runs in shown})
    cells = " and ".join(map(str, numbers)) + (" cell" if numbers == [1] else " cells")
    return [config.framework, config.dataset + size, cells, f"{config.steps:,} steps"]


def scorecard_table(cards: Mapping[str, Mapping[str, Verdict]]) -> str:
    """The verdicts as an HTML table: a line for each claim, and in it a dot for each profile.

    A dot is the effect in units of the claim's bar, with its interval; the details unfold.
    """
    template = TEMPLATES.get_template("scorecard.html")
    return template.render(claims=in_order(), cards=cards, places=_places)


def _places(verdict: Verdict) -> list[float]:
    """Where effect and interval are in a picture whose bar is at 38, in pixels."""
    bar = verdict.claim.bar or abs(verdict.effect) or 1.0
    values = np.array([verdict.effect, *verdict.interval]) / bar
    return (38 * np.clip(np.nan_to_num(values, nan=3), -0.5, 3)).tolist()

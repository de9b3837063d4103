"""Tables as HTML: verdicts, the runs behind a page, the scorecard."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import pandas

from nascore.evidence.claims import Arms, Claim
from nascore.evidence.verdicts import CLAIMS, Verdict, in_order, judge
from nascore.runs.config import SearchConfig
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
        runs = pandas.DataFrame(self.rows)
        runs["nascore"] = runs.nascore + " (" + runs.commit + ")"
        runs = runs.rename(
            columns={"seed": "seeds", "hash": "config hashes", "wall_seconds": "seconds"}
        )
        columns = {name: _listed for name in ("seeds", "config hashes")}
        columns["seconds"] = lambda seconds: round(seconds.sum())
        columns |= {name: distinct for name in ("nascore", "torch", "device")}
        table = runs.groupby("arm", sort=False).agg(columns).reset_index()
        shown = {"text/plain": f"{len(runs)} runs", "text/html": to_html(table)}
        return shown, {RUNS: self.rows}


def _listed(values: pandas.Series) -> str:
    return ", ".join(map(str, values))


def distinct(values: pandas.Series) -> str:
    return ", ".join(sorted(set(map(str, values))))


def to_html(table: pandas.DataFrame) -> str:
    """A table of the book, whatever the width of its cells."""
    with pandas.option_context("display.max_colwidth", None):
        return table.to_html(classes="record", index=False, border=0)


class VerdictBox:
    """A claim, judged by runs; shown, it is a box with the verdict and what it rests on.

    Arguments:
        claim: its name.
        arms: the runs of its experiment; empty if it needs none.
        profile: of the page; `smoke` decides nothing.
        arm: whose config is shown, by default that of the first one.
    """

    def __init__(self, claim: str, arms: Arms, profile: str, arm: str | None = None):
        self.claim = CLAIMS[claim]
        self.evidence = self.claim.measure(arms)
        self.verdict = judge(self.claim, self.evidence)
        self.setting = _setting(arms[arm or next(iter(arms))][0].config) if arms else []
        self.profile = profile

    def _repr_html_(self) -> str:
        claim, verdict = self.claim, self.verdict
        word, numbers = verdict.verdict, _numbers(verdict)
        if self.profile == "smoke":
            word, numbers = "no verdict", "profile smoke only shows that everything runs"
        who = "The paper says" if claim.family == "book" and claim.id[0] in "PA" else "We say"
        lines = {who: claim.says, "We see": verdict.why, "Why": claim.because}
        body = "".join(f"<p><b>{k}.</b> {html.escape(v)}</p>" for k, v in lines.items() if v)
        setting = html.escape(" · ".join([*self.setting, f"{verdict.n} seeds"]))
        word = f'<strong class="{_css(word)}">{claim.id}: {word}</strong>'
        setting += f"<br>{html.escape(numbers)}"
        return f'<div class="verdict-box"><p>{word}</p><p>{setting}</p>{body}</div>'


def _setting(config: SearchConfig) -> list[str]:
    size = config.image_size
    size = f" at {'x'.join(map(str, np.broadcast_to(size, 2)))}" if size else ""
    cells = f"{config.cells} cell" + ("s" if config.cells > 1 else "")
    steps = config.epochs * (config.sizes["train"] // config.batch_size)
    return [config.framework, config.dataset + size, cells, f"{steps:,} steps"]


def _css(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _numbers(verdict: Verdict) -> str:
    """Effect, interval, bar, p and control of a verdict, in a line."""
    claim, (low, high) = verdict.claim, verdict.interval
    if claim.tested:
        effect = f"effect {verdict.effect:+.2g} {claim.unit} [{low:+.2g}, {high:+.2g}], "
        effect += f"bar {claim.bar:g}, corrected p = {verdict.p:.2g}"
    else:
        effect = f"at most {verdict.effect:.1g} {claim.unit}, bar {claim.bar:g}"
    return effect + ("" if np.isnan(verdict.control) else f", control {verdict.control:+.2g}")


def scorecard_table(cards: Mapping[str, Mapping[str, Verdict]]) -> str:
    """The verdicts as an HTML table: a line for each claim, and in it a dot for each profile.

    A dot is the effect in units of the claim's bar, with its interval; the details unfold.
    """
    lines = []
    for tested, title, good in (
        (True, "tested claims", "supported"),
        (False, "checked identities", "hold"),
    ):
        head = f"<th>{title}</th>"
        for profile, card in cards.items():
            words = [v.verdict for v in card.values() if v.claim.tested == tested]
            count = sum(word in ("supported", "holds") for word in words)
            head += f"<th>{profile}: {count} of {len(words)} {good}</th>"
        lines.append(head)
        for claim in in_order():
            if claim.tested == tested:
                cells = (_cell(card.get(claim.id)) for card in cards.values())
                lines.append(f"<td>{_name(claim)}</td>{''.join(cells)}")
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="record scorecard">{rows}</table>'


def _name(claim: Claim) -> str:
    text = f"{claim.id} {html.escape(claim.short)}".replace("`", "")
    return f'<a href="{claim.chapter}.html">{text}</a>' if claim.chapter else text


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "<td>no runs</td>"
    word = f'<strong class="{_css(verdict.verdict)}">{verdict.verdict}</strong>'
    details = f"{html.escape(_numbers(verdict))}<br>{html.escape(verdict.why)}"
    unfold = f"<details><summary>n = {verdict.n}</summary>{details}</details>"
    return f"<td>{word}{_dot(verdict)}{unfold}</td>"


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

"""What a claim is, and what runs can say of it: the words that claims are written in."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from nascore.errors import checked
from nascore.evidence.significance import sign_flip
from nascore.plugins import Registry, is_built_in
from nascore.runs.run import Run

Arms = Mapping[str, Sequence[Run]]
"""The runs of an experiment: for each arm, a run for each seed."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the runs of an experiment say of a claim; a number for each seed, NaN if it diverged."""

    effect: pandas.Series  # over seeds, as ``each`` returns it; so are control and values
    why: str  # what was measured, in words
    p: float | None = None  # of the test; None if the claim is checked
    control: pandas.Series | None = None
    met: bool = True  # whether the additional conditions of the claim hold
    testable: bool = True  # whether the precondition holds: the cause that it names can act
    values: Mapping[str, pandas.Series] = field(default_factory=dict)  # what was measured, by name

    def table(self) -> pandas.DataFrame:
        """The values as text, a row for each and a column for each seed."""
        rows = {**self.values, "effect": self.effect, "control": self.control}
        texts = {name: v.map(_text) for name, v in rows.items() if v is not None}
        return pandas.DataFrame(texts).T.rename_axis(columns="seed")


def _text(value: float) -> str:
    digits = 2 if abs(value) < 0.1 else 3
    return "diverged" if np.isnan(value) else f"{value:.{digits}g}"


Measure = Callable[[Arms], Evidence]


@checked
@dataclass(frozen=True)
class Claim:
    """A claim and what decides it."""

    id: str
    says: str  # the claim, in our reading if it is the paper's
    short: str  # the same in a line, for tables
    effect: str  # the number of each seed, in words
    test: str  # what decides, in words
    control: str  # in words
    measure: Measure  # from the experiment's runs to the evidence
    experiment: str | None = None  # whose runs decide it, of EXPERIMENTS; None if it needs no runs
    because: str = ""  # why it should hold, in a few sentences, for a page that tells it
    precondition: str = ""  # without which the claim is not tested, in words
    bar: float = 0.0  # least mean effect that counts; of a checked claim, the largest residual
    unit: str = "nat"  # of the effect
    tested: bool = True  # by a test across seeds; else checked against the bar
    chapter: str | None = None  # the notebook that shows the runs

    @property
    def __wrapped__(self) -> Measure:  # a registry looks there for where the claim was written
        return self.measure

    @property
    def family(self) -> str:
        """The claims that p is corrected for together: those of its module, "book" in the package.

        So a claim of your own leaves the p of the book's as they are.
        """
        return "book" if is_built_in(self) else self.measure.__module__

    @property
    def text(self) -> str:
        """The claim and what decides it, as Markdown."""
        number, bar = "Residual", f"at most {self.bar:g} {self.unit}"
        if self.tested:
            number, bar = "Effect", f"at least {self.bar:g} {self.unit} on average over seeds"
        return (
            f"**{self.id}, the claim.** {self.says}\n\n"
            f"- *{number}, seed by seed:* {self.effect}.\n"
            f"- *Decided by:* {self.test}.\n- *Bar:* {bar}.\n- *Control:* {self.control}."
            + (f"\n- *Tested only where:* {self.precondition}." if self.precondition else "")
        )


BOOK = tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))
"""The fields of the book's claims, by id."""

CLAIMS = Registry("claim", lambda plugin: None if isinstance(plugin, Claim) else "not a claim.")
"""Every claim by its id."""


@checked
def claim(id: str, **fields: Any) -> Callable[[Measure], Claim]:
    """Makes the decorated function the measure of a claim with these fields, and registers it."""

    def add(measure: Measure) -> Claim:
        return CLAIMS.register(id)(Claim(id=id, measure=measure, **fields))

    return add


def each(measure: Callable[..., float], runs: Sequence[Run], *arguments: Any) -> pandas.Series:
    """The number that a measure gives for each run, by seed; NaN where a run diverged."""
    values = [np.nan if run.diverged else float(measure(run, *arguments)) for run in runs]
    return pandas.Series(values, pandas.Index([run.config.seed for run in runs], name="seed"))


def above(*effects: pandas.Series) -> float:
    """p of effects that must all be above 0: the largest. A run that diverged has effect 0."""
    return max(sign_flip(effect.fillna(0)) for effect in effects)

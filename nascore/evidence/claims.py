"""What a claim is, and what runs can say of it: the words that claims are written in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas

from nascore.evidence.significance import sign_flip
from nascore.runs.run import Run

Arms = Mapping[str, Sequence[Run]]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the runs of an experiment say of a claim.

    Arguments:
        seeds: the seeds.
        effect: one number a seed; NaN where a run diverged.
        why: what was seen, in words.
        p: of the test; None if the claim is checked.
        control: the same number where the claim should not hold, one a seed; empty without one.
        met: whether what the claim asks for besides is there.
        values: what was measured, by name, one number a seed.
    """

    seeds: Sequence[int]
    effect: np.ndarray
    why: str
    p: float | None = None
    control: np.ndarray = field(default_factory=lambda: np.array([]))
    met: bool = True
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    def table(self) -> pandas.DataFrame:
        """The values as text to show, a row for each and a column for each seed."""

        def text(value: float) -> str:
            if np.isnan(value):
                return "diverged"
            digits = 2 if abs(value) < 0.1 else 3
            return f"{value:.0f}" if float(value).is_integer() else f"{value:.{digits}g}"

        rows = dict(self.values) | {"effect": self.effect}
        rows |= {"control": self.control} if len(self.control) else {}
        columns = pandas.Index(self.seeds, name="seed")
        return pandas.DataFrame.from_dict(
            {name: list(map(text, values)) for name, values in rows.items()},
            orient="index",
            columns=columns,
        )


@dataclass(frozen=True)
class Claim:
    """A claim and what decides it.

    Arguments:
        says: the paper's claim, in our reading.
        experiment: whose runs decide it.
        chapter: the notebook that shows them.
        effect: the number for each seed, in words.
        test: what the claim is decided by, in words.
        control: the negative control, in words.
        bar: least mean effect that counts; of a checked claim, the largest residual allowed.
        unit: of the effect.
        tested: by a test across seeds; else checked against the bar.
        measure: from the experiment's runs to the evidence.
    """

    id: str
    name: str
    says: str
    experiment: str
    chapter: str
    effect: str
    test: str
    control: str
    bar: float
    unit: str
    tested: bool
    measure: Callable[[Arms], Evidence]

    @property
    def text(self) -> str:
        """The claim and what decides it, as Markdown."""
        sign = "at least" if self.tested else "at most"
        return (
            f"**{self.id}, the claim.** {self.says}\n\n"
            f"- *{'Effect' if self.tested else 'Residual'}, seed by seed:* {self.effect}.\n"
            f"- *Decided by:* {self.test}.\n"
            f"- *Bar:* {sign} {self.bar:g} {self.unit}"
            f"{' in the mean over seeds' if self.tested else ''}.\n"
            f"- *Negative control:* {self.control}."
        )


CLAIMS: dict[str, Claim] = {}
"""Every claim by its id."""


def claim(**texts):
    """Registers the decorated function as the measure of a claim."""

    def add(measure):
        CLAIMS[texts["id"]] = Claim(measure=measure, **texts)
        return measure

    return add


def seeds_of(runs: Sequence[Run]) -> list[int]:
    """The seed of each run."""
    return [run.config.seed for run in runs]


def each(measure: Callable[[Run], float], runs: Sequence[Run]) -> np.ndarray:
    """A number of each run, in an array; NaN where a run diverged."""
    return np.array([np.nan if run.diverged else float(measure(run)) for run in runs])


def mean(values: np.ndarray) -> float:
    """The mean over the runs that have not diverged; NaN if all have."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else np.nan


def both_above(one: np.ndarray, other: np.ndarray) -> float:
    """p of two effects that must both be above 0: the larger of the two."""
    return max(sign_flip(np.nan_to_num(one)), sign_flip(np.nan_to_num(other)))
